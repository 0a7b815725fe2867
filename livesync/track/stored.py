"""The persistent classes of livesync, apart from the manager and the tracks.

Whatever lies in a ZODB outlives the code that wrote it, so these classes hold state and nothing
else, their import paths never change, and what they hold are BTrees, tuples, dicts and plain
values. The algorithms are beside them (``multipointer.py``, ``inbox.py``, ``queue.py``) and in
``manager.py``, ``leases.py`` and ``delivery/``.
"""

from __future__ import annotations

from typing import Any

from BTrees.LOBTree import LOBTree
from BTrees.OOBTree import OOBTree
from persistent import Persistent

from .packed import pack_positions, pack_values, unpack_positions, unpack_value, unpack_values

#: What ``SyncManager.schema`` is for data of this code.
SCHEMA = 2

#: Older schemas whose inbox is the same: transactions of the application go on recording into them.
SCHEMAS_TO_RECORD = (1,)


class Page(Persistent):
    """A few hundred values of a track in order, each with its position; packed unless it is being changed."""

    packed: tuple[tuple[int, ...], tuple[Any, ...]] | None = None
    lists: tuple[list[int], list[Any]] | None = None

    def __init__(self, positions: list[int], values: list[Any]) -> None:
        self.lists = (positions, values)

    def __getstate__(self) -> tuple[tuple[int, ...], tuple[Any, ...]]:
        if self.packed is not None:
            return self.packed
        assert self.lists is not None
        return pack_positions(self.lists[0]), pack_values(self.lists[1])

    def __setstate__(self, state: tuple[tuple[int, ...], tuple[Any, ...]]) -> None:
        self.packed, self.lists = state, None

    def read(self) -> tuple[list[int], list[Any]]:
        """Return positions and values, not to be changed."""
        if self.lists is not None:
            return self.lists
        assert self.packed is not None
        return unpack_positions(self.packed[0]), unpack_values(self.packed[1])

    def held(self) -> tuple[list[int], list[Any] | tuple[Any, ...]]:
        """Return positions, and the values as they are: in a list or packed; neither is to be changed."""
        if self.lists is not None:
            return self.lists
        assert self.packed is not None
        return unpack_positions(self.packed[0]), self.packed[1]

    def positions(self) -> list[int]:
        """Return the positions, not to be changed; the values are left packed."""
        if self.lists is not None:
            return self.lists[0]
        assert self.packed is not None
        return unpack_positions(self.packed[0])

    def value(self, at: int) -> Any:
        """Return one value; the others are left packed."""
        if self.lists is not None:
            return self.lists[1][at]
        assert self.packed is not None
        return unpack_value(self.packed[1], at)

    def change(self) -> tuple[list[int], list[Any]]:
        """Return positions and values to be changed in place; the page will be stored anew."""
        lists = self.lists = self.read()
        self.packed = None
        return lists

    @classmethod
    def of_packed(cls, packed: tuple[tuple[int, ...], tuple[Any, ...]]) -> Page:
        """Return a page of what ``pack_positions`` and ``pack_values`` have made."""
        page = cls.__new__(cls)
        page.replace(packed)
        return page

    def replace(self, packed: tuple[tuple[int, ...], tuple[Any, ...]]) -> None:
        """Hold this, packed, in place of what is there; the page will be stored anew."""
        self.packed, self.lists = packed, None

    def pack(self) -> None:
        """Give up the lists, which take some ten times the memory."""
        self.packed, self.lists = self.__getstate__(), None


class Lane(Persistent):
    """One connection's part of the inbox: the last few transactions, oldest first.

    Attributes:
        entries: ``(commit id or None, payload)`` each. A commit's id is known only once it is made,
            so the next append notes it (the lane's own ``_p_serial``); None stands for what the
            lane's current revision brought.
        replaced: The ``_p_serial`` of the revision that the last append replaced (None: never
            written). Where storage says otherwise, this revision is the work of an undo.
    """

    entries: tuple[tuple[bytes | None, Any], ...] = ()
    replaced: bytes | None = None

    def _p_resolveConflict(self, old: Any, committed: Any, new: Any) -> Any:  # noqa: N802 - ZODB's name
        """Keep what is committed and add what the undone transaction had recorded.

        Only an undo comes here: a lane has one writer. ``old`` is the state that the undone
        transaction made, ``new`` the one before it.
        """
        from .undo import resolve_undo

        return resolve_undo(old, committed, new)


class LaneBlock(Persistent):
    """A few lanes that one connection claims together."""

    def __init__(self, lanes: tuple[Lane, ...]) -> None:
        self.lanes = lanes


class InboxPage(Persistent):
    """Some thousand of the changes of one very large transaction, packed (``pack_changes``)."""

    def __init__(self, packed: tuple[Any, ...]) -> None:
        self.packed = packed


class Collected(Persistent):
    """How far collect has come; only collect writes it.

    Attributes:
        tid: Every commit at or before this one has been taken as a whole.
        partial: ``(commit id, how many of its actions)`` of one that was taken in part, or None.
        last_position: Where the last action was put.
        opened: ``(position, when)`` of positions not sealed yet: epoch seconds by collect's clock.
        count: How many actions were ever taken.
    """

    tid: bytes = b"\0" * 8
    partial: tuple[bytes, int] | None = None
    last_position: int = -1
    opened: tuple[tuple[int, float], ...] = ()
    count: int = 0


