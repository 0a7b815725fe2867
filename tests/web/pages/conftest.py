"""Somebody at the pages, by a browser without scripts."""

from __future__ import annotations

from typing import Any

import pytest
import webtest
from support import desk as web

from livesync.versions import VersionedCollection
from livesync.web import users
from livesync.web.app import REGISTRY_KEY, WebApp
from livesync.web.context import WebContext
from livesync.web.users import Role

PASSWORD = "correct horse battery"

#: The routes and views of all these tests: they are the same for each, and take a while to make.
_MADE: list[Any] = []


def made_once(db: Any, host: Any, *, runner: Any, clock: Any, **settings: Any) -> Any:
    """As ``make_app``, for another database, with routes and views that are there already."""
    (wsgi,) = _MADE
    app = WebApp(WebContext(db, host, runner=runner, clock=clock), **settings)
    app.problem_page = wsgi.livesync.problem_page
    wsgi.registry[REGISTRY_KEY] = wsgi.livesync = app
    return wsgi


@pytest.fixture
def desk(memory_db, tmp_path, monkeypatch):
    """A web application on a database in memory, whose passwords are hashed quickly."""
    monkeypatch.setattr(users, "SCRYPT_N", 2**4)
    if _MADE:
        monkeypatch.setattr(web, "make_app", made_once)
    made = web.Desk(memory_db, tmp_path)
    if not _MADE:
        _MADE.append(made.wsgi)
    yield made
    made.close()


class Visitor:
    """Somebody who looks at pages, logged in unless told otherwise."""

    def __init__(self, desk: Any, role: Role | None) -> None:
        self.desk = desk
        self.app: webtest.TestApp = desk.browser()
        if role is not None:
            desk.users.add_user(role.value, PASSWORD, role)
            self.log_in(role.value)

    def log_in(self, name: str, password: str = PASSWORD) -> Any:
        form = self.app.get("/login").form
        form["name"], form["password"] = name, password
        return form.submit(expect_errors=True)

    def get(self, path: str, status: int = 200) -> Any:
        return self.app.get(path, status=status)

    def token(self) -> str:
        """The token of this visitor's forms."""
        return self.app.get("/peers").html.find("input", {"name": "csrf_token"})["value"]

    def post(self, path: str, status: int | None = None, **values: Any) -> Any:
        """Send a form with its token; values may be called like Python's own words with a ``_`` behind."""
        sent = {key.rstrip("_").replace("__", "-"): value for key, value in values.items()}
        return self.app.post(path, {"csrf_token": self.token(), **sent}, status=status, expect_errors=True)

    def message(self, answer: Any) -> str:
        """The message on the page that an answer leads to."""
        page = answer.follow() if answer.status_int == 303 else answer
        return " ".join(page.html.find(class_="message").get_text().split())

    def job(self, answer: Any) -> dict[str, Any]:
        """The job that an answer leads to, once it has ended."""
        assert answer.status_int == 303, answer.text
        found = self.desk.ask("GET", f"/jobs/{answer.location.rpartition('/')[2]}")
        found.status_int = 202
        return self.desk.finished(found)


@pytest.fixture
def ada(desk):
    """Somebody who may operate."""
    return Visitor(desk, Role.OPERATE)


@pytest.fixture
def bob(desk):
    """Somebody who may see."""
    return Visitor(desk, Role.SEE)


@pytest.fixture
def nobody(desk):
    """Somebody who is not logged in."""
    return Visitor(desk, None)


@pytest.fixture
def dead(desk):
    """An agent with two dead letters, of ``a/1`` and ``b``."""
    desk.add_agent()
    desk.put("a/1", "b", broken="no document")
    desk.put("c")
    desk.collect()
    desk.finished(desk.ask("POST", "/agents/index/run"))
    return desk


@pytest.fixture
def versions(desk):
    """A collection with a branch that was merged."""
    with desk.db.transaction() as connection:
        docs = VersionedCollection(
            connection, "talks", author="ada", clock=iter(range(10**9, 2 * 10**9)).__next__
        )
        docs.documents.update({"a/1": {"title": "A", "n": 1}, "b": {"title": "<B>"}})
        docs.init("begun")
        docs.create_branch("side")
        docs.documents["b"] = {"title": "<i>B</i>"}
        docs.register("theirs & ours")
        docs.checkout(branch="main")
        docs.documents["a/1"] = {"title": "A", "n": 2}
        docs.register("more")
        docs.merge("side")
        docs.tag("first", 0)
    return docs
