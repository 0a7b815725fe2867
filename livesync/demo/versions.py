"""The real history of the catalogue as versions: one for each line, tags for years, a branch merged back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from transaction import TransactionManager

from ..database import open_database
from ..errors import LiveSyncError
from ..manager import SyncManager
from ..versions import VersionedCollection
from ..versions.graph import drawn
from ..versions.log import LogEntry, log_entry
from .editor import Editor
from .history import Line, find_history, read_history
from .host import demo_paths_host
from .model import ROOT_KEY, Talk
from .replay import USER, describe, prepare, replay
from .wiring import recorded

#: What the branch with edits of its own is called.
_BRANCH = "titles"

#: Versions of the log that are shown.
_SHOWN = 8


class _Catalogue:
    """The catalogue in a database, and the collection of its documents."""

    def __init__(self, db: Any) -> None:
        self.db = db
        self.host = demo_paths_host()
        self.manager = TransactionManager(explicit=True)
        self.now = 0.0
        self.manager.begin()
        self.connection = db.open(transaction_manager=self.manager)
        self.talks = VersionedCollection(self.connection, "catalogue", host=self.host, clock=lambda: self.now)

    def close(self) -> None:
        self.manager.abort()
        self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[VersionedCollection]:
        """Give the collection in a transaction that is committed in the end."""
        self.manager.abort()
        self.manager.begin()
        with recorded(self.db, self.host):
            yield self.talks
            self.manager.commit()
        self.manager.begin()

    def replay(self, line: Line) -> None:
        """Replay a line, and collect, as livesync does all the time: a version then costs what changed."""
        with recorded(self.db, self.host):
            replay(self.db, [line])
        with self.db.transaction() as connection:
            SyncManager.get(connection.root()).collect()
        self.now = max(self.now, line.time)

    def retitle(self, path: str, title: str) -> None:
        """Change the title of a talk, as the application would."""
        with self.transaction():
            catalogue = self.connection.root()[ROOT_KEY]
            talk = catalogue.at_path(path)
            assert isinstance(talk, Talk)
            Editor(catalogue, lambda place: place).change(talk, {**(talk.data or {}), "title": title})
        self.now += 60

    def count(self) -> int:
        return sum(1 for _ in self.talks.working.ids())


def run(place: Path, say: Callable[[str], None], lines: Sequence[Line] | None = None) -> bool:
    """Make a version of each line, and show what can be done with them; tell whether all came out right.

    Args:
        place: An empty directory for the database's file.
        say: Is told, line by line, what happens.
        lines: The history; the small one when None.
    """
    history = list(read_history(find_history("history-small.jsonl.gz", {}))) if lines is None else list(lines)
    with closing(open_database(f"file://{place / 'Data.fs'}", create=True)) as db:
        prepare(db)
        with closing(_Catalogue(db)) as catalogue:
            counts = _register(catalogue, history, say)
            path = _blame(catalogue, say)
            is_right = _go_back(catalogue, counts, say)
            is_right &= _merge(catalogue, path, say)
    say("")
    say("PASSED: every version that was looked at is what it was" if is_right else "FAILED: see above")
    return is_right


def _register(catalogue: _Catalogue, lines: Sequence[Line], say: Callable[[str], None]) -> dict[str, int]:
    """Make a version of each line, and tag the last of each year; return how many entries it had."""
    counts: dict[str, int] = {}
    for number, line in enumerate(lines):
        catalogue.replay(line)
        year = _year(line)
        with catalogue.transaction() as talks:
            if number:
                talks.register(describe(line), author=USER)
            else:
                talks.init(describe(line), author=USER)
            if number + 1 == len(lines) or _year(lines[number + 1]) != year:
                talks.tag(f"year-{year}")
                counts[f"year-{year}"] = catalogue.count()
    say(f"{len(lines):,} lines of the history, each a version; the last ones:")
    say("")
    _graph(catalogue, say)
    say("")
    for name, (version, branch) in catalogue.talks.tags().items():
        say(f"tag {name}: version {version} of {branch}, {counts[name]:,} entries")
    return counts


def _year(line: Line) -> int:
    return datetime.fromtimestamp(line.time, timezone.utc).year


def _graph(catalogue: _Catalogue, say: Callable[[str], None]) -> None:
    talks = catalogue.talks
    stored, places = talks.contents.stored, talks.names.places()
    entries = [log_entry(talks.contents, places, key) for key in stored.records]
    entries.sort(key=lambda entry: (-entry.record.generation, -entry.record.time_us))
    by_key = {entry.key: entry for entry in entries}
    parents = [(entry.key, [stored.keys[one] for one in entry.record.parents]) for entry in entries]
    for number, (key, before, mark, after) in enumerate(drawn(parents)):
        if number == _SHOWN:
            return
        for line in (*before, f"{mark} {_shown(by_key[key])}", *after):
            say(f"  {line}")


def _shown(entry: LogEntry) -> str:
    return f"{entry.branch}:{entry.version} {entry.id[:8]} {entry.message.splitlines()[0]}"


def _blame(catalogue: _Catalogue, say: Callable[[str], None]) -> str:
    """Show who made what of the talk that changed most often; return its path."""
    talks = catalogue.talks
    changed: list[tuple[int, str]] = [
        (len(talks.history(document_id)), document_id)
        for document_id in talks.contents.stored.documents
        if (talks.read(document_id) or {}).get("kind") == "talk"
    ]
    if not changed:
        raise LiveSyncError("no talk of this history was ever edited")
    count, path = max(changed)
    say("")
    say(f"Who made what of {path}, which {count} versions changed:")
    for line in talks.blame(path)[:_SHOWN]:
        say(f"  {str(line)[:110]}")
    return path


def _go_back(catalogue: _Catalogue, counts: dict[str, int], say: Callable[[str], None]) -> bool:
    """Check out the end of the first year, and come back; tell whether the catalogue was what it was."""
    name, *_ = counts
    version, branch = catalogue.talks.tags()[name]
    now = catalogue.count()
    say("")
    with catalogue.transaction() as talks:
        talks.checkout(version, branch)
    then = catalogue.count()
    say(f"Checked out {name}: the catalogue has {then:,} entries, as it had then ({counts[name]:,})")
    with catalogue.transaction() as talks:
        talks.checkout(branch="main")
    back = catalogue.count()
    say(f"Checked out main: {back:,} entries again")
    return then == counts[name] and back == now and not catalogue.talks.has_changes


def _merge(catalogue: _Catalogue, path: str, say: Callable[[str], None]) -> bool:
    """Edit titles on a branch and on main, and merge them; tell whether both came together."""
    talks = catalogue.talks
    others = (one for one, document in talks.read_all() if document.get("kind") == "talk" and one != path)
    first, second = next(others), next(others)
    with catalogue.transaction() as collection:
        collection.create_branch(_BRANCH)
    catalogue.retitle(path, "A title that the branch gave")
    catalogue.retitle(first, "Another one that the branch gave")
    with catalogue.transaction() as collection:
        collection.register("Titles, on a branch", author="ada")
        collection.checkout(branch="main")
    catalogue.retitle(path, "A title that main gave meanwhile")
    catalogue.retitle(second, "Another one that main gave")
    with catalogue.transaction() as collection:
        collection.register("Titles, meanwhile", author="grace")
        joined = collection.merge(_BRANCH, author="grace")
    say("")
    say(f"The branch {_BRANCH} is merged back; {len(joined.conflicts)} conflict:")
    for conflict in joined.conflicts:
        say(f"  {conflict}: {conflict.ours!r} or {conflict.theirs!r}?")
    with catalogue.transaction() as collection:
        collection.resolve_conflicts("theirs", path)
    say("The branch's is taken:")
    say("")
    _graph(catalogue, say)
    titles = [talks.working.get(one)["title"] for one in (path, first, second)]
    wanted = [
        "A title that the branch gave",
        "Another one that the branch gave",
        "Another one that main gave",
    ]
    return titles == wanted and len(joined.conflicts) == 1 and not talks.has_conflicts
