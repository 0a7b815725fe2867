"""Nodes of ``bin/demo network``: a database file each, commands in processes of their own, and a server."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..cli.main import main
from ..database import open_database
from ..errors import LiveSyncError
from ..peering.partitions import contained_in_any
from ..replication import ZODBDataStore, ZODBSyncProvider
from .editor import Editor
from .history import Line
from .host import demo_series_host
from .model import ROOT_KEY, Catalogue, Entry, Talk, everything_below
from .replay import prepare, replay
from .wiring import recorded

#: Of the certificates.
PROFILE = "catalogue"

#: Seconds that a process has to begin or to end.
_PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Held:
    """What a node holds.

    Attributes:
        items: id -> (partition, what it says).
        own: Ids of those that it has written last itself.
        conflicts: How many were kept.
    """

    items: dict[str, tuple[str, str]]
    own: frozenset[str]
    conflicts: int


class Node:
    """A site with a database of its own.

    Args:
        directory: Where it lies; it is made.
        name: What it is called.
        say: Is told what is done.
    """

    def __init__(self, directory: Path, name: str, say: Callable[[str], None]) -> None:
        self.name = name
        self.port = 0
        directory.mkdir()
        self.directory = directory = directory.resolve()
        self.uri = f"file://{directory / 'Data.fs'}"
        self._say = say
        self._server: subprocess.Popen[str] | None = None
        with closing(open_database(self.uri, create=True)) as db:
            prepare(db)

    # -- commands ----------------------------------------------------------------------------------

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Begin a command in a process of its own, as somebody would type it."""
        environ = {key: text for key, text in os.environ.items() if not key.startswith("LIVESYNC_")}
        environ |= {
            "LIVESYNC_DB": self.uri,
            "LIVESYNC_HOST": "livesync.demo.host:demo_series_host",
        }
        return subprocess.Popen(  # noqa: S603 - this package's own command
            [sys.executable, "-m", "livesync", *words],
            cwd=self.directory,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str) -> None:
        """Carry out a command in a process of its own, and show it with what it says.

        Raises:
            LiveSyncError: It fails.
        """
        self.finish(self.start(*words), words)

    def finish(self, process: subprocess.Popen[str], words: Iterable[str]) -> None:
        """Wait for a command; see :meth:`run`."""
        out, err = process.communicate(timeout=_PATIENCE_S)
        if process.returncode:
            said = err.strip() or f"exit code {process.returncode}"
            raise LiveSyncError(f"{self.name}: livesync {' '.join(words)}: {said}")
        self._say(f"  {self.name}$ livesync {' '.join(words)}")
        for line in out.splitlines():
            self._say(f"    {line}")

    def do(self, *words: str) -> Any:
        """Carry out a command here, which takes less time, and return what it says to programs.

        Raises:
            LiveSyncError: It fails.
        """
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = main(["--db", self.uri, "--json", *words])
        if code:
            raise LiveSyncError(f"{self.name}: livesync {' '.join(words)}: {err.getvalue().strip()}")
        return json.loads(out.getvalue())

    # -- the server --------------------------------------------------------------------------------

    def serve(self) -> int:
        """Serve peers, at the same port as before; return it."""
        process = self.start("serve", "--no-web", "--peers", f"127.0.0.1:{self.port}")
        assert process.stdout is not None
        line = process.stdout.readline()
        if "peers at " not in line:
            process.kill()
            raise LiveSyncError(f"{self.name} does not serve: {process.communicate()[1].strip()}")
        self._server = process
        self.port = int(line.split("peers at ")[1].strip().rstrip("/").rpartition(":")[2])
        return self.port

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the server, if there is one."""
        process, self._server = self._server, None
        if process is not None:
            process.send_signal(number)
            process.communicate(timeout=_PATIENCE_S)

    # -- the application, while nobody has the file open -------------------------------------------

    def replay(self, lines: Iterable[Line]) -> None:
        """Let people make the edits of the history."""
        with closing(open_database(self.uri)) as db, recorded(db, demo_series_host()):
            replay(db, lines)

    def retitle(self, conference: str, count: int) -> int:
        """Change the titles of some talks of a conference; return how many."""
        with self._catalogue() as catalogue:
            below = everything_below(_found(catalogue, conference))
            talks = sorted((each for each in below if isinstance(each, Talk)), key=lambda each: each.path)
            for talk in talks[:count]:
                title = f"{talk.title} (as {self.name} has it)"
                Editor(catalogue, lambda path: path).change(talk, {**(talk.data or {}), "title": title})
        return len(talks[:count])

    def remove(self, path: str) -> None:
        """Remove an entry."""
        with self._catalogue() as catalogue:
            Editor(catalogue, lambda each: each).remove(_found(catalogue, path))

    @contextmanager
    def _catalogue(self) -> Iterator[Catalogue]:
        """Give the catalogue in a transaction, whose changes are recorded."""
        with (
            closing(open_database(self.uri)) as db,
            recorded(db, demo_series_host()),
            db.transaction() as connection,
        ):
            yield connection.root()[ROOT_KEY]

    def held(self) -> Held:
        """Return what it holds."""
        with closing(open_database(self.uri)) as db:
            provider = ZODBSyncProvider(None, ZODBDataStore(db))
            found = provider.items()
            return Held(
                {state.item_id: (state.partition, state.payload) for state in found},
                frozenset(state.item_id for state in found if state.dot[0] == provider.provider_id),
                len(provider.conflict_logs()),
            )


def _found(catalogue: Catalogue, path: str) -> Entry:
    entry: Entry | None = catalogue.at_path(path)
    if entry is None:
        raise LiveSyncError(f"there is nothing at {path}")
    return entry


def within(items: dict[str, tuple[str, str]], prefixes: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """Return the items at or below some partitions."""
    return {key: found for key, found in items.items() if contained_in_any(prefixes, found[0])}
