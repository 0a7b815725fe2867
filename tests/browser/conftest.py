"""A real browser, at a running server, on a FileStorage with the demo's catalogue."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright
from support.peer_page import sync_with_everybody
from waitress.server import create_server
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage

from livesync import SyncManager
from livesync.agent import load_agent_type
from livesync.cli.listening import ServerThread
from livesync.database import committed
from livesync.demo.history import find_history, read_history
from livesync.demo.replay import prepare, replay
from livesync.demo.wiring import recorded
from livesync.host import load_host
from livesync.tasks import LiveSyncUpdateTask
from livesync.versions import VersionedCollection
from livesync.web.app import make_app
from livesync.web.users import Role, Users

PASSWORD = "correct horse battery"

#: Where screenshots are kept to be looked at.
SHOTS = Path(os.environ.get("LIVESYNC_SCREENSHOTS", "build/screenshots"))

#: Lines of the history that are replayed before anybody looks.
LINES = 60

_ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip

#: Pixels of a page that a picture shows from its top on.
_TALLEST = 2000

#: What axe finds of these is a fault.
_FAULTS = ("serious", "critical")


def chromium() -> str | None:
    """The browser of this machine."""
    named = os.environ.get("LIVESYNC_CHROMIUM")
    return named or shutil.which("chromium") or shutil.which("chromium-browser")


def add_versions(root: Any) -> None:
    """Make versions of some documents, with a branch that was merged."""
    made = VersionedCollection(root, "notes", author="ada")
    made.documents.update({"first": {"title": "First", "n": 1}, "second": {"title": "Second"}})
    made.init("As it was imported")
    made.create_branch("rework")
    made.documents["second"] = {"title": "The second", "tags": ["new"]}
    made.register("Another title")
    made.checkout(branch="main")
    made.documents["first"] = {"title": "First", "n": 2}
    made.register("Counted on")
    made.merge("rework")
    made.tag("imported", 0)


class Site:
    """The catalogue, agents and users behind a server.

    Args:
        directory: Where everything is kept.
        prefix: Where the pages are mounted.

    Attributes:
        offset: Seconds by which the application's clock is ahead.
        address: Where the pages are.
        send_more: Lets a tablet, which is still at it, send so many buffers.
    """

    def __init__(self, directory: Path, prefix: str = "") -> None:
        self.directory = directory
        self.offset = 0.0
        self._stack = ExitStack()
        self.host = load_host("demo")
        self.db = DB(FileStorage(str(directory / "Data.fs")))
        self.users = Users(directory / "users.json")
        self.users.add_user("ada", PASSWORD, Role.OPERATE)
        self.users.add_user("bob", PASSWORD, Role.SEE)
        self.lines = read_history(find_history("history-small.jsonl.gz"))
        prepare(self.db)
        self.edit(LINES)
        self._add_agents()
        app = make_app(
            self.db, self.host, users=self.users, prefix=prefix, clock=lambda: time.time() + self.offset
        )
        self.app = app.livesync
        self._server = create_server(app, host="127.0.0.1", port=0, threads=4)
        self.address = f"http://127.0.0.1:{self._server.effective_port}{prefix}"
        self._thread = ServerThread(self._server, "pages")
        self._thread.start()

    def edit(self, lines: int = 1) -> None:
        """Make the next edits of the catalogue, each in a transaction, recorded."""
        with recorded(self.db, self.host):
            assert replay(self.db, self.lines, limit=lines).applied == lines

    def _add_agents(self) -> None:
        kinds = {
            "search": ("sqlite", {"path": str(self.directory / "search.db")}, "Search of the site"),
            "archive": ("file", {"directory": str(self.directory / "archive")}, "Long-term archive"),
            "picky": ("sqlite", {"path": str(self.directory / "picky.db"),
                                 "transform": "support.refusing:refuse_some"}, "A picky service"),
            "fussy": ("sqlite", {"path": str(self.directory / "fussy.db"),
                                 "transform": "support.refusing:refuse_some"}, "A fussy service"),
            "asleep": ("sqlite", {"path": str(self.directory / "asleep.db")}, "Asleep"),
            "later": ("sqlite", {"path": str(self.directory / "later.db")}, "Not begun yet"),
            "lost": ("webhook", {"url": "http://127.0.0.1:9/", "secret": "env:NO_SUCH_NAME"}, "Lost hook"),
        }  # fmt: skip

        def change(root: Any) -> None:
            manager = SyncManager.get(root)
            for agent_id, (kind, options, name) in kinds.items():
                manager.register_agent(load_agent_type(kind)(agent_id, name, **options))
                if agent_id != "later":
                    manager.activate(agent_id, from_start=True)
            manager.set_interval("search", 60.0)

        committed(self.db, change)
        LiveSyncUpdateTask(self.db, self.host, only_due=False).run(time.time())
        self.edit(5)
        committed(self.db, lambda root: SyncManager.get(root).pause("asleep"))
        committed(self.db, add_versions)
        self.send_more = sync_with_everybody(self.db, self.host, self.directory, self._stack)
        LiveSyncUpdateTask(self.db, self.host, agents=["search"], only_due=False).run(time.time())

    def stored(self, agent_id: str) -> Any:
        """What is stored of an agent now, as plain values."""
        found: dict[str, Any] = {}

        def read(root: Any) -> None:
            stored = SyncManager.get(root).stored(agent_id)
            found.update(state=stored.state, dead=len(stored.dead), interval_s=stored.interval_s,
                         options=dict(stored.options), name=stored.name)  # fmt: skip

        committed(self.db, read)
        return found

    def close(self) -> None:
        self._thread.close(5)
        self.app.close()
        self._stack.close()
        self.db.close()


class Visitor:
    """Somebody at a browser.

    Attributes:
        page: What is before them.
        complaints: What the browser said was wrong, such as a script that failed or was not allowed.
    """

    def __init__(self, browser: Browser, site: Site, **settings: Any) -> None:
        self.site = site
        self.context = browser.new_context(**settings)
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        self.complaints: list[str] = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _heard(self, message: Any) -> None:
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def go(self, path: str) -> None:
        self.page.goto(self.site.address + path)

    def log_in(self, name: str = "ada") -> None:
        self.go("/login")
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Log in").click()
        self.page.wait_for_selector("nav[aria-label=Main]")

    def press(self, name: str) -> None:
        """Press a button, or follow a link, of this name."""
        page = self.page.locator("main")
        page.get_by_role("button", name=name, exact=True).or_(
            page.get_by_role("link", name=name, exact=True)
        ).first.click()

    @property
    def message(self) -> str:
        return " ".join(self.page.locator(".message").first.inner_text().split())

    def finished(self) -> str:
        """What the job on this page came to, once it has ended, which the page finds out by itself."""
        self.page.wait_for_selector("#job-ended", state="attached", timeout=30_000)
        return " ".join(self.page.locator("#job").inner_text().split())

    def faults(self, *rules: str) -> list[str]:
        """What axe finds that keeps people out, by all its rules or by these."""
        options: dict[str, Any] = {"resultTypes": ["violations"]}
        if rules:
            options["runOnly"] = {"type": "rule", "values": list(rules)}
        found = Axe().run(self.page, options=options).response["violations"]
        return [
            f"{one['id']} ({one['impact']}): {one['help']}: {one['nodes'][0]['html'][:200]}"
            for one in found
            if one["impact"] in _FAULTS
        ]

    def shot(self, name: str) -> None:
        """Keep a picture of the page, of a long one its beginning."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        width, height = self.page.evaluate(
            "[document.documentElement.clientWidth, document.documentElement.scrollHeight]"
        )
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, _TALLEST)}
        self.page.screenshot(path=SHOTS / f"{name}.png", full_page=True, clip=clip)

    def has_room(self) -> bool:
        """Tell whether nothing of the page reaches beyond its right edge."""
        width: bool = self.page.evaluate(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        )
        return width

    def close(self) -> None:
        self.context.close()


