"""The periodic tasks besides the agents: prune, clean up, verify, and what other packages bring."""
