"""Where documents lie: shelves, each with some first states and with the histories of what falls to it.

A shelf begins with an id, and has all documents up to the next one. A read needs both of its parts, so that
they lie on one way: the first states, written once, in the leaves of the tree of shelves; the histories,
which are written all the time, in a small tree of the shelf's own. Reading a node costs most for what it
refers to, so that nodes are small, and short histories lie in the tree itself.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, Protocol

from BTrees.LOBTree import LOBTree
from BTrees.OOBTree import OOBTree
from persistent import Persistent

#: Bytes of a history that lies in its shelf's tree; a longer one is an object of its own.
_SHORT_BYTES: Final = 256

#: The first shelf begins before all ids.
_FIRST: Final = ""


class DocumentHistory(Persistent):
    """The entries of one document that has many.

    Attributes:
        tail: The newest, packed (:mod:`~livesync.versions.store.entries`).
        segments: Key of the first one -> (packed keys, :class:`~livesync.versions.packets.Packet`) of older
            ones, each of one line; None: none.
    """

    def __init__(self, tail: bytes = b"") -> None:
        self.tail = tail
        self.segments: LOBTree | None = None

    def __getstate__(self) -> Any:
        return self.tail if self.segments is None else (self.tail, self.segments)

    def __setstate__(self, state: Any) -> None:
        self.tail, self.segments = (state, None) if isinstance(state, bytes) else state


class DocumentTree(OOBTree):
    """Id -> the tail of a short history, or a :class:`DocumentHistory`."""

    max_leaf_size = 8
    max_internal_size = 16


class ShelfTree(OOBTree):
    """First id -> (packed first states or b"", :class:`DocumentTree`)."""

    max_leaf_size = 8
    max_internal_size = 12


#: First ids of all parts but the first one, and the parts, which are trees of shelves themselves.
Aisles = tuple[tuple[str, ...], tuple[Any, ...]]


class _HasAisles(Protocol):
    aisles: Aisles | None


class History:
    """The history of one document, to read and to write, wherever it lies."""

    __slots__ = ("_document_id", "_kept", "_tree")

    def __init__(self, tree: DocumentTree, document_id: str, kept: bytes | DocumentHistory) -> None:
        self._tree, self._document_id, self._kept = tree, document_id, kept

    @property
    def tail(self) -> bytes:
        """The newest entries, packed."""
        kept = self._kept
        return kept if isinstance(kept, bytes) else kept.tail

    @tail.setter
    def tail(self, tail: bytes) -> None:
        if isinstance(self._kept, bytes):
            self._keep(tail if len(tail) <= _SHORT_BYTES else DocumentHistory(tail))
        else:
            self._kept.tail = tail

    @property
    def segments(self) -> LOBTree | None:
        """Older entries, as :class:`DocumentHistory` has them."""
        kept = self._kept
        return None if isinstance(kept, bytes) else kept.segments

    def made_segments(self) -> LOBTree:
        """Return the tree of older entries; it is made where there is none."""
        if isinstance(self._kept, bytes):
            self._keep(DocumentHistory(self._kept))
        assert not isinstance(self._kept, bytes), "an object has just been made"
        if self._kept.segments is None:
            self._kept.segments = LOBTree()
        return self._kept.segments

    def reset(self, tail: bytes) -> None:
        """Make a tail all that there is."""
        self._keep(tail if len(tail) <= _SHORT_BYTES else DocumentHistory(tail))

    def _keep(self, kept: bytes | DocumentHistory) -> None:
        self._kept = self._tree[self._document_id] = kept


class Place(NamedTuple):
    """Where one document lies.

    Attributes:
        first: The id that its shelf begins with.
        pack: Packed first states of the shelf.
        history: Its history; one without a tail where it has none.
    """

    first: str
    pack: bytes
    history: History


class Histories:
    """The histories of all documents that ever changed, by id.

    Args:
        shelves: What they lie on.
        references: What knows their aisles, if anything does; it saves reading the root of the shelves.
    """

    def __init__(self, shelves: ShelfTree, references: _HasAisles | None = None) -> None:
        self._shelves, self._references = shelves, references

    def _tree(self, document_id: str) -> DocumentTree:
        tree: DocumentTree = self.shelf(document_id)[2]
        return tree

    def shelf(self, document_id: str) -> tuple[str, bytes, DocumentTree]:
        """Return the shelf that a document falls to: (its first id, packed first states, histories)."""
        aisles = None if self._references is None else self._references.aisles
        part = self._shelves if aisles is None else aisles[1][bisect_right(aisles[0], document_id)]
        return shelf_of(part, document_id)

    def get(self, document_id: str) -> History | None:
        """Return a document's history; None where it has none."""
        tree = self._tree(document_id)
        kept = tree.get(document_id)
        return None if kept is None else History(tree, document_id, kept)

    def __getitem__(self, document_id: str) -> History:
        found = self.get(document_id)
        if found is None:
            raise KeyError(document_id)
        return found

    def place(self, document_id: str) -> Place:
        """Return where a document lies; a history that it has not yet is kept once its tail is set."""
        first, pack, tree = self.shelf(document_id)
        history = History(tree, document_id, tree.get(document_id, b""))
        return tuple.__new__(Place, (first, pack, history))  # quicker than calling it

    def __delitem__(self, document_id: str) -> None:
        del self._tree(document_id)[document_id]

    def __contains__(self, document_id: str) -> bool:
        return document_id in self._tree(document_id)

    def __iter__(self) -> Iterator[str]:
        return self.keys()

    def keys(self, start: str = _FIRST) -> Iterator[str]:
        """Yield the ids from ``start`` on, in order."""
        return (document_id for document_id, _ in self.items(start))

    def items(self, start: str = _FIRST) -> Iterator[tuple[str, History]]:
        """Yield (id, history) from ``start`` on, in order of the ids."""
        for _, tree in self._shelves.values(self._shelves.maxKey(start)):
            for document_id, kept in tree.items(start):
                yield document_id, History(tree, document_id, kept)

    def values(self) -> Iterator[History]:
        """Yield all histories, in order of the ids."""
        return (history for _, history in self.items())


