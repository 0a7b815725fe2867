"""``livesync peer erase``: delete something for good, here and on every node that this reaches."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ..errors import NotFound, UsageError
from .exitcodes import ExitCode
from .output import printable
from .session import Session

if TYPE_CHECKING:
    from ..host import Host
    from ..replication.stores.zodbstore import ZODBDataStore


def erase(session: Session) -> int:
    """Delete an object, or an item, for good."""
    from ..capture import Capture
    from ..manager import SyncManager
    from ..replication.opening import open_provider

    if not agree_to_erase(session):
        return ExitCode.OK
    host, out, target = session.settings.load_host(), session.out, session.args.target
    with session.database() as db:
        provider = open_provider(db, host, create=False)
        store = provider.data_store

        def look() -> tuple[str, str | None, bool]:
            SyncManager.get(_root(store)).check_site(session.settings.site)
            item_id = _item_of(store, target)
            state, bound = store.get(item_id), store.bound(item_id)
            return item_id, None if bound is None else bound[0], state is not None and state.hard

        with Capture(host).attached(db):
            provider.prepare()  # what the application has made since the last session is an item then
            item_id, object_id, is_gone = store.read(look)
            if not is_gone:
                provider.erase(item_id)
    if is_gone:
        out.line(printable(f"item {item_id} was deleted for good before"))
    else:
        named = item_id if object_id is None else f"{item_id}, {object_id} in the application,"
        out.line(printable(f"item {named} is deleted for good; the next sessions tell the peers"))
        out.line("the storage keeps earlier revisions until the database is packed")
    out.json({"erased": not is_gone, "item": item_id, "object": object_id})
    return ExitCode.OK


def agree_to_erase(session: Session) -> bool:
    """Say what goes, and ask unless ``--yes`` was given; nothing is deleted.

    Raises:
        UsageError: There is nobody to ask.
        NotFound: There is no such thing.
        NotInstalled: This database takes no part in two-way sync.
    """
    from ..replication.stores.zodbstore import ZODBDataStore

    args, out = session.args, session.out
    if args.yes:
        return True
    if session.is_hosted or not sys.stdin.isatty():
        raise UsageError("this asks before it deletes anything, and there is nobody to ask: give --yes")
    host = session.settings.load_host()
    with session.database(read_only=True) as db:
        store = ZODBDataStore(db, create=False)
        what = store.read(lambda: _described(store, host, args.target))
    out.note(f"{what} will be deleted for good: from the application, from everything that livesync keeps,")
    out.note("versions included, and on every node that the deletion reaches. Its id is closed then.")
    if out.ask("It cannot be brought back. Type erase to go on: ") == "erase":
        return True
    out.note("nothing was deleted")
    out.json({"erased": False, "item": None, "object": None})
    return False


def _described(store: ZODBDataStore, host: Host, target: str) -> str:
    """Return what is called so, for people; it may lie in the application only, as it was made just now."""
    try:
        item_id = _item_of(store, target)
    except NotFound:
        label = _in_the_application(store, host, target)
        if label is None:
            raise
        return label
    state, bound = store.get(item_id), store.bound(item_id)
    name = "item" if state is None else state.entity_name
    label = None if bound is None else _in_the_application(store, host, bound[0])
    return f"{name} {item_id}" + (f", {label}," if label else "")


def _in_the_application(store: ZODBDataStore, host: Host, object_id: str) -> str | None:
    with host.at(store.connection) as here:
        obj = here.get(object_id)
        if obj is None:
            return None
        label = str(here.label(obj))
    return object_id if label in ("", object_id) else f"{object_id} ({label})"


def _item_of(store: ZODBDataStore, target: str) -> str:
    """Return the item of this id, or that an object of the application of this id is.

    Raises:
        NotFound: There is none.
    """
    item_id = store.item_of(target)
    if item_id is not None:
        return item_id
    if store.get(target) is None:
        raise NotFound(f"two-way sync knows no object and no item {target!r}")
    return target


def _root(store: Any) -> Any:
    return store.connection.root()
