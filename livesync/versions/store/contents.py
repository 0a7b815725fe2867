"""Documents as they were: what a history gives back for an id and a version.

Every document that is given back is compared with the hash that was kept when it was registered: one that
differs is an error, never a value.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import ormsgpack

from ...errors import BrokenDelta, BrokenValue, InvalidCollectionState, VersionPruned
from ..diffs.delta import apply
from ..diffs.threeway import ABSENT
from ..names import Names
from ..packets import Packet
from ..shelves import Place, aisles_of, keep_pack, packs_of
from ..stored import StoredHistory
from ..values import CODEC, Codec, hash_of
from .changesets import (
    ERASED,
    GONE,
    REPLACING,
    Columns,
    Forwards,
    Row,
    Shorts,
    change_set,
    columns_of,
    hashes_of,
    rows_of,
    shorts_of,
)
from .entries import CHAINED, PACKED, Entries, Entry, Kind
from .frames import DENSE, Frames, train
from .sums import with_sum, without_sum
from .tree import NO_VERSION, parent_of

#: Documents, and bytes before compression, in a pack of first states.
_PACK_DOCUMENTS: Final = 8
_PACK_BYTES: Final = 32_768

#: Documents of a pack in one frame, which is what a read unpacks.
_FRAME_DOCUMENTS: Final = 2

#: The key of ``StoredHistory.settings`` under which the set of the versions lies whose contents were pruned.
PRUNED: Final = "pruned"

#: Packs that are kept unpacked.
_KEPT_PACKS: Final = 32


#: Makes named tuples of all their fields where many are made: it takes half the time of calling their class.
_NEW: Final = tuple.__new__


class State(NamedTuple):
    """A document at a version.

    Attributes:
        value: The document, or :data:`~livesync.versions.diffs.threeway.ABSENT`, also where it was erased.
        hash: Its content hash; b"" where there is none.
        entry: What says so; None: its first state, or that there never was any.
        deltas: How many deltas were applied, ``weight`` the bytes of those that the document's entries hold.
        rows: How many change sets were read for it.
        base: Bytes of the whole that they were applied to, as it is stored.
        body: The document's canonical bytes; b"" where there is none.
    """

    value: Any
    hash: bytes
    entry: Entry | None
    deltas: int = 0
    weight: int = 0
    base: int = 0
    rows: int = 0
    body: bytes = b""

    @property
    def key(self) -> int:
        """What a delta from here has for ``up``."""
        return PACKED if self.entry is None else self.entry.key


#: The encoded None: what is decoded in the place of a delta that leaves no document.
_LEFT_NOTHING: Final = b"\xc0"

#: Bytes by which an id is known in the list of those that a dictionary was trained on.
_MARK: Final = 8

_NEVER: Final = State(ABSENT, b"", None)


class _Pack(NamedTuple):
    """A pack of first states, as it is stored, the first ids of its frames, and what of it was unpacked."""

    pack: bytes
    firsts: list[str]
    frames: list[bytes]
    states: dict[int, dict[str, bytes]]


class Contents:
    """Reads documents of one history.

    Args:
        stored: The history.
        codec: Encodes documents.
    """

    def __init__(self, stored: StoredHistory, codec: Codec = CODEC) -> None:
        self.stored = stored
        self.references = stored.references
        self.histories = stored.documents
        self.records = stored.records
        self.codec = codec
        self.frames = Frames(stored.dictionaries)
        self._shelves = stored.shelves
        self._changes = stored.changes
        self._packs: dict[str, _Pack] = {}
        self._forwards = Forwards(self.frames)

    @property
    def forks(self) -> dict[int, int]:
        """Line -> key that it begins after."""
        return self.references.forks

    # -- which versions have contents --------------------------------------------------------------

    def is_pruned(self, key: int) -> bool:
        """Tell whether a version's record is all that is left of it."""
        pruned = self.references.settings.get(PRUNED)
        return pruned is not None and key in pruned

    def pruned_of(self, keys: Iterable[int]) -> Container[int]:
        """Return those of some versions whose records are all that is left of them."""
        pruned = self.references.settings.get(PRUNED)
        return () if pruned is None else frozenset(filter(pruned.__contains__, keys))

    def check_kept(self, key: int) -> None:
        """Make sure that a version's contents were not pruned.

        Raises:
            VersionPruned: They were.
        """
        pruned = self.references.settings.get(PRUNED)
        if pruned is not None and key in pruned:
            raise VersionPruned(*Names(self.references).place(key))

    def kept_at(self, key: int) -> int:
        """Return the newest version with contents at ``key`` or before it, along first parents."""
        while self.is_pruned(key):
            key = parent_of(self.forks, key)
        return key

    def base_of(self, key: int) -> int:
        """Return what a version's changes are relative to: the last version before it that has contents."""
        return self.kept_at(parent_of(self.forks, key))

    # -- one document ------------------------------------------------------------------------------

    def state(self, document_id: str, key: int) -> State:
        """Return a document at a version, with what a next delta has to know.

        Raises:
            VersionPruned: The version's contents were pruned.
            InvalidCollectionState: What is stored is damaged; the text names document and version.
        """
        found = self.state_unless(document_id, key, None)
        assert found is not None, "no content hash is None"
        return found

    def state_unless(
        self,
        document_id: str,
        key: int,
        known: bytes | None,
        place: Place | None = None,
        is_hashed: bool = True,
    ) -> State | None:
        """Return a document at a version; None where its content hash is ``known``, without reading it.

        Args:
            document_id: The document.
            key: The version.
            known: A content hash.
            place: Where the document lies, if that was looked up.
            is_hashed: Whether the hash of a first state is asked for, where ``known`` is None.

        Raises:
            VersionPruned: The version's contents were pruned.
            InvalidCollectionState: What is stored is damaged; the text names document and version.
        """
        if key == NO_VERSION:
            return None if known == b"" else _NEVER
        self.check_kept(key)
        place = place or self.histories.place(document_id)
        history = place.history
        try:
            entries = Entries(history) if history.tail or history.segments is not None else None
            newest = None if entries is None else entries.newest(self.forks, key)
            if entries is None or newest is None:
                first = self._first(document_id, place, is_hashed)
                return None if first.hash == known else first
            return None if newest.hash == known else self._resolved(document_id, place, entries, newest)
        except (BrokenDelta, BrokenValue, InvalidCollectionState, ormsgpack.MsgpackDecodeError) as exc:
            called = Names(self.references).called(key)
            raise InvalidCollectionState(
                f"document {document_id!r} cannot be read at {called}: {exc}"
            ) from exc

    def value(self, document_id: str, key: int) -> Any:
        """Return a document at a version; :data:`~livesync.versions.diffs.threeway.ABSENT`: there is none.

        Raises:
            VersionPruned: The version's contents were pruned.
            InvalidCollectionState: What is stored is damaged.
        """
        found = self.state_unless(document_id, key, None, is_hashed=False)
        assert found is not None, "no content hash is None"
        return found.value

    def hash(self, document_id: str, key: int) -> bytes:
        """Return a document's content hash at a version, without reading it; b"" where there is none.

        Raises:
            VersionPruned: The version's contents were pruned.
        """
        self.check_kept(key)
        history = self.histories.get(document_id) if key != NO_VERSION else None
        newest = None if history is None else Entries(history).newest(self.forks, key)
        if newest is not None:
            return newest.hash
        first = None if key == NO_VERSION else self.first_bytes(document_id)
        if first is None:
            return b""
        return first[1:] if first[:1] == ERASED else hash_of(first)

    def is_erased(self, document_id: str, key: int) -> bool:
        """Tell whether there was a document at a version, and what it said was erased since."""
        if key == NO_VERSION:
            return False
        entry = self.entry(document_id, key)
        if entry is None:
            first = self.first_bytes(document_id)
            return first is not None and first[:1] == ERASED
        if entry.kind == Kind.SAME:
            return self.value(document_id, key) is ABSENT
        return entry.kind == Kind.ERASED

    def entry(self, document_id: str, key: int) -> Entry | None:
        """Return what says what a document is at a version; None: its first state, or nothing.

        Raises:
            VersionPruned: The version's contents were pruned.
        """
        self.check_kept(key)
        history = self.histories.get(document_id)
        return None if history is None else Entries(history).newest(self.forks, key)

    def _resolved(self, document_id: str, place: Place, entries: Entries, newest: Entry) -> State:
        chain: list[Any] = []
        weight = rows = replacing = 0
        entry = newest
        while entry.kind in CHAINED:
            if entry.kind != Kind.SAME:
                is_row = entry.kind == Kind.ROW
                payload = self.forward(document_id, entry.key) if is_row else entry.payload
                rows += is_row
                weight += len(entry.payload)
                if is_row and payload.startswith(REPLACING):
                    body = payload[len(REPLACING) :]
                    base = State(self.codec.decode(body), b"", None, base=len(payload) // 3, body=body)
                    replacing = 1
                    break
                chain.append(self.codec.decode(payload))
            if entry.up == PACKED:
                base = self._first(document_id, place, is_hashed=False)
                if base is _NEVER:
                    raise InvalidCollectionState("its first state is missing")
                break
            entry = entries.exactly(entry.up)
        else:
            base = self._whole(entry)
        if base.value is ABSENT:
            return State(ABSENT, b"" if entry.kind == Kind.GONE else newest.hash, newest)
        value, body = base.value, base.body
        for delta in reversed(chain):
            value = apply(value, delta)
        if chain:
            body = self.codec.encode(value)
        if hash_of(body) != newest.hash:
            raise InvalidCollectionState("it is not what was registered")
        deltas = len(chain) + replacing
        return _NEW(State, (value, newest.hash, newest, deltas, weight, base.base, rows, body))

    def _whole(self, entry: Entry) -> State:
        """Return what an entry that needs no other says."""
        if entry.kind != Kind.WHOLE:
            return _NEVER
        body = self.frames.unpack(entry.payload)
        return State(self.codec.decode(body), entry.hash, entry, base=len(entry.payload), body=body)

    def forward(self, document_id: str, key: int) -> bytes:
        """Return the forward delta of a document that a version's change set names.

        Raises:
            InvalidCollectionState: It does not name it, or is missing or damaged.
        """
        stored = self._changes.get(key)
        if stored is None:
            called = Names(self.references).called(key)
            raise InvalidCollectionState(f"the change set of {called} is missing")
        return self._forwards.delta(stored, key, document_id)

    # -- first states ------------------------------------------------------------------------------

    def _first(self, document_id: str, place: Place, is_hashed: bool) -> State:
        encoded = self._first_bytes(document_id, place.first, place.pack)
        if encoded is None:
            return _NEVER
        if encoded[:1] == ERASED:
            return State(ABSENT, encoded[1:], None)
        value = self.codec.decode(encoded)
        content_hash = hash_of(encoded) if is_hashed else b""
        return _NEW(State, (value, content_hash, None, 0, 0, len(encoded) // 3, 0, encoded))

    def pack_of(self, document_id: str) -> dict[str, bytes]:
        """Return the pack of first states that a document's lies in, if it has one: id -> encoded."""
        return self._unpacked(*self.histories.shelf(document_id)[:2])

    def packs(self, start: str = "") -> Iterator[dict[str, bytes]]:
        """Yield all packs of first states, from the one of an id on, in order of the ids."""
        return (self._unpacked(*one) for one in packs_of(self._shelves, start))

    def first_bytes(self, document_id: str) -> bytes | None:
        """Return a document as it was first, encoded; None where it came later, or never."""
        return self._first_bytes(document_id, *self.histories.shelf(document_id)[:2])

    def _first_bytes(self, document_id: str, first: str, pack: bytes) -> bytes | None:
        known = self._packs.get(first)
        if known is None or known.pack is not pack:
            if len(self._packs) >= _KEPT_PACKS:
                self._packs.clear()
            known = self._packs[first] = _Pack(pack, *self._opened(first, pack), {})
        number = bisect_right(known.firsts, document_id) - 1
        if number < 0:
            return None
        states = known.states.get(number)
        if states is None:
            states = known.states[number] = self._states(known.frames[number])
        return states.get(document_id)

    def _opened(self, first: str, pack: bytes) -> tuple[list[str], list[bytes]]:
        """Return the first ids of a pack's frames, and the frames."""
        if not pack:
            return [], []
        firsts, frames = ormsgpack.unpackb(without_sum(pack, f"the pack of first states from {first!r} on"))
        return firsts, frames

    def _states(self, frame: bytes) -> dict[str, bytes]:
        parts = ormsgpack.unpackb(self.frames.unpack(frame))
        return dict(zip(parts[::2], parts[1::2]))

    def _unpacked(self, first: str, pack: bytes) -> dict[str, bytes]:
        states: dict[str, bytes] = {}
        for frame in self._opened(first, pack)[1]:
            states |= self._states(frame)
        return states

    def begin(self, documents: Iterable[tuple[str, bytes]]) -> None:
        """Keep first states, sorted by id, as they come."""
        pack: list[Any] = []
        size = 0
        for document_id, body in documents:
            if pack and (len(pack) >= 2 * _PACK_DOCUMENTS or size + len(body) > _PACK_BYTES):
                self.keep_pack(pack)
                pack, size = [], 0
            pack += document_id, body
            size += len(body)
        if pack:
            self.keep_pack(pack)

    def learn(self, samples: Sequence[tuple[str, bytes]], total: int, number: int) -> None:
        """Train a dictionary on some of the documents, where they are enough, and note on which.

        Args:
            samples: Ids and encoded documents (:func:`~livesync.versions.store.frames.sampled`).
            total: Bytes of all documents.
            number: Of the dictionary.
        """
        dictionary = train([body for _, body in samples], total)
        if dictionary is not None:
            self.stored.dictionaries[number] = Packet(with_sum(dictionary))
            marks = b"".join(sorted(_mark(document_id) for document_id, _ in samples))
            self.stored.samples = Packet(with_sum(marks))

    def is_learned(self, document_id: str) -> bool:
        """Tell whether the dictionary may hold something of a document.

        Raises:
            InvalidCollectionState: What says so is damaged.
        """
        samples = self.stored.samples
        if not self.stored.dictionaries or samples is None:
            return bool(self.stored.dictionaries)
        marks = without_sum(samples.data, "what a dictionary was trained on")
        return _mark(document_id) in {marks[at : at + _MARK] for at in range(0, len(marks), _MARK)}

    def keep_pack(self, pack: list[Any]) -> None:
        """Keep a pack: ids and encoded documents in turn."""
        parts = [
            pack[start : start + 2 * _FRAME_DOCUMENTS] for start in range(0, len(pack), 2 * _FRAME_DOCUMENTS)
        ]
        number = self.dictionary
        frames = [self.frames.pack(ormsgpack.packb(part), number, DENSE) for part in parts]
        keep_pack(self._shelves, pack[0], with_sum(ormsgpack.packb([[part[0] for part in parts], frames])))
        aisles = aisles_of(self._shelves)
        if aisles != self.references.aisles:
            self.references.aisles = aisles

    @property
    def dictionary(self) -> int:
        """Number of the dictionary that is written with; 0: none."""
        return max(self.stored.dictionaries, default=0)

    # -- all documents -----------------------------------------------------------------------------

    def ids(self, prefix: str = "", start: str = "") -> Iterator[str]:
        """Yield the ids of all documents that any version has, in order.

        Args:
            prefix: Only those that begin so.
            start: Only from here on.
        """
        last = None
        first = max(prefix, start)
        for document_id in heapq.merge(self._packed_ids(first), self.histories.keys(first)):
            if not document_id.startswith(prefix):
                return
            if document_id != last:
                yield document_id
            last = document_id

    def _packed_ids(self, start: str) -> Iterator[str]:
        for pack in self.packs(start):
            yield from (one for one in pack if one >= start)

    def documents(self, key: int) -> Iterator[tuple[str, Any]]:
        """Yield (id, document) of a version, in order of the ids.

        Raises:
            VersionPruned: The version's contents were pruned.
        """
        self.check_kept(key)
        for document_id in self.ids():
            value = self.value(document_id, key)
            if value is not ABSENT:
                yield document_id, value

    # -- versions' changes -------------------------------------------------------------------------

    def rows(self, key: int) -> Iterator[Row]:
        """Yield what a version changed against its :meth:`base_of`: its first parent, unless that was pruned.

        Of the root nothing: it is all there is. Of a version whose contents were pruned nothing either.
        """
        stored = self._changes.get(key)
        if stored is not None:
            yield from rows_of(stored, self.frames)

    def columns(self, key: int, is_back: bool) -> Iterator[Columns]:
        """Yield what :meth:`rows` does, many rows at once, for one way."""
        stored = self._changes.get(key)
        if stored is not None:
            yield from columns_of(stored, self.frames, is_back)

    def keep_rows(self, key: int, rows: Sequence[Row]) -> None:
        """Keep what a version changed, sorted by id."""
        stored = self._changes[key] = change_set(rows, self.frames, self.dictionary)
        self._forwards.keep(stored, key, rows)

    def short_hashes(self, key: int) -> Iterator[tuple[str, bytes, bytes]]:
        """Yield (id, before, after) of what a version changed, with the first bytes of the hashes."""
        stored = self._changes.get(key)
        if stored is not None:
            yield from hashes_of(stored, self.frames)

    def shorts(self, key: int) -> Iterator[Shorts]:
        """Yield the short hashes, before and after, of what a version changed, many at once."""
        stored = self._changes.get(key)
        if stored is not None:
            yield from shorts_of(stored, self.frames)

    def applied(self, value: Any, delta: bytes) -> Any:
        """Return what an encoded delta of a row makes of a document, or of none.

        Raises:
            InvalidCollectionState: It does not fit.
        """
        return applied(value, self.deltas([delta])[0])

    def deltas(self, rows: Sequence[bytes]) -> list[Any]:
        """Return the deltas of rows for :func:`applied`; decoding many at once is faster.

        Raises:
            InvalidCollectionState: One is broken.
        """
        try:
            return self.codec.decode_all([_LEFT_NOTHING if one in (GONE, ERASED) else one for one in rows])
        except BrokenValue as exc:
            raise InvalidCollectionState(f"a stored delta does not fit: {exc}") from exc


def applied(value: Any, delta: Any) -> Any:
    """Return what a delta of a row makes of a document, or of none; None as a delta leaves nothing.

    Raises:
        InvalidCollectionState: It does not fit.
    """
    if delta is None:
        return ABSENT
    try:
        return apply(None if value is ABSENT else value, delta)
    except BrokenDelta as exc:
        raise InvalidCollectionState(f"a stored delta does not fit: {exc}") from exc


def _mark(document_id: str) -> bytes:
    return hash_of(document_id.encode("utf-8", "surrogatepass"))[:_MARK]
