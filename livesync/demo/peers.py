"""Three sites that all edit one catalogue, sync in a ring, and end up with the same.

Each takes its turn with the real history; and whenever a line changes a talk, another site changes the title
of that talk at the same time, so that there are conflicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from ..database import open_database
from ..errors import LiveSyncError
from ..replication import (
    ConflictLog,
    HostExecutor,
    SyncLock,
    SyncOrchestrator,
    SyncSessionStatus,
    TrackReader,
    ZODBDataStore,
    ZODBSyncProvider,
)
from .editor import Editor
from .history import HistoryError, Line, find_history, read_history
from .host import demo_paths_host
from .model import ROOT_KEY, Talk
from .replay import prepare, replay
from .wiring import recorded

#: What the sites are called.
NAMES = ("athens", "berlin", "cairo")

#: Lines of the history that the first site has before it meets the others.
_BEGINNING = 55


class _Site:
    """One catalogue in a database file, and its provider."""

    def __init__(self, name: str, place: Path, stack: ExitStack) -> None:
        self.name = name
        self.host = demo_paths_host()
        self.db = stack.enter_context(closing(open_database(f"file://{place / name}.fs", create=True)))
        prepare(self.db)
        self.provider = ZODBSyncProvider(
            name,
            ZODBDataStore(self.db),
            changes_executor=HostExecutor(self.host),
            reader=TrackReader(),
        )

    def replay(self, line: Line) -> None:
        with recorded(self.db, self.host):
            replay(self.db, [line])

    def retitle(self, line: Line) -> str | None:
        """Change the title of the first talk here that a line changes; return its path."""
        with recorded(self.db, self.host), self.db.transaction() as connection:
            catalogue = connection.root()[ROOT_KEY]
            for change in line.changes:
                talk = catalogue.find(change.place)
                if isinstance(talk, Talk) and change.action == "data_changed":
                    title = f"{talk.title} (as {self.name} has it)"
                    Editor(catalogue, lambda path: path).change(talk, {**(talk.data or {}), "title": title})
                    return talk.path
        return None

    def documents(self) -> dict[str, Any]:
        with self.db.transaction() as connection, self.host.at(connection) as bound:
            return {bound.object_id(obj): bound.document(obj) for obj in bound.iter_objects()}

    def conflicts(self) -> list[ConflictLog]:
        return self.provider.conflict_logs()


def run(place: Path, say: Callable[[str], None], lines: Sequence[Line] | None = None) -> bool:
    """Let three sites edit and sync; tell whether they hold the same in the end.

    Args:
        place: An empty directory for the three database files.
        say: Is told, line by line, what happens.
        lines: The history; the small one when None.
    """
    history = list(read_history(find_history("history-small.jsonl.gz", {}))) if lines is None else list(lines)
    with ExitStack() as stack:
        sites = [_Site(name, place, stack) for name in NAMES]
        for line in history[:_BEGINNING]:
            sites[0].replay(line)
        say(f"{NAMES[0]} has a catalogue of {len(sites[0].documents()):,} entries; the others get it:")
        _ring(sites, say)
        say("")
        collided = _edit(sites, history[_BEGINNING:], say)
        say("")
        say("Everybody syncs until there is nothing left:")
        while _ring(sites, say):
            pass
        return _ended(sites, collided, say)


def _edit(sites: list[_Site], lines: Sequence[Line], say: Callable[[str], None]) -> int:
    """Let the sites take turns with the history; return how often two edited one talk at once."""
    collided = edited = 0
    for number, line in enumerate(lines):
        site, other = sites[number % 3], sites[(number + 1) % 3]
        try:
            site.replay(line)
        except HistoryError:
            say(
                f"{edited} lines on three sites; the next one edits what another site has made, so they sync:"
            )
            _ring(sites, say)
            edited = 0
            site.replay(line)
        edited += 1
        collided += other.retitle(line) is not None
    say(f"{edited} lines on three sites; {collided} talks in all were edited on two sites at once")
    return collided


def _ring(sites: list[_Site], say: Callable[[str], None]) -> int:
    """Sync each site with the next one; return how many items travelled."""
    total = 0
    for number, one in enumerate(sites):
        other = sites[(number + 1) % 3]
        with _listening(one, other):
            there, back = SyncOrchestrator(SyncLock(), [one.provider, other.provider], 3600).run()
        for session in (there, back):
            if session.status is not SyncSessionStatus.FINISHED:
                raise LiveSyncError(f"{one.name} and {other.name} could not sync: {session.reason}")
        counts = len(there.item_changes), len(back.item_changes)
        say(f"  {one.name} -> {other.name} {counts[0]:,} items, back {counts[1]:,}")
        total += sum(counts)
    return total


@contextmanager
def _listening(*sites: _Site) -> Iterator[None]:
    with ExitStack() as stack:
        for site in sites:
            stack.enter_context(recorded(site.db, site.host))
        yield


def _ended(sites: list[_Site], collided: int, say: Callable[[str], None]) -> bool:
    documents = [site.documents() for site in sites]
    logs = [log for site in sites for log in site.conflicts()]
    losers = {log.item_change_loser.id for log in logs}
    deferred = [log for log in logs if log.resolved_at is None]
    items = [site.provider.items() for site in sites]
    same = documents[0] == documents[1] == documents[2] and items[0] == items[1] == items[2]
    say("")
    say(f"entries: {', '.join(f'{site.name} {len(found):,}' for site, found in zip(sites, documents))}")
    say(f"conflicts: {len(losers):,} changes lost, each kept with its winner; {len(deferred):,} deferred")
    say(f"{'PASSED: all three are identical, clocks included' if same else 'FAILED: they differ'}")
    return same and not deferred and bool(losers) == bool(collided)
