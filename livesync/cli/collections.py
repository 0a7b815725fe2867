"""The collection that a command is about, within one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import UsageError
from .session import Session, as_usage

if TYPE_CHECKING:
    from ..versions.collection import VersionedCollection

T = TypeVar("T")


def collection_of(session: Session, root: Any) -> VersionedCollection:
    """Return the collection that a command names, of the application's documents where there is one.

    Raises:
        UsageError: Its name is none, or what the command says it is of.
        HostNotFound: The host cannot be imported.
    """
    from ..versions.collection import VersionedCollection

    host = session.optional_host()
    pairs = getattr(session.args, "of", None) or []
    of = dict(pairs)
    if len(of) < len(pairs):
        raise UsageError("name each of the collections once")
    return as_usage(
        lambda: VersionedCollection(root, session.args.collection, host=host, collections=of or None)
    )


def unknown_document(collection: VersionedCollection, document_id: str, where: str) -> UsageError:
    """Return what says that there is no such document, and how one is named where there are collections."""
    hint = ""
    if collection.collections and document_id.partition(":")[0] not in collection.collections:
        hint = f"; name it as COLLECTION:ID, of {', '.join(collection.collections)}"
    return UsageError(f"there is no document {document_id!r} {where}{hint}")


def changing(session: Session, change: Callable[[VersionedCollection], T]) -> T:
    """Carry out ``change`` on the collection in one transaction, again where it conflicts."""
    return session.write(lambda root: as_usage(lambda: change(collection_of(session, root))))


@contextmanager
def looking(session: Session) -> Iterator[VersionedCollection]:
    """Give the collection, opened only to read.

    Raises:
        InvalidOperation: It has no versions.
    """
    from ..database import connected

    with session.database(read_only=True) as db, connected(db) as root:
        collection = collection_of(session, root)
        _ = collection.contents
        yield collection


def version_of(collection: VersionedCollection, key: int) -> dict[str, Any]:
    """Return a version as ``--json`` has it."""
    from ..versions.log import log_entry

    entry = log_entry(collection.contents, collection.names.places(), key)
    return {
        "version": entry.version,
        "branch": entry.branch,
        "id": entry.id,
        "time": entry.timestamp.isoformat(),
        "author": entry.author,
        "message": entry.message,
        "parents": [list(parent) for parent in entry.parents],
        "counts": entry.counts._asdict(),
        "metadata": dict(entry.metadata),
        "pruned": entry.is_pruned,
    }


def line_of(version: dict[str, Any]) -> str:
    """Return a version in one line, as git says what it has committed."""
    counts = ", ".join(f"{number:,} {kind}" for kind, number in version["counts"].items() if number)
    first = (version["message"].splitlines() or [""])[0]
    place = f"[{version['branch']} {version['version']} {version['id'][:12]}]"
    return f"{place} {first}\n {counts or 'nothing changed'}"
