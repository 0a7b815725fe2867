"""The runner: a thread that runs agents and tasks when they are due, and agents when something was committed.

It is the same in the host's process, where a FileStorage belongs to that, and in ``livesync serve``.
One thread looks and decides, each agent at work has a thread of its own, so a slow service keeps no
other waiting. All are daemons: a process that ends waits for none of them, and what a run has not
acknowledged is sent again. Which of several runners is at an agent is settled by leases.

How it hears of commits: what this process records it is told at once (``commits.py``). Else it asks
its connection's storage for the newest transaction: every 50 ms where the storage hears of commits by
itself (ZEO's invalidations; then asking costs no message), every half second elsewhere. A look that
finds nothing to do writes nothing, so a runner's own commits do not keep it awake.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Set
from typing import TYPE_CHECKING, Any, Final

from .. import commits
from ..database import connected
from ..delivery.access import ManagerAccess, collect_all
from ..errors import LiveSyncError
from ..manager import SyncManager
from ..periodic.running import run_task
from ..tasks import AgentOutcome, run_and_note
from .plan import AGENT, TASK, Plan, Seen, Work, has_work, look, plan

if TYPE_CHECKING:
    from ..host import Host
    from ..upkeep.notices import NoticeSettings

logger = logging.getLogger(__name__)

#: How often a storage is asked for its newest transaction; seconds.
POLL_S: Final = 0.5
POLL_HEARING_S: Final = 0.05

#: After a commit the runner waits this long for more to come; seconds.
DEBOUNCE_S: Final = 0.05

#: After a trouble with the database the runner waits this long, twice as long after the next, and so on.
TROUBLE_S: Final = 0.5
TROUBLE_CAP_S: Final = 30.0

#: What was begun in vain is not begun again for this long, twice as long the next time, and so on.
REST_S: Final = 1.0
REST_CAP_S: Final = 60.0

#: How often people are told what they should know; seconds.
NOTICES_S: Final = 60.0


class Runner:
    """Runs what one database has to run, in threads of this process.

    ``scheduler.py`` has the one of ``livesync serve``, which leaves the waiting and firing to APScheduler.

    Args:
        db: The open ``ZODB.DB``; the caller closes it, after :meth:`stop`.
        host: The application.
        site: The name of this site; nothing runs unless it is the one stored in the database.
        notices: Who is told when an agent stops or lags; None: nobody.
        workers: So many agents and tasks are at work at once, at most.
        clock: Returns epoch seconds.
    """

    def __init__(
        self,
        db: Any,
        host: Host,
        site: str = "",
        notices: NoticeSettings | None = None,
        workers: int = 4,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._db = db
        self._host = host
        self._site = site
        self._notices = notices
        self._workers = workers
        self._clock = clock
        self._poll_s = POLL_HEARING_S if _hears_commits(db) else POLL_S
        self._reset()

    def _reset(self) -> None:
        self._pid = 0
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._lock = threading.Lock()  # of what follows
        self._main: threading.Thread | None = None
        self._threads: dict[Work, threading.Thread] = {}
        self._asked: list[str] = []
        self._resting: dict[Work, tuple[float, float]] = {}  # until when, for how long
        self._unlisten: Callable[[], None] = _nothing
        self._seen_tid = b""
        self._look_at = 0.0
        self._told_at = 0.0
        self._trouble = ""

    # -- from outside ----------------------------------------------------------------------------

    def start(self) -> None:
        """Begin, unless it has begun in this process already; after a fork it begins anew.

        It returns at once: whether the database is there, installed and of this site shows in the
        log, and the runner goes on asking.
        """
        if self._pid != os.getpid():
            self._reset()  # a fork inherits no thread, and locks in whatever state
        with self._lock:
            if self._main is not None and self._main.is_alive():
                return
            self._pid = os.getpid()
            self._stopping.clear()
            self._woken.set()
            self._unlisten = commits.listen(self._db, self._woken.set)
            self._main = threading.Thread(target=self._run, name="livesync-runner", daemon=True)
            self._main.start()

    def stop(self, timeout_s: float = 10.0) -> bool:
        """Ask what is at work to end after its batch, saved and with its lease given back, and wait.

        Args:
            timeout_s: Wait so many seconds at most; what is still at work then goes on for as long
                as the process lives.

        Returns:
            Whether everything has ended.
        """
        if self._pid != os.getpid():
            return True
        self._unlisten()
        self._stopping.set()
        self._woken.set()
        give_up = time.monotonic() + timeout_s
        with self._lock:
            threads = [*self._threads.values(), *([self._main] if self._main is not None else [])]
        for thread in threads:
            thread.join(max(0.0, give_up - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def wake(self, agent_id: str | None = None) -> None:
        """Look now what there is to do.

        Args:
            agent_id: Run this one now if it is active, due or not, held back or not.
        """
        if agent_id is not None:
            with self._lock:
                self._asked.append(agent_id)
        self._woken.set()

    def is_alive(self) -> bool:
        """Tell whether it has begun in this process and was not asked to end."""
        alive = self._pid == os.getpid() and self._main is not None and self._main.is_alive()
        return alive and not self._stopping.is_set()

    @property
    def at_work(self) -> list[str]:
        """The agents and tasks that it is at, for people."""
        with self._lock:
            return sorted(" ".join(work).strip() for work in self._threads)

    # -- looking ---------------------------------------------------------------------------------

    def _run(self) -> None:
        logger.info("livesync runner begins, site %r", self._site)
        access: ManagerAccess | None = None
        trouble_s = 0.0
        while not self._stopping.is_set():
            try:
                if access is None:
                    access = self._access()
                wait_s = self._round(access)
                trouble_s, self._trouble = 0.0, ""
            except Exception as exc:  # noqa: BLE001 - a hiccup of the database must not end it
                trouble_s = min(TROUBLE_CAP_S, 2 * trouble_s or TROUBLE_S)
                wait_s = trouble_s
                self._tell_trouble(exc)
                _close(access)
                access = None
            if self._woken.wait(wait_s) and not trouble_s:
                self._stopping.wait(DEBOUNCE_S)
            elif trouble_s:
                self._stopping.wait(trouble_s)
        _close(access)
        logger.info("livesync runner ends")

    def _access(self) -> ManagerAccess:
        with connected(self._db) as root:
            manager = SyncManager.get(root)
            manager.check_site(self._site)
            return ManagerAccess(manager)

    def _tell_trouble(self, exc: Exception) -> None:
        """Say once what is wrong, and again when it is something else."""
        text = f"{type(exc).__name__}: {exc}"
        if text != self._trouble:
            expected = isinstance(exc, LiveSyncError)
            logger.warning("livesync runner: nothing runs: %s", text, exc_info=not expected)
        self._trouble = text

    def _round(self, access: ManagerAccess) -> float:
        """Look, unless nothing has happened, and begin what there is to do; return how long to wait."""
        woken = self._woken.is_set()
        self._woken.clear()
        now = self._clock()
        with access.snapshot() as manager:
            tid = manager._p_jar._storage.lastTransaction()
            if not woken and tid == self._seen_tid and now < self._look_at:
                return min(self._poll_s, self._look_at - now)
            SyncManager.get(manager._p_jar.root())  # it may have been removed, or upgraded
            manager.check_site(self._site)
            seen = look(manager)
        sealing = seen.sealing_at(now)
        if sealing is not None and sealing <= now:
            collect_all(access, now, seal_newest=True)
            with access.snapshot() as manager:
                seen = look(manager)
        self._seen_tid = tid
        self._begin(seen, now)
        return max(0.0, min(self._poll_s, self._look_at - self._clock()))

    def _begin(self, seen: Seen, now: float) -> None:
        with self._lock:
            asked, self._asked = self._asked, []
            found = self._plan_of(seen, now, asked)
            wanted = list(found.work)
            if self._notices is not None and self._notices.wanted and now >= self._told_at + NOTICES_S:
                wanted.append(NOTICES)
            for work in wanted:
                # one that has ended wakes us, so what finds no room now is not forgotten
                if len(self._threads) < self._workers and work not in self._threads:
                    self._start_thread(work)
                    asked = [agent_id for agent_id in asked if (AGENT, agent_id) != work]
            active = {agent.schedule.agent_id for agent in seen.agents}
            self._asked += [agent_id for agent_id in asked if agent_id in active]
            self._look_at = found.look_at

    def _plan_of(self, seen: Seen, now: float, asked: Iterable[str], busy: Set[Work] | None = None) -> Plan:
        """Return the plan; the lock is held.

        Args:
            seen: What lies in the database.
            now: Epoch seconds.
            asked: Agents that somebody wants to run.
            busy: What it is at; None: everything that it is at.
        """
        resting = {work: until for work, (until, _) in self._resting.items()}
        return plan(seen, now, self._threads.keys() if busy is None else busy, asked, resting)

    def _start_thread(self, work: Work) -> None:
        thread = threading.Thread(
            target=self._work, args=(work,), name="-".join(("livesync", *work)), daemon=True
        )
        self._threads[work] = thread
        thread.start()

    # -- at work ---------------------------------------------------------------------------------

    def _work(self, work: Work) -> None:
        kind, name = work
        in_vain = True
        try:
            stop = self._stopping.is_set
            if kind == AGENT:
                outcome = run_and_note(self._db, name, self._host, stop, False, self._clock)
                in_vain = self._was_in_vain(outcome)
                if outcome.error is not None:
                    self._told_at = 0.0  # it may have stopped
            elif kind == TASK:
                done = run_task(self._db, name, self._host, stop, self._clock)
                in_vain = bool(done.held) or done.error is not None
            else:
                self._told_at = self._clock()
                self._tell()
                in_vain = False
        except Exception:
            logger.exception("livesync runner: %s", " ".join(work))
        finally:
            with self._lock:
                self._rest(work, in_vain)
                del self._threads[work]
            self._woken.set()

    def _was_in_vain(self, outcome: AgentOutcome) -> bool:
        """Tell whether a run would be begun again at once, and again come to nothing.

        Another runner is at the agent, or it lingers, or how it failed could not be noted.
        """
        if outcome.result is None:
            return True
        if outcome.result.read or outcome.result.cascaded:
            return False
        with connected(self._db) as root:
            manager = SyncManager.get(root)
            return outcome.agent_id in manager.agent_ids() and has_work(manager, outcome.agent_id)

    def _rest(self, work: Work, in_vain: bool) -> None:
        if not in_vain:
            self._resting.pop(work, None)
            return
        _, before = self._resting.get(work, (0.0, 0.0))
        length = min(REST_CAP_S, 2 * before or REST_S)
        self._resting[work] = (self._clock() + length, length)

    def _tell(self) -> None:
        from ..upkeep.notices import tell

        assert self._notices is not None
        tell(self._db, self._notices, self._clock())


#: What tells people what they should know.
NOTICES: Final[Work] = ("notices", "")


def _nothing() -> None:
    pass


def _close(access: ManagerAccess | None) -> None:
    """Close an access as far as the database still allows it."""
    if access is not None:
        try:
            access.close()
        except Exception:
            logger.debug("the runner's connection could not be closed", exc_info=True)


def _hears_commits(db: Any) -> bool:
    """Tell whether the storage is told of what others commit, so that asking it costs no message."""
    try:
        from ZEO.ClientStorage import ClientStorage
    except ImportError:
        return False
    return isinstance(db.storage, ClientStorage)
