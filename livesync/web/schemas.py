"""What goes in and out of the operations: typed values, from which the API's description is made too.

Times are epoch seconds, durations seconds, positions whole numbers (epoch seconds // granularity). Of
secrets there are only references (``env:NAME``, ``file:PATH``).
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

AgentId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")]
ObjectId = Annotated[str, Meta(min_length=1, max_length=512)]
Word = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_.-]{0,63}$")]
Line = Annotated[str, Meta(max_length=1000, pattern=r"^[^\x00-\x1f]*$")]
Position = Annotated[int, Meta(ge=0, le=2**62)]
Interval = Annotated[float, Meta(ge=1, le=366 * 86400.0)]
Cron = Annotated[str, Meta(max_length=200)]
Zone = Annotated[str, Meta(max_length=64, pattern=r"^[A-Za-z0-9_+/-]*$")]
Seconds = Annotated[float, Meta(ge=0, le=366 * 86400.0)]

#: What an option's value may be in a request; each type parses it as the command line does.
OptionValue = str | int | float | bool | None


class Value(Struct, frozen=True, kw_only=True):
    """Base of what goes out."""


class Input(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what comes in: a key that is not known is a mistake."""


# -- where everything stands ---------------------------------------------------------------------


class Counts(Value, frozen=True):
    """What a run, or all of them, came to, as ``delivery.record.RunResult`` has it."""

    read: int = 0
    accepted: int = 0
    stale: int = 0
    coalesced: int = 0
    cancelled: int = 0
    excluded: int = 0
    cascaded: int = 0
    dead: int = 0
    retried: int = 0
    batches: int = 0


class LastRun(Value, frozen=True):
    """What an agent's last run came to; ``ended`` in epoch seconds, None where that is not known."""

    ended: float | None
    seconds: float
    till: int | None
    error: str
    counts: Counts


class Agent(Value, frozen=True):
    """Where an agent stands; the attributes are those of ``livesync.status.AgentStatus``.

    ``holder`` says who runs it now; ``batch_seconds`` is the sum of the seconds that its requests took.
    """

    id: str
    type_name: str
    name: str
    description: str
    state: str
    reason: str
    detail: str
    position: int | None
    lag_actions: int
    lag_seconds: float
    dead: int
    queued: int
    holder: str
    last_error: str
    last_run: LastRun | None
    interval_s: float | None
    totals: Counts
    batch_seconds: float
    cron: str = ""
    zone: str = ""
    next_at: float | None = None
    failures: int = 0
    held_until: float = 0.0
    schedule_problem: str = ""


class Reader(Value, frozen=True):
    """Where a reader that is no agent stands, such as two-way sync's: as ``livesync.status.ReaderStatus``."""

    id: str
    position: int | None
    lag_actions: int
    lag_seconds: float


class Status(Value, frozen=True):
    """Where the track and its readers stand.

    Attributes:
        time: When this was looked at.
        version: Of livesync.
        site: The site that the database belongs to.
        site_matches: Whether this process is of that site; nothing runs here otherwise.
        sealed: Nothing new can appear at or before this position.
        oldest, newest: The track's ends; None where it is empty.
        entries, actions: How many positions, and actions, lie on it.
        waiting: Actions in the inbox, not on the track yet.
        runner: ``running``, ``stopped`` or ``none``: who runs the agents in this process.
        agents: By id.
        readers: Those that are no agents, by id.
    """

    time: float
    version: str
    granularity: int
    site: str
    site_matches: bool
    track_id: str
    sealed: int
    oldest: int | None
    newest: int | None
    entries: int
    actions: int
    waiting: int
    runner: str
    agents: list[Agent]
    readers: list[Reader]


class LagSample(Value, frozen=True):
    """How far one agent was behind at a time, and how many records its service had taken by then."""

    agent_id: str
    lag_actions: int
    lag_seconds: float
    delivered: int


class StatusSample(Value, frozen=True):
    """One look at how far everybody was."""

    time: float
    waiting: int
    agents: list[LagSample]


class Samples(Value, frozen=True):
    """The looks of the last hour, the oldest first."""

    samples: list[StatusSample]


# -- the track -----------------------------------------------------------------------------------


