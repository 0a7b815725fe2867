"""``livesync version``: looking after what is kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from .collections import changing, looking, unknown_document
from .exitcodes import ExitCode
from .output import printable
from .session import Session

if TYPE_CHECKING:
    from ..versions.collection import VersionedCollection


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
    with looking(session) as collection:
        faults = collection.check()
        number = len(collection.contents.stored.records)
    with session.out.json_list("faults", {"versions": number}) as add:
        for fault in faults:
            session.out.line(printable(str(fault)))
            add(fault._asdict())
    session.out.line(f"{number:,} versions: " + (f"{len(faults):,} faults" if faults else "nothing is wrong"))
    return ExitCode.DIFFERENT if faults else ExitCode.OK


def gc(session: Session) -> int:
    """Remove versions that nothing leads to any more."""

    def work(collection: VersionedCollection) -> int:
        _ = collection.contents
        return collection.collect_garbage()

    number = changing(session, work)
    session.out.line(f"{number:,} versions removed; space comes back when the database is packed")
    session.out.json({"removed": number})
    return ExitCode.OK


def export(session: Session) -> int:
    """Write versions into a file."""
    from ..versions.bundles import write_bundle

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
    session.out.line(printable(f"{number:,} versions written to {path}"))
    session.out.json({"versions": number, "file": str(path)})
    return ExitCode.OK


def import_(session: Session) -> int:
    """Pull all branches of a file that ``export`` wrote."""
    from ..versions.bundles import read_bundle

    args = session.args
    try:
        with open(args.file, "rb") as file:
            bundle = read_bundle(file)
    except OSError as exc:
        raise UsageError(f"{args.file} cannot be read: {exc.strerror or exc}") from exc
    branches = sorted(bundle.branches())

    def work(collection: VersionedCollection) -> int:
        bundle.name = collection.name
        for branch in branches:
            collection.pull(bundle, branch)
        return len(collection.conflicts())

    waiting = changing(session, work)
    session.out.line(printable(f"{args.file}: {', '.join(branches)}"))
    if waiting:
        session.out.line(f"conflicts wait ({waiting:,}): see livesync version conflicts")
    session.out.json({"branches": branches, "conflicts": waiting})
    return ExitCode.DIFFERENT if waiting else ExitCode.OK
