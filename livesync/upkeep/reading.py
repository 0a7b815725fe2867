"""Reading back what a service holds, with patience: one that is not ready is asked again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Sequence
from itertools import islice
from typing import Final

from ..delivery.uploader import HeldRow, RecordUploader
from ..errors import RetryLater, ServiceRefuses
from .side_by_side import first_out_of_order

logger = logging.getLogger(__name__)

#: Rows that are looked at together.
_PAGE: Final = 2_000

#: Ids that a service is asked for at once.
_ASKED: Final = 1_000

#: How often somebody who waits asks whether to end.
_STOP_EVERY_S: Final = 0.25


class Reader:
    """Reads what a service holds by way of an uploader that is open.

    It waits between tries as the uploader does when it sends: ``max_attempts`` times at most, unless
    something has come in between.

    Args:
        uploader: One that is ``readable``.
    """

    def __init__(self, uploader: RecordUploader) -> None:
        self._uploader = uploader

    def rows(self, quick: bool) -> Generator[list[HeldRow], None, None]:
        """Yield all rows in lists, by ascending ids, going on where the service broke off.

        Args:
            quick: Leave the digests out.

        Raises:
            ServiceRefuses: They cannot be read, or do not ascend.
            RetryLater: The service was not ready in ``max_attempts`` tries.
        """
        after: str | None = None
        attempts = 0
        while True:
            rows = self._uploader.rows(after, quick)
            try:
                while page := list(islice(rows, _PAGE)):
                    _check_order(page, after)
                    yield page
                    after, attempts = page[-1].object_id, 0
                return
            except RetryLater as exc:
                attempts += 1
                self._wait(attempts, exc)

    def rows_of(self, object_ids: Sequence[str]) -> dict[str, HeldRow]:
        """Return what is held of these objects, by id.

        Raises:
            ServiceRefuses: It cannot be read.
            RetryLater: The service was not ready in ``max_attempts`` tries.
        """
        held: dict[str, HeldRow] = {}
        asked = [object_id for object_id in object_ids if _can_be_held(object_id)]
        begin = attempts = 0
        while begin < len(asked):
            try:
                found = self._uploader.rows_of(asked[begin : begin + _ASKED])
            except RetryLater as exc:
                attempts += 1
                self._wait(attempts, exc)
                continue
            held.update((row.object_id, row) for row in found)
            begin, attempts = begin + _ASKED, 0
        return held

    def _wait(self, attempts: int, exc: RetryLater) -> None:
        """Wait before the service is asked again.

        Raises:
            RetryLater: It was asked ``max_attempts`` times, or the wait was ended.
        """
        up = self._uploader
        reason = " ".join(str(exc).split())
        if up.max_attempts and attempts >= up.max_attempts:
            raise RetryLater(exc.after_s, f"{reason} (given up after {attempts} tries)") from exc
        delay_s = up.backoff.delay_s(attempts, exc.after_s)
        logger.warning(
            "agent %s: what is held could not be read, try %d of %s, again in %.1f s: %s",
            up.agent.id, attempts, up.max_attempts or "any number", delay_s, reason,
        )  # fmt: skip
        (up.sleep or sleeper(up.stop))(delay_s)
        if up.stop():
            raise RetryLater(exc.after_s, f"{reason} (stopped while it waited)") from exc


def _can_be_held(object_id: str) -> bool:
    """Tell whether an id can be written as UTF-8: objects of another id are never sent."""
    if object_id.isascii():
        return True
    try:
        object_id.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_order(rows: list[HeldRow], after: str | None) -> None:
    ids = [row[0] for row in rows]
    at = first_out_of_order(ids, after)
    if at is not None:
        before = ids[at - 1] if at else after
        raise ServiceRefuses(
            f"the service tells of {ids[at]!r} after {before!r}: its rows must come by ascending ids, by code"
            " points"
        )


def sleeper(stop: Callable[[], bool]) -> Callable[[float], None]:
    """Return what sleeps for so many seconds, until ``stop`` says True at most."""

    def sleep(seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not stop():
            time.sleep(min(left, _STOP_EVERY_S))

    return sleep
