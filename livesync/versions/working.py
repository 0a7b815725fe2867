"""The working documents: what an application has now, and which of them may have changed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, MutableMapping
from typing import Any

from .stored import NotedDocuments
from .threeway import ABSENT


class WorkingCopy(ABC):
    """Where documents come from, and where a checkout writes them."""

    @abstractmethod
    def get(self, document_id: str) -> Any:
        """Return a document as it is now; :data:`~livesync.versions.threeway.ABSENT` where there is none."""

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


class MappingCopy(WorkingCopy):
    """Documents in a mapping of the database.

    Args:
        documents: Id -> document. A :class:`~livesync.versions.stored.NotedDocuments` says itself what has
            changed; of any other mapping all documents are compared.
    """

    def __init__(self, documents: MutableMapping[str, Any]) -> None:
        self._documents = documents

    def get(self, document_id: str) -> Any:
        """See :class:`WorkingCopy`."""
        return self._documents.get(document_id, ABSENT)

    def write(self, documents: Iterable[tuple[str, Any]]) -> None:
        """See :class:`WorkingCopy`."""
        for document_id, value in documents:
            if value is not ABSENT:
                self._documents[document_id] = value
            elif document_id in self._documents:
                del self._documents[document_id]

    def ids(self) -> Iterator[str]:
        """See :class:`WorkingCopy`."""
        return iter(sorted(self._documents))

    def changed(self) -> Iterable[str] | None:
        """See :class:`WorkingCopy`."""
        return list(self._documents.touched) if isinstance(self._documents, NotedDocuments) else None

    def settle(self) -> None:
        """See :class:`WorkingCopy`."""
        if isinstance(self._documents, NotedDocuments) and len(self._documents.touched):
            self._documents.touched.clear()
