"""Who calls the tasks: a runner in a process of its own or of the host, woken by commits."""