class TrackEntry(Value, frozen=True):
    """One action; ``position`` is None while it waits in the inbox, ``label`` where the host knows none."""

    position: int | None
    object_id: str
    label: str | None
    actions: list[str]
    timestamp: float
    user: str
    note: str


class TrackPage(Value, frozen=True):
    """A part of the track, the newest first; ``next`` is the cursor of what is older, None at the end."""

    entries: list[TrackEntry]
    next: str | None


class WaitingPage(Value, frozen=True):
    """What waits in the inbox, the oldest first; ``more``: not all of it."""

    entries: list[TrackEntry]
    more: bool


# -- agents --------------------------------------------------------------------------------------


class OptionForm(Value, frozen=True):
    """One option of an agent type, for a form: as ``livesync.options.Option``; ``form`` for people."""

    name: str
    type: str
    form: str
    help: str
    default: OptionValue
    required: bool
    choices: list[OptionValue]
    minimum: float | None
    identifies: bool


class AgentType(Value, frozen=True):
    """An agent type that is installed; ``error`` says why one cannot be used."""

    name: str
    help: str
    error: str | None
    options: list[OptionForm]


class AgentTypes(Value, frozen=True):
    """The agent types that are installed."""

    types: list[AgentType]


class AgentPage(Value, frozen=True):
    """Agents by id; ``next`` is the cursor of the rest."""

    agents: list[Agent]
    next: str | None


class AgentDetail(Value, frozen=True):
    """All about one agent; ``missing`` says why its type cannot be loaded, else it is ""."""

    agent: Agent
    options: dict[str, OptionValue]
    given: list[str]
    missing: str
    unfinished_export: bool


class NewAgent(Input, frozen=True):
    """An agent that is to be added."""

    id: AgentId
    type: Annotated[str, Meta(min_length=1, max_length=200)]
    name: Line | None = None
    description: Line = ""
    options: dict[str, OptionValue] = {}


class AgentEdit(Input, frozen=True):
    """What is to be changed of an agent; None leaves as it is, an option of None puts its default back."""

    name: Line | None = None
    description: Line | None = None
    options: dict[str, OptionValue] = {}


class Connection(Input, frozen=True):
    """A type and its options, whose service is to be asked before an agent is added."""

    type: Annotated[str, Meta(min_length=1, max_length=200)]
    options: dict[str, OptionValue] = {}


class Edited(Value, frozen=True):
    """What an edit came to; ``needs_export``: it names another destination now and is stopped."""

    agent: Agent
    needs_export: bool


class Activate(Input, frozen=True):
    """Where a new agent begins: with the oldest action kept, or now; one that has a pointer keeps it."""

    begin: Literal["start", "now"] | None = None


class Activated(Value, frozen=True):
    """An agent that is activated; ``unfinished_export``: its export has yet to be gone on with."""

    agent: Agent
    unfinished_export: bool


class Paused(Value, frozen=True):
    """An agent that is paused; ``holder``: who ends after the slice under way, "" when nobody."""

    agent: Agent
    holder: str


class Rewind(Input, frozen=True):
    """Where a paused agent's pointer goes: a position, or a time (RFC 3339) that comes to one."""

    position: Position | None = None
    time: Annotated[datetime.datetime, Meta(tz=True)] | None = None


class Enqueue(Input, frozen=True):
    """Objects that an agent is to send with its next runs, and the actions that the records carry."""

    object_ids: Annotated[list[ObjectId], Meta(min_length=1, max_length=10_000)]
    actions: Annotated[list[Word], Meta(min_length=1, max_length=16)] = field(
        default_factory=lambda: ["data_changed"]
    )


class Enqueued(Value, frozen=True):
    """How many objects were queued."""

    queued: int


# -- work ----------------------------------------------------------------------------------------


class Export(Input, frozen=True):
    """What an export sends: everything in a mode, or what is ``under`` an object, named, or ``failed``."""

    mode: Literal["initial", "initial-only", "none", "when-needed"] = "initial"
    rebuild: bool = False
    anew: bool = False
    under: ObjectId | None = None
    object_ids: Annotated[list[ObjectId], Meta(max_length=10_000)] = []
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

    object_ids: Annotated[list[ObjectId], Meta(max_length=10_000)] = []
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


# -- the ledger, dead letters, tasks ---------------------------------------------------------------


