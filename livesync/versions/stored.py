"""What a history keeps in a database. These classes' import path never changes.

Each class holds one plain value as its state, so that later versions can read it; objects refer to one
another by references of ZODB alone, which packing follows. What changes often is small: see the sizes of
trees, which were measured.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any, Final

from BTrees.LOBTree import LOBTree
from BTrees.OOBTree import OOBTree, OOTreeSet
from persistent import Persistent

from ..errors import check_schema
from .packets import Packet
from .shelves import Aisles, Histories, ShelfTree, new_shelves
from .store.blocks import Records

#: Where all histories lie in a database's root.
ROOT_KEY: Final = "livesync.versions"

#: Where deltas of collections without versions lie in a database's root, as histories without records.
DELTAS_KEY: Final = "livesync.versions.deltas"

#: What ``StoredHistory.schema`` is for data of this code.
SCHEMA: Final = 9

#: What is to be done with histories of an older schema, of which no release has written any.
_OLDER: Final = (
    "use the livesync that wrote them, or take them out of what the database's root has as"
    f" {ROOT_KEY!r}, and begin anew"
)


class ChangeSet(Persistent):
    """What one version changed.

    Attributes:
        pages: Packed rows (:mod:`~livesync.versions.store.changesets`): one page as bytes, more as packets.
    """

    #: Not stored: the page that was last read, and its short hashes; it goes when the object leaves memory.
    _v_shorts: tuple[bytes, Any] | None = None

    def __init__(self, pages: Any = ()) -> None:
        self.pages = pages

    def __getstate__(self) -> Any:
        return self.pages

    def __setstate__(self, state: Any) -> None:
        self.pages = state


class References(Persistent):
    """What names versions, and where the working documents are: what every read needs, in one object.

    Attributes:
        name: Of the collection; "" once it was dropped.
        settings: Plain values, and what they lead to.
        branches: Name -> (base, runs): :class:`~livesync.versions.store.tree.Branch`.
        tags: Name -> key.
        forks: Line -> key that it begins after.
        head: (branch, key): which version the working documents come from, and by which branch.
        used: Line -> how many positions of it were ever given out.
        stash: None, or packed changes.
        conflicts: None, or what waits to be resolved.
        opened: Name -> (base, runs) of open versions: :mod:`~livesync.versions.deltatrees.opening`.
        remotes: Address -> {branch: id of its tip there when it was last seen}.
        aisles: What the tree of shelves has at its root (:func:`~livesync.versions.shelves.aisles_of`), so
            that a read has not to look at that.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.settings: dict[str, Any] = {}
        self.branches: dict[str, Any] = {}
        self.tags: dict[str, int] = {}
        self.forks: dict[int, int] = {}
        self.head: tuple[str, int] = ("", -1)
        self.used: dict[int, int] = {}
        self.stash: Any = None
        self.conflicts: Any = None
        self.opened: dict[str, Any] = {}
        self.remotes: dict[str, Any] = {}
        self.aisles: Aisles | None = None

    def __getstate__(self) -> Any:
        return tuple(getattr(self, name) for name in _REFERENCES)

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(zip(_REFERENCES, state, strict=True))


#: The attributes of :class:`References` as every version writes them: without their names.
_REFERENCES: Final = (
    "name",
    "settings",
    "branches",
    "tags",
    "forks",
    "head",
    "used",
    "stash",
    "conflicts",
    "opened",
    "remotes",
    "aisles",
)


class ChangeTree(LOBTree):
    """Key -> :class:`ChangeSet`; its nodes are small, as a read of one pays for all that they refer to."""

    max_leaf_size = 16
    max_internal_size = 32


class StoredHistory(Persistent):
    """All that is kept of one collection's past.

    Attributes:
        schema: See :data:`SCHEMA`.
        shelves: The documents (:mod:`~livesync.versions.shelves`).
        changes: See :class:`ChangeTree`.
        blocks: The versions' records, many to an object (:mod:`~livesync.versions.store.blocks`).
        keys: Id of a version -> key.
        dictionaries: Number -> :class:`~livesync.versions.packets.Packet`: what zstd knows beforehand,
            trained on documents.
        samples: By which ids are known that a dictionary was trained on; None: none was.
        references: See :class:`References`.
        touched: Ids of documents to look at besides those that the working copy names.
    """

    def __init__(self, name: str) -> None:
        self.schema = SCHEMA
        self.shelves: ShelfTree = new_shelves()
        self.changes = ChangeTree()
        self.blocks = LOBTree()
        self.keys = OOBTree()
        self.dictionaries = OOBTree()
        self.samples: Packet | None = None
        self.references = References(name)
        self.touched = OOTreeSet()

    @property
    def documents(self) -> Histories:
        """The histories of the documents that ever changed, by id."""
        return Histories(self.shelves, self.references)

    @property
    def records(self) -> Records:
        """The versions' records, packed, by key."""
        return Records(self.blocks)

    @property
    def name(self) -> str:
        """Of the collection; "" once it was dropped."""
        return self.references.name

    @name.setter
    def name(self, name: str) -> None:
        self.references.name = name

    @property
    def settings(self) -> dict[str, Any]:
        """Plain values, and what they lead to; a change is assigned as a whole."""
        return self.references.settings

    @settings.setter
    def settings(self, settings: dict[str, Any]) -> None:
        self.references.settings = settings

    def forget_object(self, object_id: str) -> bool:
        """Erase what a document said at all versions: see :class:`~livesync.keepers.Keeper`."""
        from .upkeep.erasing import forget_in  # which is made of these classes

        return forget_in(readable(self), object_id)


class NotedDocuments(Persistent, MutableMapping[str, Any]):
    """Working documents of a collection without a host: a mapping that notes which ids were written.

    Whoever assigns, through whatever connection, is seen. As everywhere in ZODB, an edit inside a document
    that is not assigned anew is not stored, and so not seen.

    Attributes:
        documents: Id -> document.
        touched: Ids that were written since the last version.
    """

    def __init__(self) -> None:
        self.documents = OOBTree()
        self.touched = OOTreeSet()

    def __getitem__(self, document_id: str) -> Any:
        return self.documents[document_id]

    def __setitem__(self, document_id: str, document: Any) -> None:
        self.documents[document_id] = document
        self.touched.insert(document_id)

    def __delitem__(self, document_id: str) -> None:
        del self.documents[document_id]
        self.touched.insert(document_id)

    def __iter__(self) -> Iterator[str]:
        return iter(self.documents)

    def __len__(self) -> int:
        return len(self.documents)

    def __contains__(self, document_id: object) -> bool:
        return document_id in self.documents


def find_histories(root: Any, create: bool = False) -> Any:
    """Return the tree name -> :class:`StoredHistory` of a database; None where there is none.

    Whoever reads one looks whether this code can: :func:`readable`.
    """
    found = root.get(ROOT_KEY)
    if found is None and create:
        found = root[ROOT_KEY] = OOBTree()
    return found


def find_history(root: Any, name: str) -> StoredHistory | None:
    """Return the history of a name; None where there is none.

    Raises:
        UpgradeNeeded: It is of another schema than this code's.
    """
    histories = find_histories(root)
    found: StoredHistory | None = None if histories is None else histories.get(name)
    return None if found is None else readable(found)


def readable(stored: StoredHistory) -> StoredHistory:
    """Return a history that lies in a database, if this code can read it.

    Raises:
        UpgradeNeeded: It is of another schema than this code's.
    """
    check_schema("the stored schema of histories", stored.schema, SCHEMA, _OLDER)
    return stored
