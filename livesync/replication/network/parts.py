"""What the application has changed, taken in parts: while one is on its way, the next one is taken.

Each part is sent by a transfer of its own, which is complete in itself: it is offered, confirmed, applied and
claimed like any other. The next part is begun to be taken when the one before was sent, and is applied at the
other end: no transfer meets what belongs to the next one, and taking it keeps nothing from being sent.
"""

from __future__ import annotations

from functools import partial
from types import TracebackType
from typing import Final

from ..provider import BaseSyncProvider
from .ahead import Ahead

#: Objects that are looked at for the first part.
_FIRST: Final = 3_000

#: Each part is so much larger than the one before: objects are taken about as fast as they are applied, and
#: each transfer has its price: the parts of a million objects are a score.
_GROWTH: Final = 1.2


class Parts:
    """The changes of a provider's application. In its block, a context manager's, a part is taken ahead.

    One thread uses it, but for :meth:`begin_next`.

    Args:
        provider: Whose.
        first: Objects that are looked at for the first part.
    """

    def __init__(self, provider: BaseSyncProvider, first: int = _FIRST) -> None:
        self._provider = provider
        self._first = self._size = first
        self._ahead: Ahead[bool] | None = None
        #: Whether the next part is being taken.
        self._is_begun = False
        #: Whether a part was taken that was not read yet, and which is not the last one.
        self._is_left = False

    @property
    def has_more(self) -> bool:
        """Whether there is, or may be, more than what was read."""
        return self._is_begun or self._is_left

    def take(self) -> None:
        """Take the next part, unless there is one that was not read yet.

        Raises:
            Exception: Whatever the application raises.
        """
        if self._is_begun:
            self._wait()
        elif not self._is_left:
            self._size = self._first
            self._is_left = self._provider.prepare(self._size)

    def take_all(self) -> None:
        """Take all there is: something is to come in.

        Raises:
            Exception: Whatever the application raises.
        """
        if self._is_left:
            self._provider.prepare()
            self._is_left = False

    def begin_next(self) -> None:
        """Begin to take the next part, if there is one: what was taken was read."""
        if self._ahead is not None and self._is_left:
            self._is_left = False
            self._size = round(self._size * _GROWTH)
            self._is_begun = True
            self._ahead.begin(partial(self._provider.prepare, self._size))

    def _wait(self) -> None:
        assert self._ahead is not None
        found = self._ahead.take()
        self._is_begun = False
        if found is not None:
            self._is_left = found()

    def __enter__(self) -> Parts:
        self._ahead = Ahead[bool]().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        ahead, self._ahead = self._ahead, None
        self._is_begun = False
        if ahead is not None:
            ahead.__exit__(kind, exc, trace)
