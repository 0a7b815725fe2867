"""What is kept of sessions with peers: records of sync sessions and transfers, and buffers that wait.

Their import paths never change, and their attributes are plain values, so that later versions can read them.
Each record is an object of its own: two sessions at once never write the same one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Final

from BTrees.OOBTree import OOBTree, OOTreeSet
from persistent import Persistent

from ..errors import check_schema
from .stages import Stage, Status

#: Where it lies in a database's root.
ROOT_KEY: Final = "livesync.peering.sessions"

#: What ``StoredSessions.schema`` is for data of this code.
SCHEMA: Final = 1


@dataclass(frozen=True, slots=True)
class TransferView:
    """A transfer as it was at one moment: the attributes of :class:`TransferRecord`."""

    id: str
    sync_session_id: str
    direction: str
    is_sender: bool
    prefixes: tuple[str, ...]
    chunk_size: int
    stage: Stage
    status: Status
    has_offer: bool
    confirmed: int
    cursor: bytes | None
    has_last: bool
    waiting_items: int
    waiting_characters: int
    items: int
    total: int
    refused: int
    bytes_sent: int
    bytes_received: int
    error: str
    started: float
    last_active: float
    active: bool


@dataclass(frozen=True, slots=True)
class SyncSessionView:
    """A sync session as it was at one moment: the attributes of :class:`SyncSessionRecord`."""

    id: str
    is_server: bool
    profile: str
    client_certificate_id: str
    server_certificate_id: str
    peer: str
    peer_provider_id: str
    request: str
    process: str
    sequence: int
    started: float
    last_active: float
    active: bool


class SyncSessionRecord(Persistent):
    """One sync session, as this end has it.

    Attributes:
        id: Made by the client.
        is_server: Whether this end is the server.
        profile: Of both certificates.
        client_certificate_id, server_certificate_id: Whose they are.
        peer: How the other end is called: its address for a client, its name for a server.
        peer_provider_id: Its provider's id.
        request: What identifies the request that began it: the digest of its body.
        sequence: The highest number that may have been used: what is above has never been.
        started, last_active: Epoch seconds.
        active: Whether it goes on.
        process: Who runs it, on the client's side: ``host:pid:began``.
        client_chain: The client's certificate, last, with those above it, as (text, signature): of a server.
    """

    def __init__(
        self,
        session_id: str,
        *,
        is_server: bool,
        profile: str,
        client_certificate_id: str,
        server_certificate_id: str,
        started: float,
        peer: str = "",
        peer_provider_id: str = "",
        request: str = "",
        process: str = "",
    ) -> None:
        self.id = session_id
        self.is_server = is_server
        self.profile = profile
        self.client_certificate_id = client_certificate_id
        self.server_certificate_id = server_certificate_id
        self.peer = peer
        self.peer_provider_id = peer_provider_id
        self.request = request
        self.process = process
        self.client_chain: tuple[tuple[str, str], ...] = ()
        self.sequence = 0
        self.started = self.last_active = started
        self.active = True

    def view(self) -> SyncSessionView:
        """Return it as a value, which outlives the transaction."""
        return SyncSessionView(*(getattr(self, field.name) for field in fields(SyncSessionView)))

    def __repr__(self) -> str:
        return f"<SyncSessionRecord {self.id} {'active' if self.active else 'ended'}>"


class TransferRecord(Persistent):
    """One transfer, as this end has it.

    Attributes:
        id: Made by the client; the session's id in :mod:`livesync.replication`, too.
        sync_session_id: Its session.
        direction: ``push`` (the client sends) or ``pull``.
        is_sender: Whether this end sends.
        prefixes: The filter.
        chunk_size: Items in a buffer.
        offer: What is sent: JSON of :class:`~livesync.peering.wire.Offer`, in an object of its own; None
            before that is known.
        confirmed: Buffers that the receiver has for good.
        cursor: Where the next one begins: JSON of :class:`~livesync.peering.wire.Cursor`, or None.
        has_last: Whether the last buffer was confirmed.
        waiting_items, waiting_characters: What the buffers that wait to be applied hold.
        items: Items in confirmed buffers; ``total``: how many there will be, 0 where nobody knows.
        refused: Of them, those that were left out, since the peer may not write them.
        bytes_sent, bytes_received: Of bodies, as they travel.
        error: Why the status is ``errored``; one line.
        started, last_active: Epoch seconds.
        active: Whether it goes on.
    """

    def __init__(
        self,
        transfer_id: str,
        *,
        sync_session_id: str,
        direction: str,
        is_sender: bool,
        prefixes: tuple[str, ...],
        started: float,
        chunk_size: int,
    ) -> None:
        self.id = transfer_id
        self.sync_session_id = sync_session_id
        self.direction = direction
        self.is_sender = is_sender
        self.prefixes = prefixes
        self.chunk_size = chunk_size
        self.stage_name = Stage.INITIALIZING.value
        self.status_name = Status.PENDING.value
        self.offer: Packet | None = None
        self.confirmed = 0
        self.cursor: bytes | None = None
        self.has_last = False
        self.waiting_items = self.waiting_characters = 0
        self.items = self.total = self.refused = 0
        self.bytes_sent = self.bytes_received = 0
        self.error = ""
        self.started = self.last_active = started
        self.active = True

    @property
    def stage(self) -> Stage:
        """The stage that it is in."""
        return Stage(self.stage_name)

    @property
    def status(self) -> Status:
        """How far that stage has come."""
        return Status(self.status_name)

    @property
    def has_offer(self) -> bool:
        """Whether it is known what is sent."""
        return self.offer is not None

    def view(self) -> TransferView:
        """Return it as a value, which outlives the transaction."""
        return TransferView(*(getattr(self, field.name) for field in fields(TransferView)))

    def become(self, stage: Stage, status: Status, now: float, error: str = "") -> None:
        """Go on to a stage and status; those in between were passed without being noted.

        Raises:
            ValueError: It would go back.
        """
        if stage is self.stage:
            if self.status is Status.COMPLETED and status is not Status.COMPLETED:
                raise ValueError(f"a transfer does not go back into {stage.value}, which is completed")
        elif stage.number < self.stage.number:
            raise ValueError(f"a transfer does not go back from {self.stage.value} to {stage.value}")
        self.stage_name, self.status_name = stage.value, status.value
        self.error = error
        self.last_active = now

    def __repr__(self) -> str:
        return f"<TransferRecord {self.id} {self.direction} {self.stage_name} ({self.status_name})>"


class Packet(Persistent):
    """Bytes that are written and read apart from what names them.

    Attributes:
        data: They never change.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data


