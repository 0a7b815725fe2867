"""From records without documents to records that can be sent: each chunk from a fresh snapshot."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import BinaryIO

import msgspec
from transaction.interfaces import TransientError

from ..agent import SyncAgent
from ..errors import HostFailed, LiveSyncError, NoDocument
from ..host import Host
from ..options import load_function
from .access import ManagerAccess
from .record import DeadRecord, Op, Record

logger = logging.getLogger(__name__)


class Renderer:
    """Makes documents for one agent's audience; counts what is excluded, keeps what has no document.

    Args:
        access: Opens the snapshots.
        host: The application.
        agent: Whose audience and ``only`` function hold.
        chunk_size: Records rendered from one snapshot.
    """

    def __init__(self, access: ManagerAccess, host: Host, agent: SyncAgent, chunk_size: int) -> None:
        self._access = access
        self._host = host
        self._audience = agent.audience
        self._chunk_size = chunk_size
        only = agent.values.get("only")
        self._only = load_function(only) if only else None
        self.excluded = 0
        #: Records of what its slice says is deleted, and the snapshot shows: it came back later.
        self.returned = 0
        self.dead: list[DeadRecord] = []

    def render(self, records: Iterable[Record], at_sealed: bool = False) -> Iterator[Record]:
        """Yield ``records`` with documents; no snapshot is open while one is out of hand.

        An object that is gone, excluded, or turned down by ``only`` becomes a delete; every other
        one an upsert, whatever the record said before. One that already has a document is left as
        it is.

        Args:
            records: Without documents.
            at_sealed: Let the records carry the last sealed position of the snapshot in place of
                their own: for exports and rewound agents.

        Raises:
            HostFailed: A method of the host other than ``document`` raised.
        """
        waiting = iter(records)
        while chunk := list(islice(waiting, self._chunk_size)):
            yield from self._render_chunk(chunk, at_sealed)

    def _render_chunk(self, chunk: list[Record], at_sealed: bool) -> list[Record]:
        with self._access.host_snapshot(self._host) as (manager, host):
            sealed = max(manager.track.sealed, 0) if at_sealed else None
            rendered = []
            for record in chunk:
                position = record.position if sealed is None else sealed
                if record.document is None:
                    done = self._rendered(host, record, position)
                    if done is not None:
                        rendered.append(done)
                else:
                    rendered.append(msgspec.structs.replace(record, position=position))
            return rendered

    def _rendered(self, host: Host, record: Record, position: int) -> Record | None:
        object_id = record.object_id
        try:  # not a context manager: this is done for every object
            obj = host.get(object_id)
            excluded = obj is not None and (
                host.is_excluded(obj, self._audience)
                or (self._only is not None and not self._only(host, obj))
            )
        except (TransientError, LiveSyncError):
            raise
        except Exception as exc:
            raise _host_failed("look up", object_id, exc) from exc
        if obj is None or excluded:
            self.excluded += excluded
            return Record(Op.DELETE, object_id, position, record.actions)
        try:
            document = host.document(obj, self._audience)
        except TransientError:
            raise
        except NoDocument as exc:
            self._set_aside(record, exc.reason)
            return None
        except Exception as exc:  # noqa: BLE001 - one that cannot be rendered must not stop the others
            self._set_aside(record, f"the host's document() raised {type(exc).__name__}: {exc}")
            return None
        if record.op is Op.DELETE:
            self.returned += 1
        return Record(Op.UPSERT, object_id, position, record.actions, document)

    def _set_aside(self, record: Record, reason: str) -> None:
        logger.error(
            "no document for %r at %d: set aside as a dead letter", record.object_id, record.position
        )
        self.dead.append(
            DeadRecord(record.object_id, Op.UPSERT, record.position, " ".join(reason.split())[:500])
        )


class Spool:
    """Ids written to a temporary file in one snapshot, to be read again without one."""

    def __init__(self) -> None:
        self._file: BinaryIO = tempfile.TemporaryFile(prefix="livesync-")  # noqa: SIM115 - see close()
        self.count = 0

    def put(self, object_id: str) -> None:
        """Add an id."""
        self._file.write(json.dumps(object_id).encode() + b"\n")
        self.count += 1

    def __iter__(self) -> Iterator[str]:
        self._file.seek(0)
        for line in self._file:
            yield json.loads(line)

    def close(self) -> None:
        """Remove the file."""
        self._file.close()


def spool_contents(access: ManagerAccess, host: Host, object_id: str, skip: set[str]) -> Spool:
    """Return the ids of everything below an object as it is now, but those in ``skip``.

    Memory does not grow with their number. Empty when the object is gone.

    Raises:
        HostFailed: The host raised.
    """
    spool = Spool()
    try:
        with access.host_snapshot(host) as (_, at):
            try:
                obj = at.get(object_id)
                if obj is not None:
                    for inner in at.contents(obj):
                        inner_id = at.object_id(inner)
                        if inner_id not in skip:
                            spool.put(inner_id)
            except (TransientError, LiveSyncError):
                raise
            except Exception as exc:
                raise _host_failed("list what is inside", object_id, exc) from exc
    except BaseException:
        spool.close()
        raise
    return spool


def _host_failed(doing: str, object_id: str, exc: Exception) -> HostFailed:
    return HostFailed(f"the host failed to {doing} {object_id!r}: {type(exc).__name__}: {exc}")
