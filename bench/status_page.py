"""The status on the server: as JSON and, for people, as a page; on a long track and on a short one.

What the server needs to answer is timed, without a network; both tracks in turn, each request on a database
that is open and has been asked before. The agents' pointers are spread over the track.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from statistics import median
from typing import Any

from ZODB.DB import DB
from ZODB.FileStorage import FileStorage

from livesync.action import DATA_CHANGED, ActionWrapper
from livesync.agent import load_agent_type
from livesync.database import committed
from livesync.demo.host import demo_host
from livesync.manager import SyncManager

from .rows import Row, check
from .timing import timed

TITLE = "status_page: the status on the server, with a long track and a short one"
QUICK = {"entries": 3000, "short": 300, "agents": 3, "repeats": 2}

_FIRST = 1_700_000_000
_WORDS = frozenset({DATA_CHANGED})
_A_COMMIT = 50_000


def measure(entries: int = 1_000_000, short: int = 10_000, agents: int = 20, repeats: int = 21) -> list[Row]:
    """Return the median time of an answer, for tracks of ``entries`` and of ``short`` positions."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        sites = [_Site(Path(directory), size, agents) for size in (entries, short)]
        try:
            rows = []
            for what, path in (("status as JSON", "/api/v1/status"), ("status page", "/")):
                took: list[list[float]] = [[], []]
                if sites[0].ask(path, agents) is None:
                    continue  # no such page
                for _ in range(repeats):
                    for site, times in zip(sites, took, strict=True):
                        times.append(timed(lambda site=site, path=path: site.ask(path, agents)).wall_s)
                long, brief = (median(times) * 1000 for times in took)
                rows += [
                    Row(f"{what}, {entries:,} entries, {agents} agents", long, "ms", at_most=100.0),
                    Row(f"  with {short:,} entries", brief, "ms"),
                    Row("  ratio", long / brief, at_most=1.5),
                ]
            return rows
        finally:
            for site in sites:
                site.close()


class _Site:
    """A database with a track and agents, and the web application on it."""

    def __init__(self, directory: Path, entries: int, agents: int) -> None:
        self._db = DB(FileStorage(str(directory / f"{entries}.fs")))
        committed(self._db, lambda root: SyncManager.install(root) and None)
        for begin in range(0, entries, _A_COMMIT):
            numbers = range(begin, min(entries, begin + _A_COMMIT))
            committed(self._db, lambda root, numbers=numbers: _extend(SyncManager.get(root), numbers))
        committed(self._db, lambda root: _add_agents(SyncManager.get(root), directory, entries, agents))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pyramid imports what setuptools calls deprecated
            from webob import Request

            from livesync.web.app import make_app
            from livesync.web.users import Role, Users

            users = Users()
            self._token = users.process_token("bench", Role.SEE)
            self._app = make_app(self._db, demo_host(), users=users)
        self._request = Request
        self._entries = entries

    def ask(self, path: str, agents: int) -> Any:
        """Return what is answered; None: there is no such page.

        Raises:
            CheckFailed: It is not the status.
        """
        request = self._request.blank(path, headers={"Authorization": f"Bearer {self._token}"})
        answer = request.get_response(self._app)
        if answer.status_int == 404:
            return None
        check(answer.status_int == 200, f"{path} answered {answer.status}")
        for number in range(agents):
            check(f"agent-{number:02d}" in answer.text, f"{path} does not tell of every agent")
        if path.startswith("/api/"):
            check(answer.json["entries"] == self._entries, "the track is not as long as it should be")
        return answer

    def close(self) -> None:
        self._app.livesync.close()
        self._db.close()


def _extend(manager: SyncManager, numbers: range) -> None:
    manager.track.extend(
        (_FIRST + number, ActionWrapper(_FIRST + number + 0.5, f"series/talk-{number:07d}", _WORDS))
        for number in numbers
    )


def _add_agents(manager: SyncManager, directory: Path, entries: int, agents: int) -> None:
    agent_type = load_agent_type("sqlite")
    manager.track.seal(_FIRST + entries)
    for number in range(agents):
        agent = agent_type(f"agent-{number:02d}", path=str(directory / f"{number}.db"))
        manager.register_agent(agent)
        manager.activate(agent.id, from_start=True)
        manager.track.move_pointer(agent.id, _FIRST + entries * number // agents)
