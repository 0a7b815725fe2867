"""RecordUploader: what a destination is to the rest of livesync.

A destination subclasses it and writes :meth:`RecordUploader._upload_batch`, and the transaction
hooks if it has transactions. Cutting into batches, retries, halving, waiting and counting are in
``sender.py``, the same for all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ..agent import SyncAgent
from ..options import Option
from .backoff import Backoff
from .pace import Pace, Refusals
from .record import Batch, Record, RunResult, Verdict
from .sender import Sender

DEFAULT_BATCH_SIZE: Final = 1000
DEFAULT_MAX_BATCH_BYTES: Final = 5 * 1024 * 1024
DEFAULT_MAX_ATTEMPTS: Final = 5

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
    keeps_pointer: bool = False

    #: Whether ``_upload_batch`` may be called by several threads at once, for batches that have no
    #: object in common: then the option ``in_flight`` holds.
    concurrent: bool = False

    #: Whether :meth:`rows` and :meth:`rows_of` tell what the service holds.
    readable: bool = False

    #: Whether the service can hold the objects' files: records then come with them.
    takes_files: bool = False

    #: Whether ``_upload_batch`` looks at ``Record.document``. Where not, records may come with None there,
    #: upserts too, and their JSON in ``batch.bodies`` only: documents then need not be kept for a batch.
    reads_documents: bool = True

    #: Whether an export can be made into a new place, which then takes the old one's.
    rebuilds: bool = False

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
        #: Waits; None: until :attr:`stop` says True at most.
        self.sleep = sleep
        self.pace = Pace(values.get("requests_per_second"), clock)
        #: How much of what is sent is refused; a run gives it what earlier runs have seen.
        self.refusals = self.count_refusals(())
        #: Asked while waiting for a service: True ends the wait, and the run.
        self.stop: Callable[[], bool] = never
        #: Who is delivering; set by :meth:`open`.
        self.delivery = Delivery(agent.id, "", 0)
        #: The position of the slice's records; set by :meth:`begin_slice`.
        self.till = 0
        self._sender = Sender(self)
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
        return self._sender.send(records)

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


def never() -> bool:
    """Return False: the ``stop`` of whoever gives none."""
    return False


def _limit(agent: SyncAgent, name: str, given: int | None, default: int, least: int = 1) -> int:
    """Return the limit ``name``: as given, else as the agent's option says, else ``default``."""
    value: Any = given if given is not None else agent.values.get(name)
    if value is None:
        return default
    if value < least:
        raise ValueError(f"{name} is at least {least}, not {value}")
    return int(value)