class StoredInbox(Persistent):
    """The inbox: blocks of lanes, who owns which, and collect's marker."""

    def __init__(self) -> None:
        self.blocks = LOBTree()  # number -> LaneBlock
        self.owners = LOBTree()  # number -> owner, a tuple of plain values
        self.collected = Collected()


class StoredLease(Persistent):
    """Who may run an agent, and until when. An object of its own: it is renewed while a run is at work.

    Attributes:
        holder: ``(host name, process id, start of the process, what it does)``, or None.
        token: Grows with every new holder: what a former one writes is known by it.
        since, until: Epoch seconds.
    """

    holder: tuple[str, int, int, str] | None = None
    token: int = 0
    since: float = 0.0
    until: float = 0.0


class StoredRun(Persistent):
    """One line of the ledger: what a run has taken, and what became of it (``delivery/ledger.py``)."""

    entry: dict[str, Any] | None = None


class StoredBody(Persistent):
    """A document's JSON beside the dead letter that it belongs to, loaded only where it is looked at."""

    def __init__(self, content: bytes) -> None:
        self.content = content


class QueuePage(Persistent):
    """Ids that an agent is to send apart from the track, and the actions that they are sent for.

    Attributes:
        ids: In the order in which they are sent.
        words: Action words.
    """

    def __init__(self, ids: tuple[str, ...], words: tuple[str, ...]) -> None:
        self.ids = ids
        self.words = words


class StoredAgent(Persistent):
    """What is kept of an agent: what it is, and where it stands.

    Attributes:
        type_name: An entry-point name or ``module:Class``.
        name, description, options: As given; secrets only by reference.
        state: Value of ``agent.State``.
        reason: Value of ``agent.StopReason`` where it is stopped, else "".
        detail: For people: what happened.
        generation: Raised by rewind, export and reset.
        attempted: Highest position that it may have sent; -1 at first.
        acknowledged: The track's id once it has acknowledged there, else "".
        acknowledged_generation: The generation in which it last acknowledged.
        shown: Commit time (epoch seconds) up to which something that lies beyond ``attempted`` may
            have been sent: snapshots show more than their slice holds.
        catching_up_to: A rewound agent's former position; -1 when it has caught up.
        export: State of an export that is under way: a dict, or None.
        detection: State of a detection that is under way or broke off: a dict, or None.
        accounted: Commit time (epoch seconds) up to which every change was sent, announced or
            queued, as the last whole export or detection has made sure.
        interval_s: How often it is to run; None: not by an interval.
        cron, zone: When it is to run, as a cron expression ("": not by one) in a time zone ("": UTC).
        scheduled_at: When its schedule was set; epoch seconds.
        failures, failed_at: How many runs have failed in a row, and when the last one did.
        last_run: What the last run came to: a dict, or None.
        totals: What all runs together came to: a dict of counts.
        refusals: How much of what was sent last was refused (``delivery/pace.py``).
        told: What people were last told of it (``upkeep/notices.py``): a dict, or None.
        dead: object id -> dict of reason, op, position, actions, time, attempts and the document.
        lease: Who runs it.
        queue: number -> QueuePage: what is to be sent apart from the track, oldest first.
        runs: number modulo the ledger's length -> StoredRun.
        runs_begun: How many runs ever had a line in the ledger.
    """

    type_name: str = ""
    name: str = ""
    description: str = ""
    state: str = "new"
    reason: str = ""
    detail: str = ""
    generation: int = 1
    attempted: int = -1
    acknowledged: str = ""
    acknowledged_generation: int = 0
    shown: float = 0.0
    catching_up_to: int = -1
    export: dict[str, Any] | None = None
    detection: dict[str, Any] | None = None
    accounted: float = 0.0
    interval_s: float | None = None
    last_run: dict[str, Any] | None = None
    totals: dict[str, Any] | None = None
    refusals: tuple[int, ...] = ()
    told: dict[str, Any] | None = None
    runs_begun: int = 0
    cron: str = ""
    zone: str = ""
    scheduled_at: float = 0.0
    failures: int = 0
    failed_at: float = 0.0

    def __init__(self, type_name: str, name: str, description: str, options: dict[str, Any]) -> None:
        self.type_name = type_name
        self.name = name
        self.description = description
        self.options = options
        self.dead = OOBTree()
        self.add_parts_of_schema_2()

    def add_parts_of_schema_2(self) -> None:
        """Make what an agent stored by schema 1 lacks."""
        self.lease = StoredLease()
        self.queue = LOBTree()
        self.runs = LOBTree()


class StoredTask(Persistent):
    """What is kept of a periodic task: what it does, when, and what its last run came to.

    Attributes:
        kind: The name of a kind of task (``periodic.py``).
        options: As given.
        interval_s, cron, zone, scheduled_at, failures, failed_at: As an agent has them.
        last_run: ``{"time", "seconds", "error", "summary"}`` of the last run, or None.
        lease: Who runs it.
    """

    interval_s: float | None = None
    cron: str = ""
    zone: str = ""
    scheduled_at: float = 0.0
    failures: int = 0
    failed_at: float = 0.0
    last_run: dict[str, Any] | None = None

    def __init__(self, kind: str, options: dict[str, Any]) -> None:
        self.kind = kind
        self.options = options
        self.lease = StoredLease()
