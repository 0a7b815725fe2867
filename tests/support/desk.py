"""A web application on a real database, with a host, users, and ways to ask it."""

from __future__ import annotations

import time
from typing import Any

import transaction
import webtest
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from support.waiting import LONG_S

from livesync import SyncManager
from livesync.database import committed, connected
from livesync.web.app import make_app
from livesync.web.users import Role, Users

from .shelf import Shelf

PASSWORD = "correct horse battery"


class Runner:
    """Stands for whoever runs the agents: it knows whether it lives, and how often it was woken."""

    def __init__(self) -> None:
        self.is_running = True
        self.woken = 0

    def is_alive(self) -> bool:
        return self.is_running

    def wake(self, agent_id: str | None = None) -> None:
        self.woken += 1


class Desk:
    """A web application at work, and those who use it.

    Attributes:
        clock: The application's time, epoch seconds; it stands still unless it is moved.
    """

    def __init__(self, db: Any, tmp_path: Any, **settings: Any) -> None:
        self.db, self.tmp_path = db, tmp_path
        self.clock = time.time()
        self.users = Users(tmp_path / "users.json")
        self.runner = Runner()

        def begin(root: Any) -> None:
            root["things"] = OOBTree()
            SyncManager.install(root)

        committed(db, begin)
        settings = {"users": self.users, "runner": self.runner, "clock": lambda: self.clock} | settings
        self.wsgi = make_app(db, Shelf(), **settings)
        self.wsgi.registry.settings["pyramid_openapi3.enable_response_validation"] = True
        self.app = self.wsgi.livesync
        self.context = self.app.context
        self.tokens = {role: self.users.process_token(role.value, role) for role in Role}

    def browser(self, **environ: str) -> webtest.TestApp:
        """Return somebody's browser, with cookies of its own."""
        return webtest.TestApp(self.wsgi, extra_environ={"REMOTE_ADDR": "192.0.2.7", **environ})

    def ask(self, method: str, path: str, body: Any = None, role: Role | None = Role.OPERATE) -> Any:
        """Ask the API as a program with a token of this role; None: without one."""
        headers = {} if role is None else {"Authorization": f"Bearer {self.tokens[role]}"}
        call = getattr(self.browser(), f"{method.lower()}_json" if body is not None else method.lower())
        given = {} if body is None else {"params": body}
        return call(f"/api/v1{path}", headers=headers, expect_errors=True, **given)

    def add_agent(self, agent_id: str = "index", begin: str | None = "start", **options: Any) -> None:
        """Add an agent that fills an SQLite file, and activate it."""
        options = {"path": str(self.tmp_path / f"{agent_id}.db")} | options
        answer = self.ask("POST", "/agents", {"id": agent_id, "type": "sqlite", "options": options})
        assert answer.status_int == 201, answer.text
        if begin is not None:
            answer = self.ask("POST", f"/agents/{agent_id}/activate", {"begin": begin})
            assert answer.status_int == 200, answer.text

    def put(self, *object_ids: str, **fields: Any) -> None:
        """Create or change things of the host in one transaction."""

        def change(root: Any) -> None:
            changes = []
            for object_id in object_ids:
                word = "data_changed" if object_id in root["things"] else "created"
                thing = root["things"].setdefault(object_id, PersistentMapping(id=object_id, title=object_id))
                thing.update(fields)
                changes.append((object_id, frozenset({word})))
            SyncManager.get(root).record_changes(changes, "", "")

        committed(self.db, change)

    def collect(self) -> None:
        """Let what waits lie on the track, sealed."""
        committed(self.db, lambda root: SyncManager.get(root).collect(now=time.time() + 10))

    def finished(self, answer: Any, within_s: float = LONG_S) -> dict[str, Any]:
        """Return the job that an answer tells of, once it has ended."""
        assert answer.status_int == 202, answer.text
        deadline = time.monotonic() + within_s
        job_id = answer.json["id"]
        while time.monotonic() < deadline:
            job: dict[str, Any] = self.ask("GET", f"/jobs/{job_id}").json
            if job["ended"] is not None:
                return job
            time.sleep(0.01)
        raise AssertionError(f"the job did not end: {job}")

    def state(self) -> Any:
        """Return all that is stored of the track and the agents, to compare."""
        with connected(self.db) as root:
            manager = SyncManager.get(root)
            return {
                agent_id: (
                    manager.stored(agent_id).state,
                    dict(manager.stored(agent_id).options),
                    manager.stored(agent_id).interval_s,
                    manager.track.has_pointer(agent_id) and manager.track.get_pointer_timestamp(agent_id),
                    sorted(manager.stored(agent_id).dead),
                )
                for agent_id in manager.agent_ids()
            }

    def close(self) -> None:
        self.app.close()
        transaction.abort()