class Run(Value, frozen=True):
    """A line of the ledger; ``ended`` is None of a run that is at work, or was killed.

    ``balance`` is what was taken less what became of it: 0, or something is missing.
    """

    agent_id: str
    number: int
    kind: str
    began: float
    ended: float | None
    seconds: float
    till: int | None
    error: str
    balance: int
    counts: Counts


class RunPage(Value, frozen=True):
    """Lines of the ledger, the newest first; ``next`` is the cursor of what is older."""

    runs: list[Run]
    next: str | None


class DeadLetter(Value, frozen=True):
    """A record that could not be delivered; the attributes are those of ``upkeep.dead.DeadLetter``."""

    agent_id: str
    object_id: str
    op: str
    position: int
    actions: list[str]
    reason: str
    attempts: int
    first_time: float
    time: float
    size: int
    digest: str


class DeadLetterPage(Value, frozen=True):
    """Dead letters, the newest first; ``total`` is how many there are, ``next`` the cursor of the rest."""

    dead_letters: list[DeadLetter]
    total: int
    next: str | None


class DeadLetterDetail(Value, frozen=True):
    """One dead letter with the document as it was refused; None where none was sent or it is too long."""

    dead_letter: DeadLetter
    document: Any


class Discard(Input, frozen=True):
    """Dead letters that are to be thrown away: of these objects; ``all``: all that there are."""

    object_ids: Annotated[list[ObjectId], Meta(max_length=10_000)] = []
    all: bool = False


class Discarded(Value, frozen=True):
    """How many dead letters are gone."""

    discarded: int


class Schedule(Input, frozen=True):
    """When something runs: every so many seconds, or when a cron expression says (in ``zone``, else UTC)."""

    interval_s: Interval | None = None
    cron: Cron = ""
    zone: Zone = ""


class PeerOutcome(Value, frozen=True):
    """How a session with a peer went, as this end began it; ``error`` is why it failed, or empty.

    Attributes:
        began, ended: Epoch seconds.
        pushed, pulled: Items.
        refused: Items that were left out, since they may not be written.
        conflicts: Conflicts that were settled here.
        bytes_sent, bytes_received: Of bodies, as they travelled.
        resumed: Whether it went on with one that was cut.
    """

    session_id: str
    began: float
    ended: float
    error: str
    pushed: int
    pulled: int
    refused: int
    conflicts: int
    bytes_sent: int
    bytes_received: int
    resumed: bool


class Peer(Value, frozen=True):
    """Another node that this one syncs with.

    Attributes:
        push, pull: Partitions that are sent and asked for; None: all that the certificates allow.
        outcomes: Of the last sessions, the newest first.
    """

    name: str
    url: str
    profile: str
    push: list[str] | None
    pull: list[str] | None
    outcomes: list[PeerOutcome]


class PeerTransfer(Value, frozen=True):
    """What travels one way in a session: how far it has come."""

    id: str
    sends: bool
    filter: list[str]
    stage: str
    status: str
    active: bool
    items: int
    refused: int
    bytes_sent: int
    bytes_received: int
    error: str


class PeerSession(Value, frozen=True):
    """A session with a peer, begun or (``served``) served here; times are epoch seconds."""

    id: str
    served: bool
    peer: str
    peer_provider: str
    profile: str
    started: float
    last_active: float
    active: bool
    transfers: list[PeerTransfer]


class PeerConflict(Value, frozen=True):
    """What was changed on several nodes at once, or could not be applied; open while ``resolved`` is None."""

    id: str
    created: float
    resolved: float | None
    kind: str
    entity: str
    item: str
    partition: str
    reason: str


class Peers(Value, frozen=True):
    """Two-way sync of this database.

    Attributes:
        provider: Its id; None: it takes no part.
        peers: Those that it knows, by name.
        sessions: The last fifty, the newest first.
        conflicts: The last fifty, the newest first.
        open_conflicts: How many could not be applied yet.
    """

    provider: str | None
    peers: list[Peer]
    sessions: list[PeerSession]
    conflicts: list[PeerConflict]
    open_conflicts: int


class TaskRun(Value, frozen=True):
    """What a task's last run came to; ``summary`` are plain values by the task's own names."""

    ended: float
    seconds: float
    error: str
    summary: dict[str, Any]


