"""What a client of a session tells whoever listens: a progress bar, a log.

There are four groups: ``session`` (a transfer, from its beginning to its end), ``queuing`` (both ends agree
on what is sent), ``transferring`` (buffers travel) and ``dequeuing`` (what has come is applied and claimed).
Each has three signals: ``started``, ``in_progress`` and ``completed``. A listener is called with a
:class:`TransferProgress`, in the thread of the transfer; what it raises ends the transfer, which goes on in
the next session.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

#: The groups of signals, in the order in which they begin.
GROUPS: Final = ("session", "queuing", "transferring", "dequeuing")


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """How far a transfer has come.

    Attributes:
        transfer_id: The transfer.
        direction: ``push`` or ``pull``.
        items: Items that the receiver has, those of earlier sessions among them.
        total: How many there will be, as it was when they were offered; None: not known yet, or too many
            to be counted beforehand.
        buffers: Buffers that it has.
        refused: Items that it left out, since the sender may not write them.
        bytes_sent, bytes_received: Of bodies, in this session, as they travelled.
        resumed: Items that the receiver had when this session began.
    """

    transfer_id: str
    direction: str
    items: int = 0
    total: int | None = None
    buffers: int = 0
    refused: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    resumed: int = 0

    def with_next(self, news: TransferProgress) -> TransferProgress:
        """Return this and what a transfer that followed it has brought, counted together."""
        return replace(
            news,
            items=self.items + news.items,
            total=None if self.total is None or news.total is None else self.total + news.total,
            buffers=self.buffers + news.buffers,
            refused=self.refused + news.refused,
            bytes_sent=self.bytes_sent + news.bytes_sent,
            bytes_received=self.bytes_received + news.bytes_received,
            resumed=self.resumed + news.resumed,
        )


Listener = Callable[[TransferProgress], None]


class Signal:
    """Something that happens, and who is told."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []

    def connect(self, listener: Listener) -> None:
        """Tell ``listener``, after those that were connected before."""
        self._listeners.append(listener)

    def disconnect(self, listener: Listener) -> None:
        """Tell it no more.

        Raises:
            ValueError: It was not told.
        """
        self._listeners.remove(listener)

    def fire(self, progress: TransferProgress) -> None:
        """Tell all listeners."""
        for listener in tuple(self._listeners):
            listener(progress)


class SignalGroup:
    """The three signals of something that takes its time."""

    def __init__(self) -> None:
        #: It begins.
        self.started = Signal()
        #: It has come further.
        self.in_progress = Signal()
        #: It is done.
        self.completed = Signal()


class SyncClientSignals:
    """The signals of a client."""

    def __init__(self) -> None:
        #: A transfer, from its beginning to its end.
        self.session = SignalGroup()
        #: Both ends agree on what is sent.
        self.queuing = SignalGroup()
        #: Buffers travel.
        self.transferring = SignalGroup()
        #: What has come is applied and claimed.
        self.dequeuing = SignalGroup()

    def groups(self) -> tuple[tuple[str, SignalGroup], ...]:
        """Return the groups by name, in the order in which they begin."""
        return tuple((name, getattr(self, name)) for name in GROUPS)
