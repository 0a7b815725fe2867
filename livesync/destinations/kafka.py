"""The ``kafka`` destination: a compacted topic, keyed by object id.

A message is an object's document (its canonical JSON) or, for a delete, a tombstone: no value. Headers
say the position, the actions, the track (``livesync-origin``), the agent, and the document's digest. All
messages of an object are in one partition, in the order of delivery; compaction keeps the last.

With ``transactional`` a slice is one transaction, and the agent's pointer is a message in the same
one, keyed by the agent in the topic ``<topic>.livesync``: exactly once, for consumers that read what
is committed. The transactional id is the agent's, so a runner that begins fences whoever ran before:
Kafka refuses everything more of a zombie. Reading the pointer fences nobody, unless a transaction that
was left open hides what there is; the first transaction of a run does, and then looks again whether the
pointer is still what it was.

Any message that fails makes its whole transaction worthless. What is too large is therefore told before
it is sent; after every other failure the slice is rolled back and sent again as a whole.

Kafka compares no positions: a message with a lower position than the one before is taken, too, so no
record is ever stale. One runner writes in the order of the track, so what compaction keeps of an object
follows from its last change; consumers that keep state compare positions all the same.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

import msgspec
from confluent_kafka import KafkaError, KafkaException

from ..agent import SyncAgent
from ..delivery.push import PushSyncAgent
from ..delivery.record import Batch, Outcome, Record, Verdict
from ..delivery.uploader import DELIVERY_OPTIONS, Delivery, HeldRow, RecordUploader, StoredPointer
from ..errors import (
    BatchRefused,
    DeliveryError,
    LeaseLost,
    LiveSyncError,
    OptionError,
    RetryLater,
    ServiceRefuses,
)
from ..options import Option
from ._kafka_client import Settings, settings_of
from ._kafka_errors import TOO_LARGE, is_for_good
from ._kafka_gathered import POSITION_HEADER, Gathered
from ._kafka_reading import Reader, Unsettled
from ._kafka_topics import largest_message, make_pointer_topic, topic_settings
from ._kafka_writing import Headers, Outgoing, Writer, bytes_around

logger = logging.getLogger(__name__)

#: The name of a topic that leaves room for ``.livesync``.
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,240}")

_DIGEST_HEADER: Final = "livesync-digest"

#: How long what was committed may take to be seen, in seconds: brokers write the marks afterwards.
_SETTLE_S: Final = 2.0

#: How long an abort may take, in seconds: the next runner's first transaction does it in any case.
_ABORT_S: Final = 2.0


class _Pointer(msgspec.Struct, frozen=True):
    """What the message with an agent's pointer says, keys in this order."""

    generation: int
    position: int | None
    track_id: str


_pointer_encoder = msgspec.json.Encoder()
_pointer_decoder = msgspec.json.Decoder(_Pointer)


