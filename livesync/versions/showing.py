"""Documents, and what differs between them, as people read it."""

from __future__ import annotations

import json
from difflib import unified_diff
from typing import Any

from .diffs.threeway import ABSENT


def lines_of(value: Any) -> list[str]:
    """Return a document as lines of indented JSON; what JSON lacks stands there as Python writes it."""
    if value is ABSENT:
        return []
    return json.dumps(_plain(value), ensure_ascii=False, indent=2, default=repr).splitlines()


def _plain(value: Any) -> Any:
    """Return what ``json`` writes without losing keys: those that are no text as Python writes them."""
    if isinstance(value, dict):
        return {key if isinstance(key, str) else repr(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, tuple):
        return repr(value)
    return value


def unified(before: Any, after: Any, old_name: str, new_name: str) -> str:
    """Return the unified diff of two documents as lines of JSON.

    Two that are shown alike and yet differ (in the type of a number, or the order of keys in a set) say so.
    """
    old, new = lines_of(before), lines_of(after)
    shown = "\n".join(unified_diff(old, new, old_name, new_name, lineterm=""))
    if shown:
        return shown
    return f"--- {old_name}\n+++ {new_name}\n-{before!r}\n+{after!r}"
