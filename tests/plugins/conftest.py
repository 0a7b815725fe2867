"""The example application, with the plugin in whatever way a test wants it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import webtest
from pyramid.config import Configurator
from support.waiting import LONG_S

from livesync import SyncManager
from livesync.plugins.pyramid import plugged

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "pyramid_notes"


class Site:
    """An application at work.

    Attributes:
        app: Asks it, as a browser does, cookies and all.
        databases: What pyramid_zodbconn has opened, by name.
        clock: The time by which a test lets agents run, epoch seconds.
    """

    def __init__(self, config: Configurator) -> None:
        self.app = webtest.TestApp(config.make_wsgi_app(), extra_environ={"HTTP_HOST": "localhost"})
        self.registry = config.registry
        self.databases = self.registry._zodb_databases
        self.clock = time.time()

    @property
    def plugged(self) -> Any:
        return plugged(self.registry)

    def post(self, path: str, status: Any = None, **fields: Any) -> Any:
        token = self.app.cookies.get("csrf_token")
        if token is None:
            self.app.get("/")
            token = self.app.cookies["csrf_token"]
        return self.app.post(path, {"csrf_token": token, **fields}, status=status)

    def add_note(self, title: str, **fields: Any) -> str:
        """Add a note to the notebook; return its path."""
        answer = self.post("/add-note", status=303, title=title, **fields)
        return str(answer.headers["Location"].removeprefix("http://localhost"))

    def actions(self, database: str = "") -> list[tuple[str, set[str]]]:
        """What is recorded and not delivered yet: labels, and actions."""
        with self.databases[database].transaction() as connection:
            root = connection.root()
            notebook = root.get("notebook")
            return [
                (self._title(notebook, action.object_id), set(action.actions))
                for action in SyncManager.get(root).waiting()
            ]

    @staticmethod
    def _title(notebook: Any, uid: str) -> str:
        entry = None if notebook is None else notebook.by_uid.get(uid)
        return uid if entry is None else str(entry.title)

    def forget(self, database: str = "") -> None:
        """Let what was recorded be collected."""
        with self.databases[database].transaction() as connection:
            SyncManager.get(connection.root()).collect()

    def close(self) -> None:
        self.plugged.close()
        for db in self.databases.values():
            db.close()


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("LIVESYNC_DB", "LIVESYNC_HOST", "LIVESYNC_SITE", "LIVESYNC_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    # the example as it is imported, and no settings of this machine
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLE))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "notes"]:
        del sys.modules[name]


def wait_for(condition: Callable[[], Any], seconds: float = LONG_S) -> None:
    """Wait until something is so, and fail where it is not in time."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"it was not so within {seconds} s"
        threading.Event().wait(0.02)


Sites = Callable[..., Site]


@pytest.fixture
def sites(example: None) -> Iterator[Sites]:
    """Make the example application with settings; what is given is called with its configurator."""
    made: list[Site] = []

    def make(
        *changes: Callable[[Configurator], None], plugin: str = "livesync.plugins.pyramid", **settings: Any
    ) -> Site:
        from notes import configured

        given = {
            "zodbconn.uri": "memory://",
            "notes.index": "nowhere",
            "livesync.host": "notes.livesync_host:NotesHost",
            "livesync.runner": "off",
            "pyramid.includes": plugin,
            "retry.attempts": "3",
        }
        given |= {key.replace("__", "."): value for key, value in settings.items()}
        config = configured(given)
        for change in changes:
            change(config)
        try:
            made.append(Site(config))
        except Exception:
            for db in config.registry._zodb_databases.values():
                db.close()
            raise
        return made[-1]

    yield make
    for site in made:
        site.close()
