"""What is synced: a talk, with what those of ``bench/peer_ends.py`` say."""

from __future__ import annotations

from django.db import models
from morango.models.core import SyncableModel


class Talk(SyncableModel):
    """A talk about nothing in particular."""

    morango_model_name = "talk"
    morango_profile = "talks"

    title = models.TextField()
    number = models.IntegerField()
    edition = models.IntegerField()
    root = models.CharField(max_length=32)

    def calculate_source_id(self) -> str:
        """Return what makes it the same talk everywhere."""
        return str(self.number)

    def calculate_partition(self) -> str:
        """Return where it lies: below the root, in one of fifty parts."""
        return f"{self.root}:talks:{self.number % 50}"
