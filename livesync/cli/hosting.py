"""A runner within a process that has its database open, and the command line's way to it."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..schedule.owner import new_token, owner_path, remove_owner, write_owner
from ..schedule.thread import Runner
from ..upkeep.notices import NoticeSettings
from ..web.commands import CommandApp, CommandServer
from .hosted import Hosted

if TYPE_CHECKING:
    from ..host import Host

logger = logging.getLogger(__name__)

#: How long an interpreter that ends waits for a runner that nobody has stopped; seconds.
EXIT_S = 3.0


class HostRunner:
    """The runner of a process that has its database open: its agents run in threads of that process.

    Where the database is a FileStorage, no other process can write to it: so the command line finds the
    way here by a file beside the database's, ``Data.fs.livesync``, and every command works as usual.

    Args:
        db: The open ``ZODB.DB``; close it after :meth:`stop`.
        host: The application.
        site: The name of this site: nothing runs unless it is the one stored in the database.
        notices: The table ``[notices]`` of the settings' file: who is told when an agent stops or lags.
        workers: So many agents and tasks are at work at once, at most.
        kind: The kind of runner.

    Raises:
        UsageError: ``notices`` make no sense.
    """

    def __init__(
        self,
        db: Any,
        host: Host,
        site: str = "",
        notices: Mapping[str, Any] | None = None,
        workers: int = 4,
        kind: type[Runner] = Runner,
    ) -> None:
        self.runner = kind(db, host, site, NoticeSettings.of(notices or {}), workers)
        self._file = storage_file(db)
        self._hosted = Hosted(db, host, site, f"file://{self._file}", dict(notices or {}))
        self._lock = threading.Lock()
        self._server: CommandServer | None = None
        self._token = ""
        self._pid = 0

    def start(self) -> None:
        """Begin, unless it has begun in this process already; call it after the server has forked.

        That the command line cannot find the way here, since a file cannot be written, is logged and
        keeps nothing from running.
        """
        if self._pid != os.getpid():
            self._server, self._lock = None, threading.Lock()  # a fork inherits no thread
        with self._lock:
            self.runner.start()
            if self._pid == os.getpid() and self._server is not None:
                return
            self._pid = os.getpid()
            atexit.register(self._at_exit)
            if self._file is not None:
                self._take_commands(self._file)

    def stop(self, timeout_s: float = 10.0) -> bool:
        """Take no more commands, end what is at work after its batch, and wait for it.

        Args:
            timeout_s: Wait so many seconds at most.

        Returns:
            Whether everything has ended.
        """
        atexit.unregister(self._at_exit)
        if self._pid != os.getpid():
            return True
        with self._lock:
            server, self._server = self._server, None
        if server is not None and self._file is not None:
            remove_owner(owner_path(self._file), self._token)
            server.stop()
        return self.runner.stop(timeout_s)

    def wake(self, agent_id: str | None = None) -> None:
        """Look now what there is to do, or run one agent now; see :meth:`Runner.wake`."""
        self.runner.wake(agent_id)

    def is_alive(self) -> bool:
        """Tell whether it has begun in this process and was not asked to end."""
        return self.runner.is_alive()

    def _at_exit(self) -> None:
        self.stop(EXIT_S)

    def _take_commands(self, file: Path) -> None:
        self._token = new_token()
        server = CommandServer(CommandApp(self._hosted, self._token))
        try:
            write_owner(owner_path(file), server.url, self._token)
        except OSError as exc:
            server.close()
            logger.warning("the command line cannot find the way to this process: %s", exc)
            return
        server.start()
        self._server = server


def storage_file(db: Any) -> Path | None:
    """Return the path of the file that only this process can write to; None where others can open it too."""
    from ZODB.FileStorage import FileStorage

    storage = db.storage
    if not isinstance(storage, FileStorage) or storage.isReadOnly():
        return None
    return Path(os.path.abspath(storage.getName()))
