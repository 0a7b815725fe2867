"""A stand-in for a Kafka broker: the part of the protocol that librdkafka's clients use here, over TCP.

It is not the real thing, which needs a download that tests cannot rely on. It follows the public
description of the protocol (kafka.apache.org/protocol, KIP-98 for transactions) and is itself tried
by a client library that was written for real brokers. What it knows:

- Record batches are kept and handed out as they came, whatever their compression; offsets are the broker's.
- Idempotent producers: sequence numbers, duplicates answered with the offset of the first.
- Transactions: a coordinator that fences by epoch, commit and abort marks in the log, the last stable
  offset, the list of aborted transactions in answers to fetches. Marks can be held back, as a busy
  cluster does, and transactions can be made to expire.
- Limits of messages per topic, topics that are made by being used or not, SASL/PLAIN, TLS, rights by topic.
- Faults: error codes, answers that never come, connections cut before or after the work is done.

Left out: more than one broker, replicas, groups, compaction, retention, and everything else.
"""

from __future__ import annotations

import socket
import socketserver
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

PRODUCE, FETCH, LIST_OFFSETS, METADATA, FIND_COORDINATOR = 0, 1, 2, 3, 10
SASL_HANDSHAKE, API_VERSIONS, CREATE_TOPICS, INIT_PRODUCER_ID = 17, 18, 19, 22
ADD_PARTITIONS_TO_TXN, END_TXN, DESCRIBE_CONFIGS, SASL_AUTHENTICATE = 24, 26, 32, 36

#: The versions of each request that are understood; all but that of the versions are inflexible ones.
VERSIONS = {
    PRODUCE: (3, 7),
    FETCH: (4, 10),
    LIST_OFFSETS: (0, 2),
    METADATA: (0, 4),
    FIND_COORDINATOR: (0, 2),
    SASL_HANDSHAKE: (0, 1),
    API_VERSIONS: (0, 3),
    CREATE_TOPICS: (0, 4),
    INIT_PRODUCER_ID: (0, 1),
    ADD_PARTITIONS_TO_TXN: (0, 1),
    END_TXN: (0, 1),
    DESCRIBE_CONFIGS: (0, 1),
    SASL_AUTHENTICATE: (0, 0),
}

OK, OFFSET_OUT_OF_RANGE, UNKNOWN_TOPIC, NO_LEADER, NOT_LEADER, TOO_LARGE = 0, 1, 3, 5, 6, 10
COORDINATOR_LOADING, NOT_ENOUGH_REPLICAS, TOPIC_DENIED, GROUP_DENIED = 14, 19, 29, 30
TOPIC_EXISTS, OUT_OF_ORDER, OLD_EPOCH, INVALID_TXN_STATE, INVALID_TXN_TIMEOUT = 36, 45, 47, 48, 50
CONCURRENT_TXNS, TXN_DENIED, BAD_CREDENTIALS, INVALID_RECORD, FENCED = 51, 53, 58, 87, 90

ABORT, COMMIT = 0, 1
TOPIC_RESOURCE = 2


class Wire:
    """What a request holds, taken off piece by piece."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        self._at += size
        assert self._at <= len(self._data), "the request is shorter than its version says"
        return self._data[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big", signed=True)

    def i8(self) -> int:
        return self.number(1)

    def i16(self) -> int:
        return self.number(2)

    def i32(self) -> int:
        return self.number(4)

    def i64(self) -> int:
        return self.number(8)

    def text(self) -> str | None:
        size = self.i16()
        return None if size < 0 else self.take(size).decode()

    def blob(self) -> bytes:
        return self.take(max(self.i32(), 0))

    def each(self) -> Iterator[int]:
        return iter(range(self.i32()))


def i8(number: int) -> bytes:
    return struct.pack(">b", number)


def i16(number: int) -> bytes:
    return struct.pack(">h", number)


def i32(number: int) -> bytes:
    return struct.pack(">i", number)


def i64(number: int) -> bytes:
    return struct.pack(">q", number)


def text(value: str | None) -> bytes:
    return i16(-1) if value is None else i16(len(value.encode())) + value.encode()


def blob(value: bytes) -> bytes:
    return i32(len(value)) + value


def array(items: list[bytes]) -> bytes:
    return i32(len(items)) + b"".join(items)


def _crc_table() -> list[int]:
    table = []
    for number in range(256):
        for _ in range(8):
            number = (number >> 1) ^ (0x82F63B78 if number & 1 else 0)
        table.append(number)
    return table


_CRC = _crc_table()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of ``data``."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def mark(offset: int, pid: int, epoch: int, kind: int) -> bytes:
    """Return a control batch: the end of a transaction in a partition's log."""
    key, value = i16(0) + i16(kind), i16(0) + i32(0)
    # a record: attributes, differences of time and offset, key, value, headers, all lengths as zigzag varints
    body = i8(0) + b"\0\0" + bytes([2 * len(key)]) + key + bytes([2 * len(value)]) + value + b"\0"
    now = int(time.time() * 1000)
    checked = i16(0x30) + i32(0) + i64(now) + i64(now) + i64(pid) + i16(epoch) + i32(-1)
    checked += i32(1) + bytes([2 * len(body)]) + body
    rest = i32(0) + i8(2) + struct.pack(">I", crc32c(checked)) + checked
    return i64(offset) + i32(len(rest)) + rest


