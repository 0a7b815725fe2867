"""What a store claims to have: its provider's writes, and others'."""

from __future__ import annotations

from typing import Any

from ..metadata.claims import absorbed
from ..metadata.clocks import Stamps, merged
from ..metadata.ids import NewId, random_id
from .owning import OwnedStore


class ClaimingStore(OwnedStore):
    """A store that knows what it has of everybody's writes."""

    def claims(self) -> dict[str, dict[str, int]]:
        """Return what this provider claims; its own writes for everything."""
        own = {self.provider_id: self.own_stamp} if self.own_stamp else {}
        return absorbed(self._stored_claims(), {"": own})

    def absorb(self, more: Any) -> None:
        """Claim this too."""
        self._set_claims(absorbed(self._stored_claims(), more))

    def _stored_claims(self) -> dict[str, dict[str, int]]:
        return {prefix: dict(pairs) for prefix, pairs in self.tables.claims.items()}

    def _set_claims(self, claims: Any) -> None:
        tree = self.tables.claims
        for prefix in [known for known in tree if not claims.get(known)]:
            self._remove(tree, prefix)
        for prefix, clock in claims.items():
            pairs = tuple(sorted(clock.items()))
            if pairs and tree.get(prefix) != pairs:
                self._set(tree, prefix, pairs)

    def collected(self) -> dict[str, dict[str, int]]:
        """Return, by partition, the clock of the tombstones that are gone."""
        return {partition: dict(pairs) for partition, pairs in self.tables.collected.items()}

    def collected_in(self, partition: str) -> dict[str, int]:
        """Return the clock of the tombstones that are gone from a partition."""
        return dict(self.tables.collected.get(partition, ()))

    def note_collected(self, partition: str, vector: Stamps) -> None:
        """Note that tombstones with this clock are gone from a partition."""
        known = self.collected_in(partition)
        both = merged(known, vector)
        if both != known:
            self._set(self.tables.collected, partition, tuple(sorted(both.items())))

    def renew(self, truthful: bool, new_id: NewId = random_id) -> str:
        """Take a new provider id, and return it; the present one becomes a past one.

        Args:
            truthful: Nobody else wrote under the present id after this store was copied: what it wrote is
                claimed as it was. Otherwise nothing of it is.
            new_id: Makes ids.
        """
        old = self.provider_id
        if truthful and self.own_stamp:
            self.absorb({"": {old: self.own_stamp}})
        self.see(self.own_stamp)
        self._set(self.facts, "past", (*self.past, old))
        if not truthful:
            self._set(self.facts, "lost", (*self.lost, old))
            self._set_claims(
                {
                    prefix: {provider: stamp for provider, stamp in clock.items() if provider != old}
                    for prefix, clock in self._stored_claims().items()
                }
            )
        self._set(self.facts, "provider_id", new_id())
        self._set(self.facts, "database_id", new_id())
        self._set(self.facts, "issued", self.newest_issued)
        self._set(self.facts, "own", 0)
        self._remove(self.tables.issued, old)
        for stamp in list(self.tables.marks):
            self._discard(self.tables.marks, stamp)
        return self.provider_id
