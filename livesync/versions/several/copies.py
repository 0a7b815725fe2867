"""The working documents of several collections: a mapping for each, or an application's, sorted by rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, NoReturn

from ...action import ActionWrapper
from ...errors import InvalidOperation
from ...host import Host
from ..diffs.threeway import ABSENT
from ..hosted import HostCopy
from ..values import CODEC, Codec
from ..working import MappingCopy, WorkingCopy
from .parts import Address, Rule, check_known


class MappingsCopy(WorkingCopy):
    """A mapping for each of several collections.

    Args:
        root: The root of a database.
        collections: Name -> "": the mapping of this name in the root; or a mapping.
    """

    def __init__(
        self, root: MutableMapping[str, Any], collections: Mapping[str, str | MutableMapping[str, Any]]
    ) -> None:
        self.copies = {
            name: MappingCopy(root if isinstance(kind, str) else {name: kind}, name)
            for name, kind in sorted(collections.items())
        }

    def copy(self, name: str) -> MappingCopy:
        """Return what has the documents of one collection.

        Raises:
            InvalidOperation: There is none of this name.
        """
        check_known(self.copies, name)
        return self.copies[name]

    def get(self, document_id: str) -> Any:
        """See :class:`~livesync.versions.working.WorkingCopy`."""
        name, own_id = Address.parse(document_id)
        return self.copies[name].get(own_id) if name in self.copies else ABSENT

    def write(self, documents: Iterable[tuple[str, Any]]) -> None:
        """See :class:`~livesync.versions.working.WorkingCopy`.

        Raises:
            InvalidOperation: One is of a collection that is not known here; nothing was written.
        """
        sorted_out: dict[str, list[tuple[str, Any]]] = {}
        for document_id, value in documents:
            name, own_id = Address.parse(document_id)
            if name in self.copies or value is not ABSENT:
                check_known(self.copies, name)
                sorted_out.setdefault(name, []).append((own_id, value))
        for name, rows in sorted_out.items():
            self.copies[name].write(rows)

    def ids(self) -> Iterator[str]:
        """See :class:`~livesync.versions.working.WorkingCopy`."""
        return iter(
            sorted(str(Address(name, one)) for name, copy in self.copies.items() for one in copy.ids())
        )

    def changed(self) -> Iterable[str] | None:
        """See :class:`~livesync.versions.working.WorkingCopy`; a mapping that notes nothing is listed."""
        found: list[str] = []
        for name, copy in self.copies.items():
            known = copy.changed()
            if known is None:
                return None
            found += [str(Address(name, one)) for one in known]
        return found

    def settle(self) -> None:
        """See :class:`~livesync.versions.working.WorkingCopy`."""
        for copy in self.copies.values():
            copy.settle()

    def drop(self) -> None:
        """See :class:`~livesync.versions.working.WorkingCopy`: mappings of the root go."""
        for copy in self.copies.values():
            copy.drop()

    def rename(self, new: str) -> None:
        """See :class:`~livesync.versions.working.WorkingCopy`: the collections keep their names."""


class SortedHostCopy(HostCopy):
    """The documents of a host that rules sort into several collections; the first that fits has a document.

    Args:
        connection, host, name, codec: As :class:`~livesync.versions.hosted.HostCopy` takes them.
        rules: Name of a collection -> its rule.
    """

    def __init__(
        self, connection: Any, host: Host, name: str, rules: Mapping[str, Rule], codec: Codec = CODEC
    ) -> None:
        super().__init__(connection, host, name, codec)
        self._rules = dict(rules)

    def _collection(self, object_id: str, document: Any) -> str | None:
        holding = (name for name, rule in self._rules.items() if rule.holds(object_id, document))
        return None if document is ABSENT else next(holding, None)

    def get(self, document_id: str) -> Any:
        """See :class:`~livesync.versions.working.WorkingCopy`."""
        return next(iter(self.read([document_id])))[1]

    def read(self, ids: Iterable[str]) -> Iterator[tuple[str, Any]]:
        """See :class:`~livesync.versions.working.WorkingCopy`."""
        wanted = [Address.parse(one) for one in ids]
        found = super().read([one.document_id for one in wanted])
        for address, (object_id, value) in zip(wanted, found, strict=True):
            is_its = self._collection(object_id, value) == address.collection
            yield str(address), value if is_its else ABSENT

    def ids(self) -> Iterator[str]:
        """See :class:`~livesync.versions.working.WorkingCopy`."""
        found = []
        for object_id, document in super().read(super().ids()):
            name = self._collection(object_id, document)
            if name is not None:
                found.append(str(Address(name, object_id)))
        return iter(sorted(found))

    def write(self, documents: Iterable[tuple[str, Any]]) -> None:
        """See :class:`~livesync.versions.hosted.HostCopy`: one that has gone to another collection stays.

        Raises:
            InvalidOperation: A document is not one that its collection's rule holds, or is of a collection
                that is not known here; nothing was written.
            ReadOnlyHost: The host takes no documents back.
        """
        wanted: dict[str, Any] = {}
        for document_id, value in documents:
            name, object_id = Address.parse(document_id)
            if value is ABSENT:
                wanted.setdefault(object_id, ABSENT)
                continue
            check_known(self._rules, name)
            if wanted.get(object_id, ABSENT) is not ABSENT or self._collection(object_id, value) != name:
                raise InvalidOperation(f"the rules of the collections do not put {object_id!r} into {name!r}")
            wanted[object_id] = value
        super().write(wanted.items())

    def _later(self, after_s: float) -> Iterator[ActionWrapper]:
        actions = list(super()._later(after_s))
        ids = dict.fromkeys(action.object_id for action in actions)
        # what is gone was perhaps one's; what is there and no collection's is nobody's business here
        others = {
            object_id
            for object_id, document in super().read(ids)
            if document is not ABSENT and self._collection(object_id, document) is None
        }
        return (action for action in actions if action.object_id not in others)

    def changed(self) -> Iterable[str] | None:
        """See :class:`~livesync.versions.working.WorkingCopy`: in all collections that may have had it."""
        known = super().changed()
        if known is None:
            return None
        return [
            str(Address(name, one))
            for one in known
            for name, rule in self._rules.items()
            if rule.may_hold(one)
        ]


class AbsentCopy(WorkingCopy):
    """Stands for documents that are an application's, where it was not given: whatever is asked, it says so.

    Args:
        remedy: What is to be given.
    """

    def __init__(self, remedy: str) -> None:
        self._remedy = remedy

    def _refuse(self) -> NoReturn:
        raise InvalidOperation(self._remedy)

    def get(self, document_id: str) -> Any:
        """See :class:`~livesync.versions.working.WorkingCopy`; raises, as all of this one's methods."""
        self._refuse()

    def write(self, documents: Iterable[tuple[str, Any]]) -> None:
        """See :meth:`get`."""
        self._refuse()

    def ids(self) -> Iterator[str]:
        """See :meth:`get`."""
        self._refuse()

    def changed(self) -> Iterable[str] | None:
        """See :meth:`get`."""
        self._refuse()

    def settle(self) -> None:
        """See :meth:`get`."""
        self._refuse()

    def drop(self) -> None:
        """See :meth:`get`: a pointer on the application's track would be left."""
        self._refuse()

    def rename(self, new: str) -> None:
        """See :meth:`get`."""
        self._refuse()


