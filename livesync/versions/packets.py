"""Bytes as an object of their own. The import path of this class never changes: databases name it."""

from __future__ import annotations

from typing import Any

from persistent import Persistent


class Packet(Persistent):
    """Bytes that are written once, or a few times."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def __getstate__(self) -> Any:
        return self.data

    def __setstate__(self, state: Any) -> None:
        self.data = state
