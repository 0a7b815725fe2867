"""Versions of documents: which there are, what one changed, and how a document came to be as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ...database import connected
from ...errors import NotFound
from .. import schemas
from ..context import WebContext
from .paging import PAGE, checked_limit, offset_of

if TYPE_CHECKING:
    from ...versions.collection import VersionedCollection
    from ...versions.graph import Lanes
    from ...versions.log import LogEntry

#: Documents of a version whose differences are shown, and lines of all of them.
_DOCUMENTS: Final = 100
_LINES: Final = 4_000


class UnknownVersion(NotFound):
    """Raised when there is no such collection, version or document."""


def list_collections(ctx: WebContext) -> schemas.Collections:
    """Return the collections whose versions this database keeps, by name."""
    from ...versions.stored import find_histories

    ctx.check_database()
    with connected(ctx.db) as root:
        histories = find_histories(root)
        return schemas.Collections(collections=[] if histories is None else list(histories))


@contextmanager
def _opened(ctx: WebContext, name: str) -> Iterator[VersionedCollection]:
    from ...versions.collection import VersionedCollection
    from ...versions.stored import find_history

    ctx.check_database()
    with connected(ctx.db) as root:
        if find_history(root, name) is None:
            raise UnknownVersion(f"there is no collection {name!r} with versions")
        yield VersionedCollection(root, name)


def list_versions(
    ctx: WebContext, name: str, cursor: str | None = None, limit: int = PAGE
) -> schemas.VersionPage:
    """Return versions of all branches, the newest first, with the graph that they make.

    Raises:
        UnknownVersion: There is no such collection.
        BadRequest: The cursor or the limit is none.
    """
    from ...versions.graph import drawn, lanes
    from ...versions.log import log_entry

    begin, size = offset_of(cursor), checked_limit(limit)
    with _opened(ctx, name) as collection:
        stored, places = collection.contents.stored, collection.names.places()
        entries = [log_entry(collection.contents, places, key) for key in stored.records]
        entries.sort(key=lambda entry: (-entry.record.generation, -entry.record.time_us, entry.key))
        parents = [(entry.key, [stored.keys[one] for one in entry.record.parents]) for entry in entries]
        names = _names(collection)
        versions = []
        for number, (entry, drawing, row) in enumerate(zip(entries, drawn(parents), lanes(parents))):
            if number == begin + size:
                break
            if number >= begin:
                graph = [*drawing.before, drawing.mark, *drawing.after]
                versions.append(_shown(entry, names.get(entry.key, []), graph, row))
        of = list(collection.collections)
    end = begin + len(versions)
    return schemas.VersionPage(of=of, versions=versions, next=str(end) if end < len(entries) else None)


def show_version(ctx: WebContext, name: str, version_id: str) -> schemas.VersionDetail:
    """Return one version and what it changed against its first parent.

    Raises:
        UnknownVersion: There is none of this id.
    """
    from ...versions.log import log_entry
    from ...versions.store.tree import NO_VERSION, parent_of
    from ...versions.store.ways import net_rows

    with _opened(ctx, name) as collection:
        contents = collection.contents
        is_id = len(version_id) == 64 and set(version_id) <= set("0123456789abcdef")
        key = contents.stored.keys.get(bytes.fromhex(version_id)) if is_id else None
        if key is None:
            raise UnknownVersion(f"there is no version {version_id[:12]} of {name!r}")
        entry = log_entry(contents, collection.names.places(), key)
        parent, base = parent_of(contents.forks, key), contents.base_of(key)
        is_compared = parent != NO_VERSION and not entry.is_pruned
        changes: list[schemas.DocumentChange] = []
        room = _LINES
        for document_id, before, after in net_rows(contents, base, key) if is_compared else ():
            change = _change(document_id, before, after)
            room -= len(change.lines)
            if len(changes) == _DOCUMENTS or room < 0:
                break
            changes.append(change)
        names = _names(collection).get(key, [])
        total = sum(1 for _ in contents.short_hashes(key))
        since = "" if parent == NO_VERSION else collection.id_of(base)
    return schemas.VersionDetail(
        version=_shown(entry, names, []), changes=changes, more=max(0, total - len(changes)), since=since
    )


def show_document(
    ctx: WebContext, name: str, document_id: str, cursor: str | None = None, limit: int = PAGE
) -> schemas.DocumentHistory:
    """Return the versions of the current branch that changed a document, with what each changed.

    Raises:
        UnknownVersion: There is no such collection, or no version of this branch has the document.
        BadRequest: The cursor or the limit is none.
    """
    begin, size = offset_of(cursor), checked_limit(limit)
    with _opened(ctx, name) as collection:
        contents, names = collection.contents, _names(collection)
        entries = collection.history(document_id, limit=begin + size + 1)
        if not entries:
            raise UnknownVersion(f"no version of the current branch has a document {document_id!r}")
        found = []
        for entry in entries[begin : begin + size]:
            before = contents.value(document_id, contents.base_of(entry.key))
            change = _change(document_id, before, contents.value(document_id, entry.key))
            shown = _shown(entry, names.get(entry.key, []), [])
            found.append(schemas.VersionOfDocument(version=shown, change=change.change, lines=change.lines))
    end = begin + len(found)
    return schemas.DocumentHistory(versions=found, next=str(end) if end < len(entries) else None)


def _names(collection: VersionedCollection) -> dict[int, list[str]]:
    from ...versions.log import names_of

    return names_of(collection.names)


def _shown(entry: LogEntry, names: list[str], graph: list[str], row: Lanes | None = None) -> schemas.Version:
    lanes = None
    if row is not None:
        above, below = ([list(pair) for pair in pairs] for pairs in (row.above, row.below))
        lanes = schemas.VersionLanes(at=row.at, width=row.width, above=above, below=below)
    return schemas.Version(
        id=entry.id,
        name=f"{entry.branch}:{entry.version}" if entry.branch else "",
        time=entry.record.time_us / 1_000_000,
        author=entry.author,
        message=entry.message,
        parents=[parent.hex() for parent in entry.record.parents],
        counts=schemas.VersionCounts(**entry.counts._asdict()),
        names=names,
        graph=graph,
        pruned=entry.is_pruned,
        lanes=lanes,
    )


def _change(document_id: str, before: object, after: object) -> schemas.DocumentChange:
    from ...versions.diffs.threeway import ABSENT
    from ...versions.showing import unified

    kind = "deleted" if after is ABSENT else "created" if before is ABSENT else "changed"
    lines = unified(before, after, "before", "after").split("\n")[2:]
    return schemas.DocumentChange(document_id=document_id, change=kind, lines=lines)
