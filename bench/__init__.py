"""Benchmarks: what livesync costs beside the same work without it. Run with ``python -m bench``."""
