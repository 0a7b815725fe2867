"""The same tasks under Celery: beat says when to look, and workers run what a look finds.

``celery -A livesync.schedule.celery worker --beat`` needs ``LIVESYNC_DB`` and ``LIVESYNC_HOST`` (or
livesync.toml) and ``CELERY_BROKER_URL`` (or a module of Celery's settings, ``CELERY_CONFIG_MODULE``). A host
that has an application of Celery's already gives it the tasks by :func:`add_tasks`.

There is no second list of what is due: a look asks ``plan.py``, as the runner does, and whoever gets a
message asks it again before it begins. So a message is a hint and no more. One that is lost is sent again by
the next look; one that comes twice, late, or to two workers at once finds nothing to do, or a lease.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from transaction.interfaces import TransientError
from ZODB.POSException import POSError

from .. import leases
from ..database import connected, open_database, without_secrets
from ..delivery.access import ManagerAccess, collect_all
from ..errors import Leased, LiveSyncError, UsageError
from ..manager import SyncManager
from ..periodic.running import run_task
from ..relstorage import is_error
from ..settings import Settings, read_settings
from ..tasks import run_and_note
from .plan import AGENT, TASK, Seen, Work, look, plan

if TYPE_CHECKING:
    from ..host import Host
    from ..upkeep.notices import NoticeSettings

logger = logging.getLogger(__name__)

#: How often beat lets somebody look, unless ``LIVESYNC_TICK_S`` says otherwise; seconds.
TICK_S: Final = 5.0

#: A run ends after its slice when it has lasted so long, and goes on at the next look; seconds. So a worker
#: that is told to end does so soon, and a message never waits as long as a broker waits for it.
RUN_S: Final = 60.0

#: A message that nobody has taken for so long is thrown away; seconds.
EXPIRES_S: Final = 60.0

#: How often people are told what they should know; seconds.
NOTICES_S: Final = 60.0

_NOTHING: Final = "nothing to do, or a runner is at it"
_MISSING: Final = "Celery is not installed: pip install 'zodb-livesync[celery]'"


class Worker:
    """What the tasks do, without Celery: look, and run one thing.

    Each process opens the database for itself, when it first needs it, and keeps it open.

    Args:
        open_db: Opens the database.
        host: The application.
        site: The name of this site; nothing runs unless it is the one stored in the database.
        run_s: How long one run may last; seconds.
        clock: Returns epoch seconds.
    """

    def __init__(
        self,
        open_db: Callable[[], Any],
        host: Host,
        site: str = "",
        run_s: float = RUN_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._open_db = open_db
        self._host = host
        self._site = site
        self._run_s = run_s
        self._clock = clock
        self._lock = threading.Lock()
        self._pid = 0
        self._db: Any = None

    @property
    def db(self) -> Any:
        """The database, open in this process: a fork inherits no connection."""
        if self._pid != os.getpid():
            self._lock = threading.Lock()
            self._db, self._pid = None, os.getpid()
        with self._lock:
            if self._db is None:
                self._db = self._open_db()
            return self._db

    def close(self) -> None:
        """Close the database, if this process has opened it."""
        if self._pid == os.getpid() and self._db is not None:
            self._db.close()
            self._db = None

    def look(self) -> tuple[Work, ...]:
        """Return what is to be begun now, but what a runner is at; seal what waits, where somebody needs it.

        Raises:
            NotInstalled, UpgradeNeeded, SiteDiffers, DatabaseError: Nothing can run.
        """
        now = self._clock()
        with connected(self.db) as root:
            manager = SyncManager.get(root)
            manager.check_site(self._site)
            access = ManagerAccess(manager)
        with closing(access):
            seen, busy = _seen(access, now)
            sealing = seen.sealing_at(now)
            if sealing is not None and sealing <= now:
                collect_all(access, now, seal_newest=True)
                seen, busy = _seen(access, now)
        return plan(seen, now, busy).work

    def run(self, kind: str, name: str) -> str:
        """Run an agent or a task, if it still is to be run; return what it came to, for the log.

        Raises:
            NotInstalled, UpgradeNeeded, SiteDiffers, DatabaseError: Nothing can run.
        """
        if (kind, name) not in self.look():
            return _NOTHING
        give_up = time.monotonic() + self._run_s

        def stop() -> bool:
            return time.monotonic() >= give_up

        if kind == TASK:
            done = run_task(self.db, name, self._host, stop)
            if done.error is not None:
                return _told(done.error)
            return _NOTHING if done.held else str(done.summary)
        outcome = run_and_note(self.db, name, self._host, stop)
        if isinstance(outcome.error, Leased):  # somebody began between our look and our run
            return _NOTHING
        if outcome.error is not None:
            return _told(outcome.error)
        assert outcome.result is not None
        return f"{outcome.result.read} read, {outcome.result.accepted} accepted"

    def tell(self, notices: NoticeSettings) -> None:
        """Tell people what they should know."""
        from ..upkeep.notices import tell

        tell(self.db, notices, self._clock())


def _seen(access: ManagerAccess, now: float) -> tuple[Seen, frozenset[Work]]:
    """Return what lies in the database, and what some runner is at, from one snapshot."""
    with access.snapshot() as manager:
        stored = {(AGENT, name): manager.stored(name) for name in manager.agent_ids()}
        stored |= {(TASK, name): manager.task(name) for name in manager.task_ids()}
        held = (work for work, each in stored.items() if leases.holder(each.lease, now))
        return look(manager), frozenset(held)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def add_tasks(
    app: Any,
    open_db: Callable[[], Any],
    host: Host,
    site: str = "",
    notices: NoticeSettings | None = None,
    tick_s: float = TICK_S,
    uri: str = "",
) -> Worker:
    """Give an application of Celery's the tasks, and its beat the schedule by which they look.

    Args:
        app: A ``celery.Celery``.
        open_db: Opens the database, in each process that needs it: one that processes share, such as ZEO's.
        host: The application.
        site: The name of this site.
        notices: Who is told when an agent stops or lags; None: nobody.
        tick_s: Seconds between two looks.
        uri: The database's, whose password is left out of the log.

    Returns:
        What the tasks do.
    """
    worker = Worker(open_db, host, site)
    guarded = partial(_guarded, uri)

    def tick() -> None:
        for kind, name in guarded(worker.look) or ():
            app.tasks["livesync.run"].apply_async((kind, name), expires=EXPIRES_S)

    def run(kind: str, name: str) -> None:
        told = guarded(partial(worker.run, kind, name))
        if told is not None:
            logger.info("%s %s: %s", kind, name, without_secrets(told, uri))

    def tell() -> None:
        assert notices is not None
        guarded(partial(worker.tell, notices))

    app.task(tick, name="livesync.tick", ignore_result=True, shared=False)
    app.task(run, name="livesync.run", ignore_result=True, shared=False)
    beat = {"livesync": {"task": "livesync.tick", "schedule": tick_s, "options": {"expires": EXPIRES_S}}}
    if notices is not None and notices.wanted:
        app.task(tell, name="livesync.notices", ignore_result=True, shared=False)
        options = {"expires": NOTICES_S}
        beat["livesync notices"] = {"task": "livesync.notices", "schedule": NOTICES_S, "options": options}
    app.conf.beat_schedule = {**(app.conf.beat_schedule or {}), **beat}
    return worker


def _guarded(uri: str, work: Callable[[], Any]) -> Any:
    """Return what ``work`` returns; None, and a line in the log, where the database keeps it from that."""
    try:
        return work()
    except (LiveSyncError, POSError, TransientError) as exc:
        logger.error("livesync: nothing runs: %s", without_secrets(_told(exc), uri))
    except Exception as exc:
        if not is_error(exc):
            raise
        logger.error("livesync: nothing runs: %s", without_secrets(_told(exc), uri))
    return None


def make_app(settings: Settings | None = None) -> Any:
    """Return an application of Celery's that does nothing but this, made from the settings.

    Raises:
        UsageError: Something is not set, makes no sense, or is not installed.
        HostNotFound: The host cannot be imported.
    """
    try:
        from celery import Celery
    except ImportError as exc:
        raise UsageError(_MISSING) from exc
    from ..upkeep.notices import NoticeSettings

    settings = read_settings({}) if settings is None else settings
    uri = settings.require_db()
    if uri.lower().startswith("file:"):
        raise UsageError(
            "Celery's workers are several processes, and only one can open a database file: share it through"
            " ZEO or RelStorage (zeo://, postgresql://), or let one process run everything: livesync serve"
        )
    host = settings.load_host()
    app = Celery("livesync")
    if os.environ.get("CELERY_CONFIG_MODULE"):
        app.config_from_envvar("CELERY_CONFIG_MODULE")
    if not app.conf.broker_url:
        raise UsageError(
            "no broker is set: set CELERY_BROKER_URL, such as redis://localhost:6379/0, or broker_url in the"
            " module that CELERY_CONFIG_MODULE names"
        )
    notices = NoticeSettings.of(settings.notices)
    add_tasks(app, partial(open_database, uri), host, settings.site, notices, _tick_s(), uri)
    return app


def _tick_s() -> float:
    text = os.environ.get("LIVESYNC_TICK_S", "")
    try:
        seconds = float(text) if text else TICK_S
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86_400:
        raise UsageError(f"LIVESYNC_TICK_S is a number of seconds from 0.1 to 86400, not {text!r}")
    return seconds


def __getattr__(name: str) -> Any:
    """Make ``app`` when the command ``celery`` asks for it; what is wrong then is one line and its end."""
    if name != "app":
        raise AttributeError(name)
    try:
        made = make_app()
    except LiveSyncError as exc:
        print(f"livesync: {' '.join(str(exc).split())}", file=sys.stderr)
        raise SystemExit(2) from exc
    globals()["app"] = made
    return made
