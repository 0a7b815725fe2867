"""What a service ought to hold of the host's objects: digests of the documents that would be sent now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from enum import Enum
from itertools import islice
from typing import Final

from ..delivery.access import ManagerAccess, of_the_database
from ..delivery.push import PushSyncAgent
from ..delivery.record import Op, Record, document_digest
from ..delivery.render import Renderer
from ..errors import HostFailed, LiveSyncError, NoDocument
from ..host import Host
from .side_by_side import first_out_of_order

#: Ids listed in one snapshot where nothing else is read.
LISTED: Final = 20_000

#: Objects looked at in one snapshot, and documents that wait for a transform.
RENDERED: Final = 2_000


class Fate(Enum):
    """What is known of an object where no digest is."""

    ABSENT = "absent"  #: gone, excluded, or made a delete of: the service is not to hold it
    KEPT_BACK = "kept back"  #: the agent's transform sends nothing of it
    NO_DOCUMENT = "no document"  #: it has none that could be sent


#: What a service ought to hold of an object: the digest of its document, or why there is none.
Expectation = str | Fate

#: An id, and what is expected of it.
Told = tuple[str, Expectation]


class Expected(Renderer):
    """Tells what a service ought to hold: a renderer whose documents go no further than their digests.

    No snapshot is open while one of its answers is out of hand.

    Args:
        access: Opens the snapshots.
        host: The application.
        agent: Whose audience, ``only`` and ``transform`` hold.
        names_files: Whether the agent's records come with files, which its transform may look at.
    """

    def __init__(self, access: ManagerAccess, host: Host, agent: PushSyncAgent, names_files: bool) -> None:
        super().__init__(access, host, agent, RENDERED, _NothingIsMissing() if names_files else None)
        #: Why the objects of the last answer whose fate is NO_DOCUMENT have none.
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
        while told := self._told_after(after):
            yield told
            after = told[-1][0]

    def of(self, object_ids: Sequence[str]) -> list[Told]:
        """Return these ids in their order, each once, with what is expected.

        Raises:
            HostFailed: It raised.
        """
        self.reasons = {}
        # As for an export: what becomes of the object is what counts, not what the record says.
        asked = (Record(Op.UPSERT, object_id, 0) for object_id in object_ids)
        known = {record.object_id: self._digest(record) for record in self.render(asked, at_sealed=True)}
        return [(each, known[each] if each in known else self._left_out(each)) for each in object_ids]

    def _listed(self, after: str | None) -> list[str]:
        with self._access.host_snapshot(self._host) as (_, host), _listing():
            listed = list(islice(host.iter_ids(after), LISTED))
        _check_order(listed, after)
        return listed

    def _told_after(self, after: str | None) -> list[Told]:
        """Return the host's next ids with what is expected.

        They are listed in the snapshot in which they are rendered: a host may have to load its
        objects to tell their ids, and so loads them once. A document lives no longer than it takes
        to digest it, unless a transform is to see it, which is not to hold up a snapshot.
        """
        self.reasons = {}
        told: list[Told] = []
        rendered: list[Record] = []
        render, digest, is_sent_so = self._rendered, self._digest, self._transform is None
        with self._access.host_snapshot(self._host) as (manager, host):
            sealed = max(manager.track.sealed, 0)
            for object_id in islice(_ids_after(host, after), self._chunk_size):
                record = render(host, Record(Op.UPSERT, object_id, sealed), sealed)
                if record is None:
                    told.append((object_id, Fate.NO_DOCUMENT))
                elif is_sent_so:
                    told.append((object_id, digest(record)))
                else:
                    told.append((object_id, Fate.KEPT_BACK))
                    rendered.append(record)
        _check_order([object_id for object_id, _ in told], after)
        if rendered:
            known = {record.object_id: digest(record) for record in self._transformed(rendered)}
            told = [(each, known[each] if each in known else self._left_out(each)) for each, _ in told]
        return told

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

    def _set_aside(self, record: Record, reason: str, op: Op = Op.UPSERT) -> None:
        # nothing becomes a dead letter because somebody has looked at it
        self.reasons[record.object_id] = " ".join(reason.split())[:500]


class _NothingIsMissing:
    """Says that a service has all contents, so that none is read."""

    def missing_files(self, digests: Set[str]) -> Set[str]:
        return frozenset()


def _ids_after(host: Host, after: str | None) -> Iterator[str]:
    with _listing():
        yield from host.iter_ids(after)


@contextmanager
def _listing() -> Iterator[None]:
    """Raise what it means that the host cannot list its objects."""
    try:
        yield
    except of_the_database(LiveSyncError):
        raise
    except Exception as exc:
        raise HostFailed(f"the host failed to list its objects: {type(exc).__name__}: {exc}") from exc


def _check_order(object_ids: list[str], after: str | None) -> None:
    at = first_out_of_order(object_ids, after)
    if at is not None:
        before = object_ids[at - 1] if at else after
        raise HostFailed(
            f"the host lists {object_ids[at]!r} after {before!r}: iter_objects must go by ascending ids"
        )
