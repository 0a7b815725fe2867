"""Git with a file a document: by its command line, and by pygit2."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from .edits import Document, Edits
from .timing import timed

#: Nothing is done besides what is timed: no gc, no maintenance.
_SETTINGS = {
    "gc.auto": "0",
    "maintenance.auto": "false",
    "user.name": "Ada",
    "user.email": "ada@example.org",
    "commit.gpgsign": "false",
}


def encoded(document: Document) -> bytes:
    """Return a document as it lies in a file."""
    return msgspec.json.format(msgspec.json.encode(document), indent=1)


def paths(ids: Iterable[str]) -> dict[str, str]:
    """Return where documents lie: at most some hundreds a directory."""
    return {one: f"{number // 200:05d}/{number:07d}.json" for number, one in enumerate(sorted(set(ids)))}


class Git:
    """A repository with files, driven by ``git``.

    Args:
        directory: Where to make it.
        edits: What it is to hold.
    """

    def __init__(self, directory: Path, edits: Edits) -> None:
        self.directory = directory
        self.files = paths([*edits.first, *(one for version in edits.versions for one in version)])
        self.commits: list[str] = []
        directory.mkdir()
        self.run("init", "-q")
        for name, value in _SETTINGS.items():
            self.run("config", name, value)

    def run(self, *arguments: str) -> str:
        """Run a command and return what it prints."""
        environment = {**os.environ, "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(self.directory)}
        command = ["git", "-C", str(self.directory), *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        return done.stdout

    def write(self, version: dict[str, Document | None] | dict[str, Document]) -> None:
        """Write files."""
        for one, document in version.items():
            path = self.directory / self.files[one]
            if document is None:
                path.unlink()
            else:
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(encoded(document))

    def commit(self, message: str) -> float:
        """Make a version of what was written; return the seconds of ``add`` and ``commit``."""

        def both() -> None:
            self.run("add", "-A")
            self.run("commit", "-q", "-m", message)

        seconds = timed(both).wall_s
        self.commits.append(self.run("rev-parse", "HEAD").strip())
        return seconds

    def gc(self) -> None:
        """Pack everything."""
        self.run("gc", "-q", "--prune=now")

    def size(self, part: str = "") -> int:
        """Return the bytes of the repository without the files, or of a part of it."""
        place = self.directory / ".git" / part
        return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())


class PyGit:
    """A repository without files, driven by pygit2."""

    def __init__(self, directory: Path, files: dict[str, str]) -> None:
        self._pygit2: Any = import_module("pygit2")
        self.directory = directory
        self.files = files
        self.repository = self._pygit2.init_repository(str(directory), bare=True)
        self.commits: list[Any] = []
        self._index = self._pygit2.Index()

    def commit(self, version: dict[str, Document | None] | dict[str, Document], message: str) -> float:
        """Make a version; return the seconds that it took, encoding included."""

        def make() -> None:
            pygit2, repository = self._pygit2, self.repository
            for one, document in version.items():
                if document is None:
                    self._index.remove(self.files[one])
                    continue
                blob = repository.create_blob(encoded(document))
                self._index.add(pygit2.IndexEntry(self.files[one], blob, pygit2.enums.FileMode.BLOB))
            tree = self._index.write_tree(repository)
            who = pygit2.Signature("Ada", "ada@example.org", 1_900_000_000 + len(self.commits), 0)
            parents = self.commits[-1:]
            self.commits.append(repository.create_commit("refs/heads/main", who, who, message, tree, parents))

        return timed(make).wall_s

    def read(self, one: str, number: int) -> Document:
        """Return a document at a version."""
        blob = self.repository[self.commits[number]].tree[self.files[one]]
        found: Document = msgspec.json.decode(blob.data)
        return found

    def packed(self) -> None:
        """Pack everything, and open it anew."""
        subprocess.run(
            ["git", "-C", str(self.directory), "gc", "-q", "--prune=now"], check=True, capture_output=True
        )
        self.repository = self._pygit2.Repository(str(self.directory))


def has_pygit2() -> bool:
    """Tell whether pygit2 is installed: the extra ``bench``."""
    try:
        import_module("pygit2")
    except ModuleNotFoundError:
        return False
    return True
