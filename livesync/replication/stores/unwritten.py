"""What a transaction has learned and changed, and writes at its end, all at once.

Items come in the order in which they were made, and what is kept by their ids is scattered: where each lies,
which object of the application it is, and the digests above it. Looked up and written one by one, every item
would go to another page; gathered, each page is read and changed once in a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Generic, TypeVar

from ..layers import LayeredTree
from ..metadata.digests import Tally

T = TypeVar("T", bytes, str)


class Learned(Generic[T]):
    """What a tree says of some keys, as far as one transaction has looked it up or changed it."""

    __slots__ = ("_changed", "_known")

    def __init__(self) -> None:
        self._known: dict[str, T | None] = {}
        self._changed: dict[str, T | None] = {}

    def is_known(self, key: str) -> bool:
        """Tell whether :meth:`get` can tell what a key has."""
        return key in self._changed or key in self._known

    def get(self, key: str) -> T | None:
        """Return what a key has that is known; None: nothing."""
        return self._changed[key] if key in self._changed else self._known[key]

    def look_up(self, tree: LayeredTree, key: str) -> T | None:
        """Return what a key has, which is found in the tree where it is not known."""
        if self.is_known(key):
            return self.get(key)
        found: T | None = tree.get(key)
        return found

    def learn(self, tree: LayeredTree, keys: Iterable[str]) -> None:
        """Find out at once what these keys have."""
        wanted = [key for key in keys if not self.is_known(key)]
        found = tree.pick(wanted)
        for key in wanted:
            self._known[key] = found.get(key)

    def set(self, key: str, value: T | None) -> None:
        """Let a key have something else, or nothing."""
        self._changed[key] = value

    def take(self) -> tuple[dict[str, T | None], Set[str]]:
        """Return what the keys have that were changed, and which keys the tree had not; begin anew."""
        changed, absent = self._changed, {key for key, value in self._known.items() if value is None}
        self.clear()
        return changed, absent

    def clear(self) -> None:
        """Know nothing any more."""
        self._known, self._changed = {}, {}


class Unwritten:
    """All that one transaction has not written yet.

    Attributes:
        tally: What changes in the digests.
        places: Where items lie: item id -> what is in the store's ``items``.
        bound: What the application has of items: item id -> what is in ``local``.
        objects: Which items its objects are: object id -> item id.
        entities: model -> what is written to its tree, and (None) taken out of it.
        arrived: How many items have arrived in the store; None: as many as it says.
    """

    __slots__ = ("arrived", "bound", "entities", "objects", "places", "tally")

    def __init__(self) -> None:
        self.tally = Tally()
        self.places: Learned[bytes] = Learned()
        self.bound: Learned[bytes] = Learned()
        self.objects: Learned[str] = Learned()
        self.entities: dict[str, dict[str, str | None]] = {}
        self.arrived: int | None = None

    def note_entity(self, entity_name: str, key: str, item_id: str | None) -> None:
        """Let an item be among those of its model; None: no longer."""
        self.entities.setdefault(entity_name, {})[key] = item_id

    def take_entities(self) -> dict[str, dict[str, str | None]]:
        """Return what is written to the trees of models, and begin anew."""
        taken, self.entities = self.entities, {}
        return taken

    def clear(self) -> None:
        """Forget it: it is undone."""
        self.tally.clear()
        self.places.clear()
        self.bound.clear()
        self.objects.clear()
        self.entities.clear()
        self.arrived = None
