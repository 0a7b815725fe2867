"""Who a database is, and how one that was restored from an old copy, or copied, notices.

At the start of a session each side says the newest timestamp that it claims of the other. What is ever
claimed of a provider is what it told as its own newest when it sent something; it keeps these. If it is told
another one, or one above its own newest, then somebody has written under its id whom it does not know: it was
restored, or it is a copy. It takes a new provider id at once, and its old one becomes a past one.

What others hold that was written under the lost id is touched as it comes home (``receiving.py``), and so is
what is held here: what others claim of that id may speak of writes that they never saw.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from .claims import newest_of
from .node import Node
from .sessions import Introduction
from .writing import touch

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
    return Introduction(store.provider_id, store.database_id, store.past, store.own_stamp, known)


def meet(node: Node, other: Introduction) -> bool:
    """Compare what another provider knows of this one; tell whether this one has taken a new id."""
    store = node.store
    if not store.read(lambda: _is_another(node, other)):
        return False
    renew(node, truthful=False)
    return True


def _is_another(node: Node, other: Introduction) -> bool:
    store = node.store
    me = store.provider_id
    if other.provider_id == me:
        return True  # a copy meets its original
    known = other.known.get(me, 0)
    return known > store.own_stamp or bool(known and known not in store.tables.marks)


def renew(node: Node, truthful: bool) -> str:
    """Take a new provider id, and return it.

    Args:
        node: Whose.
        truthful: Nobody else can have written under the present id since this database was copied, as far
            as it can matter here: what it holds is claimed as it was. Otherwise everything that was written
            under it is touched.
    """
    store = node.store
    old = store.read(lambda: store.provider_id)
    new = store.run(lambda: store.renew(truthful, node.new_id))
    if not truthful:
        ids = store.read(lambda: [key[2] for key in store.scan(old, "", 0)])
        for begin in range(0, len(ids), _AT_ONCE):
            store.run(partial(_touch_all, node, ids[begin : begin + _AT_ONCE]))
    return new


def _touch_all(node: Node, ids: list[str]) -> None:
    for item_id in ids:
        state = node.store.get(item_id)
        if state is not None:
            touch(node, state)


@dataclass(frozen=True, slots=True)
class Witness:
    """A small file beside a database's file that says which one it is and how far it had come.

    The database itself cannot tell that it was restored or copied: everything in it is as it was. The file
    beside it can: a database that is behind its witness was restored; one whose witness is missing, or speaks
    of another place, was copied. Pack, which replaces the database's file, does not matter.

    Args:
        path: Where the file lies.
        place: Which place this is: host name and path, unless it is given.
    """

    path: Path
    place: str = ""

    def _place(self) -> str:
        return self.place or f"{socket.gethostname()}:{self.path.resolve()}"

    def agrees(self, node: Node) -> bool:
        """Tell whether the database is the one of this place, and not behind; a new one agrees."""
        store = node.store
        me, own, told = store.read(
            lambda: (store.provider_id, store.own_stamp, bool(len(store.tables.marks)) or bool(store.past))
        )
        try:
            kept = json.loads(self.path.read_text("utf-8"))
        except FileNotFoundError:
            return not told
        except (OSError, ValueError):
            return False
        if not isinstance(kept, dict):
            return False
        behind = kept.get("provider") == me and not _is_at_least(own, kept.get("newest"))
        return kept.get("place") == self._place() and kept.get("provider") == me and not behind

    def write(self, node: Node) -> None:
        """Note how far the database has come; called after its transaction, before anything is told."""
        store = node.store
        me, own = store.read(lambda: (store.provider_id, store.own_stamp))
        aside = self.path.with_name(self.path.name + ".new")
        with aside.open("w", encoding="utf-8") as file:
            json.dump({"format": 1, "place": self._place(), "provider": me, "newest": own}, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(self.path)


def _is_at_least(own: int, newest: object) -> bool:
    return isinstance(newest, int) and own >= newest


def check_witness(node: Node, witness: Witness) -> bool:
    """Take a new id where the witness does not agree, before anything is written; tell whether it was so."""
    if witness.agrees(node):
        return False
    renew(node, truthful=True)
    witness.write(node)
    return True
