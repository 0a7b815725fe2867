"""The merge of two values that come from one: by nested path, with conflicts as values.

The rules, in this order, at every path (o the base, a ours, b theirs, :data:`ABSENT` a value like any
other; equal means the same to the bit):

1. a = b: a. o = a: b. o = b: a.
2. The strategy for this path, where there is one.
3. Two dicts (the base a dict, or absent): key by key.
4. Two lists: items that are dicts with a key of their own that tells them apart are merged by it;
   others by diff3 over their bytes (Khanna, Kunal and Pierce 2007): what both put in at one place is
   kept, ours first; stretches of one length are merged item by item.
5. Two sets: what either added, less what either removed.
6. Two texts with line ends: diff3 by lines.
7. Anything else is a :class:`Conflict`; the value keeps ours until somebody resolves it.

Whether there is a conflict does not depend on which side is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from enum import Enum
from typing import Any, Final, NamedTuple

from ..values import Codec, shown_path


class Absent(Enum):
    """The type of :data:`ABSENT`."""

    ABSENT = "absent"

    def __repr__(self) -> str:
        return "ABSENT"


#: Stands for a document, or a key, that is not there.
ABSENT: Final = Absent.ABSENT

#: What may tell the items of a list apart, in the order in which it is looked for.
ITEM_KEYS: Final = ("_id", "id", "uid", "sku", "key", "name")

#: The strategies that have a name; every other one is a function of base, ours and theirs.
STRATEGIES: Final = ("ours", "theirs", "text", "list:whole", "list:set", "list:ids", "list:diff3")

Strategy = str | Callable[[Any, Any, Any], Any]
Path = tuple[Any, ...]


class ItemOf(NamedTuple):
    """The step of a path into a list whose items have keys of their own: which key, which value."""

    key: str
    value: Any

    def __repr__(self) -> str:
        return f"{self.key}={self.value!r}"


class Kind(Enum):
    """In which way two sides disagree."""

    EDIT_EDIT = "edit/edit"
    ADD_ADD = "add/add"
    DELETE_EDIT = "delete/edit"
    TYPE = "type"


class Conflict(NamedTuple):
    """One place where both sides changed, and not to the same.

    Attributes:
        path: Keys, indexes (of the merged list) and :class:`ItemOf` that lead there.
        kind: In which way they disagree.
        base: What both come from; :data:`ABSENT` where there was nothing.
        ours: Our side; what the merged value holds for now.
        theirs: The other side.
    """

    path: Path
    kind: Kind
    base: Any
    ours: Any
    theirs: Any

    def __str__(self) -> str:
        return f"{self.kind.value} at {shown_path(self.path)}"


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge came to.

    Attributes:
        value: The merged value, with ours wherever there is a conflict.
        conflicts: From left to right; empty where all went well.
    """

    value: Any
    conflicts: tuple[Conflict, ...] = ()


class Strategies:
    """Which strategy goes for which path.

    Args:
        by_path: Path -> strategy; ``"*"`` stands for any one step. The longest path that fits goes
            first, and of those the one with fewer stars.

    Raises:
        ValueError: A strategy has a name that there is not.
    """

    def __init__(self, by_path: Mapping[Path, Strategy] | None = None) -> None:
        for path, strategy in (by_path or {}).items():
            if isinstance(strategy, str) and strategy not in STRATEGIES:
                raise ValueError(
                    f"there is no strategy {strategy!r} (for {shown_path(path)}); there are"
                    f" {', '.join(STRATEGIES)}, else a function of base, ours and theirs"
                )
        self._by_path = dict(sorted((by_path or {}).items(), key=lambda item: item[0].count("*")))

    def at(self, path: Path) -> Strategy | None:
        """Return the strategy for a path; None where there is none."""
        for pattern, strategy in self._by_path.items():
            if len(pattern) == len(path) and all(
                wanted == "*" or wanted == step for wanted, step in zip(pattern, path)
            ):
                return strategy
        return None


def merge(base: Any, ours: Any, theirs: Any, codec: Codec, strategies: Strategies | None = None) -> Merged:
    """Merge two values that come from ``base``; none of the three is changed.

    Args:
        base: What both come from, or :data:`ABSENT`.
        ours: A value that the codec encodes, or :data:`ABSENT`.
        theirs: Likewise.
        codec: Tells what is the same.
        strategies: For some paths.

    Raises:
        UnkeptValue: A value cannot be encoded.
    """
    merging = _Merging(codec, strategies or Strategies())
    value = merging.merge((), base, ours, theirs)
    return Merged(value, tuple(merging.conflicts))


