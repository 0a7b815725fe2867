"""What the stages of a transfer do, at either end: the operations that a controller runs.

A host puts its own before these (:meth:`~livesync.host.Host.sync_operations`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from ...errors import BufferGap, HostError
from ...host import Host
from ...peering.controller import Operation
from ...peering.stages import Stage, Status
from .transfers import Transfer


def initialize(transfer: Transfer) -> Status | Literal[False]:
    """Both ends have agreed: the record is there."""
    return Status.COMPLETED


def serialize(transfer: Transfer) -> Status | Literal[False]:
    """Take the application's own changes, and try again what was deferred."""
    transfer.prepare()
    return Status.COMPLETED


def queue(transfer: Transfer) -> Status | Literal[False]:
    """Whoever runs this has made the offer, or taken it."""
    transfer.offer()
    return Status.COMPLETED


def complete_transferring(transfer: Transfer) -> Status | Literal[False]:
    """Make sure that the last buffer has come, on the receiver's side."""
    record = transfer.view()
    if not record.is_sender and not record.has_last:
        raise BufferGap(f"{record.confirmed} buffers have come, and the last is missing", record.confirmed)
    return Status.COMPLETED


def dequeue(transfer: Transfer) -> Status | Literal[False]:
    """Apply what waits; the sender makes sure that what it had pinned is still so."""
    if transfer.view().is_sender:
        transfer.provider.confirm(transfer.offer())
    else:
        transfer.dequeue()
    return Status.COMPLETED


def deserialize(transfer: Transfer) -> Status | Literal[False]:
    """Claim what the sender claimed, on the receiver's side."""
    if not transfer.view().is_sender:
        transfer.finish()
    return Status.COMPLETED


def clean_up(transfer: Transfer) -> Status | Literal[False]:
    """Nothing is kept but the record: that is done as the end is noted."""
    return Status.COMPLETED


#: The chain of each stage, as livesync brings it.
OPERATIONS: Final[Mapping[Stage, tuple[Operation[Transfer], ...]]] = {
    Stage.INITIALIZING: (initialize,),
    Stage.SERIALIZING: (serialize,),
    Stage.QUEUING: (queue,),
    Stage.TRANSFERRING: (complete_transferring,),
    Stage.DEQUEUING: (dequeue,),
    Stage.DESERIALIZING: (deserialize,),
    Stage.CLEANUP: (clean_up,),
}


def operations_with(host: Host | None) -> Mapping[Stage, tuple[Operation[Transfer], ...]]:
    """Return the chain of each stage, with a host's own operations before livesync's.

    Args:
        host: The application; None: there is none.

    Raises:
        HostError: It names a stage that there is not.
    """
    given = {} if host is None else host.sync_operations()
    names = [stage.value for stage in Stage]
    for name in given:
        if name not in names:
            raise HostError(f"sync_operations: there is no stage {name!r}; there are: {', '.join(names)}")
    return {stage: (*given.get(stage.value, ()), *chain) for stage, chain in OPERATIONS.items()}
