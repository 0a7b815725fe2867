"""Several collections in one history: how their documents are addressed, and which of them each one is.

A document is addressed by its collection and its own id, as ``talks:talk-7``. A collection's name holds no
colon, so that the text is read back in one way, and sorted addresses keep each collection's documents
together: packs, the tree of documents and the rows of a version need no second layout.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, Final, NamedTuple

from persistent import Persistent

from ...errors import InvalidCollectionState, InvalidOperation
from ..names import check_name
from ..store.contents import Contents
from ..store.records import Record
from ..stored import StoredHistory, find_histories, readable

#: Between a collection's name and a document's id.
COLON: Final = ":"

#: Key of ``StoredHistory.settings``: name of a collection -> which documents are its: "": the mapping of
#: this name in the root; None: a mapping that the application gives; else the text of a :class:`Rule`.
COLLECTIONS: Final = "collections"

#: Key of ``StoredHistory.settings``: True where the documents are those of a host.
HOSTED: Final = "hosted"

#: Key of the first version's metadata: the names, which travel with it.
TRAVELLING: Final = "livesync.collections"

#: What is given for several collections: names, or name -> rule or mapping.
Given = Iterable[str] | Mapping[str, str | MutableMapping[str, Any]]


class Address(NamedTuple):
    """A document of one of several collections."""

    collection: str
    document_id: str

    def __str__(self) -> str:
        return f"{self.collection}{COLON}{self.document_id}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Return the address that a text is.

        Raises:
            ValueError: It names no collection.
        """
        collection, colon, document_id = text.partition(COLON)
        if not colon or not collection:
            raise ValueError(f"{text!r} names no collection: give COLLECTION{COLON}ID")
        return cls(collection, document_id)


class Rule(NamedTuple):
    """Which documents of an application are a collection's.

    Attributes:
        field: A field of the document; "": its id.
        value: What the field is; of an id, how it begins.
    """

    field: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Return the rule of a text: ``FIELD=VALUE``, or ``PREFIX*`` of ids.

        Raises:
            ValueError: It is neither.
        """
        field, equals, value = text.partition("=")
        if equals and field:
            return cls(field, value)
        if text.endswith("*"):
            return cls("", text[:-1])
        raise ValueError(f"{text!r} says not which documents are meant: FIELD=VALUE, or PREFIX* of their ids")

    def may_hold(self, document_id: str) -> bool:
        """Tell whether a document of this id can be the collection's."""
        return bool(self.field) or document_id.startswith(self.value)

    def holds(self, document_id: str, document: Any) -> bool:
        """Tell whether a document is the collection's."""
        if not self.field:
            return document_id.startswith(self.value)
        return isinstance(document, dict) and document.get(self.field) == self.value


def checked(given: Given, has_host: bool) -> dict[str, str | MutableMapping[str, Any]]:
    """Return what was given for several collections, by name, in order.

    Raises:
        ValueError: A name is none or is given twice, a rule is none or is lacking, there is no host that it
            could be about, or there is no collection at all.
        TypeError: A mapping does not say itself that it has changed.
    """
    rows = list(given.items() if isinstance(given, Mapping) else ((name, "") for name in given))
    found = {check_name(name): kind for name, kind in rows}
    if not found or len(found) < len(rows):
        raise ValueError("name each of the collections once" if found else "name at least one collection")
    for name, kind in found.items():
        if not isinstance(kind, str):
            if not isinstance(kind, Persistent):
                raise TypeError(f"the mapping of {name!r} must be persistent, as a BTree is")
        elif has_host:
            check_rule(name, kind)
        elif kind:
            raise ValueError(
                f"the rule {kind!r} of {name!r} is about an application's documents: give a host"
            )
    return found


def check_rule(name: str, rule: str) -> None:
    """Make sure that a rule says which of an application's documents are a collection's.

    Raises:
        ValueError: It does not.
    """
    if not rule:
        raise ValueError(
            f"which of the application's documents are those of {name!r}? give {name}=FIELD=VALUE, or"
            f" {name}=PREFIX* of their ids"
        )
    Rule.parse(rule)


def collections_of(stored: StoredHistory) -> dict[str, str | None]:
    """Return the collections that a history is of, as :data:`COLLECTIONS` says; none: it is of one."""
    found: dict[str, str | None] = stored.settings.get(COLLECTIONS, {})
    return dict(found)


def is_applications(stored: StoredHistory) -> bool:
    """Tell whether the documents of a history are those of a host."""
    return bool(stored.settings.get(HOSTED, False))


def keep_collections(stored: StoredHistory, found: Mapping[str, Any], has_host: bool) -> None:
    """Note in a history which collections it is of, and whether their documents are a host's."""
    kept = {name: kind if isinstance(kind, str) else None for name, kind in found.items()}
    settings = {**stored.settings, COLLECTIONS: kept} if kept else dict(stored.settings)
    stored.settings = {**settings, HOSTED: True} if has_host else settings


def check_free(root: Any, name: str, found: Mapping[str, Any], has_host: bool) -> None:
    """Make sure that no two histories follow one mapping: each would take note of changes from the other.

    Raises:
        InvalidOperation: One of the mappings that a history is to follow has versions already.
    """
    if has_host:
        return
    wanted = {one for one, kind in found.items() if kind == ""} if found else {name}
    for other, stored in (find_histories(root) or {}).items():
        if other == name:
            continue
        kept = collections_of(readable(stored))
        theirs = {one for one, kind in kept.items() if kind == ""} if kept else {other}
        shared = set() if is_applications(stored) else wanted & theirs
        if shared:
            raise InvalidOperation(f"{min(shared)!r} has versions already, in the history {other!r}")


def travelled(contents: Contents) -> tuple[str, ...]:
    """Return the collections of a history that came from elsewhere, as its versions say; none: it is of one.

    Raises:
        InvalidCollectionState: They are none.
    """
    first = Record.unpacked(next(iter(contents.stored.records.values())))
    names = first.metadata.get(TRAVELLING)
    if names is None:
        return ()
    try:
        ids = {Address.parse(one).collection for one in contents.ids()}
        return tuple(sorted({check_name(str(one)) for one in (*names, *ids)}))
    except (ValueError, TypeError) as exc:
        raise InvalidCollectionState(f"the versions say not of which collections they are: {exc}") from exc


def addresses(stored: StoredHistory, document_id: str) -> list[str]:
    """Return under which ids a document of an application may lie in a history."""
    return [str(Address(name, document_id)) for name in collections_of(stored)] or [document_id]


def check_known(known: Iterable[str], name: str) -> None:
    """Make sure that a collection is one of those of a history.

    Raises:
        InvalidOperation: It is none.
    """
    known = list(known)
    if name not in known:
        raise InvalidOperation(f"there is no collection {name!r} in it, but {', '.join(known)}: add it first")