@dataclass(slots=True)
class _Merging:
    codec: Codec
    strategies: Strategies
    conflicts: list[Conflict] = field(default_factory=list)

    def same(self, one: Any, other: Any) -> bool:
        if one is ABSENT or other is ABSENT:
            return one is other
        return one is other or self.codec.equal(one, other)

    def merge(self, path: Path, o: Any, a: Any, b: Any) -> Any:
        if self.same(a, b) or self.same(o, b):
            return a
        if self.same(o, a):
            return b
        strategy = self.strategies.at(path)
        if strategy is not None and not isinstance(strategy, str):
            return strategy(o, a, b)
        if strategy in ("ours", "theirs"):
            return a if strategy == "ours" else b
        merged = _BY_TYPE.get(type(a))
        if merged is None or type(b) is not type(a) or (o is not ABSENT and type(o) is not type(a)):
            return self.conflict(path, o, a, b)
        return merged(self, path, o, a, b, strategy or "")

    def conflict(self, path: Path, o: Any, a: Any, b: Any) -> Any:
        self.conflicts.append(Conflict(path, _kind(o, a, b), o, a, b))
        return a

    # -- dicts -----------------------------------------------------------------------------------

    def merge_dicts(self, path: Path, o: Any, a: Any, b: Any, strategy: str) -> Any:
        return self.merge_keys(path, {} if o is ABSENT else o, a, b, lambda key: key)

    def merge_keys(
        self,
        path: Path,
        o: dict[Any, Any],
        a: dict[Any, Any],
        b: dict[Any, Any],
        step: Callable[[Any], Any],
    ) -> dict[Any, Any]:
        merged = {}
        for key in dict.fromkeys((*a, *b)):
            value = self.merge((*path, step(key)), o.get(key, ABSENT), a.get(key, ABSENT), b.get(key, ABSENT))
            if value is not ABSENT:
                merged[key] = value
        return {key: merged[key] for key in _ordered(o, a, b, merged)}

    # -- lists -----------------------------------------------------------------------------------

    def merge_lists(self, path: Path, o: Any, a: list[Any], b: list[Any], strategy: str) -> Any:
        if strategy == "list:whole":
            return self.conflict(path, o, a, b)
        base = [] if o is ABSENT else o
        if strategy == "list:set":
            return self.merge_as_set(base, a, b)
        key = None if strategy == "list:diff3" else _item_key(base, a, b)
        if key is not None:
            was, ours, theirs = ({item[key]: item for item in side} for side in (base, a, b))
            merged = self.merge_keys(path, was, ours, theirs, lambda value: ItemOf(key, value))
            return list(merged.values())
        if strategy == "list:ids":
            return self.conflict(path, o, a, b)
        return self.merge_rows(path, base, a, b)

    def merge_as_set(self, o: list[Any], a: list[Any], b: list[Any]) -> list[Any]:
        encode = self.codec.encode
        base, ours, theirs = ({encode(item): item for item in side} for side in (o, a, b))
        kept = {key: item for key, item in ours.items() if key in theirs or key not in base}
        return [
            *kept.values(),
            *(item for key, item in theirs.items() if key not in ours and key not in base),
        ]

    def merge_rows(self, path: Path, o: list[Any], a: list[Any], b: list[Any]) -> list[Any]:
        encode = self.codec.encode
        keys = [[encode(item) for item in side] for side in (o, a, b)]
        before = len(self.conflicts)
        merged: list[Any] = []
        for in_o, in_a, in_b in _chunks(*keys):
            chunk = self.merge_stretch((*path, len(merged)), o[in_o], a[in_a], b[in_b])
            if chunk is None:
                del self.conflicts[before:]
                self.conflict(path, o, a, b)
                return a
            merged += chunk
        return merged

    def merge_stretch(self, path: Path, o: list[Any], a: list[Any], b: list[Any]) -> list[Any] | None:
        """Return a stretch that begins at the last step of ``path``; None: it cannot be merged."""
        if self.same(a, b) or self.same(o, b):
            return a
        if self.same(o, a):
            return b
        if not o:
            return [*a, *b]
        if not len(o) == len(a) == len(b):
            return None
        *inner, start = path
        return [self.merge((*inner, start + number), *items) for number, items in enumerate(zip(o, a, b))]

    # -- sets and texts --------------------------------------------------------------------------

    def merge_sets(self, path: Path, o: Any, a: Any, b: Any, strategy: str) -> Any:
        base = type(a)() if o is ABSENT else o
        if not _told_apart(self.codec, base, a, b):
            return self.conflict(path, o, a, b)
        return (a & b) | (a - base) | (b - base)

    def merge_texts(self, path: Path, o: Any, a: str, b: str, strategy: str) -> Any:
        if o is ABSENT or not (strategy == "text" or "\n" in a or "\n" in b):
            return self.conflict(path, o, a, b)
        sides = [side.splitlines(keepends=True) for side in (o, a, b)]
        merged: list[str] = []
        for places in _chunks(*sides):
            base, ours, theirs = (side[place] for side, place in zip(sides, places))
            if base not in (ours, theirs) and ours != theirs:
                return self.conflict(path, o, a, b)
            merged += theirs if ours == base else ours
        return "".join(merged)