@dataclass(slots=True)
class BatchHead:
    """What a broker wants to know of a record batch."""

    count: int
    pid: int
    epoch: int
    sequence: int
    transactional: bool

    @classmethod
    def of(cls, data: bytes) -> BatchHead:
        wire = Wire(data)
        wire.take(8 + 4 + 4)
        assert wire.i8() == 2, "record batches are of version 2"
        wire.take(4)
        attributes, last = wire.i16(), wire.i32()
        wire.take(8 + 8)
        return cls(last + 1, wire.i64(), wire.i16(), wire.i32(), bool(attributes & 0x10))


class Partition:
    """One partition's log."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int, bytes]] = []  # first offset, offset after the last, data
        self.end = 0
        self.open: dict[int, int] = {}  # producer id -> first offset of its transaction here
        self.aborted: list[tuple[int, int, int]] = []  # producer id, first offset, offset of the mark
        self._seen: dict[int, tuple[int, deque[tuple[int, int, int]]]] = {}

    @property
    def stable(self) -> int:
        return min(self.open.values(), default=self.end)

    def append(self, data: bytes) -> tuple[int, int]:
        """Append a record batch; return an error and the offset of its first record."""
        head = BatchHead.of(data)
        if head.pid >= 0:
            epoch, recent = self._seen.get(head.pid, (-1, deque(maxlen=5)))
            if head.epoch < epoch:
                return OLD_EPOCH, -1
            if head.epoch > epoch:
                recent = deque(maxlen=5)
            for sequence, _, offset in recent:
                if sequence == head.sequence:
                    return OK, offset
            if recent and head.sequence != recent[-1][1]:
                return OUT_OF_ORDER, -1
            recent.append((head.sequence, head.sequence + head.count, self.end))
            self._seen[head.pid] = head.epoch, recent
        first = self.end
        if head.transactional:
            self.open.setdefault(head.pid, first)
        self._keep(first, head.count, data)
        return OK, first

    def end_transaction(self, pid: int, epoch: int, kind: int) -> None:
        first = self.open.pop(pid, None)
        if first is not None and kind == ABORT:
            self.aborted.append((pid, first, self.end))
        self._keep(self.end, 1, mark(self.end, pid, epoch, kind))

    def _keep(self, first: int, count: int, data: bytes) -> None:
        self.end = first + count
        self.batches.append((first, self.end, i64(first) + data[8:]))

    def read(self, offset: int, before: int, most: int) -> bytes:
        found = b""
        for _, after, data in self.batches:
            if after <= offset:
                continue
            if after > before or (found and len(found) + len(data) > most):
                break
            found += data
        return found


@dataclass
class Topic:
    name: str
    partitions: list[Partition]
    settings: dict[str, str]


@dataclass
class Transactional:
    """What the coordinator keeps of a transactional id."""

    pid: int
    epoch: int = 0
    partitions: list[tuple[str, int]] = field(default_factory=list)
    unmarked: int | None = None  # how a transaction ended whose marks are held back


@dataclass
class Fault:
    """What goes wrong with the next requests of a kind.

    Attributes:
        api: The kind.
        error: This code is the answer.
        cut: The connection is cut, ``before`` the work is done or ``after`` it.
        hang: It is never answered, nor is anything after it on this connection.
        times: How often.
        skip: How many pass before.
    """

    api: int
    error: int = OK
    cut: str = ""
    hang: bool = False
    times: int = 1
    skip: int = 0


class Cut(Exception):
    """Raised to cut a connection."""


class Broker:
    """One broker, a cluster of its own, listening on loopback.

    Attributes:
        topics: What there is.
        faults: What goes wrong next.
        requests: Kinds of requests, as they came.
        denied: Rights that nobody has: ``topic:NAME``, ``describe``, ``create``, ``groups``,
            ``transactions``.
        hold_marks: Whether the ends of transactions are marked only by :meth:`write_marks`.
    """

    def __init__(
        self,
        *,
        partitions: int = 4,
        auto_create: bool = True,
        settings: dict[str, str] | None = None,
        users: dict[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
        longest_transaction_ms: int = 900_000,
    ) -> None:
        self.topics: dict[str, Topic] = {}
        self.faults: list[Fault] = []
        self.requests: list[int] = []
        self.denied: set[str] = set()
        self.hold_marks = False
        self._partitions = partitions
        self._auto_create = auto_create
        self._settings = {"max.message.bytes": "1048588", "cleanup.policy": "delete", **(settings or {})}
        self._users = users
        self._tls = tls
        self._longest_transaction_ms = longest_transaction_ms
        self._transactional: dict[str, Transactional] = {}
        self._next_pid = 1000
        self._changed = threading.Condition()
        self._connections: set[socket.socket] = set()
        self._closed = threading.Event()
        self._server = _Listener(("127.0.0.1", 0), self._serve)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def close(self) -> None:
        """End; all connections are cut."""
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
        self.cut_all()
        self._thread.join()

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def cut_all(self) -> None:
        """Cut all connections."""
        with self._changed:
            connections = list(self._connections)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def make_topic(self, name: str, partitions: int | None = None, **settings: str) -> Topic:
        with self._changed:
            named = {key.replace("_", "."): value for key, value in settings.items()}
            count = self._partitions if partitions is None else partitions
            topic = Topic(name, [Partition() for _ in range(count)], {**self._settings, **named})
            return self.topics.setdefault(name, topic)

    def write_marks(self) -> None:
        """Mark the ends of transactions that were held back."""
        with self._changed:
            for known in self._transactional.values():
                self._mark(known)
            self._changed.notify_all()

    def expire_transactions(self) -> None:
        """Abort what is open, as a broker does with what takes too long; its producers are fenced."""
        with self._changed:
            for known in self._transactional.values():
                if known.partitions:
                    self._finish(known, ABORT)
                    known.epoch += 1
            self._changed.notify_all()

    @property
    def open_transactions(self) -> int:
        with self._changed:
            return sum(1 for known in self._transactional.values() if known.partitions)

    # -- connections -----------------------------------------------------------------------------

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError, Cut):
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with self._changed:
                self._connections.add(connection)
            try:
                self._converse(connection)
            finally:
                with self._changed:
                    self._connections.discard(connection)
                connection.close()

    def _converse(self, connection: socket.socket) -> None:
        trusted = self._users is None
        while not self._closed.is_set():
            size = int.from_bytes(_receive(connection, 4), "big")
            wire = Wire(_receive(connection, size))
            api, version, correlation = wire.i16(), wire.i16(), wire.i32()
            wire.text()  # the client's name
            self.requests.append(api)
            if api == SASL_AUTHENTICATE:
                answer, trusted = self._authenticate(wire)
            elif api not in (API_VERSIONS, SASL_HANDSHAKE) and not trusted:
                raise Cut
            else:
                answer = self._answer(api, version, wire)
            if answer is not None:
                connection.sendall(blob(i32(correlation) + answer))

    def _answer(self, api: int, version: int, wire: Wire) -> bytes | None:
        fault = self._next_fault(api)
        if fault is not None and fault.cut == "before":
            raise Cut
        if fault is not None and fault.hang:
            self._closed.wait()
            raise Cut
        answer = _HANDLERS[api](self, version, wire, OK if fault is None else fault.error)
        if fault is not None and fault.cut == "after":
            raise Cut
        return answer

    def _next_fault(self, api: int) -> Fault | None:
        with self._changed:
            for fault in self.faults:
                if fault.api == api:
                    if fault.skip:
                        fault.skip -= 1
                        return None
                    fault.times -= 1
                    if not fault.times:
                        self.faults.remove(fault)
                    return fault
            return None

    # -- who is there ----------------------------------------------------------------------------

    def _api_versions(self, version: int, wire: Wire, error: int) -> bytes:
        if version < 3:
            return i16(error) + array([i16(key) + i16(a) + i16(b) for key, (a, b) in VERSIONS.items()])
        listed = b"".join(i16(key) + i16(a) + i16(b) + b"\0" for key, (a, b) in VERSIONS.items())
        return i16(error) + bytes([len(VERSIONS) + 1]) + listed + i32(0) + b"\0"

    def _handshake(self, version: int, wire: Wire, error: int) -> bytes:
        return i16(OK if wire.text() == "PLAIN" else 33) + array([text("PLAIN")])

    def _authenticate(self, wire: Wire) -> tuple[bytes, bool]:
        _, user, password = wire.blob().decode().split("\0")
        if (self._users or {}).get(user) == password:
            return i16(OK) + text(None) + blob(b""), True
        return i16(BAD_CREDENTIALS) + text("Invalid username or password") + blob(b""), False

    def _metadata(self, version: int, wire: Wire, error: int) -> bytes:
        assert version == 4
        count = wire.i32()
        names = list(self.topics) if count < 0 else [wire.text() or "" for _ in range(count)]
        may_make = wire.i8() and self._auto_create
        topics = [self._described(name, may_make, error) for name in names]
        broker = i32(1) + text("localhost") + i32(self.port) + text(None)
        return i32(0) + array([broker]) + text("stand-in") + i32(1) + array(topics)

    def _described(self, name: str, may_make: int, error: int) -> bytes:
        partitions: list[Partition] = []
        if f"topic:{name}" in self.denied:
            error = TOPIC_DENIED
        elif name in self.topics or may_make:
            partitions = self.make_topic(name).partitions
        else:
            error = error or UNKNOWN_TOPIC
        one = [
            i16(OK) + i32(number) + i32(1) + array([i32(1)]) + array([i32(1)])
            for number in range(len(partitions))
        ]
        return i16(error) + text(name) + i8(0) + array(one)

    def _find_coordinator(self, version: int, wire: Wire, error: int) -> bytes:
        wire.text()
        if wire.i8() == 0 and "groups" in self.denied:
            error = GROUP_DENIED
        return i32(0) + i16(error) + text(None) + i32(1) + text("localhost") + i32(self.port)

    def _create_topics(self, version: int, wire: Wire, error: int) -> bytes:
        assert version == 4
        answers = []
        for _ in wire.each():
            name, partitions, _ = wire.text() or "", wire.i32(), wire.i16()
            for _ in wire.each():
                wire.i32()
                wire.take(4 * wire.i32())
            settings = {wire.text() or "": wire.text() or "" for _ in wire.each()}
            code = error or (TOPIC_DENIED if "create" in self.denied else OK)
            if not code and name in self.topics:
                code = TOPIC_EXISTS
            if not code:
                self.make_topic(name, self._partitions if partitions < 0 else partitions, **settings)
            answers.append(text(name) + i16(code) + text(None))
        return i32(0) + array(answers)

    def _describe_configs(self, version: int, wire: Wire, error: int) -> bytes:
        assert version == 1
        answers = []
        for _ in wire.each():
            kind, name = wire.i8(), wire.text() or ""
            assert kind == TOPIC_RESOURCE
            assert wire.i32() == -1, "all settings are asked for"
            topic = self.topics.get(name)
            code = error or (TOPIC_DENIED if "describe" in self.denied else OK)
            code = code or (UNKNOWN_TOPIC if topic is None else OK)
            told = {} if code or topic is None else topic.settings
            listed = [
                text(key) + text(value) + i8(0) + i8(5) + i8(0) + array([]) for key, value in told.items()
            ]
            answers.append(i16(code) + text(None) + i8(kind) + text(name) + array(listed))
        return i32(0) + array(answers)

    # -- records ---------------------------------------------------------------------------------

    def _produce(self, version: int, wire: Wire, error: int) -> bytes:
        wire.text()
        wire.take(2 + 4)
        answers = []
        with self._changed:
            for _ in wire.each():
                name, partitions = wire.text() or "", []
                for _ in wire.each():
                    number, data = wire.i32(), wire.blob()
                    code, offset = self._append(name, number, data, error)
                    partitions.append(i32(number) + i16(code) + i64(offset) + i64(-1))
                    if version >= 5:
                        partitions[-1] += i64(0)
                answers.append(text(name) + array(partitions))
            self._changed.notify_all()
        return array(answers) + i32(0)

    def _append(self, name: str, number: int, data: bytes, error: int) -> tuple[int, int]:
        topic = self.topics.get(name)
        if f"topic:{name}" in self.denied:
            return TOPIC_DENIED, -1
        if topic is None or number >= len(topic.partitions):
            return UNKNOWN_TOPIC, -1
        if error or len(data) > int(topic.settings["max.message.bytes"]):
            return error or TOO_LARGE, -1
        head = BatchHead.of(data)
        for known in self._transactional.values():
            if known.pid == head.pid and head.epoch < known.epoch:
                return OLD_EPOCH, -1
            if known.pid == head.pid and (name, number) not in known.partitions:
                return INVALID_TXN_STATE, -1
        return topic.partitions[number].append(data)

    def _fetch(self, version: int, wire: Wire, error: int) -> bytes:
        wire.i32()
        wait_s, _, _, committed = wire.i32() / 1000, wire.i32(), wire.i32(), wire.i8() == 1
        wire.take(8 if version >= 7 else 0)  # the session
        wanted = []
        for _ in wire.each():
            name = wire.text() or ""
            for _ in wire.each():
                number = wire.i32()
                wire.take(4 if version >= 9 else 0)  # the leader's epoch
                offset = wire.i64()
                wire.take(8 if version >= 5 else 0)  # where the follower's log begins
                wanted.append((name, number, offset, wire.i32()))
        with self._changed:
            self._changed.wait_for(lambda: error or self._has_news(wanted, committed), wait_s)
            topics = [
                text(name) + array([self._fetched(version, name, number, offset, most, committed, error)])
                for name, number, offset, most in wanted
            ]
        return i32(0) + (i16(OK) + i32(0) if version >= 7 else b"") + array(topics)

    def _has_news(self, wanted: list[tuple[str, int, int, int]], committed: bool) -> bool:
        for name, number, offset, _ in wanted:
            partition = self._partition(name, number)
            if partition is None or offset < (partition.stable if committed else partition.end):
                return True
        return self._closed.is_set()

    def _partition(self, name: str, number: int) -> Partition | None:
        topic = self.topics.get(name)
        if topic is None or number >= len(topic.partitions) or f"topic:{name}" in self.denied:
            return None
        return topic.partitions[number]

    def _fetched(
        self, version: int, name: str, number: int, offset: int, most: int, committed: bool, error: int
    ) -> bytes:
        log_start = i64(0) if version >= 5 else b""
        partition = self._partition(name, number)
        if partition is None:
            error = TOPIC_DENIED if f"topic:{name}" in self.denied else UNKNOWN_TOPIC
        elif offset > partition.end:
            error = OFFSET_OUT_OF_RANGE
        if error or partition is None:
            return i32(number) + i16(error) + i64(-1) + i64(-1) + log_start + i32(-1) + blob(b"")
        stable = partition.stable
        data = partition.read(offset, stable if committed else partition.end, most)
        aborted = [i64(pid) + i64(first) for pid, first, last in partition.aborted if last >= offset]
        answer = i32(number) + i16(OK) + i64(partition.end) + i64(stable) + log_start
        return answer + (array(aborted) if committed else i32(-1)) + blob(data)

    def _list_offsets(self, version: int, wire: Wire, error: int) -> bytes:
        assert version == 2
        wire.i32()
        committed = wire.i8() == 1
        topics = []
        for _ in wire.each():
            name, answers = wire.text() or "", []
            for _ in wire.each():
                number, timestamp = wire.i32(), wire.i64()
                partition = self._partition(name, number)
                code = error or (UNKNOWN_TOPIC if partition is None else OK)
                offset = -1
                if partition is not None and not code:
                    end = partition.stable if committed else partition.end
                    offset = 0 if timestamp == -2 else end
                answers.append(i32(number) + i16(code) + i64(-1) + i64(offset))
            topics.append(text(name) + array(answers))
        return i32(0) + array(topics)

    # -- transactions ----------------------------------------------------------------------------

    def _init_producer_id(self, version: int, wire: Wire, error: int) -> bytes:
        name, timeout_ms = wire.text(), wire.i32()
        with self._changed:
            if name is not None and not error:
                error = self._may_begin(name, timeout_ms)
            if error:
                return i32(0) + i16(error) + i64(-1) + i16(-1)
            if name is None:
                self._next_pid += 1
                return i32(0) + i16(OK) + i64(self._next_pid) + i16(0)
            known = self._transactional.get(name)
            if known is None:
                self._next_pid += 1
                known = self._transactional[name] = Transactional(self._next_pid)
            else:
                known.epoch += 1
                self._finish(known, ABORT)
            self._changed.notify_all()
            return i32(0) + i16(OK) + i64(known.pid) + i16(known.epoch)

    def _may_begin(self, name: str, timeout_ms: int) -> int:
        known = self._transactional.get(name)
        if "transactions" in self.denied:
            return TXN_DENIED
        if timeout_ms > self._longest_transaction_ms:
            return INVALID_TXN_TIMEOUT
        return CONCURRENT_TXNS if known is not None and known.unmarked is not None else OK

    def _finish(self, known: Transactional, kind: int) -> None:
        """End a transaction; its marks may be written later."""
        if known.partitions:
            known.unmarked = kind
            if not (self.hold_marks and kind == COMMIT):
                self._mark(known)

    def _mark(self, known: Transactional) -> None:
        if known.unmarked is None:
            return
        for name, number in known.partitions:
            self.topics[name].partitions[number].end_transaction(known.pid, known.epoch, known.unmarked)
        known.partitions, known.unmarked = [], None

    def _current(self, name: str, pid: int, epoch: int) -> tuple[Transactional | None, int]:
        known = self._transactional.get(name)
        if known is None or known.pid != pid:
            return None, 49  # no such pair
        if epoch != known.epoch:
            return None, OLD_EPOCH
        return known, CONCURRENT_TXNS if known.unmarked is not None else OK

    def _add_partitions(self, version: int, wire: Wire, error: int) -> bytes:
        name, pid, epoch = wire.text() or "", wire.i64(), wire.i16()
        answers = []
        with self._changed:
            known, code = self._current(name, pid, epoch)
            code = error or code
            for _ in wire.each():
                topic, partitions = wire.text() or "", []
                for _ in wire.each():
                    number = wire.i32()
                    denied = TOPIC_DENIED if f"topic:{topic}" in self.denied else OK
                    partitions.append(i32(number) + i16(code or denied))
                    if known is None or code or denied:
                        continue
                    if (topic, number) not in known.partitions:
                        known.partitions.append((topic, number))
                answers.append(text(topic) + array(partitions))
        return i32(0) + array(answers)

    def _end_txn(self, version: int, wire: Wire, error: int) -> bytes:
        name, pid, epoch, kind = wire.text() or "", wire.i64(), wire.i16(), wire.i8()
        with self._changed:
            known, code = self._current(name, pid, epoch)
            code = error or code
            if known is not None and not code:
                self._finish(known, kind)
                self._changed.notify_all()
        return i32(0) + i16(code)


_HANDLERS: dict[int, Callable[[Broker, int, Wire, int], bytes]] = {
    API_VERSIONS: Broker._api_versions,
    SASL_HANDSHAKE: Broker._handshake,
    METADATA: Broker._metadata,
    FIND_COORDINATOR: Broker._find_coordinator,
    CREATE_TOPICS: Broker._create_topics,
    DESCRIBE_CONFIGS: Broker._describe_configs,
    PRODUCE: Broker._produce,
    FETCH: Broker._fetch,
    LIST_OFFSETS: Broker._list_offsets,
    INIT_PRODUCER_ID: Broker._init_producer_id,
    ADD_PARTITIONS_TO_TXN: Broker._add_partitions,
    END_TXN: Broker._end_txn,
}


class _Listener(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        super().__init__(address, socketserver.BaseRequestHandler)

    def finish_request(self, request, client_address) -> None:
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._serve(request)


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(min(size - len(data), 1 << 20))
        if not more:
            raise Cut
        data += more
    return data
