"""From records without documents to records that can be sent: each chunk from a fresh snapshot."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from itertools import islice
from typing import Any, BinaryIO, Final, Protocol, cast

import msgspec

from ..action import DELETED
from ..agent import SyncAgent
from ..errors import HostFailed, LiveSyncError, NoDocument
from ..host import File, Host
from ..manager import SyncManager
from ..options import load_function
from .access import ManagerAccess, of_the_database
from .record import AttachedFile, DeadRecord, Encoded, Op, Record, encode_document

logger = logging.getLogger(__name__)

#: Records rendered from one snapshot where they come with files: what bounds the memory.
_CHUNK_WITH_FILES: Final = 50

#: A larger content is kept in a temporary file until it is sent.
_FILE_IN_MEMORY: Final = 256 * 1024

_FILE_BLOCK: Final = 64 * 1024

#: Objects that one line of the log names.
_NAMED: Final = 20


class FileSource(Protocol):
    """What says which contents a service lacks: an uploader."""

    def missing_files(self, digests: Set[str]) -> Set[str]:
        """Return those of ``digests`` whose contents are to be sent."""


class Renderer:
    """Makes documents for one agent's audience; keeps what has no document, counts what is kept back.

    Args:
        access: Opens the snapshots.
        host: The application.
        agent: Whose audience, ``only`` and ``transform`` hold.
        chunk_size: Records rendered from one snapshot.
        files: The uploader, where the agent sends files too; None: it sends none.
        check: Called with the manager of each snapshot that documents are made from; raises where
            none are to be made any more.
        encode: Whether nobody is going to look at the documents: each is then encoded as soon as it is
            made, and lives no longer.
    """

    def __init__(
        self,
        access: ManagerAccess,
        host: Host,
        agent: SyncAgent,
        chunk_size: int,
        files: FileSource | None = None,
        check: Callable[[SyncManager], object] = lambda manager: None,
        encode: bool = False,
    ) -> None:
        self._access = access
        self._host = host
        self._agent_id = agent.id
        self._audience = agent.audience
        self._files = files
        self._chunk_size = chunk_size if files is None else min(chunk_size, _CHUNK_WITH_FILES)
        self._max_file_bytes: int = agent.values.get("max_file_bytes", 0)
        self._only = _function(agent, "only")
        self._transform = _function(agent, "transform")
        self._check = check
        self._made = _encoded if encode and self._transform is None else Record
        self._contents: list[BinaryIO] = []
        self._missing: set[str] = set()
        #: Records that ``transform`` kept back.
        self.excluded = 0
        #: Records of what its slice says is deleted, and the snapshot shows: it came back later.
        self.returned = 0
        self.dead: list[DeadRecord] = []

    def render(self, records: Iterable[Record], at_sealed: bool = False) -> Iterator[Record]:
        """Yield ``records`` with documents; no snapshot is open while one is out of hand.

        An object that is gone, excluded, or turned down by ``only`` becomes a delete; every other
        one an upsert, whatever the record said before. One that already has a document is left as
        it is. What ``transform`` makes of it is sent in the end.

        An object that is gone though no action says so is looked for again before that is believed:
        in a new snapshot, and past all caches.

        Args:
            records: Without documents.
            at_sealed: Let the records carry the last sealed position of the snapshot in place of
                their own: for exports and rewound agents.

        Raises:
            HostFailed: A method of the host other than ``document`` and ``files`` raised.
        """
        waiting = iter(records)
        while chunk := list(islice(waiting, self._chunk_size)):
            rendered = self._render_chunk(chunk, at_sealed)
            if self._files is not None:
                rendered = self._with_contents(rendered, self._files)
            yield from rendered if self._transform is None else self._transformed(rendered)

    def close(self) -> None:
        """Close the contents of files that nobody has sent, of a run that broke off or a record kept back."""
        for content in self._contents:
            content.close()
        self._contents = []

    def _render_chunk(self, chunk: list[Record], at_sealed: bool) -> list[Record]:
        rendered = self._rendered_once(chunk, at_sealed)
        if self._missing:
            missing, self._missing = self._missing, set()
            self._look_again(chunk, rendered, missing, at_sealed)
            self._missing = set()
        return [record for record in rendered if record is not None]

    def _rendered_once(
        self, chunk: list[Record], at_sealed: bool, past_caches: bool = False
    ) -> list[Record | None]:
        """Return what each record of ``chunk`` becomes; None: it was set aside."""
        with self._access.host_snapshot(self._host, past_caches) as (manager, host):
            self._check(manager)
            sealed = max(manager.track.sealed, 0) if at_sealed else None
            rendered: list[Record | None] = []
            for record in chunk:
                position = record.position if sealed is None else sealed
                if record.document is None:
                    rendered.append(self._rendered(host, record, position))
                else:
                    rendered.append(msgspec.structs.replace(record, position=position))
            return rendered

    def _look_again(
        self, chunk: list[Record], rendered: list[Record | None], missing: set[str], at_sealed: bool
    ) -> None:
        """Put into ``rendered`` what a second look shows of the objects that nobody said were deleted."""
        places = [at for at, record in enumerate(chunk) if record.object_id in missing]
        seen = self._rendered_once([chunk[at] for at in places], at_sealed, past_caches=True)
        for at, record in zip(places, seen):
            rendered[at] = record
        found = sorted(missing - self._missing)
        if found:
            logger.warning(
                "agent %s: %d objects were seen only by a second look, past the database's caches, which"
                " are not right: %s",
                self._agent_id, len(found), ", ".join(map(repr, found[:_NAMED])),
            )  # fmt: skip
        logger.debug("agent %s: %d objects are gone, looked for twice", self._agent_id, len(self._missing))

    def _rendered(self, host: Host, record: Record, position: int) -> Record | None:
        object_id = record.object_id
        try:  # not a context manager: this is done for every object
            obj = host.get(object_id)
            excluded = obj is not None and (
                host.is_excluded(obj, self._audience)
                or (self._only is not None and not self._only(host, obj))
            )
        except of_the_database(LiveSyncError):
            raise
        except Exception as exc:
            raise _host_failed("look up", object_id, exc) from exc
        if obj is None and record.op is Op.UPSERT and DELETED not in record.actions:
            self._missing.add(object_id)
        if obj is None or excluded:
            return Record(Op.DELETE, object_id, position, record.actions)
        try:
            document = host.document(obj, self._audience)
            files = None if self._files is None else _named_files(host, obj, self._audience)
        except of_the_database():
            raise
        except NoDocument as exc:
            self._set_aside(record, exc.reason)
            return None
        except Exception as exc:  # noqa: BLE001 - one that cannot be rendered must not stop the others
            self._set_aside(record, f"the host's document() or files() raised {type(exc).__name__}: {exc}")
            return None
        if record.op is Op.DELETE:
            self.returned += 1
        return self._made(Op.UPSERT, object_id, position, record.actions, document, files)

    def _with_contents(self, records: list[Record], source: FileSource) -> list[Record]:
        """Return ``records`` with those contents that the service lacks.

        It is asked between two snapshots, since it may be far away; what is read in the second one
        is what the files are then.
        """
        named = {
            file.digest
            for record in records
            for file in record.files or ()
            if file.size <= self._max_file_bytes
        }
        missing = source.missing_files(named) if named else frozenset()
        if not missing:
            return records
        held = named - missing
        self._contents = [content for content in self._contents if not content.closed]
        with self._access.host_snapshot(self._host) as (_, host):
            found = [self._with_its_contents(host, record, missing, held) for record in records]
        return [record for record in found if record is not None]

    def _with_its_contents(
        self, host: Host, record: Record, missing: Set[str], held: Set[str]
    ) -> Record | None:
        if not any(file.digest in missing for file in record.files or ()):
            return record
        try:
            obj = host.get(record.object_id)
        except of_the_database(LiveSyncError):
            raise
        except Exception as exc:
            raise _host_failed("look up", record.object_id, exc) from exc
        try:
            files = () if obj is None else host.files(obj, self._audience)
            attached = tuple(self._attached(file, held) for file in files)
        except of_the_database(_NoRoom):
            raise
        except NoDocument as exc:
            self._set_aside(record, exc.reason)
            return None
        except Exception as exc:  # noqa: BLE001 - a file that cannot be read must not stop the others
            self._set_aside(record, f"reading its files raised {type(exc).__name__}: {exc}")
            return None
        return msgspec.structs.replace(record, files=attached)

    def _attached(self, file: File, held: Set[str]) -> AttachedFile:
        """Return a file, with its content unless the service holds that or it is too large.

        One that has changed since the service was asked is sent whatever it may hold.
        """
        if file.digest in held or file.size > self._max_file_bytes:
            return AttachedFile(file.name, file.media_type, file.size, file.digest)
        content = cast(BinaryIO, tempfile.SpooledTemporaryFile(_FILE_IN_MEMORY, prefix="livesync-"))  # noqa: SIM115 - sent later
        self._contents.append(content)
        size, digest = _copied(file, content)
        return AttachedFile(file.name, file.media_type, size, digest, content)

    def _transformed(self, records: list[Record]) -> Iterator[Record]:
        assert self._transform is not None
        for record in records:
            try:
                made = self._transform(record)
            except Exception as exc:  # noqa: BLE001 - one record must not stop the others
                self._set_aside(record, f"the transform raised {type(exc).__name__}: {exc}", record.op)
                continue
            if made is None:
                self.excluded += 1
            elif not isinstance(made, Record) or made.object_id != record.object_id:
                self._set_aside(
                    record, "the transform returned something else than a record of the same id", record.op
                )
            elif made.op is Op.UPSERT and made.document is None:
                self._set_aside(record, "the transform returned an upsert without a document", record.op)
            else:
                yield msgspec.structs.replace(made, position=record.position)

    def _set_aside(self, record: Record, reason: str, op: Op = Op.UPSERT) -> None:
        logger.error(
            "no document for %r at %d: set aside as a dead letter", record.object_id, record.position
        )
        self.dead.append(
            DeadRecord(record.object_id, op, record.position, " ".join(reason.split())[:500], record.actions)
        )


def _encoded(
    op: Op,
    object_id: str,
    position: int,
    actions: frozenset[str],
    document: dict[str, Any],
    files: tuple[AttachedFile, ...] | None,
) -> Record:
    try:
        body = encode_document(document)
    except NoDocument:  # it goes on as it is: the sender finds out in its turn, and sets it aside
        return Record(op, object_id, position, actions, document, files)
    return Encoded(op, object_id, position, actions, None, files, body)


def _function(agent: SyncAgent, option: str) -> Any:
    reference = agent.values.get(option)
    return load_function(reference) if reference else None


def _named_files(host: Host, obj: Any, audience: str) -> tuple[AttachedFile, ...]:
    return tuple(
        AttachedFile(file.name, file.media_type, file.size, file.digest) for file in host.files(obj, audience)
    )


class _NoRoom(LiveSyncError):
    """Raised when a content cannot be kept until it is sent."""


def _copied(file: File, content: BinaryIO) -> tuple[int, str]:
    """Copy a file out of the snapshot; return its size and digest as they were read."""
    digest = hashlib.blake2b(digest_size=16)
    size = 0
    with file.open() as stream:
        while block := stream.read(_FILE_BLOCK):
            with _in_room_enough():
                content.write(block)
            digest.update(block)
            size += len(block)
    with _in_room_enough():
        content.seek(0)  # which writes the rest
    return size, digest.hexdigest()


@contextmanager
def _in_room_enough() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise _NoRoom(
            f"a file's content cannot be kept until it is sent: {exc.strerror}; make room in"
            f" {tempfile.gettempdir()}, or set TMPDIR"
        ) from exc


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
            except of_the_database(LiveSyncError):
                raise
            except Exception as exc:
                raise _host_failed("list what is inside", object_id, exc) from exc
    except BaseException:
        spool.close()
        raise
    return spool


def _host_failed(doing: str, object_id: str, exc: Exception) -> HostFailed:
    return HostFailed(f"the host failed to {doing} {object_id!r}: {type(exc).__name__}: {exc}")
