"""Partitions: colon-separated paths that say where an item belongs, and what lies within what. Pure.

Containment is "equal, or a prefix that ends at a colon": ``F1`` contains ``F1:U1`` and not ``F10``. The
empty prefix contains everything. Nothing here takes part of a partition for a pattern.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Final

#: The prefix that contains every partition.
EVERYTHING: Final = ""

MAX_PARTITION_LENGTH: Final = 512

#: What follows the colon in the order of characters: ends the range of what lies below a prefix.
_AFTER_COLON: Final = chr(ord(":") + 1)


def check_partition(partition: str) -> str:
    """Return ``partition``.

    Raises:
        TypeError: It is not a str.
        ValueError: It is too long, holds white space or a control character, or has an empty level.
    """
    if not isinstance(partition, str):
        raise TypeError(f"a partition is a str, not {type(partition).__name__}")
    return _checked(partition)


@lru_cache(maxsize=1_000)
def _checked(partition: str) -> str:
    """Return what was looked at; most items share their partition with others."""
    if not partition:
        return partition
    if len(partition) > MAX_PARTITION_LENGTH:
        raise ValueError(
            f"a partition has at most {MAX_PARTITION_LENGTH} characters, this one has {len(partition)}"
        )
    if not all(partition.split(":")):
        raise ValueError(f"{partition!r} is no partition: one of its levels is empty")
    if not partition.isprintable() or " " in partition:  # no other white space is printable
        raise ValueError(f"{partition!r} is no partition: it holds white space or a control character")
    return partition


def contains(prefix: str, partition: str) -> bool:
    """Tell whether ``partition`` lies at or below ``prefix``."""
    return not prefix or partition == prefix or partition.startswith(prefix + ":")


def contained_in_any(prefixes: Iterable[str], partition: str) -> bool:
    """Tell whether ``partition`` lies at or below one of ``prefixes``."""
    return any(contains(prefix, partition) for prefix in prefixes)


def lineage(partition: str) -> Iterator[str]:
    """Yield ``partition`` and every prefix that contains it, the empty one last."""
    while partition:
        yield partition
        partition = partition.rpartition(":")[0]
    yield EVERYTHING


def minimal(prefixes: Iterable[str]) -> tuple[str, ...]:
    """Return ``prefixes`` sorted, without those that another one contains."""
    found = set(prefixes)
    return tuple(
        sorted(
            prefix
            for prefix in found
            if not any(above in found for above in islice(lineage(prefix), 1, None))
        )
    )


def key_ranges(prefix: str) -> tuple[tuple[str, str | None], ...]:
    """Return half-open intervals of text that hold just the partitions at or below ``prefix``.

    Each is ``(first, end)``, its end left out; an end of None is the end of everything. That of the prefix
    itself ends with the text that follows it directly.
    """
    if not prefix:
        return (("", None),)
    return ((prefix, prefix + "\0"), (prefix + ":", prefix + _AFTER_COLON))
