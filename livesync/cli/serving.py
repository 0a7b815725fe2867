"""``livesync serve``: the schedule, woken by commits, and the web pages, in one process."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from ..database import connected
from ..errors import UsageError
from ..schedule.plan import look
from ..schedule.thread import Runner
from .exitcodes import ExitCode
from .listening import url_of
from .output import printable
from .session import Session

if TYPE_CHECKING:
    from ..manager import SyncManager
    from .hosting import HostRunner
    from .peer_serving import PeerServing

logger = logging.getLogger(__name__)

#: How long what is at work may take to end after its batch; systemd kills after 90 seconds.
STOP_S: Final = 60.0


class _Asked(SystemExit):
    """Raised in the main thread when the process is asked to end."""


def serve(session: Session) -> int:
    """Run what is due, and what commits wake, until asked to end."""
    from ..manager import SyncManager
    from .hosting import HostRunner

    args, out, settings = session.args, session.out, session.settings
    host = settings.load_host()
    with session.database() as db:
        with connected(db) as root:
            manager = SyncManager.get(root)
            manager.check_site(settings.site)
            unscheduled = _unscheduled(manager)
        runner = HostRunner(db, host, settings.site, settings.notices, args.workers, _runner_kind())
        peers = _peers(session, db, host)
        web = None if args.no_web else _Web(session, db, host, runner)
        ended = False
        with _ending():
            try:
                runner.start()
                where = "without pages" if web is None else f"pages at {web.url}"
                told = {"site": settings.site, "url": None if web is None else web.url}
                if peers is not None:
                    peers.start()
                    where += f", peers at {peers.url}"
                    told["peers"] = peers.url
                for agent_id in unscheduled:
                    out.note(
                        f"livesync: agent {agent_id} has no schedule and runs only when asked;"
                        f" to give it one: livesync agent add_task {agent_id} --interval 1m"
                    )
                # the line that starters wait for comes last
                out.line(printable(f"livesync serves site {settings.site or '(no name)'}, {where}"))
                out.json(told)
                out.stdout.flush()
                if web is None:
                    threading.Event().wait()
                else:
                    web.run()
            except _Asked:
                pass
            finally:
                if peers is not None:
                    peers.close()
                if web is not None:
                    web.close()
                ended = runner.stop(STOP_S)
        if not ended:
            out.note(
                "livesync: what is still at work did not end in time; it is done again by the next runner"
            )
    return ExitCode.OK


def _peers(session: Session, db: Any, host: Any) -> PeerServing | None:
    """Return the peers' server, where one is asked for."""
    if session.args.peers is None:
        if session.args.share_key:
            raise UsageError("--share-key is for --peers HOST:PORT: without it there is nobody to share with")
        return None
    from .peer_serving import PeerServing

    return PeerServing(session, db, host)


def _runner_kind() -> type[Runner]:
    """Return the runner by APScheduler; where the extra is missing, the one that waits by itself."""
    try:
        from ..schedule.scheduler import ScheduledRunner
    except ImportError as exc:
        logger.info("without APScheduler (%s): the runner waits by itself", exc)
        return Runner
    return ScheduledRunner


def _unscheduled(manager: SyncManager) -> list[str]:
    """Return the active agents that nothing but a person makes run."""
    return [agent.schedule.agent_id for agent in look(manager).agents if not agent.schedule.is_set]


@contextmanager
def _ending() -> Iterator[None]:
    """Let SIGTERM and SIGINT raise :class:`_Asked`, once; another SIGINT interrupts at once."""

    def ask(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise _Asked

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Web:
    """The pages, served by waitress.

    Raises:
        UsageError: The extra is missing, or the address cannot be had.
    """

    def __init__(self, session: Session, db: Any, host: Any, runner: HostRunner) -> None:
        from ..upkeep.notices import NoticeSettings

        try:
            with warnings.catch_warnings():
                # Pyramid imports pkg_resources, which warns whoever imports it
                warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)
                from waitress.server import create_server

                from ..web.app import make_app
        except ImportError as exc:
            raise UsageError(
                f"the pages need the extra web ({exc}): pip install 'zodb-livesync[web]', or give --no-web"
            ) from exc
        settings, listen = session.settings, session.args.listen
        self._app = make_app(
            db,
            host,
            site=settings.site,
            users=session.args.users or settings.users or None,
            runner=runner,
            notices=NoticeSettings.of(settings.notices),
        )
        try:
            self._server = create_server(
                self._app,
                host=listen.host,
                port=listen.port,
                threads=8,
                ident=None,
                clear_untrusted_proxy_headers=True,
            )
        except (OSError, ValueError) as exc:
            self._app.livesync.close()
            raise UsageError(f"nobody can listen at {listen}: {exc}") from exc

    @property
    def url(self) -> str:
        """Where the pages are."""
        return url_of(self._server)

    def run(self) -> None:
        """Serve until the process is asked to end."""
        self._server.run()

    def close(self) -> None:
        """Take no more requests."""
        self._server.close()
        self._app.livesync.close()
