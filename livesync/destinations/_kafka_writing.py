"""Writing to Kafka, in transactions where they are wanted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from ..errors import DeliveryError, RetryLater
from ._kafka_client import Settings

Headers = list[tuple[str, str | bytes | None]]

#: The key of a message, and why it was not taken.
Failure = tuple[bytes, KafkaError]

#: How often a wait looks whether it still makes sense.
_STEP_S: Final = 0.25

#: What is waited beyond the time in which the client itself gives a message up, in seconds.
_GRACE_S: Final = 5.0

#: What a message takes besides its key, its value and its headers: its batch's header and its own numbers.
_OVERHEAD_BYTES: Final = 61 + 32
_HEADER_OVERHEAD_BYTES: Final = 6


class Outgoing(NamedTuple):
    """One message: a document or, without a value, a tombstone."""

    topic: str
    key: bytes
    value: bytes | None
    headers: Headers


def bytes_around(headers: Headers) -> int:
    """Return how many bytes a message with these headers has besides key and value, at most.

    Counted is what it takes alone in a batch, uncompressed.
    """
    return _OVERHEAD_BYTES + sum(
        len(name) + len(value or "") + _HEADER_OVERHEAD_BYTES for name, value in headers
    )


class Writer:
    """One producer: idempotent, every message acknowledged by all replicas in sync.

    With a transactional id it must be fenced first: from then on, no earlier producer of that id
    can write, and what one has left open is aborted.

    Args:
        settings: How it is made.
        transactional_id: None: no transactions.
        largest: Bytes of the largest message.
        clock: Seconds, for the age of a transaction.

    Raises:
        OptionError: The settings make no sense.
    """

    def __init__(
        self, settings: Settings, transactional_id: str | None, largest: int, clock: Callable[[], float]
    ) -> None:
        self.largest = largest
        self.fenced_others = False
        self.in_transaction = False
        self._settings = settings
        self._transactional = transactional_id is not None
        self._clock = clock
        self._began = 0.0
        self._producer: Producer = settings.producer(transactional_id, largest)

    def fence(self) -> None:
        """Fence all earlier producers of this transactional id.

        Raises:
            KafkaException: It could not be done.
        """
        with _untangled():
            self._within(self._producer.init_transactions, self._settings.timeout_s)
        self.fenced_others = True

    def begin(self) -> None:
        """Begin a transaction; nothing is sent yet."""
        self._producer.begin_transaction()
        self.in_transaction = True
        self._began = self._clock()

    def is_overdue(self) -> bool:
        """Tell whether the transaction is older than brokers let it become."""
        return self.in_transaction and self._clock() - self._began > self._settings.transaction_s

    def write(self, messages: Iterable[Outgoing]) -> list[Failure]:
        """Write messages and wait until each is acknowledged, or failed for good.

        Returns:
            The failed ones: key and error. In a transaction one is enough: it must be aborted.

        Raises:
            KafkaException: The producer is of no more use, or the brokers refuse us.
            RetryLater: No answer.
        """
        failures: list[Failure] = []
        deadline = time.monotonic() + self._settings.timeout_s + _GRACE_S
        with _untangled():
            self._produce(messages, failures, deadline)
            # Not flush(): after a fatal error it goes on calling us, with its exception already set.
            while len(self._producer):
                self._producer.poll(_STEP_S)
                if failures and self._transactional:
                    break
                self._check(deadline)
        return failures

    def _produce(self, messages: Iterable[Outgoing], failures: list[Failure], deadline: float) -> None:
        def report(error: KafkaError | None, message: Message) -> None:
            # of these messages: what is said of earlier ones, which were given up, is not for this list
            if error is not None:
                failures.append((message.key() or b"", error))

        produce = self._producer.produce
        for topic, key, value, headers in messages:
            while True:
                try:
                    produce(topic, value, key, on_delivery=report, headers=headers)
                    break
                except BufferError:  # the client's own queue is full
                    self._producer.poll(_STEP_S)
                    self._check(deadline)

    def commit(self) -> None:
        """Commit the transaction.

        Raises:
            KafkaException: It was not committed; it must be aborted.
            DeliveryError: It is not known whether it was.
        """
        try:
            with _untangled():
                self._within(self._producer.commit_transaction, self._settings.timeout_s)
        except KafkaException as exc:
            error: KafkaError = exc.args[0]
            if error.txn_requires_abort() or not error.retriable():
                raise
            raise DeliveryError(
                f"{self._settings.failure(error)}; whether the slice was committed, the next run will see"
            ) from exc
        self.in_transaction = False

    def abort(self, within_s: float) -> None:
        """Abort the transaction.

        Raises:
            KafkaException: It could not be done; the next one to fence does it.
        """
        with _untangled():
            self._within(self._producer.abort_transaction, within_s)
        self.in_transaction = False

    def _check(self, deadline: float) -> None:
        """Give up where waiting does not help."""
        refusal = self._settings.complaints.refusal
        if refusal is not None:
            self._producer.purge()
            raise KafkaException(refusal)
        if time.monotonic() > deadline:
            self._producer.purge()
            settings = self._settings
            raise RetryLater(
                reason=f"Kafka at {settings.servers} did not answer within {settings.timeout_s:g} s"
            )

    def _within(self, call: Callable[[float], None], within_s: float) -> None:
        """Make a call that goes on where it stood when it is made again."""
        complaints = self._settings.complaints
        deadline = time.monotonic() + within_s
        while True:
            left_s = deadline - time.monotonic()
            try:
                call(max(min(_STEP_S, left_s), 0.01))
            except KafkaException as exc:
                error: KafkaError = exc.args[0]
                self._producer.poll(0 if error.code() == KafkaError._TIMED_OUT else _STEP_S)
                if complaints.refusal is not None and error.retriable():
                    raise KafkaException(complaints.refusal) from exc
                if left_s <= 0 or not error.retriable():
                    raise
            else:
                complaints.forget()
                return


@contextmanager
def _untangled() -> Iterator[None]:
    """Raise what the client has raised.

    After a fatal error it may call us with its own exception already set, which Python takes for a
    fault of the function that is called next; and what that clears is lost.
    """
    try:
        yield
    except SystemError as exc:
        below: BaseException | None = exc
        while below is not None and not isinstance(below, KafkaException):
            below = below.__cause__
        # not itself, or each would be the other's context
        error = KafkaError(KafkaError._FATAL, str(exc), True) if below is None else below.args[0]
        raise KafkaException(error) from None
