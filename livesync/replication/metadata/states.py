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

#: Who wrote something, and when: (provider, stamp).
Dot = tuple[str, int]

#: Writes of an item that its state remembers one by one, beside its dot (:attr:`ItemState.trail`).
TRAIL_LENGTH: Final = 8

#: The trail of the first write of an item.
NO_TRAIL: Final = (0,)

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
        trail: Stamps of the last few writes that this state has seen beside its dot, the newest first, and
            last the stamp up to which it says no more than ``vector``. It tells apart what one provider has
            written in two lives, which ``vector`` cannot. What a node remembers: states are equal without it.
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
    trail: tuple[int, ...] = NO_TRAIL

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

    def has_met(self, dot: Dot) -> bool:
        """Tell whether it knew of that very write, and not just of later ones by the same provider.

        They differ only where the provider has written in two lives, one of which was undone by a restore.
        """
        if self.vector.get(dot[0], 0) < dot[1]:
            return False
        return dot == self.dot or dot[1] <= self.trail[-1] or dot[1] in self.trail

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
    known: int = 0,
) -> ItemState:
    """Return the state that a write makes of what its writer has seen.

    Args:
        before: What was there; None for nothing.
        item_id, entity_name, partition: The item.
        payload: JSON text; None deletes.
        dot: The write.
        hard: Delete for good.
        known: Up to which stamp tombstones of the writer's were collected, for where nothing was there.
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
        trail_of((before.dot[1], *before.trail), before.trail[-1]) if before else (known,),
    )


def trail_of(stamps: tuple[int, ...], floor: int = 0) -> tuple[int, ...]:
    """Return a trail (:attr:`ItemState.trail`).

    Args:
        stamps: Of writes that were seen, in any order; more than are remembered raise the floor.
        floor: The stamp up to which nothing is known one by one.
    """
    kept = sorted({stamp for stamp in stamps if stamp > floor}, reverse=True)
    return (*kept[:TRAIL_LENGTH], kept[TRAIL_LENGTH] if len(kept) > TRAIL_LENGTH else floor)


def newest_stamp(states: Iterable[ItemState]) -> int:
    """Return the newest timestamp in any vector; 0 for none."""
    return max((max(state.vector.values()) for state in states), default=0)
