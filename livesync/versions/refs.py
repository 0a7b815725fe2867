"""What people type for a version: a branch, a number, a tag, the beginning of an id, HEAD."""

from __future__ import annotations

from ..errors import InvalidCollectionVersion
from .store.tree import parent_of
from .tracked import TrackedCollection

#: Digits of an id that are enough to name a version by it.
_FEWEST_DIGITS = 6


def find_version(collection: TrackedCollection, text: str) -> tuple[str, int]:
    """Return (branch, key) of what a text names.

    ``HEAD`` and ``HEAD~2``; ``main``, its tip, and ``main~1``; ``main:4``; ``4`` of the current branch; tags;
    at least six digits of an id. Where several fit, a branch goes before a tag, and that before an id.

    Raises:
        InvalidCollectionVersion: There is no such version, or several.
    """
    name, _, back = text.partition("~")
    branch, key = _named(collection, name)
    if "~" not in text:
        return branch, key
    if not (back.isascii() and back.isdigit() and len(back) < 10) and back:
        raise InvalidCollectionVersion(None, text)
    for _ in range(int(back or 1)):
        key = parent_of(collection.contents.forks, key)
        if key < 0:
            raise InvalidCollectionVersion(None, text)
    return collection.names.place(key)[1] or branch, key


def _named(collection: TrackedCollection, text: str) -> tuple[str, int]:
    names = collection.names
    if text == "HEAD":
        return names.head
    if text in names.branches():
        return collection.find(None, text)
    branch, colon, number = text.rpartition(":")
    if number.isascii() and number.isdigit() and len(number) < 19:
        return collection.find(int(number), branch if colon else None)
    key = names.tags.get(text)
    if key is None:
        key = _by_id(collection, text.lower())
    place = names.place(key)[1]
    return place or names.head[0], key


def _by_id(collection: TrackedCollection, digits: str) -> int:
    if len(digits) < _FEWEST_DIGITS or not set(digits) <= set("0123456789abcdef"):
        raise InvalidCollectionVersion(None, digits)
    whole = digits[: len(digits) // 2 * 2]
    keys = collection.contents.stored.keys
    found = []
    for version_id, key in keys.items(min=bytes.fromhex(whole)):
        if not version_id.hex().startswith(whole):
            break
        if version_id.hex().startswith(digits):
            found.append(int(key))
    if len(found) != 1:
        raise InvalidCollectionVersion(None, digits)
    return found[0]
