"""What carries changes out in the application: the contract, and the one that has no application."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..metadata.states import ItemState
from ..stores.base import BaseDataStore


@dataclass(frozen=True, slots=True)
class Draft:
    """What the application has of an item now.

    Attributes:
        object_id: The application's own id of the object.
        item_id, entity_name, partition: The item.
        payload: JSON text.
    """

    object_id: str
    item_id: str
    entity_name: str
    partition: str
    payload: str

    @property
    def digest(self) -> bytes:
        """Tells whether the application has changed it since."""
        return digest_of(self.payload)


def digest_of(payload: str) -> bytes:
    """Return 16 bytes that stand for a payload."""
    return hashlib.blake2b(payload.encode(), digest_size=16).digest()


class MissingDependency(Exception):
    """Raised by an executor when what an item depends on is not there yet: it is deferred until it is."""


class PlaceTaken(Exception):
    """Raised where an object would go is another one, of which two-way sync does not know: it is deferred."""


class ChangesExecutor:
    """Makes the application what the store says; this one has no application, and is content with all.

    All methods are called within the store's transaction. What :meth:`execute` raises defers the item: it is
    kept with the stack trace and tried again.
    """

    @property
    def has_application(self) -> bool:
        """Whether there is anything to tell: not so for the class itself."""
        return type(self) is not ChangesExecutor

    def knows(self, entity_name: str) -> bool:
        """Tell whether the application has such a model; what it does not know is held, not applied."""
        return True

    def depth(self, entity_name: str) -> int:
        """Return how deep a model lies below those that it depends on: parents are applied first."""
        return 0

    def execute(self, store: BaseDataStore, state: ItemState, object_id: str | None) -> Draft | None:
        """Make the application's object what ``state`` says.

        Args:
            store: The store, with its connection.
            state: Live: it is made or changed; else it is removed if it is there.
            object_id: Under which id the application has it; None: it never had.

        Returns:
            What the application has now, which may differ from what it was given; None: nothing.

        Raises:
            MissingDependency: Something that it depends on is not there yet.
            Exception: It cannot be applied.
        """
        return None

    def make(self, store: BaseDataStore, states: Iterable[ItemState]) -> Generator[Draft | None, None, None]:
        """Make new objects one by one, each as :meth:`execute` does of a live item that it never had."""
        for state in states:
            yield self.execute(store, state, None)

    def change(
        self, store: BaseDataStore, changes: Iterable[tuple[ItemState, str]]
    ) -> Generator[Draft | None, None, None]:
        """Change objects one by one, each as :meth:`execute` does of a live item of this object id."""
        for state, object_id in changes:
            yield self.execute(store, state, object_id)

    def draft(self, store: BaseDataStore, object_id: str) -> Draft | None:
        """Return what the application has of one of its objects now; None: nothing that is synced."""
        return None

    def drafts(self, store: BaseDataStore, object_ids: Iterable[str]) -> Generator[Draft | None, None, None]:
        """Yield what :meth:`draft` returns for each of these objects, in this order."""
        for object_id in object_ids:
            yield self.draft(store, object_id)

    def find(self, store: BaseDataStore, state: ItemState) -> str | None:
        """Return the id of the object that an item is, if the application has it already."""
        return None

    def may_find(self, entity_name: str) -> bool:
        """Tell whether :meth:`find` ever finds anything of a model: not so where there is no application."""
        return self.has_application

    def iter_ids(self, store: BaseDataStore, after: str | None) -> Iterator[str]:
        """Yield the ids of all objects that the application has, in ascending order, after ``after``."""
        return iter(())

    def inside(self, store: BaseDataStore, object_id: str) -> Iterator[str]:
        """Yield the ids of everything below an object: what a move of it changes too."""
        return iter(())

    def keeps_base(self, entity_name: str) -> bool:
        """Tell whether :meth:`merge` needs what both come from: then the last few versions are kept."""
        return False

    def merge(self, current: ItemState, incoming: ItemState, base: ItemState | None) -> str | None:
        """Return the payload that unites two that had not seen each other; None: the greater rank wins.

        It must be symmetric, since both nodes may be asked: the same for ``current`` and ``incoming``
        exchanged. ``base`` is what both come from, where it is kept.
        """
        return None

    def erase(self, store: BaseDataStore, object_id: str) -> None:
        """Erase from what else the database keeps of it what an object said that was deleted for good.

        Called within the store's transaction, after :meth:`execute`.
        """

    def record(self, connection: Any, object_ids: Iterable[tuple[str, bool, bool]], origin: str) -> None:
        """Put what was applied on the track, so that agents carry it on.

        Args:
            connection: The store's.
            object_ids: ``(object id, existed before, exists now)``.
            origin: Where the changes come from.
        """
