"""Around a run: what keeps an agent and its destination in good order."""
