"""The numbers of a session's requests: each is used once, and what comes twice has the same answer.

A process remembers the last number of each session that it has served, what was asked, and the answer. So
that a request that somebody recorded is of no use later, and yet not every request is a write, numbers are
taken from the database in blocks: the record says which one is the highest that may have been used. A process
that does not know a session, since it was started again or since another one serves it too, takes only
numbers above that, and says where to go on.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from pyramid.response import Response

from ..peering.wire import MAX_SEQUENCE
from .problems import Refused

#: How many numbers are taken from the database at once.
BLOCK: Final = 64

#: Sessions that are remembered, and bytes of the answers that are kept with them.
_REMEMBERED: Final = 10_000
_KEPT_BYTES: Final = 64_000_000

#: Takes a block: given the highest number known to be used (None: not known) and the number that is asked
#: for, returns the new highest, or raises :class:`Refused`.
Reserve = Callable[[int | None, int], int]


@dataclass(slots=True)
class _Live:
    """What is remembered of a session."""

    session_id: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    ceiling: int | None = None
    last: int = 0
    asked: bytes = b""
    answer: Response | None = None


class Sequences:
    """The numbers of all sessions that this process serves. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._live: OrderedDict[str, _Live] = OrderedDict()
        self._kept = 0

    @contextmanager
    def turn(self, session_id: str, number: int, asked: bytes, reserve: Reserve) -> Iterator[Turn]:
        """Let one request of a session be served at a time.

        Args:
            session_id: The session.
            number: The request's.
            asked: Tells requests apart: a digest of all that was signed.
            reserve: Takes numbers from the database.

        Raises:
            Refused: The number was used for another request, or is not one to go on with.
        """
        live = self._of(session_id)
        with live.lock:
            if number == live.last and live.ceiling is not None:
                if asked != live.asked:
                    raise Refused(
                        "sequence",
                        f"number {number} was used for another request of this session",
                        next_sequence=live.last + 1,
                    )
                yield Turn(self, live, live.answer)
                return
            if live.ceiling is not None and number < live.last:
                raise Refused("sequence", f"number {number} was used before", next_sequence=live.last + 1)
            if live.ceiling is None or number > live.ceiling:
                live.ceiling = reserve(live.ceiling, number)
            self._forget_answer(live)
            live.last, live.asked = number, asked
            yield Turn(self, live, None)

    def _of(self, session_id: str) -> _Live:
        with self._lock:
            live = self._live.get(session_id)
            if live is None:
                live = self._live[session_id] = _Live(session_id)
            self._live.move_to_end(session_id)
            while len(self._live) > _REMEMBERED or (self._kept > _KEPT_BYTES and len(self._live) > 1):
                _, old = self._live.popitem(last=False)
                self._kept -= _size(old.answer)
                old.answer = None
            return live

    def forget(self, session_id: str) -> None:
        """Remember nothing of a session."""
        with self._lock:
            live = self._live.pop(session_id, None)
            if live is not None:
                self._kept -= _size(live.answer)
                live.answer = None

    def _forget_answer(self, live: _Live) -> None:
        with self._lock:
            if self._live.get(live.session_id) is live:
                self._kept -= _size(live.answer)
            live.answer = None

    def keep(self, live: _Live, answer: Response) -> None:
        """Keep an answer until the next request of its session."""
        with self._lock:
            if self._live.get(live.session_id) is live:
                self._kept += _size(answer) - _size(live.answer)
                live.answer = answer


@dataclass(frozen=True, slots=True)
class Turn:
    """A request's turn.

    Attributes:
        answer: What was answered when the same request came before; None: it is to be served.
    """

    sequences: Sequences
    live: _Live
    answer: Response | None

    def keep(self, answer: Response) -> None:
        """Keep what is answered, for when the same request comes again."""
        self.sequences.keep(self.live, answer)


def reserved(stored: int, known: int | None, number: int) -> int:
    """Return the new highest number that may be used; pure.

    Args:
        stored: What the record says.
        known: What this process thought that it says; None: it knows nothing.
        number: What is asked for.

    Raises:
        Refused: Another process has served the session, or nobody knows: the number is not above what may
            have been used.
    """
    if stored != known and number <= stored:
        raise Refused(
            "sequence",
            f"number {number} may have been used: go on with {stored + 1}",
            next_sequence=stored + 1,
        )
    if number > MAX_SEQUENCE or number > stored + 1_000_000:
        raise Refused(
            "sequence", f"number {number} is too high: go on with {stored + 1}", next_sequence=stored + 1
        )
    return max(stored, number) + BLOCK


def _size(answer: Response | None) -> int:
    return 0 if answer is None else len(answer.body)
