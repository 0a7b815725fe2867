"""What is made before it is asked for, in a thread of its own: the buffers of a push."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Supply(Generic[T]):
    """Goes through what can be iterated, in a thread of its own, ahead of who takes it; a context manager.

    Where its block is left, the one that is being made is waited for: nobody else uses then what making it
    uses. Only who interrupts the program does not wait.

    Args:
        source: Makes one after the other; gone through in that thread.
        most: So many wait to be taken, at most, besides the one that is being made.
        weigh: Tells how heavy one is.
        room: So heavy are those that wait, at most; one that is heavier waits alone.
    """

    def __init__(
        self, source: Iterable[T], most: int, weigh: Callable[[T], int] = lambda one: 0, room: int = 0
    ) -> None:
        self._source = source
        self._most = most
        self._weigh = weigh
        self._room = room
        self._made: deque[T] = deque()
        self._error: BaseException | None = None
        self._is_over = self._is_left = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="livesync-peer-supply", daemon=True)

    def take(self) -> T:
        """Return the next one, when it is made.

        Raises:
            StopIteration: There are no more.
            BaseException: What making it raised.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._made or self._is_over)
            if self._made:
                self._changed.notify_all()
                return self._made.popleft()
        raise StopIteration if self._error is None else self._error

    def _has_room(self, one: T) -> bool:
        if self._is_left or not self._made:
            return True
        weight = sum(map(self._weigh, self._made))
        return len(self._made) < self._most and weight + self._weigh(one) <= self._room

    def _put(self, one: T) -> bool:
        """Let one wait to be taken, as soon as there is room; tell whether more are wanted."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(one))
            self._made.append(one)
            self._changed.notify_all()
            return not self._is_left

    def _work(self) -> None:
        try:
            for one in self._source:
                if not self._put(one):
                    break
        except BaseException as exc:  # noqa: BLE001 - it is raised to who takes
            self._error = exc
        finally:
            with self._changed:
                self._is_over = True
                self._changed.notify_all()

    def __enter__(self) -> Supply[T]:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._is_left = True
            self._changed.notify_all()
        if exc is None or isinstance(exc, Exception):
            self._thread.join()
