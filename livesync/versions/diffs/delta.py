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

from collections.abc import Hashable, Iterable, Sequence
from itertools import count
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


def _dicts(a: dict[Any, Any], b: dict[Any, Any], codec: Codec) -> Deltas | None:
    if not _same_key_types(a, b):
        return replaced(a, b)
    edited: list[Any] = []
    edited_back: list[Any] = []
    replacing: list[Any] = []
    replacing_back: list[Any] = []
    gone = []
    for key, old in a.items():
        new = b.get(key, _MISSING)
        kind = type(old)
        if kind in _COMPARABLE and kind is type(new) and old == new:
            continue  # as most are
        if new is _MISSING:
            gone.append(key)
            replacing_back += key, old
            continue
        inner = _value(old, new, codec)
        if inner is None:
            continue
        if inner.forward[0] is None:
            replacing += key, new
            replacing_back += key, old
        else:
            edited += key, inner.forward
            edited_back += key, inner.backward
    keys, others = [*a], [*b]
    fresh = [key for key in others if key not in a] if len(others) > len(keys) - len(gone) else []
    for key in fresh:
        replacing += key, b[key]
    if keys == others:
        there, back = _cut(edited, replacing, (), ()), _cut(edited_back, replacing_back, (), ())
    else:
        there = _cut(edited, replacing, gone, _order(keys, gone, fresh, others))
        back = _cut(edited_back, replacing_back, fresh, _order(others, fresh, gone, keys))
    return tuple.__new__(Deltas, (there, back)) if there else None  # quicker than calling it


def _value(old: Any, new: Any, codec: Codec) -> Deltas | None:
    """Return the deltas between two values of a key; see :func:`make`."""
    if new is old:
        return None
    kind = type(old)
    if kind in _NESTED and kind is type(new) and len(old) == len(new):
        encode = codec.encode
        if encode(old) == encode(new):
            return None
    return make(old, new, codec)


def _cut(edited: list[Any], replacing: list[Any], deleted: Sequence[Any], order: Sequence[int]) -> Delta:
    """Return one direction's rows without those at the end that are empty; none where nothing differs."""
    if order:
        return [edited, replacing, deleted, order]
    if deleted:
        return [edited, replacing, deleted]
    if replacing:
        return [edited, replacing]
    return [edited] if edited else []


def _order(keys: list[Any], deleted: list[Any], added: list[Any], others: list[Any]) -> list[int]:
    """Return runs over the keys as they come out that put them into the order that they are to have.

    Args:
        keys, others: All keys, as they are before and after.
        deleted: Keys that are gone.
        added: Keys that are new, as they come out.
    """
    if deleted:
        taken = set(deleted)
        keys = [key for key in keys if key not in taken]
    out = keys + added
    if out == others:
        return []
    place = dict(zip(out, count()))
    return runs(map(place.__getitem__, others))


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
    edited = delta[0]
    if len(edited) == 2:  # as mostly
        key, inner = edited
        out[key] = _applied(out[key], inner)
    else:
        for key, inner in _pairs(edited):
            out[key] = _applied(out[key], inner)
    if rows > 1:
        replacing = delta[1]
        if len(replacing) == 2:
            out[replacing[0]] = replacing[1]
        else:
            out.update(_pairs(replacing))
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
    if len(row) % 2:
        raise BrokenDelta("a row of pairs has an even length")
    parts = iter(row)
    return zip(parts, parts)
