"""The record of a version: who made it, when and why, from what, and what identifies it.

A version's id is the BLAKE2b-256 of its record and of what it changed, so that two databases that hold the
same id hold the same version, and all that came before it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import ormsgpack

from ...errors import BrokenValue, InvalidCollectionState
from ..values import CODEC
from .sums import with_sum, without_sum

#: Bytes of a version's id, and of a state sum.
ID_BYTES: Final = 32

#: Metadata that are none, encoded.
_EMPTY: Final = CODEC.encode({})

_MODULUS: Final = 1 << 8 * ID_BYTES


class Counts(NamedTuple):
    """How many documents a version created, changed and deleted."""

    created: int = 0
    changed: int = 0
    deleted: int = 0


class Record(NamedTuple):
    """A version.

    Attributes:
        id: 32 bytes, made of all that follows but the counts.
        parents: Ids of its parents, the first one first; none of the root.
        generation: Length of the longest way from the root, 0 for it.
        author: Who made it; "" where nobody is named.
        time_us: When, in microseconds of the epoch.
        message: Why.
        metadata: Plain values of the application's own.
        rows: BLAKE2b-256 of what it changed: ids and content hashes.
        state: State sum: of all documents as they were then.
        counts: The three of :class:`Counts`.
    """

    id: bytes
    parents: Sequence[bytes]
    generation: int
    author: str
    time_us: int
    message: str
    metadata: Mapping[str, Any]
    rows: bytes
    state: bytes
    counts: Sequence[int]

    def packed(self) -> bytes:
        """Return it as it is stored."""
        fields = [*self[:6], CODEC.encode(dict(self.metadata)), self.rows, self.state, list(self.counts)]
        fields[1] = list(self.parents)
        return with_sum(ormsgpack.packb(fields))

    @classmethod
    def unpacked(cls, data: bytes) -> Record:
        """Return the record of :meth:`packed`.

        Raises:
            InvalidCollectionState: The bytes are damaged.
        """
        try:
            return cls.of(ormsgpack.unpackb(without_sum(data, "the record of a version")))
        except ValueError as exc:
            raise InvalidCollectionState(f"the record of a version is damaged: {exc}") from exc

    @classmethod
    def of(cls, fields: Any) -> Record:
        """Return the record of the fields that lie in :meth:`packed`, which are used up.

        Raises:
            InvalidCollectionState: They are none.
        """
        try:
            fields[6] = {} if fields[6] == _EMPTY else CODEC.decode(fields[6])
            if len(fields) != len(cls._fields):
                raise TypeError(f"it has {len(fields)} fields")
            return tuple.__new__(cls, fields)
        except (TypeError, LookupError, BrokenValue) as exc:
            raise InvalidCollectionState(f"the record of a version is damaged: {exc}") from exc

    def checked(self) -> Record:
        """Return it if its id is right.

        Raises:
            InvalidCollectionState: It is not: something was changed since it was made.
        """
        if made_id(self) != self.id:
            raise InvalidCollectionState(f"version {self.id.hex()[:12]} is not what its id says")
        return self


def made_id(record: Record) -> bytes:
    """Return the id that a record's other fields make."""
    body = ormsgpack.packb(
        [
            list(record.parents),
            record.author,
            record.time_us,
            record.message,
            CODEC.encode(dict(record.metadata)),
            record.rows,
            record.state,
        ]
    )
    return hashlib.blake2b(body, digest_size=ID_BYTES, person=b"livesync-version").digest()


class RowSums:
    """What a record says of rows: (id, hash before, hash after), given one by one, sorted by id.

    Attributes:
        state_change: See :func:`state_change`.
        count: How many there are.
    """

    def __init__(self, rows: Sequence[tuple[str, bytes, bytes]] = ()) -> None:
        self._rows = hashlib.blake2b(
            b"".join(map(ormsgpack.packb, rows)), digest_size=ID_BYTES, person=b"livesync-changes"
        )
        self.state_change = state_change(rows)
        self.count = len(rows)

    def add(self, row: tuple[str, bytes, bytes]) -> None:
        """Count a row in."""
        self._rows.update(ormsgpack.packb(row))
        self.state_change += state_change((row,))
        self.count += 1

    @property
    def rows_hash(self) -> bytes:
        """See :func:`rows_hash`."""
        return self._rows.digest()


def rows_hash(rows: Iterable[tuple[str, bytes, bytes]]) -> bytes:
    """Return the hash of (id, hash before, hash after), sorted by id; b"" stands for no document."""
    made = hashlib.blake2b(digest_size=ID_BYTES, person=b"livesync-changes")
    for row in rows:
        made.update(ormsgpack.packb(row))
    return made.digest()


def state_change(rows: Sequence[tuple[str, bytes, bytes]]) -> int:
    """Return what such rows add to a state sum.

    A state sum is the sum of the BLAKE2b-256 of (id, content hash) of all documents, modulo 2**256: it finds
    faults, wherever they come from. Against somebody who makes up documents it proves nothing; ids do.
    """
    gone = [_weight(document_id, before) for document_id, before, _ in rows if before]
    come = [_weight(document_id, after) for document_id, _, after in rows if after]
    return sum(come) - sum(gone)


_WEIGHT: Final = hashlib.blake2b(digest_size=ID_BYTES)


def _weight(document_id: str, content_hash: bytes) -> int:
    made = _WEIGHT.copy()  # quicker than a new one
    made.update(ormsgpack.packb((document_id, content_hash)))
    return int.from_bytes(made.digest(), "big")


def new_state(state: bytes, change: int) -> bytes:
    """Return a state sum after a change; b"" is the sum of nothing."""
    return ((int.from_bytes(state, "big") + change) % _MODULUS).to_bytes(ID_BYTES, "big")
