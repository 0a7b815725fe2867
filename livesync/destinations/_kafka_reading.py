"""Reading a topic of Kafka from its beginning to its end, as far as it is committed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from ..errors import RetryLater
from ._kafka_client import Settings
from ._kafka_errors import is_for_good

#: How often a wait looks whether it still makes sense.
_STEP_S: Final = 0.25

#: Messages that are taken at once: so many, and about so many bytes.
_CHUNK: Final = 2_000
_CHUNK_BYTES: Final = 8 * 1024 * 1024

#: Answers on a topic that a moment later are others: it has just been made, or moves.
_SOON: Final = frozenset(
    {
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._UNKNOWN_TOPIC,
    }
)


class Unsettled(RetryLater):
    """Raised when a transaction that has not ended hides what may come before the end of a topic."""


class Reader:
    """Reads topics; joins no group and commits nothing. It belongs to one thread.

    Raises:
        OptionError: The settings make no sense.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._consumer: Consumer = settings.consumer()

    def close(self) -> None:
        """Let go of the brokers."""
        self._consumer.close()

    def cluster(self, topic: str) -> Any:
        """Return what the brokers say of themselves and of ``topic``; never makes it.

        Raises:
            RetryLater: Nobody answers.
            ServiceRefuses: We are not let in.
        """
        settings, complaints = self._settings, self._settings.complaints
        deadline = time.monotonic() + settings.timeout_s
        while True:
            left_s = max(deadline - time.monotonic(), 0.01)
            try:
                found = self._consumer.list_topics(topic, min(_STEP_S, left_s))
            except KafkaException as exc:
                self._consumer.poll(0)  # lets the client say what goes wrong
                refusal = complaints.refusal
                if refusal is not None or complaints.all_down or left_s <= _STEP_S:
                    raise settings.failure(refusal or exc.args[0]) from exc
            else:
                complaints.forget()
                return found

    def partitions(self, topic: str) -> list[int] | None:
        """Return the partitions of a topic, None where there is no such topic.

        Raises:
            RetryLater: Nobody answers, or the topic is just being made.
            ServiceRefuses: We are not let in.
        """
        deadline = time.monotonic() + self._settings.timeout_s
        while True:
            found = self.cluster(topic).topics.get(topic)
            error = None if found is None else found.error
            if found is None or (error is not None and error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART):
                return None
            if error is None:
                return sorted(found.partitions)
            if error.code() not in _SOON or time.monotonic() > deadline:
                raise self._settings.failure(error)
            self._consumer.poll(_STEP_S)

    def read(
        self, topic: str, offsets: dict[int, int], settle_s: float, strict: bool = False
    ) -> Iterator[list[Message]]:
        """Yield what was committed up to now, in chunks; of each partition in its order.

        What a transaction has committed can be read a moment later than its end, and all that
        comes after one that is open in its partition only when it ends. So the end is waited for.

        Args:
            topic: One that exists, or nothing is yielded.
            offsets: Where to begin, by partition; from the beginning where nothing is said. Moved
                on with what was yielded.
            settle_s: How long to wait for transactions to end.
            strict: Raise where they do not; else what they hide is left out.

        Raises:
            Unsettled: A transaction is still open.
            RetryLater: Nobody answers.
            ServiceRefuses: We are not let in.
        """
        waiting = set(self.partitions(topic) or ())
        if not waiting:
            return
        self._consumer.assign(
            [TopicPartition(topic, number, offsets.get(number, OFFSET_BEGINNING)) for number in waiting]
        )
        try:
            yield from self._read_assigned(topic, offsets, waiting, time.monotonic() + settle_s, strict)
        finally:
            self._consumer.unassign()

    def _read_assigned(
        self, topic: str, offsets: dict[int, int], waiting: set[int], settled_by: float, strict: bool
    ) -> Iterator[list[Message]]:
        hidden: set[int] = set()  # partitions of which everything visible was read, and there is more
        size = _CHUNK
        heard = time.monotonic()
        while waiting:
            messages: list[Message] = []
            events = self._events(size)
            for event in events:
                number, offset = _place(event)
                if event.error() is None:
                    messages.append(event)
                    offsets[number] = offset + 1
                    hidden.discard(number)
                    continue
                offsets[number] = offset
                if self._is_end(topic, number, offset):
                    waiting.discard(number)
                else:
                    hidden.add(number)
            if messages:
                size = _chunk_size(messages)
                yield messages
            now = time.monotonic()
            heard = now if events else heard
            if waiting and waiting == hidden and now > settled_by:
                if strict:
                    raise Unsettled(reason=f"a transaction in {topic} is still open; it ends by itself")
                return
            if waiting != hidden and now - heard > self._settings.timeout_s:
                silence = self._settings.complaints.last or KafkaError(KafkaError._TIMED_OUT)
                raise self._settings.failure(silence)

    def _events(self, size: int) -> list[Message]:
        """Return messages and ends of partitions that are there, waiting a moment for the first."""
        first = self._consumer.poll(_STEP_S)
        refusal = self._settings.complaints.refusal
        if refusal is not None:
            raise self._settings.failure(refusal)
        if first is None:
            return []
        found = [first, *self._consumer.consume(size, 0)]
        return [event for event in found if self._is_of_a_partition(event)]

    def _is_of_a_partition(self, event: Message) -> bool:
        """Tell a message or an end from an error; errors that pass by themselves are only remembered."""
        error = event.error()
        if error is None or error.code() == KafkaError._PARTITION_EOF:
            return True
        if is_for_good(error) and error.code() not in _SOON:
            raise self._settings.failure(error)
        self._settings.complaints.error(error)
        return False

    def _is_end(self, topic: str, number: int, offset: int) -> bool:
        """Tell whether nothing that is not yet committed lies at or after ``offset``."""
        low_high = self._consumer.get_watermark_offsets(TopicPartition(topic, number), cached=True)
        return low_high is None or offset >= low_high[1]


def _place(event: Message) -> tuple[int, int]:
    """Return the partition and the offset of a message or an end."""
    number, offset = event.partition(), event.offset()
    assert number is not None
    assert offset is not None
    return number, offset


def _chunk_size(messages: list[Message]) -> int:
    """Return how many messages of such a size to take at once."""
    total = sum(len(message) for message in messages)
    return max(1, min(_CHUNK, _CHUNK_BYTES * len(messages) // max(total, 1)))
