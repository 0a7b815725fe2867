"""The example: an application that existed before, plugged in with ten lines, served by a real server."""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import ZEO
from plugins.conftest import EXAMPLE, Sites, wait_for
from support.ports import free_port
from support.waiting import LONG_S

from livesync import SyncManager
from livesync.database import committed
from livesync.destinations.sqlite import SQLiteAgent
from livesync.upkeep.export import export
from livesync.upkeep.verify import verify

EVENTS = "notes.events.Hidden set_private\nnotes.events.Published set_public"


# -- ten lines and one file ----------------------------------------------------------------------


def plugin_lines() -> list[str]:
    """The lines of the example's configuration that are livesync's."""
    text = (EXAMPLE / "development.ini").read_text("utf-8")
    (section,) = re.findall(r"^# livesync: begin\n(.*?)^# livesync: end$", text, re.MULTILINE | re.DOTALL)
    return [line for line in section.splitlines() if line.strip()]


def agent_lines() -> list[str]:
    """What is typed once to have an index."""
    lines = (EXAMPLE / "index.sh").read_text("utf-8").splitlines()
    return [line for line in lines if line.strip() and not line.startswith("#")]


def test_a_newcomer_needs_ten_lines_and_one_file() -> None:
    assert 0 < len(plugin_lines()) + len(agent_lines()) <= 10
    assert [path.name for path in (EXAMPLE / "notes").glob("*.py") if imports_livesync(path)] == [
        "livesync_host.py"
    ]


def imports_livesync(path: Path) -> bool:
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module.partition(".")[0]}
    return "livesync" in names


# -- the application itself ----------------------------------------------------------------------


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return tmp_path / "index.sqlite"


@pytest.fixture
def site(sites: Sites, index: Path) -> Any:
    """The example with an agent that has been exported; it runs when a test says so."""
    made = sites(livesync__events=EVENTS, notes__index=str(index))
    db = made.databases[""]
    committed(db, lambda root: SyncManager.get(root).register_agent(SQLiteAgent("index", path=str(index))))
    with db.transaction() as connection:
        export(SyncManager.get(connection.root()), "index", made.plugged.settings.host)
    return made


def delivered(site: Any, index: Path) -> dict[str, str]:
    """Run the agent; return the titles in the index by the paths."""
    manager_of, host = SyncManager.get, site.plugged.settings.host
    site.clock += 10  # what was committed before lies in a position that is over
    with site.databases[""].transaction() as connection:
        manager = manager_of(connection.root())
        manager.get_agent("index").run(manager, host, now=site.clock)
    with (
        site.databases[""].transaction() as connection,
        verify(manager_of(connection.root()), "index", host) as found,
    ):
        assert not found.differs
        assert not found.pending
    return documents(index)


def documents(index: Path) -> dict[str, str]:
    if not index.is_file():
        return {}
    query = "SELECT document ->> 'path', document ->> 'title' FROM documents"
    with closing(sqlite3.connect(f"file:{index}?mode=ro", uri=True, timeout=5)) as file:
        try:
            return dict(file.execute(query))
        except sqlite3.OperationalError:  # it is being made
            return {}


def test_what_readers_may_see_is_in_the_index_whatever_is_done(site: Any, index: Path) -> None:
    site.post("/add-folder", title="Drinks", status=303)
    site.post("/drinks/add-note", title="Tea", text="leaves", status=303)
    site.post("/drinks/add-note", title="Coffee", text="beans", draft="on", status=303)
    assert delivered(site, index) == {"/drinks": "Drinks", "/drinks/tea": "Tea"}

    site.post("/drinks/coffee/draft", status=303)
    site.post("/drinks/tea/edit", title="Green tea", text="leaves", status=303)
    assert delivered(site, index) == {
        "/drinks": "Drinks",
        "/drinks/tea": "Green tea",
        "/drinks/coffee": "Coffee",
    }

    site.post("/add-folder", title="Kitchen", status=303)
    uid = entry(site, "kitchen").uid
    site.post("/drinks/move", to=uid, status=303)
    assert delivered(site, index) == {
        "/kitchen": "Kitchen",
        "/kitchen/drinks": "Drinks",
        "/kitchen/drinks/tea": "Green tea",
        "/kitchen/drinks/coffee": "Coffee",
    }

    site.post("/kitchen/draft", draft="on", status=303)
    assert delivered(site, index) == {}

    site.post("/kitchen/draft", status=303)
    site.post("/kitchen/drinks/remove", status=303)
    assert delivered(site, index) == {"/kitchen": "Kitchen"}


def entry(site: Any, *names: str) -> Any:
    with site.databases[""].transaction() as connection:
        found = connection.root()["notebook"]
        for name in names:
            found = found[name]
        found.title  # noqa: B018 - loads it
        return found


def test_the_search_finds_published_notes_by_their_words(site: Any, index: Path) -> None:
    site.add_note("Tea", text="Boil the water first")
    site.add_note("Secret", text="The water is deep", draft="on")
    delivered(site, index)

    found = site.app.get("/search", {"q": 'water "boil'})

    assert [link.text for link in found.html.find_all("a")] == ["Tea"]
    assert "Nothing." in site.app.get("/search", {"q": "ocean"})
    assert "Nothing." in site.app.get("/search", {"q": ""})