class Task(Value, frozen=True):
    """A periodic task and where it stands; what an agent has too is as there."""

    id: str
    kind: str
    options: dict[str, OptionValue]
    interval_s: float | None
    cron: str
    zone: str
    next_at: float | None
    failures: int
    held_until: float
    holder: str
    schedule_problem: str
    last_run: TaskRun | None


class TaskPage(Value, frozen=True):
    """Periodic tasks by id; ``next`` is the cursor of the rest."""

    tasks: list[Task]
    next: str | None


class TaskKind(Value, frozen=True):
    """A kind of task that is installed; ``error`` says why one cannot be used."""

    name: str
    help: str
    error: str | None
    options: list[OptionForm]


class TaskKinds(Value, frozen=True):
    """The kinds of tasks that are installed."""

    kinds: list[TaskKind]


class NewTask(Input, frozen=True):
    """A periodic task that is to be added."""

    id: AgentId
    kind: Annotated[str, Meta(min_length=1, max_length=200)]
    options: dict[str, OptionValue] = {}
    interval_s: Interval | None = None
    cron: Cron = ""
    zone: Zone = ""


class Prune(Input, frozen=True):
    """What the track may drop: what is older than ``keep_s`` (seven days), or lies below ``before``."""

    keep_s: Seconds | None = None
    before: Position | None = None
    leave_behind: bool = False


class HeldBack(Value, frozen=True):
    """An agent for whose sake much is kept; ``text`` for people."""

    agent_id: str
    days: float
    actions: int
    bytes: int
    text: str


class Pruned(Value, frozen=True):
    """How many actions were dropped; agents that lost something and need an export; who holds much back."""

    dropped: int
    left_behind: list[str]
    held_back: list[HeldBack]


# -- who asks ------------------------------------------------------------------------------------


class Me(Value, frozen=True):
    """Who makes the request; ``via``: ``session``, ``token`` or ``host``. The token is for pages' scripts."""

    name: str
    role: str
    via: str
    csrf_token: str | None


class Login(Input, frozen=True):
    """A name and a password."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    password: Annotated[str, Meta(min_length=1, max_length=1024)]


class ErrorDetail(Value, frozen=True):
    """Where in a request something is wrong, and what."""

    where: str
    message: str


class ErrorBody(Value, frozen=True):
    """What went wrong: ``code`` for programs, ``message`` for people; ``incident`` finds it in the log."""

    code: str
    message: str
    details: list[ErrorDetail] = []
    incident: str = ""


class Error(Value, frozen=True):
    """The one form of all errors."""

    error: ErrorBody


# -- versions of documents -------------------------------------------------------------------------


class Collections(Value, frozen=True):
    """The collections whose versions are kept, by name."""

    collections: list[str]


class VersionCounts(Value, frozen=True):
    """How many documents a version created, changed and deleted."""

    created: int
    changed: int
    deleted: int


class Version(Value, frozen=True):
    """A version of a collection's documents.

    ``name`` is its branch and number, "" where it has none any more; ``parents`` are ids, the first one
    first; ``names`` the branches and tags that point at it; ``graph`` the lines that draw it beside others.
    """

    id: str
    name: str
    time: float
    author: str
    message: str
    parents: list[str]
    counts: VersionCounts
    names: list[str]
    graph: list[str]


class VersionPage(Value, frozen=True):
    """Versions of all branches, the newest first; ``next`` is the cursor of what is older."""

    versions: list[Version]
    next: str | None


class DocumentChange(Value, frozen=True):
    """What became of a document: ``created``, ``changed`` or ``deleted``; ``lines`` of a unified diff."""

    document_id: str
    change: str
    lines: list[str]


class VersionDetail(Value, frozen=True):
    """A version and what it changed; ``more`` documents are not shown."""

    version: Version
    changes: list[DocumentChange]
    more: int


class VersionOfDocument(Value, frozen=True):
    """A version that changed a document, and how: ``lines`` of a unified diff."""

    version: Version
    change: str
    lines: list[str]


class DocumentHistory(Value, frozen=True):
    """The versions that changed a document, the newest first; ``next`` is the cursor of what is older."""

    versions: list[VersionOfDocument]
    next: str | None
