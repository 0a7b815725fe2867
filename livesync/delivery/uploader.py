"""RecordUploader: encodes records, cuts them into batches, sends with retries, counts the verdicts.

A destination subclasses it and writes :meth:`RecordUploader._upload_batch`, and the transaction
hooks if it has transactions. Of one object there is never more than one record in a batch, and
a batch is settled to its last record before anything of the next is sent: so, whatever is retried,
halved or refused, the records of one object reach the service in the order in which they came.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

from ..agent import SyncAgent
from ..errors import BatchRefused, DeliveryError, NoDocument, RetryLater
from ..options import Option
from .backoff import Backoff
from .pace import Pace, Refusals
from .record import Batch, DeadRecord, Op, Outcome, Record, RunResult, Verdict, encode_document
from .streams import Streams

logger = logging.getLogger(__name__)

DEFAULT_BATCH_SIZE: Final = 1000
DEFAULT_MAX_BATCH_BYTES: Final = 5 * 1024 * 1024
DEFAULT_MAX_ATTEMPTS: Final = 5

#: What a line holds besides its id and its document: names, quotes, the position.
_RECORD_OVERHEAD_BYTES: Final = 64

#: How often somebody who waits asks whether the run is to end.
_STOP_EVERY_S: Final = 0.25

#: A reason is for people: one line of a dead letter, not a page of the service's stack trace.
_MAX_REASON: Final = 500

DEFAULT_BACKOFF_S: Final = 0.5
DEFAULT_BACKOFF_CAP_S: Final = 60.0
DEFAULT_SLOW_ABOVE: Final = 50_000
DEFAULT_SLOW_BUDGET: Final = 50_000
DEFAULT_DEAD_WINDOW: Final = 1000
DEFAULT_DEAD_THRESHOLD: Final = 100
DEFAULT_IN_FLIGHT: Final = 4
DEFAULT_MAX_FILE_BYTES: Final = 10 * 1024 * 1024

#: The options of every push agent that takes them into its ``options``: its uploader and its runs
#: read them.
DELIVERY_OPTIONS: Final = (
    Option("batch_size", "int", help="most records in a batch", default=DEFAULT_BATCH_SIZE, minimum=1),
    Option(
        "max_batch_bytes", "int", help="most bytes in a batch", default=DEFAULT_MAX_BATCH_BYTES, minimum=1
    ),
    Option(
        "linger_s", "float",
        help="let a run wait with less than a batch until the oldest change is so many seconds old",
        default=0.0, minimum=0.0,
    ),
    Option("requests_per_second", "float", help="most requests a second", minimum=0.001),
    Option(
        "max_attempts", "int",
        help="tries of the same records before a run gives up; 0: as often as it takes",
        default=DEFAULT_MAX_ATTEMPTS, minimum=0,
    ),
    Option(
        "backoff_s", "float",
        help="longest wait in seconds after the first try; it doubles with each further one",
        default=DEFAULT_BACKOFF_S, minimum=0.0,
    ),
    Option(
        "backoff_cap_s", "float", help="longest wait between tries, in seconds",
        default=DEFAULT_BACKOFF_CAP_S, minimum=0.0,
    ),
    Option(
        "slow_above", "int",
        help="a change of a container with more objects inside goes to the slow queue",
        default=DEFAULT_SLOW_ABOVE, minimum=0,
    ),
    Option(
        "slow_budget", "int", help="most records of the slow queue that a run sends",
        default=DEFAULT_SLOW_BUDGET, minimum=1,
    ),
    Option(
        "dead_window", "int", help="how many of the last records count for dead_threshold",
        default=DEFAULT_DEAD_WINDOW, minimum=1,
    ),
    Option(
        "dead_threshold", "int",
        help="most of these that may become dead letters; one more stops the agent",
        default=DEFAULT_DEAD_THRESHOLD, minimum=0,
    ),
)  # fmt: skip

#: The option of agents whose uploader is ``concurrent``.
IN_FLIGHT_OPTION: Final = Option(
    "in_flight", "int", help="most requests under way at once", default=DEFAULT_IN_FLIGHT, minimum=1
)

#: The options of agents whose uploader takes files.
FILE_OPTIONS: Final = (
    Option("files", "bool", help="send the objects' files too", default=False),
    Option(
        "max_file_bytes", "int",
        help="a larger file is named, with its size and digest, and its content is left out",
        default=DEFAULT_MAX_FILE_BYTES, minimum=0,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Delivery:
    """Who is delivering.

    Attributes:
        agent_id: The agent's id.
        track_id: The UUID that ``install`` gave the track.
        generation: The agent's counter, raised by rewind, export and reset.
        token: The lease's fencing token: it grows with every new holder; 0 without a lease.
        rebuild: The name of a rebuild that is under way (letters and digits), "" without one:
            what an export brings goes to a new place, and live changes go to both.
    """

    agent_id: str
    track_id: str
    generation: int
    token: int = 0
    rebuild: str = ""


class HeldRow(NamedTuple):
    """What a service holds of one living object, as ``verify`` wants it.

    Attributes:
        object_id: Its id.
        position: The position of what is held; None where the service keeps none.
        digest: :func:`~livesync.delivery.record.document_digest` of what is held; None where it was
            not asked for. One that cannot be any document's (a row that somebody has altered) is "".
    """

    object_id: str
    position: int | None
    digest: str | None


@dataclass(frozen=True, slots=True)
class StoredPointer:
    """What a destination that keeps a pointer says of an agent.

    Attributes:
        position: Where its rows stand; None: before everything.
        track_id: The track that the position belongs to.
        generation: The agent's generation when it was written.
    """

    position: int | None
    track_id: str
    generation: int


class RecordUploader:
    """Carries the records of one run to a service.

    A run calls :meth:`open`, :meth:`read_pointer` where :attr:`keeps_pointer`, then for each slice
    :meth:`begin_slice`, :meth:`iterate_over` (once or more) and :meth:`end_slice`, or
    :meth:`abandon_slice` when anything was raised, and always :meth:`close` at the end. It belongs
    to one thread.

    Limits that are not given come from the agent's options of the same names (see
    :data:`DELIVERY_OPTIONS`), else from the defaults.

    Args:
        agent: Whose records; its options are read, nothing else.
        batch_size: Most records in a batch; 1000 by default.
        max_batch_bytes: Most bytes in a batch (documents and ids as JSON, uncompressed), 5 MiB by
            default; a larger record is sent alone.
        max_attempts: Tries of the same records before the run gives up; 5 by default, 0: no limit.
        in_flight: Most batches under way at once, where :attr:`concurrent`; 4 by default.
        backoff: How long to wait between tries.
        sleep: Waits, given seconds; by default until :attr:`stop` says True at most.

    Raises:
        ValueError: A limit is below 1.
    """

    #: Whether the destination keeps the agent's pointer, in one transaction with the rows.
    keeps_pointer: ClassVar[bool] = False

    #: Whether ``_upload_batch`` may be called by several threads at once, for batches that have no
    #: object in common: then the option ``in_flight`` holds.
    concurrent: ClassVar[bool] = False

    #: Whether :meth:`rows` and :meth:`rows_of` tell what the service holds.
    readable: ClassVar[bool] = False

    #: Whether the service can hold the objects' files: records then come with them.
    takes_files: ClassVar[bool] = False

    #: Whether an export can be made into a new place, which then takes the old one's.
    rebuilds: ClassVar[bool] = False

    def __init__(
        self,
        agent: SyncAgent,
        batch_size: int | None = None,
        max_batch_bytes: int | None = None,
        max_attempts: int | None = None,
        in_flight: int | None = None,
        *,
        backoff: Backoff | None = None,
        sleep: Callable[[float], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.agent = agent
        self.batch_size = _limit(agent, "batch_size", batch_size, DEFAULT_BATCH_SIZE)
        self.max_batch_bytes = _limit(agent, "max_batch_bytes", max_batch_bytes, DEFAULT_MAX_BATCH_BYTES)
        self.max_attempts = _limit(agent, "max_attempts", max_attempts, DEFAULT_MAX_ATTEMPTS, least=0)
        self.in_flight = _limit(agent, "in_flight", in_flight, DEFAULT_IN_FLIGHT) if self.concurrent else 1
        values = agent.values
        self.backoff = backoff or Backoff(
            values.get("backoff_s", DEFAULT_BACKOFF_S), values.get("backoff_cap_s", DEFAULT_BACKOFF_CAP_S)
        )
        self._sleep = sleep or self._sleep_unless_stopped
        self._given_up = threading.Event()
        self.pace = Pace(values.get("requests_per_second"), clock)
        #: How much of what is sent is refused; a run gives it what earlier runs have seen.
        self.refusals = self.count_refusals(())
        #: Asked while waiting for a service: True ends the wait, and the run.
        self.stop: Callable[[], bool] = _never
        #: Who is delivering; set by :meth:`open`.
        self.delivery = Delivery(agent.id, "", 0)
        #: The position of the slice's records; set by :meth:`begin_slice`.
        self.till = 0
        #: Whether the records of this slice are an export's: in a rebuild, they go to the new place only.
        self.exporting = False

    def count_refusals(self, state: tuple[int, ...]) -> Refusals:
        """Return a count of refusals that goes on from ``state``, with the limits of the options."""
        values = self.agent.values
        return Refusals(
            values.get("dead_window", DEFAULT_DEAD_WINDOW),
            values.get("dead_threshold", DEFAULT_DEAD_THRESHOLD),
            state,
        )

    def open(self, delivery: Delivery) -> None:
        """Get ready for a run: called once, before anything else.

        Raises:
            RetryLater: The service is not ready.
            ServiceRefuses: It never will be, as the agent is set up.
        """
        self.delivery = delivery

    def read_pointer(self) -> StoredPointer | None:
        """Return the pointer that the destination keeps for this agent, None when it has no row.

        Asked only where :attr:`keeps_pointer`.
        """
        return None

    def begin_slice(self, till: int) -> None:
        """Begin a slice, before its first record; ``till`` is the position of its records."""
        self.till = till

    def iterate_over(self, records: Iterable[Record]) -> RunResult:
        """Send ``records`` and return what became of them.

        Records are pulled as they are needed, never more than a batch ahead; and never while a
        request is under way, unless several may be.

        Returns:
            The counts of accepted, stale and dead records, and the dead ones with their reasons.

        Raises:
            RetryLater: Some records were "not now" in :attr:`max_attempts` tries, or :attr:`stop` said
                True in the meantime: the slice is not accepted and must be repeated.
            TooManyRefused: More than ``dead_threshold`` of the last records were refused.
            ServiceRefuses: The service refuses us, whatever we send.
            ValueError: An upsert has no document: whoever made the records forgot to render it.
        """
        result = RunResult()
        batches = self._batches(records, result)
        if self.in_flight > 1:
            self._given_up.clear()
            Streams(self._deliver, self.in_flight, self._given_up.set).run(batches, result)
        else:
            for batch in batches:
                self._deliver(batch, result)
        return result

    def _upload_batch(self, batch: Batch) -> Iterable[Verdict] | None:
        """Send one batch: what a destination writes.

        It must be idempotent: the same records come again after a crash, after a timeout whose
        request did arrive, in halves, and with other neighbours. A record whose position is lower
        than what the service has is to be left aside there (``STALE``).

        Args:
            batch: The records, each object at most once, with their documents' JSON in
                ``batch.bodies`` (None for a delete). Not to be changed or kept.

        Returns:
            None: all accepted. Else one verdict a record, in any order; a record without one is
            "not now" and is sent again.

        Raises:
            RetryLater: Nothing was accepted, a later try may help.
            BatchRefused: Nothing was accepted; the batch is sent in halves, a lone record becomes
                a dead letter.
            ServiceRefuses: The service refuses us, whatever we send.
        """
        raise NotImplementedError(f"{type(self).__qualname__} must define _upload_batch(batch)")

    def end_slice(self, position: int | None) -> None:
        """End a slice that was accepted as a whole: from here on it must last.

        Args:
            position: Where a kept pointer now stands; None: leave the pointer alone (a part of a
                position, or an export).
        """

    def abandon_slice(self) -> None:
        """Take back what can be taken back of a slice that broke off; harmless without one."""

    def probe(self) -> str:
        """Reach the service without changing anything there; called between open and close.

        Returns:
            One line for people: what answered, its version where it tells.

        Raises:
            RetryLater, ServiceRefuses, OptionError: It cannot be reached, or will not take what
                this agent sends; the text says why.
        """
        self.read_pointer()
        return "open"

    def rows(self, after: str | None = None, quick: bool = False) -> Iterator[HeldRow]:
        """Yield what the service holds, living objects only, by ascending ids (by code points).

        Asked only where :attr:`readable`, between open and close, with no slice open. Memory does
        not grow with the number of rows.

        Args:
            after: Begin after this id.
            quick: Leave the digests out.

        Raises:
            RetryLater, ServiceRefuses: It cannot be read.
        """
        raise NotImplementedError(f"{type(self).__qualname__} cannot tell what its service holds")

    def rows_of(self, object_ids: Sequence[str]) -> list[HeldRow]:
        """Return what the service holds of these objects, a thousand at most, in any order, with digests.

        Raises:
            RetryLater, ServiceRefuses: It cannot be read.
        """
        raise NotImplementedError(f"{type(self).__qualname__} cannot tell what its service holds")

    def missing_files(self, digests: Set[str]) -> Set[str]:
        """Return which of these contents, by digest, the service lacks: only those are read and sent.

        Asked only where :attr:`takes_files`, inside a slice, between its batches.
        """
        return digests

    def finish_rebuild(self) -> None:
        """Let what the export has brought take the place of the old; asked only where :attr:`rebuilds`.

        It is called again after a crash and must not mind having been called before.
        """
        raise NotImplementedError(f"{type(self).__qualname__} cannot be rebuilt")

    def sweep(self, before: int) -> int | None:
        """Remove what is older than an export that has just been sent as a whole.

        Args:
            before: Records whose position is lower are removed.

        Returns:
            How many objects were removed; None: this service cannot tell.
        """
        return None

    def close(self) -> None:
        """Let go of connections and files; a slice that is still open is lost."""

    def _batches(self, records: Iterable[Record], result: RunResult) -> Iterator[Batch]:
        """Yield ``records`` in batches; those without a document are added to ``result`` as dead."""
        most, most_bytes = self.batch_size, self.max_batch_bytes
        batch, ids, size = Batch(), set[str](), 0
        for record in records:
            object_id = record.object_id
            try:
                body = _body(record)
            except NoDocument as exc:
                self._set_aside(record, None, exc.reason, result)
                continue
            bytes_more = _RECORD_OVERHEAD_BYTES + len(object_id) + (0 if body is None else len(body))
            if record.files:
                bytes_more += sum(file.size for file in record.files if file.content is not None)
            if batch and (size + bytes_more > most_bytes or object_id in ids):
                yield batch
                batch, ids, size = Batch(), set(), 0
            batch.append(record)
            batch.bodies.append(body)
            ids.add(object_id)
            size += bytes_more
            if len(ids) >= most:
                # now, not when the next record comes: pulling that may mean rendering many more
                yield batch
                batch, ids, size = Batch(), set(), 0
        if batch:
            yield batch

    def _deliver(self, batch: Batch, result: RunResult) -> None:
        """Send one batch, and what is left of it, until every record of it is settled."""
        try:
            self._deliver_parts([(batch, 0)], result)
        finally:
            for record in batch:
                for file in record.files or ():
                    if file.content is not None:
                        file.content.close()

    def _deliver_parts(self, parts: list[tuple[Batch, int]], result: RunResult) -> None:
        while parts:
            part, attempts = parts.pop()
            after_s = None
            try:
                verdicts = self._send(part, result)
            except RetryLater as exc:
                rest, reason, after_s = part, str(exc), exc.after_s
            except BatchRefused as exc:
                if len(part) == 1:
                    self._set_aside(part[0], part.bodies[0], exc.reason, result)
                else:
                    parts += ((half, 0) for half in reversed(part.halves()))
                continue
            else:
                rest, reason = self._settle(part, verdicts, result)
            if rest:
                # what was settled shows that the service works: the count starts anew
                attempts = attempts + 1 if len(rest) == len(part) else 1
                result.retried += len(rest)
                self._wait(attempts, len(rest), reason, after_s)
                parts.append((rest, attempts))

    def _send(self, part: Batch, result: RunResult) -> dict[str, Verdict] | None:
        """Return what the service says of ``part``: None, all accepted; else verdicts by id."""
        wait_s = self.pace.take_turn()
        if wait_s > 0:
            self._pause(wait_s)
        for record in part:
            for file in record.files or ():
                if file.content is not None:
                    file.content.seek(0)
        started = time.perf_counter()
        said = "accepted"
        try:
            answer = self._upload_batch(part)
            verdicts = None if answer is None else {verdict.object_id: verdict for verdict in answer}
            if verdicts is not None:
                said = "judged one by one"
            return verdicts
        except DeliveryError as exc:
            said = type(exc).__name__
            raise
        finally:
            seconds = time.perf_counter() - started
            result.batches += 1
            result.timings.observe(seconds)
            logger.info(
                "batch agent=%s till=%d records=%d answer=%r seconds=%.3f",
                self.agent.id, self.till, len(part), said, seconds,
                extra={
                    "livesync": {
                        "event": "batch", "agent": self.agent.id, "till": self.till, "records": len(part),
                        "answer": said, "seconds": seconds,
                    }
                },
            )  # fmt: skip

    def _settle(
        self, part: Batch, verdicts: dict[str, Verdict] | None, result: RunResult
    ) -> tuple[Batch, str]:
        """Count ``verdicts``; return the records that are to be sent again, and why."""
        if verdicts is None:
            result.accepted += len(part)
            self.refusals.passed(len(part))
            return Batch(), ""
        again: list[int] = []
        refused: list[tuple[int, str]] = []
        why = ""
        passed = 0
        for index, record in enumerate(part):
            verdict = verdicts.get(record.object_id)
            if verdict is None or verdict.outcome is Outcome.NOT_NOW:
                again.append(index)
                why = why or (verdict.reason if verdict is not None else "the answer says nothing of it")
            elif verdict.outcome is Outcome.REFUSED:
                refused.append((index, verdict.reason))
            else:
                passed += 1
                if verdict.outcome is Outcome.ACCEPTED:
                    result.accepted += 1
                else:
                    result.stale += 1
        self.refusals.passed(passed)
        for index, reason in refused:
            self._set_aside(part[index], part.bodies[index], reason, result)
        return part.only(again), f"{len(again)} of {len(part)} records not now: {why or 'no reason given'}"

    def _set_aside(self, record: Record, body: bytes | None, reason: str, result: RunResult) -> None:
        text = " ".join(reason.split())[:_MAX_REASON] or "no reason given"
        result.dead += 1
        result.dead_records.append(
            DeadRecord(record.object_id, record.op, record.position, text, record.actions, body)
        )
        # the reason may quote the document, so it goes to the dead letter and not to the log
        logger.error(
            "agent %s: %s of %r at %d set aside as a dead letter",
            self.agent.id, record.op.value, record.object_id, record.position,
        )  # fmt: skip
        self.refusals.refused(text)

    def _wait(self, attempts: int, count: int, reason: str, after_s: float | None) -> None:
        """Wait before the same records are sent again.

        Raises:
            RetryLater: They were sent :attr:`max_attempts` times, or the wait was ended.
        """
        reason = " ".join(reason.split())[:_MAX_REASON]
        if self.max_attempts and attempts >= self.max_attempts:
            raise RetryLater(reason=f"{reason} (given up after {attempts} tries)", after_s=after_s)
        delay_s = self.backoff.delay_s(attempts, after_s)
        logger.warning(
            "agent %s: till %s: %d records not accepted, try %d of %s, again in %.1f s: %s",
            self.agent.id, self.till, count, attempts, self.max_attempts or "any number", delay_s, reason,
        )  # fmt: skip
        if self.in_flight > 1:
            self.pace.hold(delay_s)
        self._pause(delay_s, reason)

    def _pause(self, seconds: float, reason: str = "it was not our turn yet") -> None:
        self._sleep(seconds)
        if self.stop() or self._given_up.is_set():
            raise RetryLater(reason=f"{reason} (the run was stopped while it waited)")

    def _sleep_unless_stopped(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self.stop():
            if self._given_up.wait(min(left, _STOP_EVERY_S)):
                return


def _never() -> bool:
    return False


def _body(record: Record) -> bytes | None:
    """Return the JSON of the record's document, None for a delete.

    Raises:
        NoDocument: It cannot be encoded, or the id cannot.
        ValueError: An upsert without a document.
    """
    if not record.object_id.isascii():
        try:
            record.object_id.encode()
        except UnicodeEncodeError as exc:
            raise NoDocument(f"the object's id cannot be written as UTF-8: {exc.reason}") from None
    if record.op is Op.DELETE:
        return None
    if record.document is None:
        raise ValueError(
            f"the upsert of {record.object_id!r} has no document: _run must pass on the records it was given,"
            " with their documents"
        )
    return encode_document(record.document)


def _limit(agent: SyncAgent, name: str, given: int | None, default: int, least: int = 1) -> int:
    """Return the limit ``name``: as given, else as the agent's option says, else ``default``."""
    value: Any = given if given is not None else agent.values.get(name)
    if value is None:
        return default
    if value < least:
        raise ValueError(f"{name} is at least {least}, not {value}")
    return int(value)
