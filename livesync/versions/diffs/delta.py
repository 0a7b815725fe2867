"""What turns one value into another, both ways: a structural delta, exact to the bit.

A delta is itself a plain value, so that it is encoded as documents are. Its form depends on the type
of what it is applied to:

* ``[None, value]``: the value takes the place of the old one, whatever its type.
* dict: ``[edited, set, deleted, order]``, trailing empties cut. ``edited`` is a row of keys and deltas,
  ``set`` one of keys and values, ``deleted`` a row of keys. ``order``, only where the keys come out in
  another order than they should, is a row of runs ``start, length`` over the keys as they come out.
* list, tuple: a row that tells the new items from left to right: ``start, length`` copies old items;
  ``[item, …]`` puts new ones in; ``True, index, delta`` an old item edited.
* str, bytes: ``[p, q, middle]``: the first p and the last q characters stay. Where both middles are
  long, ``middle`` is a row over the old one, as for a list: ``start, length`` or a piece of new text.

Two values are the same only when their canonical bytes are (``values.py``): 1, True and 1.0 differ, so
do 0.0 and -0.0, and two orders of keys.

The shapes are those of the field (rsync's copies and literals: Tridgell and Mackerras 1996; edits by
path: RFC 6902); common ends first, then blocks by content, is linear and finds moves, which a longest
common subsequence does not.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, Final

from ...errors import BrokenDelta
from ..values import Codec
from .rows import apply_row, diff_rows
from .runs import Delta, Deltas, replaced, run, runs
from .texts import apply_text, diff_texts

_PLAIN: Final = frozenset({int, bool, type(None)})
_TEXT: Final = frozenset({str})

#: Types whose values are the same exactly when they are equal.
_COMPARABLE: Final = _PLAIN | _TEXT

_NESTED: Final = frozenset({dict, list, tuple})

#: In place of a value of a dict without the key.
_MISSING: Final = object()


def make(a: Any, b: Any, codec: Codec) -> Deltas | None:
    """Return the deltas between two values, None where they are the same to the bit.

    Both directions come out of one comparison.

    Raises:
        UnkeptValue: A value that cannot be encoded had to be compared.
    """
    kind = type(a)
    if kind is not type(b):
        return replaced(a, b)
    if kind in _PLAIN:
        return None if a == b else replaced(a, b)
    if kind is dict:
        return _dicts(a, b, codec)
    if kind is list or kind is tuple:
        return diff_rows(a, b, codec, make)
    if kind is str or kind is bytes:
        return None if a == b else diff_texts(a, b)
    return None if codec.encode(a) == codec.encode(b) else replaced(a, b)


def apply(value: Any, delta: Delta) -> Any:
    """Return what ``delta`` makes of ``value``, which stays as it is (parts may be shared).

    Nothing of a delta is believed: types, keys, indexes and lengths are checked.

    Raises:
        BrokenDelta: It does not fit the value.
    """
    try:
        return _applied(value, delta)
    except (TypeError, ValueError, LookupError) as exc:
        if isinstance(exc, BrokenDelta):
            raise
        raise BrokenDelta(f"the delta does not fit the {type(value).__name__}: {exc}") from exc


def _applied(value: Any, delta: Delta) -> Any:
    """Return what :func:`apply` does, which knows what errors mean."""
    if type(delta) is not list or not delta:
        raise BrokenDelta("a delta is a row that is not empty")
    kind = type(value)
    if delta[0] is None:
        if len(delta) != 2:
            raise BrokenDelta("a replacement holds one value")
        return delta[1]
    if kind is dict:
        return _apply_dict(value, delta)
    if kind is str or kind is bytes:
        return apply_text(value, delta)
    if kind is list or kind is tuple:
        return apply_row(value, delta, _applied)
    raise BrokenDelta(f"a value of type {kind.__name__} is replaced, not edited")


# -- dicts ----------------------------------------------------------------------------------------------


class _Edits:
    """One direction of a dict's delta, while it is put together.

    Attributes:
        edited: Keys and deltas.
        set: Keys and values of what is new or replaced.
        added: Keys of what is new.
    """

    __slots__ = ("added", "edited", "set")

    def __init__(self) -> None:
        self.edited: list[Any] = []
        self.set: list[Any] = []
        self.added: list[Any] = []

    def delta(self, deleted: list[Any], order: list[int]) -> Delta:
        """Return it; empty where nothing differs.

        Args:
            deleted: Keys that are gone.
            order: See :meth:`order`.
        """
        if order:
            return [self.edited, self.set, deleted, order]
        if deleted:
            return [self.edited, self.set, deleted]
        if self.set:
            return [self.edited, self.set]
        return [self.edited] if self.edited else []

    def order(self, deleted: list[Any], keys: list[Any], others: list[Any]) -> list[int]:
        """Return runs over the keys as they come out that put them into the order that they are to have.

        Args:
            deleted: Keys that are gone.
            keys, others: All keys, as they are before and after.
        """
        if deleted:
            gone = set(deleted)
            keys = [key for key in keys if key not in gone]
        out = keys + self.added
        if out == others:
            return []
        place = {key: number for number, key in enumerate(out)}
        return runs(map(place.__getitem__, others))


def _dicts(a: dict[Any, Any], b: dict[Any, Any], codec: Codec) -> Deltas | None:
    if not _same_key_types(a, b):
        return replaced(a, b)
    encode = codec.encode
    forward, backward = _Edits(), _Edits()
    for key, old in a.items():
        new = b.get(key, _MISSING)
        if new is old:
            continue
        if new is _MISSING:
            backward.set += key, old
            backward.added.append(key)
            continue
        kind = type(old)
        if kind is type(new) and (
            old == new if kind in _COMPARABLE else kind in _NESTED and encode(old) == encode(new)
        ):
            continue  # as most are
        inner = make(old, new, codec)
        if inner is None:
            continue
        if inner.forward[0] is None:
            forward.set += key, new
            backward.set += key, old
        else:
            forward.edited += key, inner.forward
            backward.edited += key, inner.backward
    return _finished(a, b, forward, backward)


def _finished(a: dict[Any, Any], b: dict[Any, Any], forward: _Edits, backward: _Edits) -> Deltas | None:
    """Return the deltas of two dicts; what ``b`` has and ``a`` has not is still to be noted."""
    keys, others = [*a], [*b]
    if len(others) > len(keys) - len(backward.added):
        forward.added.extend(key for key in others if key not in a)
        for key in forward.added:
            forward.set += key, b[key]
    is_ordered = keys == others
    there = forward.delta(backward.added, [] if is_ordered else forward.order(backward.added, keys, others))
    back = backward.delta(forward.added, [] if is_ordered else backward.order(forward.added, others, keys))
    return Deltas(there, back) if there else None


def _same_key_types(a: dict[Any, Any], b: dict[Any, Any]) -> bool:
    """Tell whether keys that are equal are also of one type; 1, True and 1.0 are equal."""
    if _TEXT.issuperset(map(type, a)) or _TEXT.issuperset(map(type, b)):
        return True
    kinds = {key: _exact(key) for key in a}
    return all(key not in kinds or kinds[key] == _exact(key) for key in b)


def _exact(key: Any) -> Hashable:
    """Return what keys have in common that are the same to the bit."""
    if type(key) is tuple:
        return tuple(_exact(item) for item in key)
    if type(key) is frozenset:
        return frozenset(_exact(item) for item in key)
    return type(key), repr(key)


def _apply_dict(value: dict[Any, Any], delta: Delta) -> dict[Any, Any]:
    rows = len(delta)
    for row in delta:
        if type(row) is not list or rows > 4:
            raise BrokenDelta("a dict's delta has up to four rows")
    out = value.copy()
    if rows > 2:
        for key in delta[2]:
            del out[key]
    for key, inner in _pairs(delta[0]):
        out[key] = _applied(out[key], inner)
    if rows > 1:
        out.update(_pairs(delta[1]))
    return _ordered(out, delta[3]) if rows > 3 and delta[3] else out


def _ordered(value: dict[Any, Any], order: Delta) -> dict[Any, Any]:
    keys = list(value)
    ordered = {key: value[key] for start, length in _pairs(order) for key in run(keys, start, length)}
    if len(ordered) != len(value):
        raise BrokenDelta("the order of keys does not name each of them once")
    return ordered


def _pairs(row: list[Any]) -> Iterable[tuple[Any, Any]]:
    if not row:
        return ()
    if len(row) == 2:  # mostly
        return ((row[0], row[1]),)
    if len(row) % 2:
        raise BrokenDelta("a row of pairs has an even length")
    parts = iter(row)
    return zip(parts, parts)
