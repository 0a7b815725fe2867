"""``livesync version``: making versions, and going to them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..words import plural
from .collections import changing, line_of, looking, version_of
from .exitcodes import ExitCode
from .output import printable
from .session import Session

if TYPE_CHECKING:
    from ..versions.collection import VersionedCollection


def init(session: Session) -> int:
    """Make the first version of all documents."""
    args = session.args

    def work(collection: VersionedCollection) -> dict[str, Any]:
        collection.init(args.message or "Initial collection.", author=args.author)
        return version_of(collection, collection.names.head[1])

    return _told(session, changing(session, work))


def collections(session: Session) -> int:
    """List the histories of the database, or let one follow another collection."""
    args, out = session.args, session.out
    if args.add is None:
        return _list_collections(session)
    name, rule = args.add

    def work(collection: VersionedCollection) -> int:
        collection.add_collection(name, rule)
        return sum(one.startswith(f"{name}:") for _, one in collection.changes())

    number = changing(session, work)
    out.line(printable(f"{args.collection} follows {name}, too: register its {plural(number, 'document')}."))
    out.json({"collection": args.collection, "added": name, "documents": number})
    return ExitCode.OK


def _list_collections(session: Session) -> int:
    from ..database import connected
    from ..versions.collection import VersionedCollection
    from ..versions.stored import find_histories

    with session.database(read_only=True) as db, connected(db) as root:
        found = [VersionedCollection(root, name) for name in find_histories(root) or ()]
        rows: list[dict[str, Any]] = [
            {
                "name": one.name,
                "collections": list(one.collections),
                "versions": len(one.contents.stored.records),
                "branch": one.branch,
                "version": one.version,
            }
            for one in found
        ]
    with session.out.json_list("histories", {}) as add:
        for row in rows:
            of = f", of {', '.join(row['collections'])}" if row["collections"] else ""
            where = f"at version {row['version']} of {row['branch']}"
            session.out.line(printable(f"{row['name']}  {plural(row['versions'], 'version')}, {where}{of}"))
            add(row)
    if not rows:
        session.out.line("there are no versions yet: livesync version init makes the first")
    return ExitCode.OK


def register(session: Session) -> int:
    """Make a version of what has changed."""
    args = session.args

    def work(collection: VersionedCollection) -> dict[str, Any] | None:
        _ = collection.contents  # without versions there is nothing to register after
        if args.message is None and collection.has_changes and not collection.noted:
            raise UsageError("say why: give --message; nothing was noted with the changes")
        made = collection.register(args.message, args.branch, author=args.author)
        return version_of(collection, collection.names.head[1]) if made else None

    return _told(session, changing(session, work), "nothing to register: the documents are as registered")


def close(session: Session) -> int:
    """Write the record of a branch's oldest open version."""
    args = session.args

    def work(collection: VersionedCollection) -> dict[str, Any]:
        _ = collection.contents
        if args.message is None and collection.open_versions:
            raise UsageError("say why: give --message")
        made = collection.close_version(args.message or "", args.branch, author=args.author)
        return version_of(collection, collection.find(*made)[1])

    return _told(session, changing(session, work))


def _told(session: Session, version: dict[str, Any] | None, otherwise: str = "") -> int:
    session.out.line(otherwise if version is None else line_of(version))
    session.out.json({"version": version})
    return ExitCode.OK


def checkout(session: Session) -> int:
    """Make the documents what they were at a version."""
    from ..versions.refs import find_version

    def work(collection: VersionedCollection) -> tuple[dict[str, Any], bool]:
        branch, key = find_version(collection, session.args.ref)
        number = collection.names.branch(branch).number(key)
        if number is None and collection.names.branch(branch).tip != key:
            raise UsageError("this version belongs to no branch any more: it can be shown, not checked out")
        collection.checkout(number, branch)
        return version_of(collection, key), collection.is_detached

    version, is_detached = changing(session, work)
    session.out.line(f"You are now at version {version['version']} of branch {version['branch']}.")
    if is_detached:
        session.out.line("HEAD is detached: what you register from here needs a new branch (--branch).")
    session.out.json({"version": version, "detached": is_detached})
    return ExitCode.OK