def _kind(o: Any, a: Any, b: Any) -> Kind:
    if o is ABSENT:
        return Kind.ADD_ADD
    if a is ABSENT or b is ABSENT:
        return Kind.DELETE_EDIT
    return Kind.EDIT_EDIT if type(a) is type(b) else Kind.TYPE


def _ordered(o: dict[Any, Any], a: dict[Any, Any], b: dict[Any, Any], keys: Mapping[Any, Any]) -> list[Any]:
    """Return ``keys`` in our order, or in theirs where only they changed it.

    What the other side alone has comes after its left neighbour there, else before its right one.
    """
    common = [key for key in o if key in a and key in b]
    ours_moved = [key for key in a if key in o and key in b] != common
    theirs_moved = [key for key in b if key in o and key in a] != common
    first, second = (b, a) if theirs_moved and not ours_moved else (a, b)
    order = [key for key in first if key in keys]
    placed = set(order)
    place = _place_before(second, order, placed)
    for key in second:
        if key in placed:
            place = order.index(key) + 1
        elif key in keys:
            order.insert(place, key)
            placed.add(key)
            place += 1
    return order


def _place_before(side: dict[Any, Any], order: list[Any], placed: set[Any]) -> int:
    """Return where keys go that have no left neighbour: before the first that is there, else at the end."""
    return next((order.index(key) for key in side if key in placed), len(order))


def _item_key(*sides: list[Any]) -> str | None:
    """Return the key that all items of all sides have, each with another value; None: there is none."""
    if not all(type(item) is dict for side in sides for item in side):
        return None
    for key in ITEM_KEYS:
        values = [[item.get(key) for item in side] for side in sides]
        if all(_tells_apart(side) for side in values):
            return key
    return None


def _tells_apart(values: list[Any]) -> bool:
    """Tell whether values are numbers or texts, each another: True is no number here."""
    return all(type(value) in (str, int) for value in values) and len(set(values)) == len(values)


def _told_apart(codec: Codec, *sides: Any) -> bool:
    """Tell whether members that are equal are also the same to the bit: {1} and {True} are not."""
    members: dict[Any, bytes] = {}
    return all(
        members.setdefault(member, encoded) == encoded
        for side in sides
        for member in side
        for encoded in [codec.encode(member)]
    )


# -- diff3 ----------------------------------------------------------------------------------------------


def _chunks(o: Sequence[Any], a: Sequence[Any], b: Sequence[Any]) -> Iterator[tuple[slice, slice, slice]]:
    """Yield stretches of base, ours and theirs that belong together, from left to right.

    Stretches that are the same in all three take turns with those that are not.
    """
    at_o = at_a = at_b = 0
    for start, in_a, in_b, length in (*_common(o, a, b), (len(o), len(a), len(b), 0)):
        if start > at_o or in_a > at_a or in_b > at_b:
            yield slice(at_o, start), slice(at_a, in_a), slice(at_b, in_b)
        if length:
            yield slice(start, start + length), slice(in_a, in_a + length), slice(in_b, in_b + length)
        at_o, at_a, at_b = start + length, in_a + length, in_b + length


def _common(o: Sequence[Any], a: Sequence[Any], b: Sequence[Any]) -> Iterator[tuple[int, int, int, int]]:
    """Yield ``(place in o, in a, in b, length)`` of the stretches that both sides have kept."""
    ours = SequenceMatcher(None, o, a, autojunk=False).get_matching_blocks()
    theirs = SequenceMatcher(None, o, b, autojunk=False).get_matching_blocks()
    i = j = 0
    while i < len(ours) and j < len(theirs):
        start = max(ours[i].a, theirs[j].a)
        end = min(ours[i].a + ours[i].size, theirs[j].a + theirs[j].size)
        if start < end:
            yield start, ours[i].b + start - ours[i].a, theirs[j].b + start - theirs[j].a, end - start
        if ours[i].a + ours[i].size < theirs[j].a + theirs[j].size:
            i += 1
        else:
            j += 1


_BY_TYPE: Final[dict[type, Callable[[_Merging, Path, Any, Any, Any, str], Any]]] = {
    dict: _Merging.merge_dicts,
    list: _Merging.merge_lists,
    set: _Merging.merge_sets,
    frozenset: _Merging.merge_sets,
    str: _Merging.merge_texts,
}
