"""``livesync version push`` and ``pull``: with another database, or another node."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final

from ..errors import InvalidOperation, UsageError
from .collections import changing, collection_of, looking
from .exitcodes import ExitCode
from .output import printable
from .progress import progress
from .session import Session, as_usage

if TYPE_CHECKING:
    from ..versions.collection import VersionedCollection
    from ..versions.remotes.network import NetworkEnd
    from ..versions.remotes.receiving import Moved

#: What is shown before a name, by what became of it.
_MARKS: Final = {
    "new branch": "* [new branch]",
    "new tag": "* [new tag]",
    "up to date": "= [up to date]",
    "same tag": "= [up to date]",
    "other tag": "! [other tag]",
    "diverged": "! [diverged]",
}

#: What is said after it.
_NOTES: Final = {
    "merged": "merged; what was here before is on {aside}",
    "conflicts": "merged, and conflicts wait; what was here before is on {aside}",
    "other tag": "it is here at another version, where it stays",
    "diverged": "left as it is: check it out, and pull then",
}


def push(session: Session) -> int:
    """Bring branches and tags to another database or node."""
    args = session.args
    moved = _push_to_database(session) if _is_database(args.remote) else _push_to_peer(session)
    show_moved(session, "To", _shown(args.remote), moved)
    session.out.json({"remote": _shown(args.remote), "refs": [ref_as_json(one) for one in moved]})
    return ExitCode.OK


def pull(session: Session) -> int:
    """Fetch branches and tags from another database or node."""
    args = session.args
    pulled = _pull_from_database(session) if _is_database(args.remote) else _pull_from_peer(session)
    moved, branch, number, waiting = pulled
    show_moved(session, "From", _shown(args.remote), moved)
    session.out.line(printable(f"Branch {branch} is at version {number}."))
    if waiting:
        session.out.line(f"conflicts wait ({waiting:,}): see livesync version conflicts")
    session.out.json(
        {
            "remote": _shown(args.remote),
            "refs": [ref_as_json(one) for one in moved],
            "branch": branch,
            "version": number,
            "conflicts": waiting,
        }
    )
    return code_of(moved, waiting)


def code_of(moved: Sequence[Moved], waiting: int) -> ExitCode:
    """Return how what brings versions here ends: well, or with something left to be done."""
    return ExitCode.DIFFERENT if waiting or any(one.what == "diverged" for one in moved) else ExitCode.OK


def _is_database(remote: str) -> bool:
    scheme, colon, _ = remote.partition(":")
    return bool(colon) and scheme.lower() not in ("http", "https")


def _shown(remote: str) -> str:
    from ..database import shown_uri

    return shown_uri(remote)


def show_moved(session: Session, word: str, where: str, moved: Sequence[Moved]) -> None:
    """Print what became of each branch and tag, as git does."""
    out = session.out
    if all(one.what in ("up to date", "same tag") for one in moved):
        out.line("Everything up-to-date")
        return
    out.line(printable(f"{word} {where}"))
    for one in moved:
        mark = _MARKS.get(one.what) or f"  {one.old.hex()[:7]}..{one.new.hex()[:7]}"
        note = _NOTES.get(one.what, "").format(aside=one.aside)
        out.line(printable(f" {mark:<18} {one.name}" + (f"  ({note})" if note else "")))


def ref_as_json(moved: Moved) -> dict[str, Any]:
    """Return what became of a branch or a tag as ``--json`` has it."""
    return {
        "name": moved.name,
        "what": moved.what,
        "old": moved.old.hex(),
        "new": moved.new.hex(),
        **({"aside": moved.aside} if moved.aside else {}),
    }


# -- another database ----------------------------------------------------------------------------------


def _check_other_database(session: Session) -> None:
    """Make sure that the remote is not the database itself.

    Raises:
        UsageError: It is.
    """
    from ..database import is_same_database

    if is_same_database(session.settings.require_db(), session.args.remote):
        raise UsageError(f"{_shown(session.args.remote)} is this database itself: name another one")


def _push_to_database(session: Session) -> list[Moved]:
    from ..database import committed, open_database
    from ..versions.remotes.ends import LocalEnd, Refs

    args = session.args
    _check_other_database(session)
    with looking(session) as collection, closing(open_database(args.remote)) as remote_db:

        def work(root: Any) -> tuple[Refs, list[Moved]]:
            end = LocalEnd(collection_of(session, root))
            prepared = collection.prepare_push(end, args.branch, args.tags, args.all)
            assert prepared is not None, "it has versions"
            refs, outgoing, moved = prepared
            if outgoing is not None:
                end.take(collection.contents, outgoing, not args.no_checkout)
            return refs, moved

        refs, moved = committed(remote_db, lambda root: as_usage(lambda: work(root)))
    changing(session, lambda collection: collection.note_pushed(_shown(args.remote), refs, moved))
    return moved


def _pull_from_database(session: Session) -> tuple[list[Moved], str, int, int]:
    from ..database import connected, open_database
    from ..versions.remotes.ends import LocalEnd

    args = session.args
    _check_other_database(session)
    with (
        closing(open_database(args.remote, read_only=True)) as remote_db,
        connected(remote_db) as remote_root,
    ):

        def work(collection: VersionedCollection) -> tuple[list[Moved], str, int, int]:
            remote = collection_of(session, remote_root)
            _ = remote.contents
            end = LocalEnd(remote, _shown(args.remote))
            moved = collection.pull_refs(end, args.branch, args.tags, args.all)
            return _outcome(collection, moved, args.branch)

        return changing(session, work)


def _outcome(
    collection: VersionedCollection, moved: list[Moved] | None, name: str | None
) -> tuple[list[Moved], str, int, int]:
    branch = name or str(collection.branch)
    return moved or [], branch, collection.names.branch(branch).total - 1, len(collection.conflicts())


# -- another node --------------------------------------------------------------------------------------


@contextmanager
def _talking(session: Session, direction: str) -> Iterator[tuple[Any, NetworkEnd]]:
    """Give the open database, and the other end beyond the network."""
    from .peer_trust import check_extra, keys_of

    check_extra()
    from ..peering.choosing import peer_at
    from ..versions.remotes.network import NetworkEnd

    args, keys = session.args, keys_of(session)
    ca_file = args.ca_file and os.path.join(session.directory or os.getcwd(), args.ca_file)
    with session.database() as db:
        peer = peer_at(
            db, keys, args.remote, args.profile, insecure_http=args.insecure_http, ca_file=ca_file or ""
        )
        label = f"{'from' if direction == 'pull' else 'to'} {peer.name}"
        with (
            progress(session.out, label) as show,
            NetworkEnd(
                db,
                args.collection,
                peer,
                keys,
                direction,
                client_name=session.settings.site,
                progress=lambda size, done, total: show(done, total),
            ) as end,
        ):
            yield db, end


def _push_to_peer(session: Session) -> list[Moved]:
    from ..database import committed, connected

    args = session.args
    with _talking(session, "push") as (db, end):
        end.refs()
        with connected(db) as root:
            collection = collection_of(session, root)
            _ = collection.contents
            prepared = as_usage(lambda: collection.prepare_push(end, args.branch, args.tags, args.all))
        assert prepared is not None, "it has versions"
        refs, outgoing, moved = prepared
        if outgoing is not None:
            end.send(outgoing, not args.no_checkout)
        committed(db, lambda root: collection_of(session, root).note_pushed(end.address, refs, moved))
    return moved


def _pull_from_peer(session: Session) -> tuple[list[Moved], str, int, int]:
    from ..database import committed, connected

    args = session.args
    with _talking(session, "pull") as (db, end):
        refs = end.refs()
        if not refs.root:
            raise InvalidOperation(f"{end.address} has no versions of {args.collection!r} yet")
        with connected(db) as root:
            collection = collection_of(session, root)
            asked = as_usage(lambda: collection.to_ask(refs, args.branch, args.tags, args.all))
            is_needed = collection.is_needed(refs, asked)
        if is_needed:
            end.fetch(asked)

        def work(root: Any) -> tuple[list[Moved], str, int, int]:
            collection = collection_of(session, root)
            moved = collection.pull_refs(end, args.branch, args.tags, args.all)
            return _outcome(collection, moved, args.branch)

        found = committed(db, lambda root: as_usage(lambda: work(root)))
        end.forget()
    return found
