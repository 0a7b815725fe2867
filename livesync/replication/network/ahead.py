"""What is done while the other end has its turn: the next buffer is made, or asked for, meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Does one piece of work at a time, in a thread of its own; a context manager, for one thread.

    Where its block is left, what is under way is waited for: nobody else uses then what the work uses. Only
    who interrupts the program does not wait.
    """

    def __init__(self) -> None:
        self._todo: SimpleQueue[tuple[Callable[[], T], Future[T]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._next: Future[T] | None = None

    def begin(self, work: Callable[[], T]) -> None:
        """Begin a piece of work; the one before must have been asked for."""
        assert self._next is None, "one piece of work at a time"
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="livesync-peer-ahead", daemon=True)
            self._thread.start()
        self._next = Future()
        self._todo.put((work, self._next))

    def take(self) -> Callable[[], T] | None:
        """Return what waits for what was begun, and gives it or raises what it raised; None: nothing was."""
        found, self._next = self._next, None
        return None if found is None else found.result

    def drop(self) -> None:
        """Wait for what was begun, if anything was, and forget what came of it."""
        found, self._next = self._next, None
        if found is not None:
            found.exception()

    def _work(self) -> None:
        while (todo := self._todo.get()) is not None:
            work, future = todo
            try:
                future.set_result(work())
            except BaseException as exc:  # noqa: BLE001 - it is raised to who takes it
                future.set_exception(exc)
            del work, future, todo

    def __enter__(self) -> Ahead[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._todo.put(None)
        if exc is None or isinstance(exc, Exception):
            self.drop()
            if self._thread is not None:
                self._thread.join()
