"""What a transaction has learned and changed, and writes at its end, all at once.

Items come in the order in which they were made, and what is kept by their ids is scattered: where each lies,
and the digests above it. Looked up and written one by one, every item would go to another page; gathered,
each page is read and changed once in a transaction.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..metadata.digests import Tally


class Places:
    """Where items lie, as far as one transaction has looked it up or changed it."""

    __slots__ = ("_changed", "_known")

    def __init__(self) -> None:
        self._known: dict[str, bytes | None] = {}
        self._changed: dict[str, None] = {}

    def is_known(self, item_id: str) -> bool:
        """Tell whether :meth:`get` can tell where an item lies."""
        return item_id in self._known

    def get(self, item_id: str) -> bytes | None:
        """Return where an item lies that is known; None: nowhere."""
        return self._known[item_id]

    def learn(self, item_ids: list[str], found: Mapping[str, bytes]) -> None:
        """Note where these items lie: those that were found, and the others nowhere."""
        for item_id in item_ids:
            self._known.setdefault(item_id, found.get(item_id))

    def set(self, item_id: str, where: bytes | None) -> None:
        """Let an item lie somewhere else, or nowhere."""
        self._known[item_id] = where
        self._changed[item_id] = None

    def take(self) -> dict[str, bytes | None]:
        """Return where the items lie that were changed, and begin anew."""
        changed = {item_id: self._known[item_id] for item_id in self._changed}
        self.clear()
        return changed

    def clear(self) -> None:
        """Know nothing any more."""
        self._known, self._changed = {}, {}


class Unwritten:
    """All that one transaction has not written yet.

    Attributes:
        tally: What changes in the digests.
        places: Where items lie.
        entities: model -> what is written to its tree, and (None) taken out of it.
    """

    __slots__ = ("entities", "places", "tally")

    def __init__(self) -> None:
        self.tally = Tally()
        self.places = Places()
        self.entities: dict[str, dict[str, bytes | None]] = {}

    def note_entity(self, entity_name: str, key: str, value: bytes | None) -> None:
        """Let an item be among those of its model; None: no longer."""
        self.entities.setdefault(entity_name, {})[key] = value

    def take_entities(self) -> dict[str, dict[str, bytes | None]]:
        """Return what is written to the trees of models, and begin anew."""
        taken, self.entities = self.entities, {}
        return taken

    def clear(self) -> None:
        """Forget it: it is undone."""
        self.tally.clear()
        self.places.clear()
        self.entities.clear()
