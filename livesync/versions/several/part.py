"""One of several collections in one history, by its documents' own ids."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Any

from ...errors import InvalidOperation
from ..blame import Blamed
from ..log import LogEntry
from .copies import MappingsCopy
from .parts import COLON, Address

if TYPE_CHECKING:
    from ..collection import VersionedCollection

#: (number, branch) of a version, as ``VersionedCollection.find`` takes them.
Place = tuple[int | None, str | None]


class Part:
    """Reads one collection of a history that is of several.

    Versions are those of the whole history: nothing is registered, and gone to, for one of them alone.

    Args:
        whole: The history.
        name: Of the collection.
    """

    def __init__(self, whole: VersionedCollection, name: str) -> None:
        self.whole = whole
        self.name = name

    def __repr__(self) -> str:
        return f"<Part {self.name!r} of {self.whole.name!r}>"

    def address(self, document_id: str) -> str:
        """Return what a document's id is in the whole history."""
        return str(Address(self.name, document_id))

    def _own(self, document_ids: Iterator[str]) -> Iterator[str]:
        begin = self.name + COLON
        return (one.removeprefix(begin) for one in document_ids if one.startswith(begin))

    @property
    def documents(self) -> MutableMapping[str, Any]:
        """Its working documents, to read and to write, where there is no host.

        Raises:
            InvalidOperation: They are an application's.
        """
        working = self.whole.working
        if not isinstance(working, MappingsCopy):
            raise InvalidOperation(f"the documents of {self.name!r} are the application's: change them there")
        return working.copy(self.name).documents

    def status(self) -> dict[str, list[str]]:
        """Return the ids of its ``created``, ``changed`` and ``deleted`` working documents."""
        found: dict[str, list[str]] = {"created": [], "changed": [], "deleted": []}
        for kind, document_id in self.whole.changes():
            found[kind] += self._own(iter([document_id]))
        return found

    def read(self, document_id: str, version: int | None = None, branch: str | None = None) -> Any:
        """Return a document as it was; see ``VersionedCollection.read``."""
        return self.whole.read(self.address(document_id), version, branch)

    def read_all(self, version: int | None = None, branch: str | None = None) -> Iterator[tuple[str, Any]]:
        """Yield (id, document) of a version, in order of the ids; other collections' are not read."""
        return self.whole.read_under(self.name + COLON, version, branch)

    def changed(self, start: Place, end: Place) -> list[str]:
        """Return the ids of its documents that differ between two versions, sorted."""
        return list(self._own(iter(self.whole.changed(start, end))))

    def diff(self, version: int | None = None, branch: str | None = None, **options: Any) -> dict[str, Any]:
        """Return how its documents differ from a version's; see ``VersionedCollection.diff``."""
        found = self.whole.diff(version, branch, **options) or {}
        if options.get("direction") == "bidirectional":
            return {side: self._picked(rows) for side, rows in found.items()}
        return self._picked(found)

    def _picked(self, rows: dict[str, Any]) -> dict[str, Any]:
        return {one: rows[self.address(one)] for one in self._own(iter(rows))}

    def history(
        self, document_id: str, version: int | None = None, branch: str | None = None
    ) -> list[LogEntry]:
        """Return the versions that changed a document, the newest first."""
        return self.whole.history(self.address(document_id), version, branch)

    def blame(self, document_id: str, version: int | None = None, branch: str | None = None) -> list[Blamed]:
        """Return every value of a document with the version that made it so."""
        return self.whole.blame(self.address(document_id), version, branch)

    def erase(self, document_id: str) -> int:
        """Erase what a document says from all versions; see ``VersionedCollection.erase``."""
        return self.whole.erase(self.address(document_id))
