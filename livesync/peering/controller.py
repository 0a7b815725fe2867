"""Runs a transfer's stages: for each, a chain of operations, the first of which that takes it decides.

An operation is called with the context and returns the stage's status, or False: the next one is asked. So a
host puts one of its own before those that livesync brings, for the cases that it cares about::

    controller = SessionController({**operations, Stage.CLEANUP: [MyCleanup(), *operations[Stage.CLEANUP]]})

An operation may raise: the stage is ``errored``, with the reason, and may be run again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from .stages import Stage, Status, check_step, stages_until

logger = logging.getLogger(__name__)


class TransferContext(Protocol):
    """What operations are given; :class:`livesync.replication.network.transfers.Transfer` is one."""

    @property
    def transfer_id(self) -> str:
        """The transfer."""

    def standing(self) -> tuple[Stage, Status]:
        """Return how far the transfer has come."""

    def become(self, stage: Stage, status: Status, error: str = "") -> None:
        """Note how far it has come now, in a transaction of its own."""

    def is_long(self, stage: Stage) -> bool:
        """Tell whether a stage may take so long that somebody will want to see it started."""


Context = TypeVar("Context", bound=TransferContext)


#: A part of a stage's work: returns COMPLETED, PENDING (there is more to come) or False (it is the next
#: one's). Idempotent: a stage that was not completed is run again.
Operation = Callable[[Context], "Status | Literal[False]"]


@dataclass(frozen=True, slots=True)
class StageEvent:
    """What listeners are told: a stage has ``started``, is ``completed``, or has ``failed``."""

    transfer_id: str
    stage: Stage
    moment: str
    error: BaseException | None = None


class SessionController(Generic[Context]):
    """Runs stages.

    Args:
        operations: The chain of each stage.
        listeners: Called with each :class:`StageEvent`, in order.
    """

    def __init__(
        self,
        operations: Mapping[Stage, Sequence[Operation[Context]]],
        listeners: Iterable[Callable[[StageEvent], None]] = (),
    ) -> None:
        self._operations = {stage: tuple(chain) for stage, chain in operations.items()}
        self.listeners = list(listeners)

    def proceed_to(self, until: Stage, context: Context) -> Status:
        """Run what is left of the stages up to and with ``until``, and return the status of the last one run.

        It ends before that where a stage stays ``pending``: there is something to wait for.

        Raises:
            NotImplementedError: No operation takes a stage.
            Exception: What an operation raised; the stage is errored.
        """
        now, status = context.standing()
        stages = stages_until(now, status, until)
        for stage in stages:
            check_step(now, status, stage, Status.STARTED)
            status = self._run(stage, context)
            check_step(stage, Status.STARTED, stage, status)
            now = stage
            # a transaction for each step would cost more than what most of them do
            if status is not Status.COMPLETED or stage is stages[-1]:
                context.become(stage, status)
            if status is not Status.COMPLETED:
                break
        return status

    def _run(self, stage: Stage, context: Context) -> Status:
        if context.is_long(stage):
            context.become(stage, Status.STARTED)
        self._tell(StageEvent(context.transfer_id, stage, "started"))
        try:
            status = self._ask(stage, context)
        except Exception as exc:
            context.become(stage, Status.ERRORED, one_line(exc))
            self._tell(StageEvent(context.transfer_id, stage, "failed", exc))
            raise
        if status is Status.COMPLETED:
            self._tell(StageEvent(context.transfer_id, stage, "completed"))
        return status

    def _ask(self, stage: Stage, context: Context) -> Status:
        for operation in self._operations.get(stage, ()):
            status: Status | Literal[False] = operation(context)
            if status is not False:
                return status
        raise NotImplementedError(f"no operation takes {stage.value} of transfer {context.transfer_id}")

    def _tell(self, event: StageEvent) -> None:
        logger.debug("transfer %s: %s %s", event.transfer_id, event.stage.value, event.moment)
        for listener in self.listeners:
            listener(event)


def one_line(exc: BaseException) -> str:
    """Return what an exception says, as one line."""
    return " ".join(f"{type(exc).__name__}: {exc}".split())[:1000]
