"""Push and pull: versions on their way to another database, another node, or into a file."""
