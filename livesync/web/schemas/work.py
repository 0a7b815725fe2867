"""What takes longer than a request, and what came of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, field

from .base import Input, ObjectId, Value
from .standing import Counts


class Export(Input, frozen=True):
    """What an export sends: everything in a mode, or what is ``under`` an object, named, or ``failed``."""

    mode: Literal["initial", "initial-only", "none", "when-needed"] = "initial"
    rebuild: bool = False
    anew: bool = False
    under: ObjectId | None = None
    object_ids: Annotated[list[ObjectId], Meta(max_length=10_000)] = field(default_factory=list)
    failed: bool = False


class Verify(Input, frozen=True):
    """How a service is compared; ``quick``: by ids and positions only."""

    quick: bool = False


class Simulate(Input, frozen=True):
    """What is shown of what a run would send: at most ``limit`` records, with documents or without."""

    documents: bool = False
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class Retry(Input, frozen=True):
    """Dead letters that are to be sent again: of these objects; ``all``: all that there are."""

    object_ids: Annotated[list[ObjectId], Meta(max_length=10_000)] = field(default_factory=list)
    all: bool = False


class RunOutcome(Value, frozen=True, tag_field="kind", tag="run"):
    """What a run, an export, a repair or a retry came to; ``complete``: it came to its end.

    ``left_alone`` says which runner holds the agent, where nothing was done for that reason.
    """

    complete: bool
    seconds: float
    till: int | None
    counts: Counts
    state: str
    left_alone: str = ""


class Difference(Value, frozen=True):
    """One object in which service and application differ: missing, stale, orphaned, or not_comparable."""

    kind: str
    object_id: str
    detail: str


class VerifyOutcome(Value, frozen=True, tag_field="kind", tag="verify"):
    """What a verification came to: counts, and the first hundred differences.

    ``repaired`` is what mending them came to, where it was asked for.
    """

    complete: bool
    differs: bool
    checked: int
    expected: int
    held: int
    missing: int
    stale: int
    orphaned: int
    pending: int
    not_comparable: int
    kept_back: int
    seconds: float
    differences: list[Difference]
    repaired: RunOutcome | None = None


class SimulatedRecord(Value, frozen=True):
    """A record that a run would send; ``document`` as its service would get it."""

    op: str
    object_id: str
    position: int
    actions: list[str]
    document: Any = None


class SimulateOutcome(Value, frozen=True, tag_field="kind", tag="simulate"):
    """The first records that a run would send; ``more``: not all of them."""

    records: list[SimulatedRecord]
    more: bool


class TestOutcome(Value, frozen=True, tag_field="kind", tag="test"):
    """What a service answered, for people; ``ok``: it can be delivered to."""

    ok: bool
    text: str


class TaskOutcome(Value, frozen=True, tag_field="kind", tag="task"):
    """What a periodic task came to; ``left_alone`` says which runner is at it, where nothing was done."""

    seconds: float
    summary: dict[str, Any]
    left_alone: str = ""


class Problem(Value, frozen=True):
    """What went wrong: a code for programs, a line for people."""

    code: str
    message: str


class Job(Value, frozen=True):
    """Work that somebody has asked for.

    Attributes:
        kind: ``run``, ``export``, ``verify``, ``repair``, ``simulate``, ``retry``, ``test`` or ``task``.
        agent_id: Whose it is; of a ``task``, the task.
        state: ``waiting``, ``running``, ``done``, ``failed`` or ``cancelled`` (it ended early when asked to).
        who: Who asked for it.
        done, total: How many objects are done, of how many, where that is known.
        result: What it came to, once it has ended.
        error: Why it failed.
    """

    id: str
    kind: str
    agent_id: str
    state: str
    who: str
    created: float
    began: float | None
    ended: float | None
    done: int
    total: int | None
    result: RunOutcome | VerifyOutcome | SimulateOutcome | TestOutcome | TaskOutcome | None
    error: Problem | None


class JobPage(Value, frozen=True):
    """Jobs, the newest first, without their results; ``next`` is the cursor of the rest."""

    jobs: list[Job]
    next: str | None
