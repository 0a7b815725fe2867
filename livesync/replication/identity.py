"""Who a database is, and how one that was restored from an old copy, or copied, notices.

At the start of a session each side says the newest timestamp that it claims of the other. What is ever
claimed of a provider is what it told as its own newest when it sent something; it keeps these. If it is told
another one, or one above its own newest, then somebody has written under its id whom it does not know: it was
restored, or it is a copy. It takes a new provider id at once, and its old one becomes a past one.

What others hold that was written under the lost id is touched as it comes home (``receiving.py``). What is
held here is stamped anew, as if it had not seen anything of that id: what others claim of it may speak of
writes that they never saw, and an edit made since the restore has not seen those of the lost time, though its
timestamp is above theirs. So they meet as a conflict, with a log.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from ..errors import DatabaseError
from .metadata.claims import newest_of
from .node import Node
from .sessions.steps import Introduction
from .stores.writing import touch

#: A witness lies beside the database's file and is called as that is, and this.
WITNESS_SUFFIX: Final = ".livesync-peer"

#: Items touched in one transaction.
_AT_ONCE: Final = 1_000


def introduce(node: Node) -> Introduction:
    """Return what this provider says of itself, within the store's transaction."""
    store = node.store
    claims = store.claims()
    known = {
        provider: newest_of(claims, provider)
        for provider in {provider for clock in claims.values() for provider in clock}
        if provider != store.provider_id
    }
    held = dict(store.tables.heard)
    return Introduction(store.provider_id, store.database_id, store.past, store.own_stamp, known, held)


def meet(node: Node, other: Introduction) -> bool:
    """Compare what another provider knows of this one; tell whether this one has taken a new id."""
    store = node.store
    if not store.read(lambda: is_another(node, other)):
        return False
    renew(node, truthful=False)
    return True


def is_another(node: Node, other: Introduction) -> bool:
    """Tell, within the store's transaction, whether another provider knows more of this one than itself."""
    store = node.store
    me = store.provider_id
    if other.provider_id == me:
        return True  # a copy meets its original
    known = other.known.get(me, 0)
    if known > store.own_stamp or (known and known not in store.tables.marks):
        return True
    held = other.held.get(me, 0)
    return bool(held) and not store.has_issued(held)


def renew(node: Node, truthful: bool) -> str:
    """Take a new provider id, and return it.

    Args:
        node: Whose.
        truthful: Nobody else can have written under the present id since this database was copied, as far
            as it can matter here: what it holds is claimed as it was. Otherwise everything that was written
            under it is restamped: nobody knows which of it was written since, so none of it has surely seen
            what others hold of that id.
    """
    store = node.store
    old = store.read(lambda: store.provider_id)
    new = store.run(lambda: store.renew(truthful, node.new_id))
    if not truthful:
        ids = store.read(lambda: [key[2] for key in store.scan(old, "", 0)])
        for begin in range(0, len(ids), _AT_ONCE):
            store.run(partial(_restamp_all, node, ids[begin : begin + _AT_ONCE], old))
    return new


def _restamp_all(node: Node, ids: list[str], old: str) -> None:
    store = node.store
    for item_id in ids:
        state = store.get(item_id)
        if state is not None and state.hard:
            touch(node, state)
        elif state is not None and old in state.vector:
            stamp = node.next_stamp()
            store.put(state.restamped(old, store.provider_id, stamp), state)


@dataclass(frozen=True, slots=True)
class Witness:
    """A small file beside a database's file that says which one it is and how far it had come.

    The database itself cannot tell that it was restored or copied: everything in it is as it was. The file
    beside it can: a database that is behind its witness was restored; one whose witness is missing, or speaks
    of another place, was copied. Pack, which replaces the database's file, does not matter.

    Args:
        path: Where the file lies.
        place: Which place this is; "": the number of its directory in the file system. That stays as it is
            when the directory is moved or its machine is called something else, and a copy has another one.
    """

    path: Path
    place: str = ""
    #: What was written last, so that the same is not written again; what the file holds is not looked at.
    _said: list[str] = field(default_factory=list, compare=False, repr=False)

    def _place(self) -> str:
        return self.place or f"{self.path.name} in {self.path.parent.stat().st_ino}"

    def agrees(self, node: Node) -> bool:
        """Tell whether the database is the one of this place, and not behind.

        One that has told nobody anything under its present id agrees with a witness that is missing or
        another one's: it is new, or has just taken its id.
        """
        store = node.store
        me, own, told = store.read(
            lambda: (store.provider_id, store.own_stamp, bool(len(store.tables.marks)))
        )
        try:
            kept = json.loads(self.path.read_text("utf-8"))
        except FileNotFoundError:
            return not told
        except (OSError, ValueError):
            return False
        if not isinstance(kept, dict):
            return False
        if kept.get("provider") != me:
            return not told
        return kept.get("place") == self._place() and _is_at_least(own, kept.get("newest"))

    def write(self, node: Node) -> None:
        """Note how far the database has come; called after its transaction, before anything is told.

        Raises:
            DatabaseError: The file cannot be written.
        """
        store = node.store
        me, own = store.read(lambda: (store.provider_id, store.own_stamp))
        aside = self.path.with_name(self.path.name + ".new")
        try:
            said = json.dumps({"format": 1, "place": self._place(), "provider": me, "newest": own})
            if self._said == [said] and self.path.exists():
                return
            with aside.open("w", encoding="utf-8") as file:
                file.write(said)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(self.path)
            self._said[:] = [said]
        except OSError as exc:
            raise DatabaseError(
                f"{self.path}, which says how far two-way sync has come, cannot be written:"
                f" {exc.strerror or exc}"
            ) from exc


def _is_at_least(own: int, newest: object) -> bool:
    return isinstance(newest, int) and own >= newest


def witness_of(db: Any) -> Witness | None:
    """Return the witness of an open ``ZODB.DB``; None where it is not a file that this process writes."""
    from ZODB.FileStorage import FileStorage

    storage = db.storage
    if not isinstance(storage, FileStorage) or storage.isReadOnly():
        return None
    return Witness(Path(os.path.abspath(storage.getName()) + WITNESS_SUFFIX))


def check_witness(node: Node, witness: Witness) -> bool:
    """Take a new id where the witness does not agree, before anything is written; tell whether it was so.

    The witness agrees afterwards.
    """
    agreed = witness.agrees(node)
    if not agreed:
        renew(node, truthful=True)
    witness.write(node)
    return not agreed