def working_copy(
    root: Any,
    name: str,
    host: Host | None,
    codec: Codec,
    collections: Mapping[str, str | MutableMapping[str, Any] | None],
) -> WorkingCopy:
    """Return the working documents of a history.

    Args:
        root: The root of a database.
        name: Of the history.
        host: The application, if the documents are one's.
        codec: Encodes documents.
        collections: Those of the history, where it is of several; a mapping that the application gives is
            None where it has not.
    """
    if not collections:
        return MappingCopy(root, name) if host is None else HostCopy(root._p_jar, host, name, codec)
    ungiven = [one for one, kind in collections.items() if kind is None]
    if ungiven:
        return AbsentCopy(
            f"the documents of {', '.join(ungiven)} lie where the application says: open with collections="
        )
    if host is None and any(isinstance(kind, str) and kind for kind in collections.values()):
        return AbsentCopy(f"the documents of {name!r} are an application's: give its host (--host)")
    if host is None:
        return MappingsCopy(root, {one: kind for one, kind in collections.items() if kind is not None})
    if not all(isinstance(kind, str) and kind for kind in collections.values()):
        return AbsentCopy(
            f"{name!r} is of {', '.join(collections)}: say by rules which of the host's they are"
        )
    rules = {one: Rule.parse(str(kind)) for one, kind in collections.items()}
    return SortedHostCopy(root._p_jar, host, name, rules, codec)
