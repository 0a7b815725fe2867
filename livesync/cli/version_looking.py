"""``livesync version``: looking at versions and at what differs between them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .collections import looking, unknown_document, version_of
from .exitcodes import ExitCode
from .output import printable
from .session import Session

if TYPE_CHECKING:
    from ..versions.collection import VersionedCollection
    from ..versions.log import LogEntry
    from ..versions.names import Places
    from ..versions.store.contents import Contents


def status(session: Session) -> int:
    """Show which version the documents come from, and what has changed since."""
    out = session.out
    with looking(session) as collection:
        found = {
            **collection.status(),
            "open": [list(place) for place in collection.open_versions],
            "remotes": [one._asdict() for one in collection.standings()],
        }
    number, branch = found["current_version"], found["current_branch"]
    where = f"version {number} of {branch}"
    out.line(f"HEAD is detached at {where}" if found["detached"] else f"On branch {branch}, {_at(number)}")
    if found["has_conflicts"]:
        out.line("A merge waits for its conflicts: livesync version conflicts")
    for open_number, open_branch in found["open"]:
        out.line(f"Version {open_number} of {open_branch} is open: livesync version close {open_branch}")
    if found["has_stash"]:
        out.line("Something is stashed: livesync version stash apply")
    for kind, ids in found["documents"].items():
        for document_id in ids:
            out.line(f"  {kind + ':':<9} {printable(document_id)}")
    if not found["changed"]:
        out.line("nothing has changed")
    for remote in found["remotes"]:
        out.line(printable(_standing(remote)))
    out.json(found)
    return ExitCode.OK


def _standing(remote: dict[str, Any]) -> str:
    if remote["ahead"] is None:
        return f"{remote['address']}: has versions that were not pulled"
    if remote["ahead"] == remote["behind"] == 0:
        return f"{remote['address']}: up to date"
    return f"{remote['address']}: ahead by {remote['ahead']:,}, behind by {remote['behind']:,}"


def _at(number: int) -> str:
    return f"version {number}" if number >= 0 else "no version of its own yet"


def log(session: Session) -> int:
    """List versions, newest first; with ``--graph`` all of them, drawn."""
    from ..versions.log import log_entries, names_of
    from ..versions.refs import find_version

    args = session.args
    with looking(session) as collection:
        if args.graph:
            return _graph(session, collection)
        _, key = find_version(collection, args.ref)
        entries = log_entries(collection.contents, collection.names.places(), key, args.limit)
        names = names_of(collection.names)
        shown = [(entry, version_of(collection, entry.key)) for entry in entries]
    return _list(session, shown, names)


def _list(
    session: Session,
    shown: list[tuple[LogEntry, dict[str, Any]]],
    names: dict[int, list[str]],
    since: Mapping[int, str] = {},
) -> int:
    with session.out.json_list("versions", {}) as add:
        for number, (entry, version) in enumerate(shown):
            head, *rest = str(entry).split("\n")
            if number:
                session.out.line()
            session.out.line(printable(head) + _decoration(names.get(entry.key)))
            if since.get(entry.key):
                session.out.line(printable(f"Since:   {since[entry.key]}"))
            for line in rest:
                session.out.line(printable(line))
            add(version)
    return ExitCode.OK


def _decoration(names: list[str] | None) -> str:
    return f" ({', '.join(names)})" if names else ""


def _graph(session: Session, collection: VersionedCollection) -> int:
    from ..versions.graph import drawn
    from ..versions.log import log_entry, names_of

    stored, names, places = collection.contents.stored, names_of(collection.names), collection.names.places()
    entries = [log_entry(collection.contents, places, key) for key in stored.records]
    entries.sort(key=lambda entry: (-entry.record.generation, -entry.record.time_us, entry.key))
    by_key = {entry.key: entry for entry in entries}
    parents = [(entry.key, [stored.keys[one] for one in entry.record.parents]) for entry in entries]
    with session.out.json_list("versions", {}) as add:
        for number, (key, before, mark, after) in enumerate(drawn(parents)):
            if number == session.args.limit:
                break
            entry = by_key[key]
            for line in before:
                session.out.line(line)
            first = (entry.message.splitlines() or [""])[0]
            place = f"{entry.branch}:{entry.version}" if entry.branch else entry.id[:12]
            place += " (pruned)" if entry.is_pruned else ""
            session.out.line(f"{mark} {place}{_decoration(names.get(key))} {printable(first)}")
            for line in after:
                session.out.line(line)
            add(version_of(collection, key))
    return ExitCode.OK


def show(session: Session) -> int:
    """Show a version and what it changed, or a document as it was."""
    from ..versions.diffs.threeway import ABSENT
    from ..versions.log import log_entry
    from ..versions.refs import find_version
    from ..versions.showing import lines_of
    from ..versions.store.tree import NO_VERSION, parent_of
    from ..versions.store.ways import net_rows

    args, out = session.args, session.out
    with looking(session) as collection:
        _, key = find_version(collection, args.ref)
        contents = collection.contents
        if args.document is not None:
            value = contents.value(args.document, key)
            if value is ABSENT:
                raise unknown_document(collection, args.document, "at this version")
            for line in lines_of(value):
                out.line(printable(line))
            out.json({"document": value})
            return ExitCode.OK
        entry = log_entry(contents, collection.names.places(), key)
        version = version_of(collection, key)
        is_first = parent_of(contents.forks, key) == NO_VERSION
        is_shown = not (is_first or entry.is_pruned)
        rows = list(net_rows(contents, contents.base_of(key), key)) if is_shown else []
        since = since_of(contents, collection.names.places(), key) if is_shown else ""
    head, *rest = str(entry).split("\n")
    for line in (head, *([f"Since:   {since}"] if since else []), *rest):
        out.line(printable(line))
    if rows:
        out.line()
    _tell(session, rows, {"version": version})
    return ExitCode.OK


def diff(session: Session) -> int:
    """Show what differs between a version and the documents, or between two versions."""
    from ..versions.refs import find_version
    from ..versions.store.ways import net_rows

    args = session.args
    with looking(session) as collection:
        _, start = find_version(collection, args.start)
        if args.end is None:
            rows: Iterator[tuple[str, Any, Any]] = collection.against_working(start)
        else:
            rows = net_rows(collection.contents, start, find_version(collection, args.end)[1])
        found = list(rows)
    if not found:
        session.out.line("nothing differs")
    _tell(session, found, {})
    return ExitCode.OK


def _tell(session: Session, rows: list[tuple[str, Any, Any]], values: dict[str, Any]) -> None:
    from ..versions.showing import lines_of, unified

    only_names = getattr(session.args, "names", False)
    with session.out.json_list("documents", values) as add:
        for document_id, before, after in rows:
            kind = "deleted" if not lines_of(after) else "changed" if lines_of(before) else "created"
            if only_names:
                session.out.line(f"{kind:<8} {printable(document_id)}")
            else:
                session.out.line(f"Document {printable(document_id)}")
                for line in unified(before, after, "before", "after").split("\n"):
                    session.out.line(_coloured(session, printable(line)))
            add({"id": document_id, "change": kind})


def _coloured(session: Session, line: str) -> str:
    """Return a line of a diff as terminals show it; plain elsewhere."""
    if not getattr(session.out.stdout, "isatty", lambda: False)():
        return line
    colour = {"+": "32", "-": "31", "@": "36"}.get(line[:1])
    return f"\x1b[{colour}m{line}\x1b[0m" if colour else line


def history(session: Session) -> int:
    """List the versions that changed one document."""
    from ..versions.log import documents_history, names_of
    from ..versions.refs import find_version

    args = session.args
    with looking(session) as collection:
        _, key = find_version(collection, args.at)
        contents, places = collection.contents, collection.names.places()
        entries = documents_history(contents, places, args.document, key, args.limit)
        if not entries:
            raise unknown_document(collection, args.document, "in any version up to this one")
        names = names_of(collection.names)
        shown = [(entry, version_of(collection, entry.key)) for entry in entries]
        since = {entry.key: since_of(contents, places, entry.key) for entry in entries}
    return _list(session, shown, names, since)


def since_of(contents: Contents, places: Places, key: int) -> str:
    """Return what a version's changes are relative to, where what lay between was pruned; "" elsewhere."""
    from ..versions.store.tree import NO_VERSION, parent_of

    parent = parent_of(contents.forks, key)
    if parent == NO_VERSION or not contents.is_pruned(parent):
        return ""
    number, branch = places[contents.kept_at(parent)]
    return f"version {number} ({branch}): what lay between was pruned"


def parsed(text: str) -> Any:
    """Return the value of JSON that somebody typed.

    Raises:
        UsageError: It is none.
    """
    try:
        return json.loads(text)
    except ValueError as exc:
        raise UsageError(f"--value is no JSON: {exc}") from None
