"""The stages of a transfer, and what may follow what. Pure.

====================  ============================================================================
stage                 what it does
====================  ============================================================================
``initializing``      the two agree on what is sent, and whether it may be
``serializing``       what the application has changed is taken from its track
``queuing``           the sender pins what it claims, and offers it; the receiver begins
``transferring``      buffers travel, one after the other, each confirmed
``dequeuing``         buffers that wait are applied to the store
``deserializing``     what could not be applied before is tried again; the receiver claims all of it
``cleanup``           nothing more of the transfer is kept but its record
====================  ============================================================================

Within a stage the status goes from ``pending`` to ``started`` to ``completed``, or to ``errored``; a stage
that is not completed is run again, since every operation is idempotent. No stage is ever gone back to.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final


class Stage(Enum):
    """A stage of a transfer, in order."""

    INITIALIZING = "initializing"
    SERIALIZING = "serializing"
    QUEUING = "queuing"
    TRANSFERRING = "transferring"
    DEQUEUING = "dequeuing"
    DESERIALIZING = "deserializing"
    CLEANUP = "cleanup"

    @property
    def number(self) -> int:
        """Its place in the order, from 0."""
        return _NUMBERS[self]


class Status(Enum):
    """How far a stage has come."""

    PENDING = "pending"
    STARTED = "started"
    COMPLETED = "completed"
    ERRORED = "errored"


_NUMBERS: Final = {stage: number for number, stage in enumerate(Stage)}

#: status -> those that may follow within a stage.
FOLLOWING: Final[Mapping[Status, frozenset[Status]]] = {
    Status.PENDING: frozenset({Status.PENDING, Status.STARTED, Status.ERRORED}),
    Status.STARTED: frozenset({Status.PENDING, Status.STARTED, Status.COMPLETED, Status.ERRORED}),
    Status.ERRORED: frozenset({Status.STARTED, Status.ERRORED}),
    Status.COMPLETED: frozenset({Status.COMPLETED}),
}


def check_step(stage: Stage, status: Status, new_stage: Stage, new_status: Status) -> None:
    """Make sure that a transfer may go from one stage and status to another.

    The stage after one that is completed is entered with ``pending`` or ``started``; stages are not skipped.

    Raises:
        ValueError: It may not.
    """
    if new_stage is stage:
        allowed = new_status in FOLLOWING[status]
    else:
        allowed = (
            new_stage.number == stage.number + 1
            and status is Status.COMPLETED
            and new_status in (Status.PENDING, Status.STARTED)
        )
    if not allowed:
        raise ValueError(
            f"a transfer does not go from {stage.value} ({status.value})"
            f" to {new_stage.value} ({new_status.value})"
        )


def stages_until(stage: Stage, status: Status, until: Stage) -> tuple[Stage, ...]:
    """Return the stages that are to be run, in order, so that ``until`` is completed."""
    first = stage.number + (status is Status.COMPLETED)
    return tuple(found for found in Stage if first <= found.number <= until.number)