def branch(session: Session) -> int:
    """List branches, or make, rename or delete one."""
    args, out = session.args, session.out
    if args.name is None and (args.delete or args.rename):
        raise UsageError("name the branch")
    if args.force and not args.delete:
        raise UsageError("--force goes with --delete")
    if args.name is None:
        return _list_branches(session)

    def work(collection: VersionedCollection) -> str:
        if args.rename is not None:
            _ = collection.contents
            collection.rename_branch(args.rename, args.name)
            return f"Branch {args.rename} is called {args.name} now."
        _ = collection.contents
        if args.delete:
            collection.delete_branch(args.name, args.force)
            return f"Branch {args.name} is deleted."
        number, base = collection.create_branch(args.name) or (-1, "")
        return f"Switched to a new branch {args.name}, at version {number} of {base}."

    out.line(printable(changing(session, work)))
    out.json({"branch": args.name})
    return ExitCode.OK


def _list_branches(session: Session) -> int:
    with looking(session) as collection:
        current = collection.branch
        found = {name: collection.names.branch(name).total - 1 for name in sorted(collection.branches())}
    for name, number in found.items():
        mark = "*" if name == current else " "
        session.out.line(
            f"{mark} {name}  " + (f"version {number}" if number >= 0 else "no version of its own")
        )
    session.out.json({"branches": found, "current": current})
    return ExitCode.OK


def tag(session: Session) -> int:
    """List tags, or give a version a name, or take one away."""
    from ..versions.refs import find_version

    args, out = session.args, session.out
    if args.name is None:
        with looking(session) as collection:
            tags = collection.tags()
        for name, (number, where) in tags.items():
            out.line(f"{name}  version {number} of {where}")
        out.json({"tags": {name: list(place) for name, place in tags.items()}})
        return ExitCode.OK

    def work(collection: VersionedCollection) -> str:
        if args.delete:
            if not collection.untag(args.name):
                raise UsageError(f"there is no tag {args.name!r}")
            return f"Tag {args.name} is deleted."
        where, key = find_version(collection, args.ref)
        collection.tag_key(args.name, key)
        return f"Tag {args.name}: version {collection.names.branch(where).number(key)} of {where}."

    out.line(printable(changing(session, work)))
    out.json({"tag": args.name})
    return ExitCode.OK


def stash(session: Session) -> int:
    """Put changes aside, bring them back, or throw them away."""
    args, out = session.args, session.out

    def work(collection: VersionedCollection) -> bool:
        _ = collection.contents
        if args.what == "save":
            return collection.stash(args.overwrite)
        return collection.stash_apply() if args.what == "apply" else collection.stash_discard()

    did = changing(session, work)
    done = {"save": "Changes stashed.", "apply": "Stash applied.", "discard": "Stash cleared."}
    nothing = "No changes to stash." if args.what == "save" else "Nothing is stashed."
    out.line(done[args.what] if did else nothing)
    out.json({"done": did})
    return ExitCode.OK


def discard(session: Session) -> int:
    """Make the documents what they are at the current version."""
    with looking(session) as collection:
        changed = [document_id for _, document_id in collection.changes()]
    if not changed:
        session.out.line("nothing to discard")
        session.out.json({"discarded": 0})
        return ExitCode.OK
    if not session.args.yes and not _is_sure(session, len(changed)):
        raise UsageError("nothing was discarded: say yes, or give --yes")
    changing(session, lambda collection: collection.discard_changes())
    session.out.line(f"Changes of {plural(len(changed), 'document')} discarded.")
    session.out.json({"discarded": len(changed)})
    return ExitCode.OK


def _is_sure(session: Session, number: int) -> bool:
    if session.is_hosted or not sys.stdin.isatty():
        return False
    session.out.note(f"Changes of {plural(number, 'document')} will be lost. Discard them? [yes/no]")
    return sys.stdin.readline().strip().lower() == "yes"