class StoredSessions(Persistent):
    """All sessions of this database with peers.

    Attributes:
        sync: id -> :class:`SyncSessionRecord`.
        transfers: id -> :class:`TransferRecord`.
        buffers: (transfer id, number) -> :class:`Packet`: buffers that were confirmed and wait to be applied.
        open_sync, open_transfers: Ids of those that may go on: what is asked with every session is not to
            grow with how many there have been. Those that have ended since are dropped when they are met.
        schema: See :data:`SCHEMA`.
    """

    def __init__(self) -> None:
        self.schema = SCHEMA
        self.sync = OOBTree()
        self.transfers = OOBTree()
        self.buffers = OOBTree()
        self.open_sync = OOTreeSet()
        self.open_transfers = OOTreeSet()

    @classmethod
    def get(cls, root: Any, create: bool = True) -> StoredSessions:
        """Return what a database keeps of sessions, within the caller's transaction.

        Args:
            root: The database's root.
            create: Make it where there is nothing.

        Raises:
            LookupError: There is nothing, and ``create`` is False.
            UpgradeNeeded: A newer livesync wrote it.
        """
        found = root.get(ROOT_KEY)
        if found is None:
            if not create:
                raise LookupError("this database has had no session with a peer")
            found = root[ROOT_KEY] = cls()
        check_schema("the stored schema of sessions", found.schema, SCHEMA)
        assert isinstance(found, cls)
        return found

    def add_sync(self, record: SyncSessionRecord) -> None:
        """Keep a new session."""
        self.sync[record.id] = record
        self.open_sync.insert(record.id)

    def end_sync(self, record: SyncSessionRecord, now: float) -> None:
        """Note that a session has ended."""
        record.active = False
        record.last_active = now
        self.open_sync.discard(record.id)

    def add_transfer(self, record: TransferRecord) -> None:
        """Keep a new transfer."""
        self.transfers[record.id] = record
        self.open_transfers.insert(record.id)

    def sessions_going_on(self) -> list[SyncSessionRecord]:
        """Return the sessions that go on."""
        return _going_on(self.open_sync, self.sync)

    def transfers_going_on(self, session_id: str | None = None) -> list[TransferRecord]:
        """Return the transfers that go on, the oldest first: of one session, or all."""
        found: list[TransferRecord] = _going_on(self.open_transfers, self.transfers)
        if session_id is not None:
            found = [record for record in found if record.sync_session_id == session_id]
        return sorted(found, key=lambda record: (record.started, record.id))

    def transfers_of(self, session_id: str) -> list[TransferRecord]:
        """Return all transfers of a session, the oldest first; it reads those of all sessions."""
        found = [record for record in self.transfers.values() if record.sync_session_id == session_id]
        return sorted(found, key=lambda record: (record.started, record.id))

    def waiting(self, transfer_id: str) -> Iterator[tuple[int, bytes]]:
        """Yield the buffers of a transfer that wait to be applied, with their numbers, in order."""
        for key in self.buffers.keys((transfer_id,), (transfer_id + "\0",), excludemax=True):
            yield key[1], self.buffers[key].data

    def waiting_numbers(self, transfer_id: str) -> list[int]:
        """Return the numbers of the buffers of a transfer that wait to be applied, in order."""
        return [
            number for _, number in self.buffers.keys((transfer_id,), (transfer_id + "\0",), excludemax=True)
        ]

    def drop_waiting(self, transfer_id: str) -> int:
        """Keep no buffers of a transfer; return how many there were."""
        keys = list(self.buffers.keys((transfer_id,), (transfer_id + "\0",), excludemax=True))
        for key in keys:
            del self.buffers[key]
        return len(keys)


def _going_on(ids: Any, records: Any) -> list[Any]:
    """Return the records of these ids that are active, and drop the other ids."""
    found = []
    for key in list(ids):
        record = records.get(key)
        if record is None or not record.active:
            ids.remove(key)
        else:
            found.append(record)
    return found
