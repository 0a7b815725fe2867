"""What a service ought to hold of the host's objects: digests of the documents that would be sent now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from enum import Enum
from itertools import islice
from typing import Final

from transaction.interfaces import TransientError

from ..delivery.access import ManagerAccess
from ..delivery.push import PushSyncAgent
from ..delivery.record import Op, Record, document_digest
from ..delivery.render import Renderer
from ..errors import HostFailed, LiveSyncError, NoDocument
from ..host import Host
from .side_by_side import first_out_of_order

#: Ids listed in one snapshot where nothing else is read.
LISTED: Final = 20_000

#: Objects rendered from one snapshot.
RENDERED: Final = 1_000


class Fate(Enum):
    """What is known of an object where no digest is."""

    ABSENT = "absent"  #: gone, excluded, or made a delete of: the service is not to hold it
    KEPT_BACK = "kept back"  #: the agent's transform sends nothing of it
    NO_DOCUMENT = "no document"  #: it has none that could be sent


#: What a service ought to hold of an object: the digest of its document, or why there is none.
Expectation = str | Fate

#: An id, and what is expected of it.
Told = tuple[str, Expectation]


class Expected:
    """Tells what a service ought to hold.

    No snapshot is open while one of its answers is out of hand, and there are never more than
    :data:`RENDERED` documents in memory.

    Args:
        access: Opens the snapshots.
        host: The application.
        agent: Whose audience, ``only`` and ``transform`` hold.
        names_files: Whether the agent's records come with files, which its transform may look at.
    """

    def __init__(self, access: ManagerAccess, host: Host, agent: PushSyncAgent, names_files: bool) -> None:
        self._access = access
        self._host = host
        self._renderer = _Looking(access, host, agent, RENDERED, _NothingIsMissing() if names_files else None)
        #: Why the objects whose fate is NO_DOCUMENT have none: those of the last call of :meth:`of`.
        self.reasons: dict[str, str] = {}

    def ids(self) -> Iterator[list[str]]:
        """Yield all ids of the host in lists, ascending, and nothing else of them.

        Raises:
            HostFailed: It raised, or its ids do not ascend.
        """
        after = None
        while listed := self._listed(after):
            yield listed
            after = listed[-1]

    def all(self) -> Iterator[list[Told]]:
        """Yield all ids of the host in lists, ascending, with what is expected.

        Raises:
            HostFailed: It raised, or its ids do not ascend.
        """
        after = None
        while True:
            self._renderer.undocumented = self.reasons = {}
            object_ids, records = self._renderer.render_after(after)
            if not object_ids:
                return
            _check_order(object_ids, after)
            yield self._told(object_ids, records)
            after = object_ids[-1]

    def of(self, object_ids: Sequence[str]) -> list[Told]:
        """Return these ids in their order, each once, with what is expected.

        Raises:
            HostFailed: It raised.
        """
        self._renderer.undocumented = self.reasons = {}
        # As for an export: what becomes of the object is what counts, not what the record says.
        asked = (Record(Op.UPSERT, object_id, 0) for object_id in object_ids)
        return self._told(object_ids, self._renderer.render(asked, at_sealed=True))

    def _listed(self, after: str | None) -> list[str]:
        with self._access.host_snapshot(self._host) as (_, host):
            try:
                listed = list(islice(host.iter_ids(after), LISTED))
            except (TransientError, LiveSyncError):
                raise
            except Exception as exc:
                raise _listing_failed(exc) from exc
        if listed:
            _check_order(listed, after)
        return listed

    def _told(self, object_ids: Sequence[str], records: Iterable[Record]) -> list[Told]:
        """Return the ids with what their records say; of some of them there may be no record."""
        told = [(record.object_id, self._digest(record)) for record in records]
        if len(told) == len(object_ids):
            return told
        known = dict(told)
        return [(each, known[each] if each in known else self._left_out(each)) for each in object_ids]

    def _left_out(self, object_id: str) -> Fate:
        return Fate.NO_DOCUMENT if object_id in self.reasons else Fate.KEPT_BACK

    def _digest(self, record: Record) -> Expectation:
        object_id, document = record.object_id, record.document
        if document is None or record.op is Op.DELETE:
            return Fate.ABSENT
        try:
            if not object_id.isascii():
                object_id.encode()
            return document_digest(document)
        except NoDocument as exc:
            self.reasons[object_id] = exc.reason
        except UnicodeEncodeError as exc:
            self.reasons[object_id] = f"its id cannot be written as UTF-8: {exc.reason}"
        return Fate.NO_DOCUMENT


class _Looking(Renderer):
    """Makes documents to look at: one that cannot be made is noted, and is no dead letter for that."""

    #: Object id -> why there is no document.
    undocumented: dict[str, str]

    def render_after(self, after: str | None) -> tuple[list[str], Iterable[Record]]:
        """Return the host's next ids, and their records.

        They are listed in the snapshot in which they are rendered: a host may have to load its
        objects to tell their ids, and so loads them once.

        Raises:
            HostFailed: It raised.
        """
        object_ids: list[str] = []
        rendered: list[Record] = []
        with self._access.host_snapshot(self._host) as (manager, host):
            sealed = max(manager.track.sealed, 0)
            for object_id in islice(_ids_after(host, after), self._chunk_size):
                object_ids.append(object_id)
                record = self._rendered(host, Record(Op.UPSERT, object_id, sealed), sealed)
                if record is not None:
                    rendered.append(record)
        return object_ids, rendered if self._transform is None else self._transformed(rendered)

    def _set_aside(self, record: Record, reason: str, op: Op = Op.UPSERT) -> None:
        self.undocumented[record.object_id] = " ".join(reason.split())[:500]


class _NothingIsMissing:
    """Says that a service has all contents, so that none is read."""

    def missing_files(self, digests: Set[str]) -> Set[str]:
        return frozenset()


def _ids_after(host: Host, after: str | None) -> Iterator[str]:
    try:
        yield from host.iter_ids(after)
    except (TransientError, LiveSyncError):
        raise
    except Exception as exc:
        raise _listing_failed(exc) from exc


def _listing_failed(exc: Exception) -> HostFailed:
    return HostFailed(f"the host failed to list its objects: {type(exc).__name__}: {exc}")


def _check_order(object_ids: list[str], after: str | None) -> None:
    at = first_out_of_order(object_ids, after)
    if at is not None:
        before = object_ids[at - 1] if at else after
        raise HostFailed(
            f"the host lists {object_ids[at]!r} after {before!r}: iter_objects must go by ascending ids"
        )
