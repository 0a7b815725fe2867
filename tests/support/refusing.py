"""A transform that some records do not survive: dead letters without a service that refuses."""

from __future__ import annotations

from livesync import Record


def refuse_some(record: Record) -> Record:
    """Return the record, but raise for about one in ten, always the same ones."""
    if record.document is not None and record.object_id[-1] in "05":
        raise ValueError(f"{record.object_id} has a number that this place does not take")
    return record
