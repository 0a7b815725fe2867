"""From the track to a service."""
