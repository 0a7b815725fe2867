"""Ending a run in order when the process, or whoever sent the command, asks for it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType

#: What tells whether whoever sent the command that this thread carries out asks for its end.
_asked_by: ContextVar[Callable[[], bool] | None] = ContextVar("livesync_asked_by", default=None)


@contextmanager
def stopped_by(asked: Callable[[], bool]) -> Iterator[None]:
    """Let ``asked`` end what this thread carries out, in place of signals."""
    token = _asked_by.set(asked)
    try:
        yield
    finally:
        _asked_by.reset(token)


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Give a function that tells whether SIGINT or SIGTERM has come; the old handlers come back in the end.

    The first signal asks the run to end after the batch at hand; a second SIGINT interrupts at once.
    In a thread other than the main one signals are left alone, and the answer is always False, unless
    the command was sent by another process (:func:`stopped_by`).
    """
    by_others = _asked_by.get()
    if by_others is not None:
        yield by_others
        return
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