class KafkaUploader(RecordUploader):
    """Writes records to a topic; keeps the agent's pointer beside it where it is transactional."""

    keeps_pointer = True  # of an instance: where its agent is transactional
    readable = True
    reads_documents = False

    def __init__(self, agent: SyncAgent, *args: Any, **kwargs: Any) -> None:
        super().__init__(agent, *args, **kwargs)
        self._transactional: bool = agent.values["transactional"]
        self.keeps_pointer = self._transactional  # an option decides, not the type
        self._settings: Settings = settings_of(agent)
        self._clock = kwargs.get("clock", time.monotonic)
        self._reader: Reader | None = None
        self._writer: Writer | None = None
        self._gathered: Gathered | None = None
        self._offsets: dict[int, int] = {}
        self._limit: int | None = None
        self._bytes_around = 0
        self._batches_in_slice = 0
        self._said: tuple[int, frozenset[str]] | None = None  # what the headers below are of
        self._said_headers: Headers = []
        self._pointer: StoredPointer | None = None
        self._pointer_is_known = False

    # -- the pointer -----------------------------------------------------------------------------

    def read_pointer(self) -> StoredPointer | None:
        """Return this agent's record in the topic of the pointers.

        Raises:
            RetryLater: Kafka does not answer, or another agent's transaction hides it.
            ServiceRefuses: We are not let in, or something else lies there.
        """
        self._pointer_is_known = False
        with self._meaning():
            try:
                pointer = self._look(_SETTLE_S)
            except Unsettled:
                # A runner was cut off in its transaction. If it was this agent's, a new producer ends it.
                self._drop_writer()
                self._fence()
                pointer = self._look(self._settings.timeout_s)
        self._pointer, self._pointer_is_known = pointer, True
        return pointer

    def _look(self, settle_s: float) -> StoredPointer | None:
        topic, key = self._settings.pointer_topic, self.delivery.agent_id.encode()
        value: bytes | None = None
        for messages in self._opened_reader().read(topic, {}, settle_s, strict=True):
            for message in messages:
                if message.key() == key:
                    value = message.value()
        if value is None:
            return None
        try:
            stored = _pointer_decoder.decode(value)
        except msgspec.MsgspecError as exc:
            raise ServiceRefuses(
                f"the topic {topic} holds something else than a pointer under {self.delivery.agent_id}: {exc}"
            ) from None
        return StoredPointer(stored.position, stored.track_id, stored.generation)

    def _fence(self) -> None:
        """See to it that nobody else writes for this agent, and that nobody has since we looked.

        Raises:
            LeaseLost: Somebody has.
        """
        writer = self._opened_writer()
        writer.fence()
        if self._pointer_is_known and self._look(self._settings.timeout_s) != self._pointer:
            self._drop_writer()
            raise LeaseLost(
                f"another runner of agent {self.delivery.agent_id!r} has written to {self._settings.topic}"
                " since this run began"
            )

    # -- slices ----------------------------------------------------------------------------------

    def open(self, delivery: Delivery) -> None:
        """Get ready for a run; Kafka is reached when something is asked of it."""
        super().open(delivery)
        self._batches_in_slice = 0
        self._said = None
        self._pointer, self._pointer_is_known = None, False
        self._bytes_around = bytes_around([*self._headers(2**63, ""), (_DIGEST_HEADER, "0" * 32)])

    def begin_slice(self, till: int) -> None:
        """Begin a slice; its transaction begins with the first batch."""
        super().begin_slice(till)
        self._batches_in_slice = 0

    def _upload_batch(self, batch: Batch) -> list[Verdict] | None:
        with self._meaning():
            largest = self._opened_writer().largest
        outgoing: list[Outgoing] = []
        refused: dict[str, str] = {}
        for record, body in zip(batch, batch.bodies, strict=True):
            message = self._message(record, body)
            size = len(message.key) + (0 if body is None else len(body)) + self._bytes_around
            if record.actions:
                size += len(_joined(record.actions))
            if size > largest:
                refused[record.object_id] = (
                    f"too large for Kafka: {size} bytes with its headers, uncompressed;"
                    f" the limit is {largest} (message.max.bytes, and the topic's max.message.bytes)"
                )
            else:
                outgoing.append(message)
        failed: dict[str, str] = {}
        if self._transactional:
            if outgoing:
                self._write_in_transaction(outgoing)
        else:
            failed = self._write(outgoing)
        return _verdicts(batch, refused, failed) if refused or failed else None

    def end_slice(self, position: int | None) -> None:
        """Commit the slice and, unless ``position`` is None, the pointer with it."""
        if not self._transactional:
            return
        who = self.delivery
        self._batches_in_slice += 1
        with self._transaction():
            if position is not None:
                self._begin()
                self._write_all([self._pointer_message(_Pointer(who.generation, position, who.track_id))])
            self._commit()
        self._batches_in_slice = 0
        if position is not None:
            self._pointer = StoredPointer(position, who.track_id, who.generation)
            self._pointer_is_known = True

    def abandon_slice(self) -> None:
        """Abort the slice's transaction; where that fails, the next runner's first one does it."""
        self._batches_in_slice = 0
        self._abort()

    def sweep(self, before: int) -> int | None:
        """Write tombstones of position ``before`` for what is older; needs the whole topic to be read."""
        headers = self._headers(before, "")
        count = 0
        gathered = self._up_to_date()
        with self._transaction():
            for keys in gathered.older(before):
                self._begin()
                self._write_all([Outgoing(self._settings.topic, key, None, headers) for key in keys])
                count += len(keys)
            self._commit()
        return count

    def close(self) -> None:
        """Let go of the brokers; a slice that is still open is aborted."""
        self._abort()
        self._drop_writer()
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._gathered is not None:
            self._gathered.close()
            self._gathered = None

    # -- what the topic holds --------------------------------------------------------------------

    def probe(self) -> str:
        """Ask the brokers for themselves and for the topic; nothing is fenced, nothing is made."""
        with self._meaning():
            reader = self._opened_reader()
            topic = self._settings.topic
            partitions = reader.partitions(topic)
            brokers = len(reader.cluster(topic).brokers)
            if partitions is None:
                return f"{_counted(brokers, 'broker')}; there is no topic {topic} yet"
            policy = topic_settings(self._settings).get("cleanup.policy", "compact")
            line = f"{_counted(brokers, 'broker')}; topic {topic}: {_counted(len(partitions), 'partition')}"
            return line if "compact" in policy else f"{line}, not compacted (cleanup.policy={policy})"

    def rows(self, after: str | None = None, quick: bool = False) -> Iterator[HeldRow]:
        """Yield what the topic comes to; the first call reads all of it, further ones what was added."""
        return self._up_to_date().rows(after, quick)

    def rows_of(self, object_ids: Sequence[str]) -> list[HeldRow]:
        """Return what the topic comes to for these objects; see :meth:`rows`."""
        return self._up_to_date().rows_of(object_ids)

    def _up_to_date(self) -> Gathered:
        if self._gathered is None:
            self._gathered, self._offsets = Gathered(), {}
        with self._meaning():
            for messages in self._opened_reader().read(self._settings.topic, self._offsets, _SETTLE_S):
                self._gathered.add(messages)
        return self._gathered

    # -- messages --------------------------------------------------------------------------------

    def _message(self, record: Record, body: bytes | None) -> Outgoing:
        said = record.position, record.actions
        if said != self._said:  # neighbours mostly say the same
            self._said = said
            self._said_headers = self._headers(said[0], _joined(said[1]) if said[1] else "")
        headers = self._said_headers
        if body is not None:
            digest = hashlib.blake2b(body, digest_size=16).hexdigest()
            headers = [*headers, (_DIGEST_HEADER, digest)]
        return Outgoing(self._settings.topic, record.object_id.encode(), body, headers)

    def _headers(self, position: int, actions: str) -> Headers:
        return [
            (POSITION_HEADER, str(position)),
            ("livesync-actions", actions),
            ("livesync-origin", self.delivery.track_id),
            ("livesync-agent", self.delivery.agent_id),
        ]

    def _pointer_message(self, pointer: _Pointer) -> Outgoing:
        key, value = self.delivery.agent_id.encode(), _pointer_encoder.encode(pointer)
        return Outgoing(self._settings.pointer_topic, key, value, [])

    # -- writing ---------------------------------------------------------------------------------

    def _write(self, outgoing: list[Outgoing]) -> dict[str, str]:
        """Write without a transaction; return what is to be sent again, and why."""
        with self._meaning():
            failures = self._opened_writer().write(outgoing)
            for _, error in failures:
                if error.code() in TOO_LARGE:
                    self._note_too_large(error)
                elif is_for_good(error):
                    raise KafkaException(error)
        return {key.decode(): error.str() for key, error in failures}

    def _write_in_transaction(self, outgoing: list[Outgoing]) -> None:
        """Write a batch in the slice's transaction, wholly or not at all."""
        with self._transaction():
            self._begin()
            self._write_all(outgoing)
        self._batches_in_slice += 1

    def _write_all(self, outgoing: Iterable[Outgoing]) -> None:
        """Write messages, in the transaction if there is one; raise if any of them failed."""
        for _, error in self._opened_writer().write(outgoing):
            if error.code() in TOO_LARGE:
                self._note_too_large(error)
            raise KafkaException(error)

    def _begin(self) -> None:
        """Begin a transaction unless one is open, or none is wanted."""
        if not self._transactional:
            return
        writer = self._opened_writer()
        if writer.in_transaction:
            return
        if not writer.fenced_others:
            self._fence()
        writer.begin()

    def _commit(self) -> None:
        if self._writer is not None and self._writer.in_transaction:
            self._writer.commit()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Do a part of a slice: where it fails, the transaction is aborted, and what that means is raised."""
        try:
            with self._meaning():
                yield
        except LiveSyncError as exc:
            told = self._rolled_back(exc)
            if told is exc:
                raise
            raise told from exc

    def _note_too_large(self, error: KafkaError) -> None:
        """Find out what the topic takes, after it has refused something that we thought it would.

        Raises:
            RetryLater: Now it is known: what is too large will be told before it is sent.
            BatchRefused: It is not, and without a transaction the culprit can be found by halving.
        """
        known = largest_message(topic_settings(self._settings))
        if known is not None and self._settings.largest(known) < (self._limit or 0):
            self._limit = self._settings.largest(known)  # the next producer is made for it
            raise RetryLater(reason=f"the topic {self._settings.topic} takes {known} bytes only")
        if not self._transactional:
            raise BatchRefused(f"too large for Kafka: {error.str()}")

    def _rolled_back(self, exc: LiveSyncError) -> LiveSyncError:
        """Abort the transaction that ``exc`` has ended; return what that means for the slice."""
        earlier, self._batches_in_slice = self._batches_in_slice, 0
        overdue = self._writer is not None and self._writer.is_overdue()
        found = self._abort()
        if overdue:
            longest_s = self._settings.transaction_s
            return DeliveryError(
                f"the slice took longer than Kafka lets a transaction last ({longest_s:g} s); it was rolled"
                " back, run again; transaction.timeout.ms in client_config makes it longer"
            )
        if isinstance(found, LeaseLost) and not isinstance(exc, LeaseLost):
            return found
        if earlier and isinstance(exc, (RetryLater, BatchRefused)):
            # Were this batch alone tried again, the pointer would be moved past batches that are gone.
            return DeliveryError(f"{exc}; the slice was rolled back, run again")
        return exc

    def _abort(self) -> LiveSyncError | None:
        """Abort what is open; return what it failed with, if it did."""
        writer = self._writer
        if writer is None or not writer.in_transaction:
            return None
        try:
            writer.abort(min(_ABORT_S, self._settings.timeout_s))
        except KafkaException as exc:
            self._drop_writer()
            failure = self._settings.failure(exc.args[0])
            logger.debug("agent %s: the transaction was not aborted: %s", self.delivery.agent_id, failure)
            return failure
        return None

    # -- clients ---------------------------------------------------------------------------------

    def _opened_reader(self) -> Reader:
        if self._reader is None:
            self._reader = Reader(self._settings)
        return self._reader

    def _opened_writer(self) -> Writer:
        """Return the producer; a new one where there is none, or the limit has become another."""
        writer = self._writer
        if writer is not None and (writer.in_transaction or writer.largest == self._limit):
            return writer
        self._drop_writer()
        settings, reader = self._settings, self._opened_reader()
        # A producer says little and late of why it gets no answer, so a reader asks first.
        reader.cluster(settings.topic)
        if self._limit is None:
            self._limit = settings.largest(largest_message(topic_settings(settings)))
        transactional_id = None
        if self._transactional:
            transactional_id = f"livesync.{settings.topic}.{self.delivery.agent_id}.{self.delivery.track_id}"
            if reader.partitions(settings.pointer_topic) is None:
                make_pointer_topic(settings)
        self._writer = Writer(settings, transactional_id, self._limit, self._clock)
        return self._writer

    def _drop_writer(self) -> None:
        # Without a reference the library ends the producer, and does not wait for what is not sent.
        self._writer = None

    @contextmanager
    def _meaning(self) -> Iterator[None]:
        """Raise what an error of Kafka means for the delivery."""
        try:
            yield
        except KafkaException as exc:
            error: KafkaError = exc.args[0]
            failure = self._settings.failure(error)
            if error.fatal() and not self._transactional:
                # nobody fences it: it has lost count, and another one begins to count anew
                self._drop_writer()
                raise RetryLater(reason=str(failure)) from exc
            raise failure from exc


@lru_cache(maxsize=1024)
def _joined(actions: frozenset[str]) -> str:
    return ",".join(sorted(actions))


def _verdicts(batch: Batch, refused: dict[str, str], failed: dict[str, str]) -> list[Verdict]:
    verdicts = []
    for record in batch:
        object_id = record.object_id
        if object_id in refused:
            verdicts.append(Verdict(object_id, Outcome.REFUSED, refused[object_id]))
        elif object_id in failed:
            verdicts.append(Verdict(object_id, Outcome.NOT_NOW, failed[object_id]))
        else:
            verdicts.append(Verdict(object_id, Outcome.ACCEPTED))
    return verdicts


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


class KafkaAgent(PushSyncAgent):
    """Keeps a compacted topic of Kafka: one key an object, a tombstone for a delete."""

    options = (
        Option(
            "bootstrap_servers",
            help="host:port of some brokers, commas between",
            required=True,
            identifies=True,
        ),
        Option(
            "topic",
            help="topic of the records; the pointers are in TOPIC.livesync",
            required=True,
            identifies=True,
        ),
        Option("transactional", "bool", help="a transaction a slice, the pointer in it", default=True),
        Option(
            "compression",
            help="how batches are compressed",
            default="zstd",
            choices=("none", "gzip", "lz4", "zstd", "snappy"),
        ),
        Option(
            "security_protocol",
            help="how brokers are talked to; sasl_ssl where there is a username, else plaintext",
            choices=("plaintext", "ssl", "sasl_plaintext", "sasl_ssl"),
        ),
        Option(
            "sasl_mechanism",
            help="how we say who we are; PLAIN where there is a username",
            choices=("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI"),
        ),
        Option("username", help="for SASL"),
        Option("password", "secret", help="for SASL"),
        Option("client_config", "path", help="file of name=value lines: settings of librdkafka, such as TLS"),
        Option("timeout_s", "float", help="seconds to wait for an answer", default=30.0, minimum=1),
        *DELIVERY_OPTIONS,
    )
    uploader = KafkaUploader

    def __init__(self, agent_id: str, name: str | None = None, description: str = "", **options: Any) -> None:
        super().__init__(agent_id, name, description, **options)
        topic = self.values["topic"]
        if not _TOPIC.fullmatch(topic):
            raise OptionError(f"option topic: {topic!r} is not 1 to 240 letters, digits, dots, _ or -")