def test_wrong_forms_are_turned_down_and_change_nothing(site: Any) -> None:
    site.post("/add-folder", title="Drinks", status=303)
    site.post("/drinks/add-folder", title="Hot", status=303)
    site.forget()

    site.post("/add-note", title=" ", status=400)
    site.post("/add-note", title="x" * 201, status=400)
    site.post("/drinks/move", to=entry(site, "drinks", "hot").uid, status=400)
    site.post("/move", to="", status=400)
    site.post("/remove", status=400)
    site.app.post("/add-note", {"title": "Forged"}, status=400)

    assert site.actions() == []


def test_two_of_one_title_lie_under_two_names(site: Any) -> None:
    assert site.add_note("Tea!") == "/tea/"
    assert site.add_note("tea") == "/tea-2/"
    assert site.add_note("茶") == "/untitled/"


# -- served --------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The example in a directory of its own, as it was before livesync."""
    place = tmp_path / "site"
    shutil.copytree(EXAMPLE, place, ignore=shutil.ignore_patterns("__pycache__", "*.fs*", "*.sqlite*"))
    ini = (place / "development.ini").read_text("utf-8")
    kept = [line for line in ini.splitlines() if line not in plugin_lines()]
    (place / "before.ini").write_text("\n".join(kept) + "\n", "utf-8")
    return place


def environment(place: Path) -> dict[str, str]:
    foreign = ("LIVESYNC_", "PYTHON", "COV")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    commands = place / "bin"
    if not commands.is_dir():
        commands.mkdir()
        (commands / "livesync").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m livesync "$@"\n', "utf-8")
        (commands / "livesync").chmod(0o755)
    return {**kept, "PATH": f"{commands}:{os.environ['PATH']}", "PYTHONPATH": str(place)}


@contextmanager
def served(place: Path, ini: str) -> Iterator[Visitor]:
    """Serve the example on a free port until the end of the block."""
    port = free_port()
    log = place / f"{ini}.log"
    text = (place / ini).read_text("utf-8").replace("127.0.0.1:6543", f"127.0.0.1:{port}")
    (place / "served.ini").write_text(text, "utf-8")
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "notes", "served.ini"],
            cwd=place,
            env=environment(place),
            stdout=output,
            stderr=subprocess.STDOUT,
            # whatever the tests were started by: in the background, a shell lets SIGINT be ignored
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            visitor = Visitor(f"http://127.0.0.1:{port}")
            wait_for(lambda: process.poll() is not None or visitor.is_answered())
            assert process.poll() is None, log.read_text()
            yield visitor
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(LONG_S)


class Visitor:
    """Somebody with a browser."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.session = requests.Session()

    def is_answered(self) -> bool:
        try:
            return self.session.get(self.url, timeout=LONG_S).ok
        except requests.ConnectionError:
            return False

    def post(self, path: str, **fields: str) -> None:
        if "csrf_token" not in self.session.cookies:
            self.session.get(f"{self.url}/", timeout=LONG_S)
        token = self.session.cookies["csrf_token"]
        answer = self.session.post(f"{self.url}{path}", {"csrf_token": token, **fields}, timeout=LONG_S)
        answer.raise_for_status()

    def finds(self, words: str) -> list[str]:
        answer = self.session.get(f"{self.url}/search", params={"q": words}, timeout=LONG_S)
        return re.findall(r'<li><a href="([^"]+)"', answer.text)


@pytest.mark.slow
def test_an_application_that_was_there_before_is_in_the_index_with_what_it_had(checkout: Path) -> None:
    with served(checkout, "before.ini") as visitor:
        visitor.post("/add-note", title="Tea", text="Boil the water")
        assert visitor.finds("water") == []

    script = subprocess.run(
        ["sh", "index.sh"],
        cwd=checkout,
        env=environment(checkout),
        capture_output=True,
        text=True,
        check=False,
    )
    assert script.returncode == 0, script.stderr
    with served(checkout, "development.ini") as visitor:
        assert visitor.finds("water") == ["/tea"]

        visitor.post("/add-note", title="Coffee", text="Grind the beans")
        wait_for(lambda: visitor.finds("beans") == ["/coffee"])
        visitor.post("/coffee/draft", draft="on")
        wait_for(lambda: visitor.finds("beans") == [])

    assert documents(checkout / "index.sqlite") == {"/tea": "Tea"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_over_zeo_an_edit_arrives_by_a_process_that_serves(
    sites: Sites, index: Path, tmp_path: Path, checkout: Path
) -> None:
    address, stop = ZEO.server(str(tmp_path / "zeo.fs"))
    try:
        uri = f"zeo://{address[0]}:{address[1]}"
        site = sites(zodbconn__uri=uri)

        def add(root: Any) -> None:
            manager = SyncManager.get(root)
            manager.register_agent(SQLiteAgent("index", path=str(index)))
            manager.activate("index", from_start=True)
            manager.set_interval("index", 3600)

        committed(site.databases[""], add)
        process = subprocess.Popen(
            [sys.executable, "-m", "livesync", "serve", "--no-web"],
            env={
                **environment(checkout),
                "LIVESYNC_DB": uri,
                "LIVESYNC_HOST": "notes.livesync_host:NotesHost",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(b"livesync serves")

            site.add_note("Tea")
            wait_for(lambda: documents(index) == {"/tea": "Tea"})
            site.post("/tea/edit", title="Green tea", text="", status=303)
            wait_for(lambda: documents(index) == {"/tea": "Green tea"})

            process.terminate()
        assert process.returncode == 0
        site.close()
        site.databases.clear()
    finally:
        stop()