def new_shelves() -> ShelfTree:
    """Return a tree with one shelf, which is empty."""
    return ShelfTree({_FIRST: (b"", DocumentTree())})


def aisles_of(shelves: ShelfTree) -> Aisles | None:
    """Return the parts that the root of a tree of shelves leads to; None where it has no parts.

    They stay what they are until a shelf is put up: shelves are never taken away, so that each part has one
    for all ids that fall to it.
    """
    state: Any = shelves.__getstate__()
    if state is None or len(state) < 2:
        return None
    return state[0][1::2], state[0][::2]


def shelf_of(shelves: ShelfTree, document_id: str) -> tuple[str, bytes, DocumentTree]:
    """Return the shelf that a document falls to: (its first id, packed first states, histories)."""
    first = shelves.maxKey(document_id)
    pack, tree = shelves[first]
    return first, pack, tree


def packs_of(shelves: ShelfTree, start: str = _FIRST) -> Iterator[tuple[str, bytes]]:
    """Yield (first id, packed first states) of the shelves that have some, from the one of ``start`` on."""
    for first, (pack, _) in shelves.items(shelves.maxKey(start)):
        if pack:
            yield first, pack


def keep_pack(shelves: ShelfTree, first: str, pack: bytes) -> None:
    """Keep packed first states on the shelf that begins with the first one's id; make it where it is none."""
    if first in shelves:
        shelves[first] = (pack, shelves[first][1])
        return
    _, _, before = shelf_of(shelves, first)
    moved = dict(before.items(first))
    for document_id in moved:
        del before[document_id]
    shelves[first] = (pack, DocumentTree(moved))
