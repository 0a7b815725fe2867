"""Sending: records become batches, and each is sent until every record of it is settled.

Of one object there is never more than one record in a batch, and a batch is settled to its last
record before anything of the next that has an object in common with it is sent: so, whatever is
retried, halved or refused, the records of one object reach the service in the order in which they
came.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO, Final

from ..errors import BatchRefused, DeliveryError, NoDocument, RetryLater
from ..words import plural
from .record import Batch, DeadRecord, Encoded, Op, Outcome, Record, RunResult, Verdict, encode_document
from .streams import Streams

if TYPE_CHECKING:
    from .uploader import RecordUploader

logger = logging.getLogger(__name__)

#: What a line holds besides its id and its document: names, quotes, the position.
_RECORD_OVERHEAD_BYTES: Final = 64

#: How often somebody who waits asks whether the run is to end.
_STOP_EVERY_S: Final = 0.25

#: A reason is for people: one line of a dead letter, not a page of the service's stack trace.
_MAX_REASON: Final = 500


class Sender:
    """Sends records by way of an uploader, within its limits."""

    def __init__(self, uploader: RecordUploader) -> None:
        self._uploader = uploader
        self._agent_id = uploader.agent.id
        self._given_up = threading.Event()

    def send(self, records: Iterable[Record]) -> RunResult:
        """Send ``records`` and return what became of them; see :meth:`RecordUploader.iterate_over`."""
        result = RunResult()
        batches = self._batches(records, result)
        if self._uploader.in_flight > 1:
            self._given_up.clear()
            Streams(self._deliver, self._uploader.in_flight, self._given_up.set).run(batches, result)
        else:
            for batch in batches:
                self._deliver(batch, result)
        return result

    def _batches(self, records: Iterable[Record], result: RunResult) -> Iterator[Batch]:
        """Yield ``records`` in batches; those without a document are added to ``result`` as dead."""
        most, most_bytes = self._uploader.batch_size, self._uploader.max_batch_bytes
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
            for content in self._contents(batch):
                content.close()

    def _contents(self, batch: Batch) -> list[BinaryIO]:
        """Return the contents of files that come with a batch."""
        if not self._uploader.takes_files:
            return []
        return [file.content for record in batch for file in record.files or () if file.content is not None]

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
        wait_s = self._uploader.pace.take_turn()
        if wait_s > 0:
            self._pause(wait_s)
        for content in self._contents(part):
            content.seek(0)
        started = time.perf_counter()
        said = "accepted"
        try:
            answer = self._uploader._upload_batch(part)
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
                self._agent_id, self._uploader.till, len(part), said, seconds,
                extra={
                    "livesync": {
                        "event": "batch", "agent": self._agent_id, "till": self._uploader.till,
                        "records": len(part), "answer": said, "seconds": seconds,
                    }
                },
            )  # fmt: skip

    def _settle(
        self, part: Batch, verdicts: dict[str, Verdict] | None, result: RunResult
    ) -> tuple[Batch, str]:
        """Count ``verdicts``; return the records that are to be sent again, and why."""
        if verdicts is None:
            result.accepted += len(part)
            self._uploader.refusals.passed(len(part))
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
        self._uploader.refusals.passed(passed)
        for index, reason in refused:
            self._set_aside(part[index], part.bodies[index], reason, result)
        records = plural(len(part), "record")
        return part.only(again), f"{len(again)} of {records} not now: {why or 'no reason given'}"

    def _set_aside(self, record: Record, body: bytes | None, reason: str, result: RunResult) -> None:
        text = " ".join(reason.split())[:_MAX_REASON] or "no reason given"
        result.dead += 1
        result.dead_records.append(
            DeadRecord(record.object_id, record.op, record.position, text, record.actions, body)
        )
        # the reason may quote the document, so it goes to the dead letter and not to the log
        logger.error(
            "agent %s: %s of %r at %d set aside as a dead letter",
            self._agent_id, record.op.value, record.object_id, record.position,
        )  # fmt: skip
        self._uploader.refusals.refused(text)

    def _wait(self, attempts: int, count: int, reason: str, after_s: float | None) -> None:
        """Wait before the same records are sent again.

        Raises:
            RetryLater: They were sent ``max_attempts`` times, or the wait was ended.
        """
        up = self._uploader
        reason = " ".join(reason.split())[:_MAX_REASON]
        if up.max_attempts and attempts >= up.max_attempts:
            raise RetryLater(reason=f"{reason} (given up after {attempts} tries)", after_s=after_s)
        delay_s = up.backoff.delay_s(attempts, after_s)
        logger.warning(
            "agent %s: till %s: %d records not accepted, try %d of %s, again in %.1f s: %s",
            self._agent_id, self._uploader.till, count, attempts, up.max_attempts or "any number", delay_s,
            reason,
        )  # fmt: skip
        if up.in_flight > 1:
            up.pace.hold(delay_s)
        self._pause(delay_s, reason)

    def _pause(self, seconds: float, reason: str = "it was not our turn yet") -> None:
        (self._uploader.sleep or self._sleep_unless_stopped)(seconds)
        if self._uploader.stop() or self._given_up.is_set():
            raise RetryLater(reason=f"{reason} (the run was stopped while it waited)")

    def _sleep_unless_stopped(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._uploader.stop():
            if self._given_up.wait(min(left, _STOP_EVERY_S)):
                return


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
    if type(record) is Encoded:
        return record.body
    if record.document is None:
        raise ValueError(
            f"the upsert of {record.object_id!r} has no document: _run must pass on the records it was given,"
            " with their documents"
        )
    return encode_document(record.document)
