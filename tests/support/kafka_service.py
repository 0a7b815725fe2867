"""Kafka for tests, and the harness of its destination.

The broker is the stand-in of :mod:`support.kafka_broker`, one a session, in this process; or, where
``LIVESYNC_KAFKA`` holds ``host:port`` of a real one that makes topics when they are used, that.
librdkafka's own mock cluster is here too, for a second opinion on the protocol: it keeps messages and
knows the requests of transactions, but neither hides what was aborted nor fences anybody.
"""

from __future__ import annotations

import atexit
import os
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition

from livesync.destinations.kafka import KafkaAgent

from .destination import Destination
from .kafka_broker import Broker

REAL = os.environ.get("LIVESYNC_KAFKA", "")

#: For tests that make the broker misbehave.
needs_stand_in = pytest.mark.skipif(bool(REAL), reason="a real broker does not misbehave on demand")


class Quiet:
    """A client's log that nobody reads."""

    def log(self, level: int, message: str, *args: object) -> None:
        pass


@cache
def broker() -> Broker:
    """The stand-in, started at first use."""
    started = Broker()
    atexit.register(started.close)
    return started


def servers() -> str:
    return REAL or broker().address


def fresh_topic() -> str:
    return f"livesync-{uuid.uuid4().hex[:12]}"


@contextmanager
def mock_cluster() -> Iterator[str]:
    """librdkafka's mock cluster; it lives as long as the client that it belongs to."""
    owner = Producer({"bootstrap.servers": "unused", "test.mock.num.brokers": 3}, logger=Quiet())
    brokers = owner.list_topics(timeout=10).brokers.values()
    yield ",".join(f"{one.host}:{one.port}" for one in brokers)
    del owner


class Seen(NamedTuple):
    """One message, as a consumer sees it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]


def partition_count(topic: str) -> int:
    producer = Producer({"bootstrap.servers": servers()}, logger=Quiet())
    return len(producer.list_topics(topic, timeout=10).topics[topic].partitions)


def consumed(topic: str, at: str = "", committed: bool = True) -> list[Seen]:
    """Everything in a topic, partition by partition, as any consumer reads it."""
    settings = {
        "bootstrap.servers": at or servers(),
        "group.id": "tests",
        "isolation.level": "read_committed" if committed else "read_uncommitted",
        "enable.partition.eof": True,
        "enable.auto.commit": False,
        "fetch.wait.max.ms": 5,
    }
    seen: list[Seen] = []
    with closing(Consumer(settings, logger=Quiet())) as consumer:
        described = consumer.list_topics(topic, timeout=10).topics[topic]
        if described.error is not None:
            assert described.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
            return seen
        waiting = set(described.partitions)
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in waiting])
        while waiting:
            message = consumer.poll(10)
            assert message is not None, "the broker does not answer"
            if message.error() is None:
                headers = dict(message.headers() or ())
                seen.append(
                    Seen(message.partition(), message.offset(), message.key(), message.value(), headers)
                )
            else:
                assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
                waiting.discard(message.partition())
    return sorted(seen)


def produce(topic: str, key: bytes | None, value: bytes | None, headers: Any = (), at: str = "") -> None:
    """Put a message into a topic, as anybody may."""
    settings = {"bootstrap.servers": at or servers(), "partitioner": "murmur2_random"}
    producer = Producer(settings, logger=Quiet())
    producer.produce(topic, value, key, headers=list(headers))
    assert producer.flush(10) == 0


class KafkaDestination(Destination):
    sweeps = True
    keeps_pointer = True
    readable = True
    transactional = True

    def __init__(self, directory: Path, receiver: object = None):
        self.topic = fresh_topic()

    def agent(self, agent_id="a", **options):
        options = {"transactional": self.transactional, "timeout_s": 10, **options}
        return KafkaAgent(agent_id, bootstrap_servers=servers(), topic=self.topic, **options)

    def _applied(self) -> tuple[dict[str, bytes], dict[str, int]]:
        """What a consumer comes to that keeps to the position rule."""
        documents: dict[str, bytes] = {}
        positions: dict[str, int] = {}
        for message in consumed(self.topic):
            object_id, position = message.key.decode(), int(message.headers["livesync-position"])
            if positions.get(object_id, -1) > position:
                continue
            positions[object_id] = position
            if message.value is None:
                documents.pop(object_id, None)
            else:
                documents[object_id] = message.value
        return documents, positions

    def documents(self):
        return self._applied()[0]

    def tombstones(self):
        documents, positions = self._applied()
        return {key: position for key, position in positions.items() if key not in documents}

    def alter(self, object_id):
        [last] = [seen for seen in consumed(self.topic) if seen.key == object_id.encode()][-1:]
        produce(self.topic, last.key, last.value.replace(b"as sent", b"altered"), last.headers.items())


class PlainKafkaDestination(KafkaDestination):
    """Without transactions: an idempotent producer only."""

    transactional = False
    takes_back = False
    keeps_pointer = False
