"""Persistent classes for what there is one of for each item: pages of a few KB in key order.

Items come in an order that is not that of their ids, so each of them changes another place of a tree by id.
What such a change costs is the object that is written anew. A bucket of a BTree is pickled key by key; a page
is one bytes object, MessagePack, so it costs a fraction of that to write, to read and to keep in memory, and
its size is bounded in bytes, not in keys. The import paths of these classes never change (promise 15).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import ormsgpack
from persistent import Persistent
from ZODB.POSException import ConflictError

#: What lies in a page.
Value = bytes | str

#: To look for so many keys in what is packed takes longer than to unpack it.
_MANY: Final = 3

#: Of so many keys that are looked up in a page together, it is remembered what they have there.
_FEW: Final = 6

#: An empty map, written in another way than MessagePack's shortest.
_EMPTIED: Final = b"\xde\x00\x00"


class Packed(Persistent):
    """One bytes object, written apart from the tree that it lies in.

    Attributes:
        data: The bytes; they never change.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __getstate__(self) -> bytes:
        return self.data

    def __setstate__(self, state: bytes) -> None:
        self.data = state


class Page(Persistent):
    """Some keys of a :class:`~livesync.replication.pagetrees.PageTree`, one after the other.

    Attributes:
        packed: All of them with their values, MessagePack; it stays so in memory, where it takes a fifth of
            what a dict does.
        changes: What was set since, or taken out (None).
        only_new: All of that are keys that ``packed`` is known not to have; False: nobody has looked.
        size: Of all of it, in bytes; more than it is where keys were replaced.
        _v_found: What a few keys have in ``packed``, that were looked up there last.
    """

    _v_found: dict[str, Value] | None = None

    def __init__(self, rows: dict[str, Value]) -> None:
        self.hold(rows)

    def hold(self, rows: dict[str, Value]) -> None:
        """Hold just these."""
        self.packed = ormsgpack.packb(rows)
        self.changes: dict[str, Value | None] = {}
        self.only_new = False
        self.size = len(self.packed)
        self._v_found = None

    def empty(self) -> None:
        """Hold nothing, since all of it went elsewhere; whoever changes the page meanwhile conflicts."""
        self.hold({})
        self.packed = _EMPTIED

    def __getstate__(self) -> bytes:
        if self.changes:
            packed = self._with_changes() or ormsgpack.packb(self.rows())
            # not through __setattr__, which would mark the object as changed
            self.__dict__.update(packed=packed, changes={}, only_new=False, size=len(packed), _v_found=None)
        return self.packed

    def __setstate__(self, state: bytes) -> None:
        self.packed, self.changes, self.only_new, self.size = state, {}, False, len(state)
        self._v_found = None

    def _with_changes(self) -> bytes | None:
        """Return all of it packed, where keys have only come, or have another value than was looked up.

        Then what is packed already stays as it is, but for those values. None: it is to be packed anew.
        """
        packed, found = self.packed, self._v_found or {}
        new: dict[str, Value] = {}
        if self.only_new:
            new = {key: value for key, value in self.changes.items() if value is not None}
        elif len(self.changes) >= _MANY and not self.changes.keys() <= found.keys():
            return None
        for key, value in () if self.only_new else self.changes.items():
            packed_key = ormsgpack.packb(key)
            if value is None:
                return None
            if key in found:
                was = packed_key + ormsgpack.packb(found[key])
                place = packed.rfind(was)
                if place < 0 or packed.rfind(was, 0, place + len(was) - 1) >= 0:
                    return None  # the same bytes are within another value
                packed = packed[:place] + packed_key + ormsgpack.packb(value) + packed[place + len(was) :]
            elif self.packed.rfind(packed_key) < 0:
                new[key] = value
            else:
                return None
        if not new:
            return packed
        count, body = _opened_map(packed)
        more, new_body = _opened_map(ormsgpack.packb(new))
        return _map_header(count + more) + body + new_body

    def rows(self) -> dict[str, Value]:
        """Return all keys and values, in no order."""
        rows: dict[str, Value] = ormsgpack.unpackb(self.packed)
        for key, value in self.changes.items():
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = value
        return rows

    def is_filled(self) -> bool:
        """Tell whether it holds anything."""
        gone = list(self.changes.values()).count(None)
        return gone < _count_of_map(self.packed) or bool(self.rows())

    def get(self, key: str) -> Value | None:
        """Return the value of a key; None: it is not there."""
        if key in self.changes:
            return self.changes[key]
        if self.packed.rfind(ormsgpack.packb(key)) < 0:  # takes half as long as "in", with ids
            return None  # most that is asked for is new: what is packed need not be unpacked for that
        found: Value | None = ormsgpack.unpackb(self.packed).get(key)
        if found is not None:
            known = self._v_found or {}
            self._v_found = {**known, key: found} if len(known) < _FEW else {key: found}
        return found

    def pick(self, keys: list[str]) -> dict[str, Value]:
        """Return the values of those keys that are there."""
        if len(keys) < _MANY:
            found = {key: self.get(key) for key in keys}
            return {key: value for key, value in found.items() if value is not None}
        rows = self.rows()
        picked = {key: rows[key] for key in keys if key in rows}
        if len(keys) <= _FEW and not self.changes:
            self._v_found = picked
        return picked

    def set(self, key: str, value: Value | None) -> None:
        """Set the value of a key; None takes it out."""
        self.set_many({key: value})

    def set_many(self, rows: Mapping[str, Value | None], are_new: bool = False) -> None:
        """Set the values of many keys; None takes one out.

        Args:
            rows: What is set.
            are_new: The transaction has looked, and none of them is there: nobody need look again.
        """
        self.only_new = are_new and (self.only_new or not self.changes)
        size = sum(map(len, rows)) + sum(map(len, filter(None, rows.values())))
        for key, value in (self._v_found or {}).items():
            if key in rows and key not in self.changes:
                size -= len(key) + len(value)
        self.changes.update(rows)
        self.size += size  # marks the object as changed, too

    def _p_resolveConflict(self, old: bytes, committed: bytes, new: bytes) -> bytes:  # noqa: N802
        """Unite two changes that concern different keys, and took none away.

        Raises:
            ConflictError: They concern the same, or keys were deleted or moved to another page.
        """
        if _EMPTIED in (committed, new):
            raise ConflictError("all that lay in a page has left it, as another transaction changed it")
        before, theirs, mine = (ormsgpack.unpackb(state) for state in (old, committed, new))
        if not (before.keys() <= theirs.keys() and before.keys() <= mine.keys()):
            raise ConflictError("keys have left a page that both transactions changed")
        for key, value in mine.items():
            if before.get(key) == value:
                continue
            if theirs.get(key) != before.get(key):
                raise ConflictError("both transactions changed the same key")
            theirs[key] = value
        return ormsgpack.packb(theirs)


def _count_of_map(packed: bytes) -> int:
    """Return how many keys a packed map has."""
    first = packed[0]
    return first & 0x0F if first <= 0x8F else int.from_bytes(packed[1 : 3 if first == 0xDE else 5], "big")


def _opened_map(packed: bytes) -> tuple[int, bytes]:
    """Return how many keys a packed map has, and what follows its header (MessagePack, map format family)."""
    first = packed[0]
    return _count_of_map(packed), packed[1 if first <= 0x8F else 3 if first == 0xDE else 5 :]


def _map_header(count: int) -> bytes:
    if count <= 15:
        return bytes([0x80 | count])
    return b"\xde" + count.to_bytes(2, "big") if count <= 0xFFFF else b"\xdf" + count.to_bytes(4, "big")
