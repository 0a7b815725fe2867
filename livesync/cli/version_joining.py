"""``livesync version``: bringing versions together."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .collections import changing, line_of, looking, version_of
from .exitcodes import ExitCode
from .output import printable
from .session import Session
from .version_looking import parsed

if TYPE_CHECKING:
    from ..versions.collection import VersionedCollection
    from ..versions.joining import Joined
    from ..versions.merging import DocumentConflict


def merge(session: Session) -> int:
    """Merge a version into the current branch."""
    args = session.args
    return _joining(
        session,
        lambda collection, branch, number: collection.merge(branch, number, args.message, author=args.author),
    )


def cherry_pick(session: Session) -> int:
    """Make what a version changed on the current branch, too."""
    return _joining(
        session,
        lambda collection, branch, number: collection.cherry_pick(number, branch, author=session.args.author),
    )


def revert(session: Session) -> int:
    """Take back what a version changed."""
    return _joining(
        session,
        lambda collection, branch, number: collection.revert(number, branch, author=session.args.author),
    )


def _joining(session: Session, call: Callable[[VersionedCollection, str, Any], Joined]) -> int:
    from ..versions.refs import find_version

    def work(collection: VersionedCollection) -> tuple[Joined, dict[str, Any] | None]:
        branch, key = find_version(collection, session.args.ref)
        number = collection.names.branch(branch).number(key)
        if number is None and collection.names.branch(branch).tip != key:
            raise UsageError("this version belongs to no branch any more")
        return _with_version(collection, call(collection, branch, number))

    return _said(session, *changing(session, work))


def _with_version(collection: VersionedCollection, joined: Joined) -> tuple[Joined, dict[str, Any] | None]:
    made = joined.version is not None
    return joined, version_of(collection, collection.names.head[1]) if made else None


def _said(session: Session, joined: Joined, version: dict[str, Any] | None) -> int:
    out = session.out
    if version is not None:
        out.line(printable_lines(line_of(version)))
    elif joined.conflicts:
        out.line(f"conflicts wait, and nothing was written ({len(joined.conflicts):,}):")
        for conflict in joined.conflicts:
            out.line(f"  {printable(str(conflict))}")
        out.line("decide them with livesync version conflicts, or give --abort there")
    else:
        out.line("already up to date")
    out.json({"version": version, "conflicts": [_as_json(conflict) for conflict in joined.conflicts]})
    return ExitCode.DIFFERENT if joined.conflicts else ExitCode.OK


def printable_lines(text: str) -> str:
    """Return a text of several lines, each without control characters."""
    return "\n".join(printable(line) for line in text.split("\n"))


def _as_json(conflict: DocumentConflict) -> dict[str, Any]:
    from ..versions.diffs.threeway import ABSENT
    from ..versions.values import shown_path

    sides = {name: getattr(conflict, name) for name in ("base", "ours", "theirs")}
    return {
        "document": conflict.document_id,
        "path": shown_path(conflict.path),
        "kind": conflict.kind.value,
        **{name: value for name, value in sides.items() if value is not ABSENT},
    }


def conflicts(session: Session) -> int:
    """Show what a merge disagrees on, decide it, or throw the merge away."""
    args = session.args
    ways = [args.take is not None, args.value is not None, args.abort]
    if sum(ways) > 1:
        raise UsageError("one of --take, --value and --abort at a time")
    if args.abort:
        did = changing(session, lambda collection: collection.abort_merge())
        session.out.line("The merge is aborted." if did else "no merge waits")
        session.out.json({"aborted": did})
        return ExitCode.OK
    if not any(ways):
        return _list(session)
    how: Any = args.take
    if args.value is not None:
        value = parsed(args.value)
        how = lambda conflict: value  # noqa: E731 - a decision is a function

    def work(collection: VersionedCollection) -> tuple[Joined, dict[str, Any] | None]:
        _ = collection.contents
        path = _path(collection, args.document, args.path)
        return _with_version(collection, collection.resolve_conflicts(how, args.document, path))

    joined, version = changing(session, work)
    if joined.conflicts:
        session.out.line(f"conflicts that are left: {len(joined.conflicts):,}")
        session.out.json({"version": None, "conflicts": [_as_json(one) for one in joined.conflicts]})
        return ExitCode.DIFFERENT
    return _said(session, joined, version)


def _path(collection: VersionedCollection, document_id: str | None, shown: str | None) -> tuple[Any, ...]:
    """Return the path that the list shows so.

    Raises:
        UsageError: It shows none, or the document is not named.
    """
    from ..versions.values import shown_path

    if shown is None:
        return ()
    if document_id is None:
        raise UsageError("--path needs --document")
    for conflict in collection.conflicts():
        if conflict.document_id == document_id and shown_path(conflict.path) == shown:
            return conflict.path
    raise UsageError(f"no conflict of {document_id!r} is at {shown}; see the list")


def _list(session: Session) -> int:
    from ..versions.diffs.threeway import ABSENT
    from ..versions.showing import lines_of

    with looking(session) as collection:
        found = collection.conflicts()
    with session.out.json_list("conflicts", {}) as add:
        for conflict in found:
            session.out.line(printable(str(conflict)))
            for name in ("base", "ours", "theirs"):
                value = getattr(conflict, name)
                text = "(nothing)" if value is ABSENT else " ".join(" ".join(lines_of(value)).split())
                session.out.line(f"  {name + ':':<7} {printable(text)}")
            add(_as_json(conflict))
    if not found:
        session.out.line("there are no conflicts")
    return ExitCode.DIFFERENT if found else ExitCode.OK
