"""Whose a store is: its provider, and the stamps that it issues."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

from BTrees.LLBTree import LLBTree

from ..metadata.clocks import following
from ..metadata.ids import NewId, random_id
from ..metadata.lives import Birth
from ..metadata.states import ItemState
from . import lifetimes
from .contract import StoreContract


def _hash(item_id: str) -> int:
    return int.from_bytes(blake2b(item_id.encode(), digest_size=8).digest(), "big", signed=True)


class OwnedStore(StoreContract):
    """A store that knows whose it is."""

    def begin(self, provider_id: str | None = None, new_id: NewId = random_id) -> str:
        """Make sure that this store belongs to a provider, and return its id.

        Args:
            provider_id: The id of a store that is new; None: one that is made for it.
            new_id: Makes ids.

        Raises:
            ValueError: The store is another provider's, now and in the past.
        """
        known = self.facts.get("provider_id")
        if known is None:
            self._set(self.facts, "provider_id", provider_id or new_id())
            self._set(self.facts, "database_id", new_id())
        elif provider_id is not None and provider_id != known and provider_id not in self.past:
            raise ValueError(f"this store belongs to provider {known!r}, not {provider_id!r}")
        return self.provider_id

    @property
    def facts(self) -> Any:
        """Single values by name."""
        return self.tables.facts

    @property
    def provider_id(self) -> str:
        """Who this is now."""
        return str(self.facts["provider_id"])

    @property
    def database_id(self) -> str:
        """Which database this is; a copy gets one of its own with its new provider id."""
        return str(self.facts["database_id"])

    @property
    def past(self) -> tuple[str, ...]:
        """Who this was: ids given up, oldest first."""
        return tuple(self.facts.get("past", ()))

    @property
    def lost(self) -> tuple[str, ...]:
        """Those of the past ids of which writes may be lost or doubled: others know more of them."""
        return tuple(self.facts.get("lost", ()))

    @property
    def own_stamp(self) -> int:
        """The newest stamp that was issued under the present id; 0: none."""
        return int(self.facts.get("own", 0))

    @property
    def newest_issued(self) -> int:
        """The newest stamp that was issued under any id; 0: none."""
        return self.own_stamp or int(self.facts.get("issued", 0))

    @property
    def life(self) -> int:
        """The life in which this store issues stamps (``lives.py``); 0: it has issued none."""
        return int(self.facts.get("life", 0))

    def birth_of(self, life: int) -> Birth | None:
        """Return where a life begins; None where nobody has told."""
        return lifetimes.birth_of(self, life)

    def next_stamp(self, now: int, new_id: NewId = random_id) -> int:
        """Issue a stamp, above all that were ever issued or seen here, whatever the wall clock says.

        The first one since the data were opened begins a new life: nobody can tell whether they are where
        that one left them, or an old copy.
        """
        return self.next_stamps(now, 1, new_id)[0]

    def next_stamps(self, now: int, count: int, new_id: NewId = random_id) -> range:
        """Issue some stamps, one after the other, each as :meth:`next_stamp` does; at least one."""
        facts = self.facts
        if self.life == self._found_life():
            lifetimes.begin(self, new_id)
        first = following(max(int(facts.get("own", 0)), int(facts.get("seen", 0))), now)
        self._set(facts, "own", first + count - 1)
        return range(first, first + count)

    def has_written(self, item_id: str, stamp: int) -> bool:
        """Tell whether this store has written to an item under the present id with this stamp."""
        issued = self.tables.issued.get(self.provider_id)
        return issued is not None and issued.get(stamp) == _hash(item_id)

    def has_issued(self, stamp: int) -> bool:
        """Tell whether this store has written anything under the present id with this stamp."""
        return stamp in self.tables.issued.get(self.provider_id, ())

    def hear(self, states: Iterable[ItemState]) -> None:
        """Note how new what was received is; what is issued from now on is above it."""
        newest: dict[str, int] = {}
        for state in states:
            for provider, stamp in state.vector.items():
                if stamp > newest.get(provider, 0):
                    newest[provider] = stamp
        for provider, stamp in newest.items():
            if stamp > self.tables.heard.get(provider, 0):
                self._set(self.tables.heard, provider, stamp)
        self.see(max(newest.values(), default=0))

    def note_written(self, item_id: str, stamp: int) -> None:
        """Note a write under the present id; of somebody else, too, so that it is no news any more."""
        self.note_all_written({stamp: item_id})

    def note_all_written(self, item_ids: Mapping[int, str]) -> None:
        """Note many writes under the present id: stamp -> item id."""
        me = self.provider_id
        issued = self.tables.issued.get(me)
        if issued is None:
            issued = LLBTree()
            self._set(self.tables.issued, me, issued)
        for stamp, item_id in item_ids.items():
            self._set(issued, stamp, _hash(item_id))

    def see(self, stamp: int) -> None:
        """Note that a stamp was seen; what is issued from now on is above it."""
        if stamp > self.facts.get("seen", 0):
            self._set(self.facts, "seen", stamp)

    def mark(self) -> None:
        """Note that the newest own stamp is being told."""
        if self.own_stamp:
            self._insert(self.tables.marks, self.own_stamp)
