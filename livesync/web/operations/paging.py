"""Lists in parts: never more than a page is read or sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from ..errors import BadRequest

T = TypeVar("T")

#: Items of a page, unless told; and the most that can be asked for.
PAGE: Final = 50
LARGEST_PAGE: Final = 500


def checked_limit(limit: int) -> int:
    """Return a page's size.

    Raises:
        BadRequest: It is out of range.
    """
    if not 1 <= limit <= LARGEST_PAGE:
        raise BadRequest(f"limit is a number from 1 to {LARGEST_PAGE}")
    return limit


def offset_of(cursor: str | None) -> int:
    """Return what a cursor that counts items stands for.

    Raises:
        BadRequest: It is none.
    """
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 9):
        raise BadRequest("cursor is what the page before gave as next")
    return int(cursor)


def page_of(items: Sequence[T], cursor: str | None, limit: int) -> tuple[Sequence[T], str | None]:
    """Return a part of a list that lies in memory, and the cursor of the rest."""
    begin, limit = offset_of(cursor), checked_limit(limit)
    end = begin + limit
    return items[begin:end], str(end) if end < len(items) else None
