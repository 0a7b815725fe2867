"""A collection on another node, over a session with it: the other end of a push or a pull.

What comes is kept, chunk by chunk, in this database, each in a transaction of its own, before anything of it
is looked at; and what goes is cut from committed versions. So a transfer that was cut, at whatever byte and
whichever end, goes on after the last chunk that was confirmed, with the next push or pull of the same.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import msgspec

from ...database import connected
from ...errors import (
    InvalidOperation,
    NotFound,
    OfferChanged,
    PeerSaysNo,
    PeerUnreachable,
    SyncError,
    TransferEnded,
)
from ...peering import historywire, staging, wire
from ...peering.historywire import HistoryCursor, HistoryTransfer, partition_of
from ...peering.records import StoredSessions
from ..store.contents import Contents
from ..stored import find_history
from .chunks import Place, check_chunk, cut, joined
from .ends import Asked, Outgoing, Part
from .nodes import NodeEnd

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds that the other node gets to check and keep all that was pushed.
_FINISH_S: Final = 900.0

#: Codes of refusals after which a transfer cannot go on, and a new one can.
_ANEW: Final = frozenset({"no_such_thing", "ended", "changed", "gap"})

#: How often a transfer is begun anew.
_BEGINNINGS: Final = 3

_encode = msgspec.json.Encoder().encode

#: Is told how many bytes have gone or come so far, and how many of all parts are done.
Progress = Callable[[int, int, int], None]


class NetworkEnd(NodeEnd):
    """A collection on another node, to be pushed to or pulled from; made as a
    :class:`~livesync.versions.remotes.nodes.NodeEnd`, and to be closed in the end.
    """

    _fetched: tuple[Asked, str] | None = None

    def __enter__(self) -> NetworkEnd:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- pull ----------------------------------------------------------------------------------------

    def pack(self, asked: Asked) -> Iterator[Part]:
        """See :class:`~livesync.versions.remotes.ends.OtherEnd`: what :meth:`fetch` brought, or brings."""
        if self._fetched is None or self._fetched[0] != asked:
            self.fetch(asked)
        assert self._fetched is not None
        return self._staged(self._fetched[1])

    def _staged(self, transfer_id: str) -> Iterator[Part]:
        with connected(self._db) as root:
            stored = StoredSessions.get(root)
            yield from joined(staging.chunks(stored, transfer_id))

    def fetch(self, asked: Asked) -> None:
        """Bring what is asked for into this database; nothing of it is looked at yet.

        Each chunk is kept in a transaction of its own. One that was cut goes on.

        Raises:
            PeerUnreachable, PeerSaysNo: It was cut or refused; it goes on with the next call.
            CertificateRefused: A certificate does not hold any more.
        """
        key = _encode([*self._between(), self.name, asked])
        for beginning in range(_BEGINNINGS):
            transfer_id = self._begun("pull", key)
            try:
                self._receive(transfer_id, asked)
            except (PeerSaysNo, TransferEnded) as exc:
                if not _begins_anew(exc) or beginning + 1 == _BEGINNINGS:
                    raise
                logger.warning("transfer %s cannot go on: %s; a new one begins", transfer_id, exc)
                self._drop(transfer_id)
            else:
                self._fetched = asked, transfer_id
                return

    def _between(self) -> tuple[str, str]:
        """Return the certificates of both ends: between them a transfer that was cut goes on."""
        conversation = self._talk()
        return conversation.client.certificate_id, conversation.server.certificate_id

    def _begun(self, direction: str, key: bytes) -> str:
        """Return the id of a transfer of this direction: of one that was cut, if it is of the same."""
        is_sender = direction == "push"
        session_id = self._talk().session_id
        now = self._clock()

        def work(stored: StoredSessions) -> tuple[str, bool]:
            for record in stored.transfers_going_on():
                if (
                    staging.is_of_history(record)
                    and record.is_sender == is_sender
                    and record.prefixes == (partition_of(self.name),)
                    and record.direction == staging.DIRECTIONS[direction]
                    and record.offer is not None
                    and record.offer.data == key
                ):
                    record.sync_session_id = session_id
                    record.last_active = now
                    return record.id, bool(record.confirmed)
            made = staging.begin(
                stored, uuid.uuid4().hex, session_id, direction, self.name, key, now, is_sender=is_sender
            )
            return made.id, False

        transfer_id, resumed = self._stored(work)
        self.resumed = self.resumed or resumed
        return transfer_id

    def _receive(self, transfer_id: str, asked: Asked) -> None:
        number, cursor, is_last = self._standing(transfer_id)
        if is_last:
            return
        told = self._ask(
            "POST",
            "/historytransfers",
            HistoryTransfer,
            historywire.NewHistoryTransfer(
                id=transfer_id,
                direction="pull",
                collection=self.name,
                wants=[
                    historywire.HistoryWant(
                        branch=want.branch, marks=[(mark, one.hex()) for mark, one in want.marks]
                    )
                    for want in asked.wants
                ],
                tags=list(asked.tags),
                haves=[one.hex() for one in asked.haves],
            ),
        )
        if not told.active:
            raise TransferEnded("the other node has ended this transfer")
        while not is_last:
            query = {
                "transfer": transfer_id,
                "number": str(number),
                "cursor": _encode(cursor).decode(),
            }
            chunk = self._ask("GET", "/historychunks", historywire.HistoryChunk, query=query, is_buffer=True)
            if (chunk.transfer, chunk.number) != (
                transfer_id,
                number,
            ) or chunk.next == cursor != HistoryCursor():
                raise PeerUnreachable("the server gives another chunk than it was asked for")
            check_chunk(chunk.data)
            number, cursor, is_last = self._keep(transfer_id, chunk)
            self._progress(self._connection.bytes_received, cursor.part, told.parts)
        self._tell_end(transfer_id)

    def _standing(self, transfer_id: str) -> tuple[int, HistoryCursor, bool]:
        """Return how far a pull has come here: the next chunk, where it begins, and whether there is none."""

        def work(stored: StoredSessions) -> tuple[int, HistoryCursor, bool]:
            record = staging.find(stored, transfer_id)
            return record.confirmed, staging.cursor_of(record), record.has_last

        return self._stored(work)

    def _keep(self, transfer_id: str, chunk: historywire.HistoryChunk) -> tuple[int, HistoryCursor, bool]:
        def work(stored: StoredSessions) -> tuple[int, HistoryCursor, bool]:
            record = staging.find(stored, transfer_id)
            staging.take(stored, record, chunk.number, chunk.data, chunk.next, chunk.last, self._clock())
            return record.confirmed, staging.cursor_of(record), record.has_last

        return self._stored(work)

    def _tell_end(self, transfer_id: str) -> None:
        """Tell the other node that all has come; where it cannot be told, it finds out by itself in time."""
        try:
            self._ask("DELETE", f"/historytransfers/{transfer_id}", None)
        except SyncError as exc:
            logger.info("transfer %s: its end could not be told: %s", transfer_id, exc)

    def forget(self) -> None:
        """Keep what was fetched no longer, once it is in the history for good."""
        if self._fetched is not None:
            self._drop(self._fetched[1], is_done=True)
            self._fetched = self._refs = None

    def _drop(self, transfer_id: str, *, is_done: bool = False) -> None:
        def work(stored: StoredSessions) -> None:
            try:
                record = staging.find(stored, transfer_id)
            except NotFound:
                return
            staging.close(stored, record, self._clock(), is_done=is_done)

        self._stored(work)

    # -- push ----------------------------------------------------------------------------------------

    def take(self, contents: Contents, outgoing: Outgoing, do_checkout: bool) -> None:
        """See :class:`~livesync.versions.remotes.ends.OtherEnd`; see :meth:`send`."""
        self.send(outgoing, do_checkout)

    def send(self, outgoing: Outgoing, do_checkout: bool) -> None:
        """Send versions, which have to be committed, and let the other node keep them, all or nothing.

        One that was cut goes on.

        Raises:
            InvalidOperation: The other node's history does not take that, or it is not committed.
            PeerUnreachable, PeerSaysNo: It was cut or refused; it goes on with the next call.
            CertificateRefused: A certificate does not hold any more.
        """
        with connected(self._db) as root:
            stored = find_history(root, self.name)
            if stored is None or any(one not in stored.keys for one in outgoing.versions):
                raise InvalidOperation("what is pushed over a network is to be committed first")
        digest = hashlib.sha256(_encode([outgoing.versions, [list(one) for one in outgoing.names]]))
        key = _encode([*self._between(), self.name, digest.hexdigest()])
        for beginning in range(_BEGINNINGS):
            transfer_id = self._begun("push", key)
            try:
                self._send(transfer_id, outgoing, do_checkout)
            except (PeerSaysNo, OfferChanged, TransferEnded) as exc:
                if not _begins_anew(exc) or beginning + 1 == _BEGINNINGS:
                    raise
                logger.warning("transfer %s cannot go on: %s; a new one begins", transfer_id, exc)
                self._drop(transfer_id)
            except InvalidOperation:
                self._drop(transfer_id)
                raise
            else:
                self._drop(transfer_id, is_done=True)
                self._refs = None
                return

    def _send(self, transfer_id: str, outgoing: Outgoing, do_checkout: bool) -> None:
        body = historywire.NewHistoryTransfer(id=transfer_id, direction="push", collection=self.name)
        told = self._ask("POST", "/historytransfers", HistoryTransfer, body)
        self.resumed = self.resumed or told.confirmed > 0
        number, place = told.confirmed, Place(told.cursor.part, told.cursor.after)
        is_last, total = told.complete, len(outgoing.versions) + len(outgoing.names)
        while not is_last and told.active:
            chunk = self._cut(outgoing, place)
            following = HistoryCursor(part=chunk.next.part, after=chunk.next.after)
            confirmed = self._ask(
                "POST",
                "/historychunks",
                wire.Confirmed,
                historywire.HistoryChunk(
                    transfer=transfer_id, number=number, data=chunk.data, next=following, last=chunk.last
                ),
            )
            if confirmed.confirmed != number + 1:
                raise PeerUnreachable("the server has confirmed another chunk than it was sent")
            number, place, is_last = confirmed.confirmed, chunk.next, chunk.last
            self._progress(self._connection.bytes_sent, place.part, total)
        end = historywire.EndHistoryTransfer(checkout=do_checkout)
        with self._connection.waiting(_FINISH_S):
            self._ask("PATCH", f"/historytransfers/{transfer_id}", HistoryTransfer, end)

    def _cut(self, outgoing: Outgoing, place: Place) -> Any:
        """Return a chunk, as it is in the database: no snapshot is held while it is sent."""
        with connected(self._db) as root:
            stored = find_history(root, self.name)
            if stored is None:
                raise OfferChanged(f"the history of {self.name!r} is gone meanwhile")
            chunk = cut(Contents(stored, self._codec), outgoing, place, self._chunk_bytes)
            stored._p_jar.cacheMinimize()  # it counts objects, and these may be large
            return chunk


def _begins_anew(exc: Exception) -> bool:
    return exc.code in _ANEW if isinstance(exc, PeerSaysNo) else True
