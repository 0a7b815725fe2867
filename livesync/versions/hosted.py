"""The working documents of an application: what its host says of its objects.

What may have changed since the last version is known from the track, by a pointer of the collection's own;
what waits in the inbox is looked at too, so that an edit that was committed a moment before is seen. What a
checkout writes is recorded as this collection's, which its own reader passes over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from ..action import CASCADING, CREATED, DATA_CHANGED, DELETED, ActionWrapper
from ..errors import InvalidOperation, NoDocument, NotInstalled
from ..host import Host
from ..manager import SyncManager
from .diffs.threeway import ABSENT
from .values import CODEC, Codec
from .working import WorkingCopy, wholly

#: Before a collection's name: who made what a checkout writes, and the collection's pointer on the track.
ORIGIN: Final = "version:"
POINTER: Final = "livesync.versions."

#: Documents that are read within one ``Host.at``.
_AT_ONCE: Final = 200


class HostCopy(WorkingCopy):
    """The documents of a host's objects; those that are never synced have none.

    What the current transaction does to them is known to have changed once it is committed.

    Args:
        connection: A ZODB connection; all happens within its current transaction.
        host: The application.
        name: Of the collection.
        codec: Encodes documents.
    """

    def __init__(self, connection: Any, host: Host, name: str, codec: Codec = CODEC) -> None:
        self._connection = connection
        self._host = host
        self._codec = codec
        self._origin = ORIGIN + name
        self._pointer = POINTER + name

    # -- documents ---------------------------------------------------------------------------------

    def get(self, document_id: str) -> Any:
        """See :class:`WorkingCopy`."""
        with self._host.at(self._connection) as host:
            return _document(host, host.get(document_id))

    def read(self, ids: Iterable[str]) -> Iterator[tuple[str, Any]]:
        """See :class:`WorkingCopy`."""
        rest = list(ids)
        for start in range(0, len(rest), _AT_ONCE):
            with self._host.at(self._connection) as host:
                part = [(one, _document(host, host.get(one))) for one in rest[start : start + _AT_ONCE]]
            yield from part

    def ids(self) -> Iterator[str]:
        """See :class:`WorkingCopy`."""
        with self._host.at(self._connection) as host:
            for obj in host.iter_objects():
                if _document(host, obj) is not ABSENT:
                    yield host.object_id(obj)

    def write(self, documents: Iterable[tuple[str, Any]]) -> None:
        """See :class:`WorkingCopy`. Containers are made before what lies in them, and removed after it.

        Raises:
            ReadOnlyHost: The host takes no documents back.
            InvalidOperation: It makes another document of one than it was given. Whatever is raised, what was
                written until then is taken back.
        """
        wanted = sorted(documents, key=lambda row: row[0])
        told = []
        with wholly(self._connection), self._host.at(self._connection) as host:
            for document_id, value in wanted:
                if value is not ABSENT:
                    was_there = host.get(document_id) is not None
                    host.restore(document_id, value)
                    told.append((document_id, frozenset({DATA_CHANGED if was_there else CREATED})))
            for document_id, value in reversed(wanted):
                if value is ABSENT and host.get(document_id) is not None:
                    host.restore(document_id, None)
                    told.append((document_id, frozenset({DELETED})))
            for document_id, value in wanted:
                self._check(host, document_id, value)
        manager = self._manager(to_record=True)
        if told and manager is not None:
            manager.record_changes(told, self._origin, "checkout")

    def _check(self, host: Host, document_id: str, value: Any) -> None:
        made = _document(host, host.get(document_id))
        if value is ABSENT or made is ABSENT:
            is_right = made is value
        else:
            is_right = self._codec.encode(made) == self._codec.encode(value)
        if not is_right:
            raise InvalidOperation(
                f"the host's restore() makes another document of {document_id!r} than it was given:"
                " nothing was changed"
            )

    # -- what has changed --------------------------------------------------------------------------

    def _manager(self, to_record: bool = False) -> SyncManager | None:
        try:
            return SyncManager.get(self._connection.root(), to_record=to_record)
        except NotInstalled:
            return None

    def changed(self) -> Iterable[str] | None:
        """See :class:`WorkingCopy`; None without a manager, or where the track was pruned meanwhile."""
        actions = self._actions()
        if actions is None:
            return None
        found: dict[str, None] = {}
        with self._host.at(self._connection) as host:
            for action in actions:
                found[action.object_id] = None
                obj = host.get(action.object_id) if action.actions & CASCADING else None
                if obj is not None:
                    found.update((host.object_id(inner), None) for inner in host.contents(obj))
        return list(found)

    def people(self, after_s: float) -> list[str]:
        """See :class:`WorkingCopy`: the users of transactions, as the track has them."""
        return sorted({action.user for action in self._later(after_s) if action.user})

    def notes(self, after_s: float) -> list[str]:
        """See :class:`WorkingCopy`: the notes of transactions, as the track has them."""
        noted = (line.strip() for action in self._later(after_s) for line in action.note.splitlines())
        return list(dict.fromkeys(line for line in noted if line))

    def newest_s(self) -> float:
        """See :class:`WorkingCopy`."""
        return max((action.timestamp for action in self._actions() or ()), default=0.0)

    def _later(self, after_s: float) -> Iterator[ActionWrapper]:
        """Yield what was done after a time to objects that the collection is about."""
        return (action for action in self._actions() or () if action.timestamp > after_s)

    def _actions(self) -> list[ActionWrapper] | None:
        manager = self._manager()
        if manager is None or not manager.track.has_pointer(self._pointer):
            return None
        track = manager.track
        position = track.get_pointer_timestamp(self._pointer)
        # before everything: the track was emptied, and nobody knows of what
        if position is None or track.pruned > position:
            return None
        actions = [action for _, action in track.iterate(position)]
        actions += manager.waiting()
        return [action for action in actions if action.user != self._origin]

    def settle(self) -> None:
        """See :class:`WorkingCopy`: the pointer follows what is sealed, what lies beyond is seen again."""
        manager = self._manager()
        if manager is None:
            return
        track = manager.track
        if not track.has_pointer(self._pointer):
            track.add_pointer(self._pointer, track.sealed)
        elif track.get_pointer_timestamp(self._pointer) != track.sealed:
            track.move_pointer(self._pointer, track.sealed)

    def drop(self) -> None:
        """See :class:`WorkingCopy`: the pointer goes, the application's documents stay."""
        manager = self._manager()
        if manager is not None and manager.track.has_pointer(self._pointer):
            manager.track.remove_pointer(self._pointer)

    def rename(self, new: str) -> None:
        """See :class:`WorkingCopy`: the pointer is called otherwise."""
        manager, pointer = self._manager(), POINTER + new
        if manager is not None and manager.track.has_pointer(self._pointer):
            manager.track.add_pointer(pointer, manager.track.get_pointer_timestamp(self._pointer))
            manager.track.remove_pointer(self._pointer)
        self._origin, self._pointer = ORIGIN + new, pointer


def _document(host: Host, obj: Any) -> Any:
    if obj is None or host.is_never_synced(obj):
        return ABSENT
    try:
        return host.document(obj)
    except NoDocument:
        return ABSENT
