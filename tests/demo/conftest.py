"""What the demo's tests share: databases, the small history, and a plain twin of a replay."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import msgspec
import pytest
import transaction
import ZODB
from ZODB.DemoStorage import DemoStorage

from livesync.action import CASCADING
from livesync.delivery.record import encode_document
from livesync.demo.history import find_history, parse_line, read_history
from livesync.demo.model import ROOT_KEY, Conference, Talk, everything_below
from livesync.demo.replay import prepare, replay
from livesync.demo.wiring import recorded
from livesync.manager import SyncManager


class World:
    """A database with a catalogue and livesync, and what one wants to know of them."""

    def __init__(self, storage=None):
        self.db = ZODB.DB(storage if storage is not None else DemoStorage())
        prepare(self.db)

    @contextmanager
    def root(self):
        manager = transaction.TransactionManager(explicit=True)
        manager.begin()
        connection = self.db.open(transaction_manager=manager)
        try:
            yield connection.root()
        finally:
            manager.abort()
            connection.close()

    @contextmanager
    def change(self):
        """Give the root in a transaction that is committed in the end."""
        with self.db.transaction() as connection:
            yield connection.root()

    def replay(self, host, *lines, **options):
        with recorded(self.db, host):
            return replay(self.db, lines, **options)

    def documents(self):
        """Return file -> document of everything that has one."""
        with self.root() as root:
            return {
                entry.source: entry.data
                for entry in root[ROOT_KEY].by_uid.values()
                if isinstance(entry, (Conference, Talk)) and entry.data is not None
            }

    def uids(self):
        """Return path -> id of everything."""
        with self.root() as root:
            return {entry.path: uid for uid, entry in root[ROOT_KEY].by_uid.items()}

    def index(self, host, audience="public"):
        """Return id -> bytes of the document, for everything that an audience may see."""
        with self.root() as root, host.at(root._p_jar) as bound:
            return {
                bound.object_id(obj): encode_document(bound.document(obj, audience))
                for obj in bound.iter_objects()
                if not bound.is_excluded(obj, audience)
            }

    def collect(self):
        """Return all actions of the track, after what waits in the inbox has been collected."""
        with self.change() as root:
            SyncManager.get(root).collect()
        with self.root() as root:
            return [action for _position, action in SyncManager.get(root).track.iterate()]

    def check(self):
        """Assert what always holds in a catalogue."""
        with self.root() as root:
            catalogue = root[ROOT_KEY]
            reached = {}
            for _name, series in catalogue.items():
                assert not series.is_empty()
                for entry in (series, *everything_below(series)):
                    reached[entry.uid] = entry
                    assert catalogue.at_path(entry.path) is entry
                    assert not (isinstance(entry, Conference) and entry.data is None and entry.is_empty())
            assert dict(catalogue.by_uid) == reached


class Mirror:
    """An index that knows only what the track says: the plainest agent there is."""

    def __init__(self, world, host, audience="public"):
        self.world, self.host, self.audience = world, host, audience
        self.index = {}
        self._read = 0

    def follow(self):
        actions = self.world.collect()
        with self.world.root() as root, self.host.at(root._p_jar) as bound:
            for action in actions[self._read :]:
                obj = bound.get(action.object_id)
                self._render(bound, action.object_id, obj)
                if obj is not None and action.actions & CASCADING:
                    for inside in bound.contents(obj):
                        self._render(bound, bound.object_id(inside), inside)
        self._read = len(actions)
        return self.index

    def _render(self, bound, object_id, obj):
        if obj is None or bound.is_excluded(obj, self.audience):
            self.index.pop(object_id, None)
        else:
            self.index[object_id] = encode_document(bound.document(obj, self.audience))


def make_line(*changes, time=1_500_000_000):
    """Return a line of ``(action, file[, data[, from]])`` each."""
    raw = []
    for action, file, *more in changes:
        change = {"action": action, "id": file}
        if more and more[0] is not None:
            change["data"] = more[0]
        if len(more) > 1:
            change["from"] = more[1]
        raw.append(change)
    return parse_line(msgspec.json.encode({"time": time, "changes": raw}), "test.jsonl", 1)


def apply_to_table(table, line):
    """Apply a line to a table of documents by file, as plainly as can be."""
    for change in line.changes:
        if change.action == "deleted":
            del table[change.place.file]
        elif change.action == "moved":
            old = table.pop(change.former.file)
            table[change.place.file] = dict(change.data) if change.data is not None else old
        else:
            table[change.place.file] = dict(change.data)


READY = {"title": "A talk", "speakers": ["Somebody"], "videos": [{"url": "http://x/v"}], "summary": "…"}


@pytest.fixture
def world():
    made = World()
    yield made
    made.db.close()


@pytest.fixture(scope="session")
def demo():
    """The tools of these tests, as a namespace: modules of tests cannot import one another."""
    return SimpleNamespace(
        World=World, Mirror=Mirror, line=make_line, apply_to_table=apply_to_table, ready=READY
    )


@pytest.fixture(scope="session")
def small_history():
    return list(read_history(find_history("history-small.jsonl.gz", {})))