@pytest.fixture(scope="session")
def browser():
    """The browser; without one these tests are left out, and say so."""
    path = chromium()
    if path is None:
        pytest.skip("there is no Chromium here: bin/browser installs Debian's")
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=path, args=list(_ARGUMENTS))
        yield made
        made.close()


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The running site."""
    made = Site(tmp_path_factory.mktemp("site"))
    yield made
    made.close()


@pytest.fixture
def visit(browser, site):
    """Makes visitors, with settings of the browser's context; nothing may have gone wrong in the end."""
    made: list[Visitor] = []

    def make(name: str | None = "ada", **settings: Any) -> Visitor:
        visitor = Visitor(browser, site, **settings)
        made.append(visitor)
        if name is not None:
            visitor.log_in(name)
        return visitor

    yield make
    complaints = [text for visitor in made for text in visitor.complaints]
    for visitor in made:
        visitor.close()
    assert complaints == []


@pytest.fixture(scope="session")
def logged_in(browser, site):
    """The cookie of somebody who may operate: logging in takes a while, and has its own tests."""
    visitor = Visitor(browser, site)
    visitor.log_in()
    state = visitor.context.storage_state()
    visitor.close()
    return state


@pytest.fixture
def ada(visit, logged_in):
    """Somebody who may operate, in a light room with a large screen."""
    return visit(None, storage_state=logged_in, viewport={"width": 1280, "height": 860}, color_scheme="light")
