"""Sessions between two providers: what is sent, received, compared, and kept of it."""
