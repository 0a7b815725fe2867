"""A runner inside Zope's process: a thread that runs the agents whose time has come."""

from __future__ import annotations

import atexit
import logging
import threading
import time
from typing import Any, Final

from ..host import Host
from ..settings import Settings
from ..tasks import LiveSyncUpdateTask
from ..upkeep.notices import NoticeSettings

logger = logging.getLogger(__name__)

#: Seconds between two looks whether there is something to do.
TICK_S: Final = 0.5


class RunnerThread:
    """Runs every active agent of one database, again and again, until the process ends.

    Args:
        name: The database's, for logs.
        database: An open ``ZODB.DB``.
        host: The application.
        settings: The site, and who is told of trouble.
    """

    def __init__(self, name: str, database: Any, host: Host, settings: Settings) -> None:
        self._name = name
        self._task = LiveSyncUpdateTask(
            database, host, settings.site, only_due=False, notices=NoticeSettings.of(settings.notices)
        )
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=f"livesync-{name}", daemon=True)

    def start(self) -> None:
        """Begin; the run that is under way when the process ends is ended in good order."""
        self._thread.start()
        atexit.register(self.stop)
        logger.info("a runner is at work on database %s", self._name)

    def stop(self) -> None:
        """End after the slice that is being sent, and wait for it."""
        self._ended.set()
        self._thread.join()

    def _loop(self) -> None:
        while not self._ended.wait(TICK_S):
            try:
                self._task.run(time.time(), self._ended.is_set)
            except Exception:
                logger.exception("the runner on database %s goes on after a failure", self._name)
