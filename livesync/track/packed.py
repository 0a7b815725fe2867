"""How actions are written down compactly: columns in place of objects.

Pure functions of values. A page of ActionWrappers becomes one tuple of strings and bytes, about
twelve bytes an action beside its id; reading it back makes each word set and each user only once.
The formats are stored, so they may be added to, never changed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby, repeat
from typing import Any

from ..action import ActionWrapper, trusted_action

#: ``(ids, tables of word sets, code per action)``
PackedActions = tuple[Any, tuple[str, ...], bytes]

#: The times, the ids and the words of actions, one each for every action.
Columns = tuple[list[float], list[str], list[frozenset[str]]]


def pack_ids(ids: Sequence[str]) -> Any:
    """Return ``ids`` as one NUL-separated string, or as a tuple where an id holds a NUL."""
    joined = "\0".join(ids)
    return joined if joined.count("\0") == len(ids) - 1 else tuple(ids)


def unpack_ids(packed: Any) -> Sequence[str]:
    """Return what :func:`pack_ids` was given."""
    return packed.split("\0") if isinstance(packed, str) else packed


def pack_codes(codes: Sequence[int], size: int) -> bytes:
    """Return small numbers below ``size`` as bytes, one each, or two (little-endian) above 256."""
    return bytes(codes) if size <= 256 else struct.pack(f"<{len(codes)}H", *codes)


def unpack_codes(packed: bytes, count: int) -> Sequence[int]:
    """Return what :func:`pack_codes` was given."""
    return packed if len(packed) == count else struct.unpack(f"<{count}H", packed)


def pack_words(words: Sequence[frozenset[str]]) -> tuple[tuple[str, ...], bytes]:
    """Return word sets as a table (words of a set sorted, joined by commas) and a code for each."""
    if words.count(words[0]) == len(words):  # most often all the same, which is quickly seen
        return (",".join(sorted(words[0])),), bytes(len(words))
    codes: dict[frozenset[str], int] = {}
    numbers = [codes.setdefault(word_set, len(codes)) for word_set in words]
    return tuple(",".join(sorted(word_set)) for word_set in codes), pack_codes(numbers, len(codes))


def unpack_words(table: Sequence[str]) -> list[frozenset[str]]:
    """Return the word sets of a table."""
    return [_word_set(joined) for joined in table]


@lru_cache(maxsize=1024)
def _word_set(joined: str) -> frozenset[str]:
    # the same words come again in every page, and one set of each is enough
    return frozenset(joined.split(","))


def pack_changes(changes: Sequence[tuple[str, frozenset[str]]]) -> PackedActions:
    """Return ``(id, actions)`` pairs of one transaction, packed."""
    table, codes = pack_words([words for _, words in changes])
    return pack_ids([object_id for object_id, _ in changes]), table, codes


def count_changes(packed: PackedActions) -> int:
    """Return how many pairs :func:`unpack_changes` returns, without making them."""
    if not packed[1]:
        return 0
    ids = packed[0]
    return ids.count("\0") + 1 if isinstance(ids, str) else len(ids)


def unpack_changes(packed: PackedActions) -> tuple[Sequence[str], list[frozenset[str]]]:
    """Return the ids and the actions of :func:`pack_changes`, in order."""
    if not packed[1]:
        return [], []
    ids = unpack_ids(packed[0])
    return ids, _coded(unpack_words(packed[1]), packed[2], len(ids))


def _coded(words: list[frozenset[str]], codes: bytes, count: int) -> list[frozenset[str]]:
    if len(words) == 1:
        return words * count
    return [words[code] for code in unpack_codes(codes, count)]


def pack_values(values: Sequence[Any]) -> tuple[Any, ...]:
    """Return a page's values, packed where all are ActionWrappers, else as they are."""
    if not values or not all(type(value) is ActionWrapper for value in values):
        return ("values", *values)
    timestamps, ids, words = columns_of(values)
    return pack_columns(
        timestamps, ids, words, [action.user for action in values], [action.note for action in values]
    )


