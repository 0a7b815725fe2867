"""What the README prints is run as printed: every Python block is a file, every console block is typed."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
README = (CHECKOUT / "README.md").read_text("utf-8")

#: What happens to the wiki after what the README does.
LATER = """
from wikihost import WikiHost
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from zope.event import notify
from zope.lifecycleevent import ObjectModifiedEvent, ObjectRemovedEvent
from livesync import Capture

db = DB(FileStorage("Data.fs"))
with Capture(WikiHost()).attached(db), db.transaction() as connection:
    pages = connection.root.pages
    pages["p2"].draft = False
    notify(ObjectModifiedEvent(pages["p2"]))
    notify(ObjectRemovedEvent(pages["p1"], pages, "p1"))
    del pages["p1"]
db.close()
"""


def blocks(language):
    """Return the README's code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands(block):
    """Return what is typed in a console block, without remarks."""
    return [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]


class Reader:
    """Somebody who follows the README in a directory of their own."""

    def __init__(self, place):
        self.place = place
        foreign = ("LIVESYNC_", "PYTHON", "COV")
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
        bin_directory = place / "bin"
        bin_directory.mkdir()
        for name, module in {"python": "", "livesync": "-m livesync"}.items():
            script = bin_directory / name
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n', "utf-8")
            script.chmod(0o755)
        self.environment["PATH"] = f"{bin_directory}:{os.environ['PATH']}"
        self.exports = []

    def write_files(self):
        for block in blocks("python"):
            name = re.match(r"# (\w+\.py)\n", block)[1]
            (self.place / name).write_text(block, "utf-8")

    def type(self, *lines):
        """Type lines into a shell that stops at the first that fails; return what they print."""
        self.exports += [line for line in lines if line.startswith("export ")]
        script = "\n".join(["set -eu", *self.exports, *lines])
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.place,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def rows(self, query):
        with closing(sqlite3.connect(self.place / "index.db")) as connection:
            return connection.execute(query).fetchall()


def block_with(text):
    return commands(next(block for block in blocks("console") if text in block))


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """The reader after the quick start."""
    reader = Reader(tmp_path_factory.mktemp("readme"))
    reader.write_files()
    reader.type(*block_with("livesync install"))
    reader.output = reader.type(*block_with("livesync run\n"))
    return reader


def test_quick_start_puts_what_is_public_into_the_index(reader):
    documents = reader.rows("SELECT object_id, document FROM documents")

    assert [(object_id, json.loads(document)) for object_id, document in documents] == [
        ("p1", {"title": "Hello", "text": "Hello, world"})
    ]
    assert reader.rows("SELECT object_id FROM documents_fts WHERE documents_fts MATCH 'world'") == [("p1",)]


def test_quick_start_shows_track_simulation_and_status(reader):
    assert "[created]" in reader.output
    assert '"text":"Hello, world"' in reader.output.replace('": ', '":')
    assert re.search(r"index +sqlite +active", reader.output)


def test_own_agent_gets_everything_and_then_each_change(reader):
    reader.type(*block_with("--type mirror:MirrorAgent"))
    mirror = reader.place / "mirror"
    assert {file.name: json.loads(file.read_bytes()) for file in mirror.iterdir()} == {
        "p1.json": {"title": "Hello", "text": "Hello, world"}
    }
    (reader.place / "later.py").write_text(LATER, "utf-8")

    reader.type("python later.py", "livesync run")

    assert {file.name: json.loads(file.read_bytes()) for file in mirror.iterdir()} == {
        "p2.json": {"title": "Plans", "text": "Not yet"}
    }
    assert reader.rows("SELECT object_id FROM documents") == [("p2",)]


def test_own_agent_and_host_are_as_short_as_the_readme_says():
    lengths = {
        re.match(r"# (\w+)", block)[1]: len(re.findall(r"^(?!#|from |import ).*\S", block, re.MULTILINE))
        for block in blocks("python")
    }

    assert lengths["mirror"] <= 15
    assert lengths["wikihost"] <= 22


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:docs|bin|bench|\.ci)/[\w./-]*)", README))))
def test_readme_names_files_that_are_there(path):
    assert (CHECKOUT / path).exists() or path.startswith("docs/_build")
