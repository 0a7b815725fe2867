"""The state of an item: what a node holds of it, and what travels. A value.

An item's ``partition`` is part of what its id is calculated from and never changes. ``length`` counts
created, deleted, revived: 1 is live, 2 deleted, 3 live again (the causal lengths of Yu and Rostad, A
Low-Cost Set CRDT Based on Causal Lengths, 2020): so a delete beats every update that had not seen it, a
revival beats the delete that it has seen, and the order of ranks is total and agrees with causality.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from .clocks import Stamps
from .lives import Deed, FindBirth, has_lived_through, newest_deeds, nothing_known

#: Who wrote something, and when: (provider, stamp).
Dot = tuple[str, int]

_NAMESPACE: Final = uuid.UUID("6d1c2d53-41b5-5f0a-9d6e-0a2f6f1c8f04")


class ItemState(Struct, frozen=True, eq=False, gc=False):
    """What is known of one item.

    A struct that Python's garbage collector leaves out: states are held in tens of thousands while they are
    applied, and can be part of no cycle. To change one: ``msgspec.structs.replace``.

    Attributes:
        item_id: Calculated from partition, source id and model name, or anything that is unique.
        entity_name: The model.
        partition: Where it belongs; never changes.
        payload: JSON text; empty when it was deleted for good. A deleted item keeps its last one.
        dot: The write that made this content.
        vector: Every write that this state has seen, the newest for each provider.
        length: Odd: live; even: deleted.
        hard: Deleted for good: the id is closed.
        inserted: The write that first made the item, as the writer of this content saw it.
        life: The life in which it was made (``lives.py``); 0: nobody has said.
        met: The newest writes that it has seen beside its dot, by life: those that none of the others comes
            after. With ``life`` this tells apart what one provider has written in two lives, which ``vector``
            cannot. A stamp with life 0 says up to where ``vector`` is believed. States are equal without.
    """

    item_id: str
    entity_name: str
    partition: str
    payload: str
    dot: Dot
    vector: Stamps
    length: int
    hard: bool
    inserted: Dot
    life: int = 0
    met: tuple[Deed, ...] = ()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ItemState):
            return NotImplemented
        return self._told() == other._told()

    def _told(self) -> tuple[object, ...]:
        """Return all of it but what a node remembers for itself."""
        return (
            self.item_id,
            self.entity_name,
            self.partition,
            self.payload,
            self.dot,
            self.vector,
            self.length,
            self.hard,
            self.inserted,
        )

    @property
    def is_live(self) -> bool:
        """Whether the item exists."""
        return bool(self.length % 2) and not self.hard

    @property
    def is_tombstone(self) -> bool:
        """Whether the item is deleted, but not for good."""
        return not self.length % 2 and not self.hard

    @property
    def rank(self) -> tuple[bool, int, int, str, str, Dot]:
        """What decides between two contents: the greater one wins, everywhere.

        What it says and who inserted it come last, for writes that were stamped alike: that happens only
        where a database was restored from an old copy, or copied, and has not noticed it yet.
        """
        return (self.hard, self.length, self.dot[1], self.dot[0], self.payload, self.inserted)

    @property
    def content(self) -> tuple[str, bool, bool]:
        """What two states must have in common to be the same to the application."""
        return (self.payload if self.is_live else "", self.is_live, self.hard)

    @property
    def change_id(self) -> uuid.UUID:
        """The id of the change that made this content: the same on every node."""
        return uuid.uuid5(_NAMESPACE, f"{self.item_id} {self.dot[0]} {self.dot[1]}")

    def has_seen(self, dot: Dot) -> bool:
        """Tell whether this state knew of a write when it was made."""
        return self.vector.get(dot[0], 0) >= dot[1]

    @property
    def own_deeds(self) -> tuple[Deed, ...]:
        """The write that made this content, by its life; none where nobody has said which that is."""
        return ((self.life, self.dot[1]),) if self.life else ()

    @property
    def deeds(self) -> tuple[Deed, ...]:
        """The newest writes that it has seen, with its own."""
        return (*self.own_deeds, *self.met)

    def has_met(self, other: ItemState, find: FindBirth = nothing_known) -> bool:
        """Tell whether it knew of the very write that made ``other``, and not just of that stamp.

        They differ only where a provider has written in two lives of which neither comes from the other.

        Args:
            other: Another state of this item.
            find: Tells where lives begin.
        """
        if not self.has_seen(other.dot):
            return False
        life, stamp = other.life, other.dot[1]
        if not life or (life == self.life and stamp <= self.dot[1]) or (life, stamp) in self.met:
            return True
        return any(has_lived_through(find, known, (life, stamp)) for known in self.deeds)

    def touched(self, provider: str, stamp: int) -> ItemState:
        """Return the same content, known to one more write: it travels under that provider's clock too."""
        return replace(self, vector={**self.vector, provider: stamp})

    def restamped(self, old: str, new: str, stamp: int) -> ItemState:
        """Return the same content as somebody's who has seen nothing of what provider ``old`` wrote.

        It keeps its rank, but for the provider: it beats just what it did, and loses to what it did.

        Args:
            old: A provider under whose id two databases have written.
            new: Who writes it now.
            stamp: The writer's stamp, above every other.
        """
        vector = {provider: known for provider, known in self.vector.items() if provider != old}
        dot = (new, self.dot[1]) if self.dot[0] == old else self.dot
        inserted = dot if self.inserted == self.dot else self.inserted
        return replace(self, vector={**vector, new: stamp}, dot=dot, inserted=inserted)


def written(
    before: ItemState | None,
    item_id: str,
    entity_name: str,
    partition: str,
    payload: str | None,
    dot: Dot,
    hard: bool = False,
    life: int = 0,
    find: FindBirth = nothing_known,
) -> ItemState:
    """Return the state that a write makes of what its writer has seen.

    Args:
        before: What was there; None for nothing.
        item_id, entity_name, partition: The item.
        payload: JSON text; None deletes.
        dot: The write.
        hard: Delete for good.
        life: The writer's.
        find: Tells where lives begin.
    """
    assert before is not None or payload is not None, "nothing was there to delete"
    length = 0 if before is None else before.length
    live = payload is not None and not hard
    if live != bool(length % 2):
        length += 1
    kept = "" if hard else payload if payload is not None else (before.payload if before else "")
    return ItemState(
        item_id,
        entity_name,
        partition,
        kept,
        dot,
        {**(before.vector if before else {}), dot[0]: dot[1]},
        length,
        hard or bool(before and before.hard),
        before.inserted if before else dot,
        life,
        newest_deeds(find, ((life, dot[1]),) if life else (), (), before.deeds) if before else (),
    )


def newest_stamp(states: Iterable[ItemState]) -> int:
    """Return the newest timestamp in any vector; 0 for none."""
    return max((max(state.vector.values()) for state in states), default=0)
