"""Several collections in one history."""
