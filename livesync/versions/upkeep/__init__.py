"""Looking after a history: squash, retention, collection of garbage, erasure, and the check of it all."""
