"""The working documents: what an application has now, and which of them may have changed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

from persistent import Persistent

from .diffs.threeway import ABSENT
from .ids import check_id
from .stored import NotedDocuments


@contextmanager
def wholly(connection: Any) -> Iterator[None]:
    """Take back, within the current transaction of a connection, what a block wrote that raises."""
    savepoint = connection.transaction_manager.savepoint(optimistic=True)
    try:
        yield
    except BaseException:
        if savepoint.valid:
            savepoint.rollback()
        raise


class WorkingCopy(ABC):
    """Where documents come from, and where a checkout writes them."""

    @abstractmethod
    def get(self, document_id: str) -> Any:
        """Return a document as it is; :data:`~livesync.versions.diffs.threeway.ABSENT`: there is none."""

    def read(self, ids: Iterable[str]) -> Iterator[tuple[str, Any]]:
        """Yield (id, document) for each of the ids, as :meth:`get` returns it."""
        ids = list(ids)
        return zip(ids, map(self.get, ids))

    @abstractmethod
    def write(self, documents: Iterable[tuple[str, Any]]) -> None:
        """Make documents what is given; ``ABSENT`` removes one.

        Raises:
            ReadOnlyHost: The application takes no documents back.
        """

    @abstractmethod
    def ids(self) -> Iterator[str]:
        """Yield the ids of all documents there are, in order."""

    @abstractmethod
    def changed(self) -> Iterable[str] | None:
        """Return the ids of documents that may have changed since the last version; None: nobody knows."""

    @abstractmethod
    def settle(self) -> None:
        """Note that all that may have changed was looked at."""

    def people(self, after_s: float) -> list[str]:
        """Return who has changed something after a time, in epoch seconds, where that is known."""
        return []

    def notes(self, after_s: float) -> list[str]:
        """Return what was noted with changes after a time, each once, where that is known."""
        return []

    def newest_s(self) -> float:
        """Return when the newest change that is known of was committed, in epoch seconds; 0.0: of none."""
        return 0.0

    @abstractmethod
    def drop(self) -> None:
        """Keep nothing on the collection's account any more."""

    @abstractmethod
    def rename(self, new: str) -> None:
        """Go on under another name of the collection's.

        Raises:
            ValueError: Something of that name is there.
        """


class MappingCopy(WorkingCopy):
    """Documents in a mapping of a database's root, id -> document.

    A :class:`~livesync.versions.stored.NotedDocuments` says itself what has changed; of any other mapping all
    documents are compared. One is made where there is none.

    Args:
        root: The root.
        name: Of the mapping in it.
    """

    def __init__(self, root: MutableMapping[str, Any], name: str) -> None:
        self._root = root
        self._name = name

    @property
    def documents(self) -> MutableMapping[str, Any]:
        """The mapping."""
        found: MutableMapping[str, Any] | None = self._root.get(self._name)
        if found is None:
            found = self._root[self._name] = NotedDocuments()
        return found

    @property
    def _there(self) -> Mapping[str, Any]:
        """The mapping, to be read; none is made."""
        found: Mapping[str, Any] = self._root.get(self._name, {})
        return found

    def get(self, document_id: str) -> Any:
        """See :class:`WorkingCopy`."""
        return self._there.get(document_id, ABSENT)

    def write(self, documents: Iterable[tuple[str, Any]]) -> None:
        """See :class:`WorkingCopy`."""
        kept = self.documents
        for document_id, value in documents:
            if value is not ABSENT:
                kept[document_id] = value
            elif document_id in kept:
                del kept[document_id]
        if not isinstance(kept, Persistent):
            self._root[self._name] = kept  # a plain dict does not say that it has changed

    def ids(self) -> Iterator[str]:
        """See :class:`WorkingCopy`.

        Raises:
            UnkeptValue: One of them is none that can be kept.
        """
        found = list(self._there)
        for document_id in found:
            if type(document_id) is not str:
                check_id(document_id)
        return iter(sorted(found))

    def changed(self) -> Iterable[str] | None:
        """See :class:`WorkingCopy`."""
        documents = self._there
        return list(documents.touched) if isinstance(documents, NotedDocuments) else None

    def settle(self) -> None:
        """See :class:`WorkingCopy`."""
        documents = self._there
        if isinstance(documents, NotedDocuments) and len(documents.touched):
            documents.touched.clear()

    def drop(self) -> None:
        """See :class:`WorkingCopy`: the documents go."""
        self._root.pop(self._name, None)

    def rename(self, new: str) -> None:
        """See :class:`WorkingCopy`: the mapping lies under the new name."""
        if new in self._root:
            raise ValueError(f"there is something called {new!r} in the root already")
        if self._name in self._root:
            self._root[new] = self._root.pop(self._name)
        self._name = new
