"""``livesync version``: looking after what is kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..words import plural
from .collections import changing, line_of, looking, unknown_document, version_of
from .exitcodes import ExitCode
from .output import printable
from .session import Session, as_usage
from .version_exchanging import code_of, ref_as_json, show_moved

if TYPE_CHECKING:
    from ..versions.collection import VersionedCollection
    from ..versions.remotes.receiving import Moved


def blame(session: Session) -> int:
    """Show which version made each value of a document."""
    from ..versions.blame import blamed
    from ..versions.refs import find_version

    args = session.args
    with looking(session) as collection:
        _, key = find_version(collection, args.at)
        found = blamed(collection.contents, collection.names.places(), args.document, key)
        if not found:
            raise unknown_document(collection, args.document, "at this version")
    with session.out.json_list("values", {}) as add:
        for one in found:
            session.out.line(printable(str(one)))
            add({"path": list(one.path), "value": one.value, "id": one.entry.id, "author": one.entry.author})
    return ExitCode.OK


def fsck(session: Session) -> int:
    """Look a history over and name everything that is wrong."""
    from ..versions.upkeep.checking import RECORDS

    with looking(session) as collection:
        faults = collection.check()
        is_counted = all(fault.where != RECORDS for fault in faults)
        number = len(collection.contents.stored.records) if is_counted else 0
    with session.out.json_list("faults", {"versions": number}) as add:
        for fault in faults:
            session.out.line(printable(str(fault)))
            add(fault._asdict())
    wrong = plural(len(faults), "fault") if faults else "nothing is wrong"
    session.out.line(f"{plural(number, 'version')}: {wrong}")
    return ExitCode.DIFFERENT if faults else ExitCode.OK


def gc(session: Session) -> int:
    """Remove versions that nothing leads to any more."""
    from ..versions.upkeep import AT_ONCE, GRACE_S

    grace_s = GRACE_S if session.args.grace is None else session.args.grace
    return _in_slices(session, lambda collection: collection.collect_garbage(grace_s, AT_ONCE), "removed")


def _in_slices(session: Session, take: Callable[[VersionedCollection], int], what: str) -> ExitCode:
    """Take away, a transaction after the other, until nothing is left to take; say how much it was."""

    def work(collection: VersionedCollection) -> int:
        _ = collection.contents
        return take(collection)

    total = 0
    while number := changing(session, work):
        total += number
    session.out.line(f"{plural(total, 'version')} {what}; space comes back when the database is packed")
    session.out.json({what: total})
    return ExitCode.OK


def squash(session: Session) -> int:
    """Make a run of versions one."""
    args = session.args
    if (args.run is None) == (args.last is None):
        raise UsageError("squash what? give FROM..TO, or --last N")

    def work(collection: VersionedCollection) -> dict[str, Any] | None:
        _ = collection.contents
        first, last = _run(collection, args.run, args.last)
        made = collection.squash_keys(first, last, args.message, author=args.author, force=args.force)
        return None if made is None else version_of(collection, collection.find(*made)[1])

    made = changing(session, work)
    text = "all that was changed was changed back: no version is left" if made is None else line_of(made)
    session.out.line("\n".join(map(printable, text.split("\n"))))
    session.out.json({"version": made})
    return ExitCode.OK


def _run(collection: VersionedCollection, run: str | None, last: int | None) -> tuple[int, int]:
    from ..versions.refs import find_version

    if run is None:
        return find_version(collection, f"HEAD~{(last or 1) - 1}")[1], collection.names.head[1]
    first, dots, end = run.partition("..")
    if not (first and dots and end):
        raise UsageError(f"{run!r} is no run of versions: write FROM..TO, both included, as main:3..main:7")
    return find_version(collection, first)[1], find_version(collection, end)[1]


def prune(session: Session) -> int:
    """Take the contents of old versions away; their records stay."""
    from ..versions.upkeep.retention import Policy

    args = session.args
    policy = as_usage(lambda: Policy.parsed(args.keep))
    if args.dry_run:
        with looking(session) as collection:
            places = collection.prunable(policy)
        with session.out.json_list("versions", {}) as add:
            for number, branch in places:
                session.out.line(printable(f"version {number} of {branch}"))
                add({"version": number, "branch": branch})
        session.out.line(f"{plural(len(places), 'version')} would be pruned")
        return ExitCode.OK

    return _in_slices(session, lambda collection: collection.prune(policy), "pruned")


def export(session: Session) -> int:
    """Write versions into a file."""
    from ..versions.remotes.bundles import write_bundle

    args = session.args
    path = Path(args.file)
    if path.exists():
        raise UsageError(f"{path} is there already: name another file")
    aside = path.with_name(path.name + ".part")
    try:
        with looking(session) as collection, aside.open("wb") as file:
            number = write_bundle(collection, file, args.branch or ())
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as exc:
        raise UsageError(f"{path} cannot be written: {exc.strerror or exc}") from exc
    finally:
        aside.unlink(missing_ok=True)
    session.out.line(printable(f"{plural(number, 'version')} written to {path}"))
    session.out.json({"versions": number, "file": str(path)})
    return ExitCode.OK


def import_(session: Session) -> int:
    """Pull all branches and tags of a file that ``export`` wrote."""
    from ..versions.remotes.bundles import pull_bundle, read_bundle

    args = session.args
    try:
        with open(args.file, "rb") as file:
            bundle = read_bundle(file)
    except OSError as exc:
        raise UsageError(f"{args.file} cannot be read: {exc.strerror or exc}") from exc

    def work(collection: VersionedCollection) -> tuple[list[Moved], int]:
        return pull_bundle(collection, bundle), len(collection.conflicts())

    moved, waiting = changing(session, work)
    show_moved(session, "From", args.file, moved)
    if waiting:
        session.out.line(f"conflicts wait ({waiting:,}): see livesync version conflicts")
    session.out.json({"refs": [ref_as_json(one) for one in moved], "conflicts": waiting})
    return code_of(moved, waiting)
