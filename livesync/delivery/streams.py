"""Several batches under way at once, the records of one object still one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from .record import Batch, RunResult


class Streams:
    """Delivers batches in threads.

    Batches that have an object in common are never under way together: the later one leaves when
    the earlier one is settled to its last record.

    Args:
        deliver: Delivers one batch, adding what became of it to a result; called in threads.
        most: Most batches under way at once.
        give_up: Called when one of them failed, so that the others do not wait for better times.
    """

    def __init__(
        self, deliver: Callable[[Batch, RunResult], None], most: int, give_up: Callable[[], None]
    ) -> None:
        self._deliver = deliver
        self._most = most
        self._give_up = give_up
        self._under_way: dict[Future[None], tuple[frozenset[str], RunResult]] = {}
        self._failures: list[BaseException] = []  # in the order in which they came

    def run(self, batches: Iterable[Batch], result: RunResult) -> None:
        """Deliver all ``batches`` and add what became of them to ``result``.

        Raises:
            Exception: What the first that failed raised, once none is under way any more.
        """
        self._failures.clear()
        with ThreadPoolExecutor(self._most, thread_name_prefix="livesync-stream") as pool:
            try:
                for batch in batches:
                    ids = frozenset(record.object_id for record in batch)
                    while self._must_wait(ids):
                        self._settle_some(result)
                    part = RunResult()
                    self._under_way[pool.submit(self._deliver_one, batch, part)] = (ids, part)
                while self._under_way:
                    self._settle_some(result)
            except BaseException:
                self._give_up()
                self._under_way.clear()
                pool.shutdown(wait=True, cancel_futures=True)
                if self._failures:  # several may have failed before anybody looked
                    raise self._failures[0] from None
                raise

    def _deliver_one(self, batch: Batch, part: RunResult) -> None:
        try:
            self._deliver(batch, part)
        except BaseException as exc:
            self._failures.append(exc)
            raise

    def _must_wait(self, ids: frozenset[str]) -> bool:
        if len(self._under_way) >= self._most:
            return True
        return any(not ids.isdisjoint(others) for others, _ in self._under_way.values())

    def _settle_some(self, result: RunResult) -> None:
        done, _ = wait(self._under_way, return_when=FIRST_COMPLETED)
        for future in done:
            _, part = self._under_way.pop(future)
            future.result()
            result.add(part)
