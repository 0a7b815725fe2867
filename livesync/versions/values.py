"""The values that a history keeps: those of :mod:`livesync.values`, under the name that this room uses."""

from __future__ import annotations

from ..values import CODEC, FIRST_FREE_CODE, HASH_BYTES, Codec, Kind, hash_of, shown_path

__all__ = ["CODEC", "FIRST_FREE_CODE", "HASH_BYTES", "Codec", "Kind", "hash_of", "shown_path"]
