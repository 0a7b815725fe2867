"""What a periodic task is, and how its kind is found.

A task is stored with the manager as (kind, options, schedule); its class is looked up when it runs.
What a kind does is a class of its own, so that other rooms and other packages bring more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ..errors import UsageError
from ..imports import import_object
from ..manager import SyncManager
from ..options import Option, parse_options

if TYPE_CHECKING:
    from ..host import Host

#: Entry-point group in which other packages' kinds of tasks are found by a short name.
TASK_GROUP: Final = "livesync.tasks"

#: The kinds that livesync brings, by name.
OWN_KINDS: Final[Mapping[str, str]] = {
    "prune": "livesync.periodic.kinds:Prune",
    "cleanup": "livesync.periodic.kinds:Cleanup",
    "two-way": "livesync.periodic.two_way:TwoWay",
    "verify": "livesync.periodic.kinds:Verify",
    "versions": "livesync.periodic.versions:PruneVersions",
}


@dataclass(frozen=True, slots=True)
class TaskContext:
    """What a task is given to work with.

    Attributes:
        db: The open ``ZODB.DB``.
        host: The application.
        now: Epoch seconds: when the task began.
        stop: Asked now and then; True: end in good order.
        check: Raises LeaseLost where another runner has taken the task over, in the snapshot of the
            manager that it is called with. A task calls it in each transaction that changes something.
    """

    db: Any
    host: Host
    now: float
    stop: Callable[[], bool]
    check: Callable[[SyncManager], None]


class PeriodicTask(ABC):
    """One kind of task. A subclass declares its options and says what it does.

    Args:
        options: Values by the names of the declared options; text is parsed.

    Raises:
        OptionError: An option is unknown, missing, or has a value of a wrong form.
    """

    #: What can be set.
    options: ClassVar[tuple[Option, ...]] = ()

    def __init__(self, **options: Any) -> None:
        self.values: Mapping[str, Any] = parse_options(self.options, options)

    @abstractmethod
    def run(self, context: TaskContext) -> dict[str, Any]:
        """Do it once, and return what it came to: a few plain values, kept and shown to people.

        Called between transactions, by one runner at a time. It commits short transactions of its
        own, may be broken off anywhere, and is then done again.

        Raises:
            LiveSyncError: It did not work; the text says why. Any other exception counts as that too.
        """


def task_kinds() -> list[str]:
    """Return the names of the kinds of tasks that are installed, none of them loaded."""
    return sorted({*OWN_KINDS, *(point.name for point in metadata.entry_points(group=TASK_GROUP))})


def load_kind(name: str) -> type[PeriodicTask]:
    """Return the class of a kind of task.

    Raises:
        UsageError: There is none of this name, it cannot be imported, or it is no kind of task.
    """
    reference = OWN_KINDS.get(name)
    if reference is None:
        points = {point.name: point.value for point in metadata.entry_points(group=TASK_GROUP)}
        reference = points.get(name)
    if reference is None:
        raise UsageError(f"there is no kind of task {name!r}; there are: {', '.join(task_kinds())}")
    try:
        found = import_object(reference)
    except ImportError as exc:
        raise UsageError(f"the kind of task {name!r} cannot be imported: {exc}") from exc
    if not (isinstance(found, type) and issubclass(found, PeriodicTask)):
        raise UsageError(
            f"{reference} is no kind of task: not a subclass of livesync.periodic.base.PeriodicTask"
        )
    return found