def pack_columns(
    timestamps: Sequence[float],
    ids: Sequence[str],
    words: Sequence[frozenset[str]],
    users: Sequence[str],
    notes: Sequence[str],
) -> tuple[Any, ...]:
    """Return what :func:`pack_values` makes of the actions with these attributes, one at least."""
    count = len(ids)
    times: bytes
    if timestamps.count(timestamps[0]) == count:
        times = struct.pack("<d", timestamps[0])
    else:
        times = struct.pack(f"<{count}d", *timestamps)
    origins: dict[tuple[str, str], int] = {}
    if users.count(users[0]) == notes.count(notes[0]) == count:
        origins[users[0], notes[0]] = 0
        origin_codes: Sequence[int] = ()
    else:
        origin_codes = [origins.setdefault(origin, len(origins)) for origin in zip(users, notes)]
    table, codes = pack_words(words)
    return (
        "actions",
        times,
        pack_ids(ids),
        table,
        codes,
        tuple(text for origin in origins for text in origin),
        b"" if len(origins) == 1 else pack_codes(origin_codes, len(origins)),
    )


def columns_of(values: Iterable[Any]) -> Columns:
    """Return the times, the ids and the words of ActionWrappers."""
    actions = list(values)
    return (
        [action.timestamp for action in actions],
        [action.object_id for action in actions],
        [action.actions for action in actions],
    )


def unpack_columns(packed: tuple[Any, ...]) -> Columns:
    """Return the times, the ids and the words of what :func:`pack_values` was given, all ActionWrappers."""
    if packed[0] == "values":
        return columns_of(packed[1:])
    _, times, packed_ids, table, codes, _, _ = packed
    ids = list(unpack_ids(packed_ids))
    count = len(ids)
    timestamps = struct.unpack(f"<{len(times) // 8}d", times)
    return (
        list(timestamps) * (count // len(timestamps)),
        ids,
        _coded(unpack_words(table), codes, count),
    )


def unpack_values(packed: tuple[Any, ...]) -> list[Any]:
    """Return what :func:`pack_values` was given."""
    if packed[0] == "values":
        return list(packed[1:])
    origin_texts, origin_codes = packed[5:]
    stamps, ids, actions = unpack_columns(packed)
    count = len(ids)
    if not origin_codes:
        user, note = origin_texts
        return list(map(trusted_action, stamps, ids, actions, repeat(user), repeat(note)))
    numbers = unpack_codes(origin_codes, count)
    return list(
        map(
            trusted_action,
            stamps,
            ids,
            actions,
            (origin_texts[2 * number] for number in numbers),
            (origin_texts[2 * number + 1] for number in numbers),
        )
    )


def unpack_value(packed: tuple[Any, ...], at: int) -> Any:
    """Return one of the values of :func:`unpack_values`, the others left as they are."""
    if packed[0] == "values":
        return packed[1 + at]
    _, times, packed_ids, table, codes, origin_texts, origin_codes = packed
    ids = unpack_ids(packed_ids)
    stamp = struct.unpack_from("<d", times, 0 if len(times) == 8 else 8 * at)[0]
    words = frozenset(table[unpack_codes(codes, len(ids))[at]].split(","))
    origin = unpack_codes(origin_codes, len(ids))[at] if origin_codes else 0
    return trusted_action(stamp, ids[at], words, *origin_texts[2 * origin : 2 * origin + 2])


def pack_positions(positions: Iterable[int]) -> tuple[int, ...]:
    """Return positions, never decreasing, as ``(position, how often, position, how often, …)``."""
    return tuple(number for position, run in groupby(positions) for number in (position, sum(1 for _ in run)))


def unpack_positions(packed: Sequence[int]) -> list[int]:
    """Return what :func:`pack_positions` was given."""
    positions: list[int] = []
    for position, count in zip(packed[::2], packed[1::2]):
        positions.extend(repeat(position, count))
    return positions
