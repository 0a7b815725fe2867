"""Applications synced both ways: the catalogue of the demo, by its documents."""

import time
from contextlib import ExitStack, contextmanager

import pytest
import transaction
import ZODB
from ZODB.DemoStorage import DemoStorage

from livesync import PushSyncAgent, SyncManager
from livesync.demo.editor import Editor
from livesync.demo.history import HistoryError, find_history, read_history
from livesync.demo.host import demo_host, demo_paths_host
from livesync.demo.model import ROOT_KEY
from livesync.demo.places import Place
from livesync.demo.replay import prepare, replay
from livesync.demo.wiring import recorded
from livesync.destinations.memory import MemoryService
from livesync.errors import NotInstalled
from livesync.periodic.running import add_task, run_task
from livesync.replication import (
    HostExecutor,
    SyncLock,
    SyncOrchestrator,
    SyncSessionStatus,
    TrackReader,
    ZODBDataStore,
    ZODBSyncProvider,
)

LINES = list(read_history(find_history("history-small.jsonl.gz", {})))

#: Lines that were there before there were three sites.
BASE = 55


class Site:
    """A catalogue in a database, and its provider."""

    def __init__(self, name, host, clock):
        self.db = ZODB.DB(DemoStorage())
        prepare(self.db)
        self.host, self.clock = host, clock
        self.provider = ZODBSyncProvider(
            name,
            ZODBDataStore(self.db),
            changes_executor=HostExecutor(host),
            reader=TrackReader(),
            clock=clock,
        )

    @contextmanager
    def catalogue(self):
        with self.db.transaction() as connection:
            yield connection.root()[ROOT_KEY]

    def edit(self, place, title):
        with recorded(self.db, self.host), self.catalogue() as catalogue:
            editor = Editor(catalogue, lambda path: f"uid of {path}")
            editor.write(Place(*place.split("/", 1)), {"title": title})

    def erase(self, place):
        with recorded(self.db, self.host), self.catalogue() as catalogue:
            editor = Editor(catalogue, lambda path: f"uid of {path}")
            editor.erase(catalogue.find(Place(*place.split("/", 1))))

    def documents(self):
        with self.db.transaction() as connection, self.host.at(connection) as bound:
            return {bound.object_id(obj): bound.document(obj) for obj in bound.iter_objects()}

    def titles(self):
        return {data["path"]: data["title"] for data in self.documents().values() if data["kind"] == "talk"}

    def actions(self):
        with self.db.transaction() as connection:
            manager = SyncManager.get(connection.root())
            return [action for _, action in manager.track.iterate()] + list(manager.waiting())


class Clock:
    now = 2_000_000_000.0

    def __call__(self):
        self.now += 1
        return self.now


@pytest.fixture
def make_sites():
    made = []

    def make(count, factory=demo_paths_host):
        clock = Clock()
        made.extend(Site(f"site-{number}", factory(), clock) for number in range(count))
        return made

    yield make
    for site in made:
        site.db.close()


def sync(one, other):
    with ExitStack() as stack:
        for site in (one, other):
            stack.enter_context(recorded(site.db, site.host))
        sessions = SyncOrchestrator(SyncLock(), [one.provider, other.provider], 3600).run()
    assert [session.status for session in sessions] == [SyncSessionStatus.FINISHED] * 2, sessions
    return sum(len(session.item_changes) for session in sessions)


def test_edits_on_both_sides_reach_the_other_one(make_sites):
    one, other = make_sites(2)
    one.edit("pycon-2020/a", "written here")
    sync(one, other)
    assert other.titles() == {"pycon/pycon-2020/a": "written here"}

    one.edit("pycon-2020/b", "new here")
    other.edit("pycon-2020/a", "changed there")
    sync(one, other)

    assert one.documents() == other.documents()
    assert one.titles() == {"pycon/pycon-2020/a": "changed there", "pycon/pycon-2020/b": "new here"}
    assert sync(one, other) == 0


def test_what_was_there_before_livesync_was_told_of_two_way_sync_travels_too(make_sites):
    one, other = make_sites(2)
    for line in LINES[:3]:
        with recorded(one.db, one.host):
            replay(one.db, [line])
    sync(one, other)

    assert len(one.documents()) > 10
    assert one.documents() == other.documents()


def test_what_was_not_taken_when_the_track_was_reset_travels_all_the_same(make_sites):
    one, other = make_sites(2)
    one.edit("pycon-2020/a", "1")
    one.edit("pycon-2020/b", "2")
    sync(one, other)
    one.edit("pycon-2020/a", "changed")
    one.erase("pycon-2020/b")
    with one.db.transaction() as connection:
        SyncManager.get(connection.root()).reset()

    sync(one, other)

    assert other.titles() == {"pycon/pycon-2020/a": "changed"}
    assert one.documents() == other.documents()
    assert sync(one, other) == 0


def test_the_periodic_task_takes_changes_drops_tombstones_and_moves_the_pointer(make_sites):
    one, other = make_sites(2)
    one.provider.node.clock = other.provider.node.clock = time.time
    one.edit("pycon-2020/a", "1")
    one.edit("pycon-2020/b", "2")
    sync(one, other)
    one.erase("pycon-2020/b")
    for _ in range(3):  # only then do the other one's claims say that it knows
        sync(one, other)
    one.edit("pycon-2020/a", "later")
    with one.db.transaction() as connection:
        manager = SyncManager.get(connection.root())
        manager.track.move_pointer("livesync.replication", 0)
        add_task(manager, "tidy", "two-way", {"peer_expires_s": "864000"}, interval_s=3600)

    outcome = run_task(one.db, "tidy", one.host)

    assert outcome.error is None
    assert outcome.summary == {"taken": 1, "tombstones": 1, "sessions": 0, "transfers": 0, "expired": 0}
    with one.db.transaction() as connection:
        track = SyncManager.get(connection.root()).track
        assert track.get_pointer_timestamp("livesync.replication") == track.sealed > 0
    assert run_task(one.db, "tidy", one.host).summary["taken"] == 0
    sync(one, other)
    assert other.titles() == {"pycon/pycon-2020/a": "later"}


def test_the_periodic_task_of_a_database_that_syncs_with_nobody_says_so(make_sites):
    (site,) = make_sites(1)
    with site.db.transaction() as connection:
        del connection.root()["livesync.replication"]
        add_task(SyncManager.get(connection.root()), "tidy", "two-way", interval_s=3600)

    outcome = run_task(site.db, "tidy", site.host)

    assert isinstance(outcome.error, NotInstalled)
    assert "takes no part in two-way sync" in str(outcome.error)


def test_a_removal_travels(make_sites):
    one, other = make_sites(2)
    one.edit("pycon-2020/a", "1")
    one.edit("pycon-2020/b", "2")
    sync(one, other)
    other.erase("pycon-2020/a")
    sync(one, other)

    assert one.titles() == other.titles() == {"pycon/pycon-2020/b": "2"}


def test_what_was_edited_on_both_sides_is_settled_and_the_loser_kept(make_sites):
    one, other = make_sites(2)
    one.edit("pycon-2020/a", "first")
    sync(one, other)
    one.edit("pycon-2020/a", "mine")
    other.edit("pycon-2020/a", "theirs")
    sync(one, other)

    assert one.titles() == other.titles()
    logs = [*one.provider.conflict_logs(), *other.provider.conflict_logs()]
    assert len(logs) == 1
    loser = logs[0].item_change_loser.serialization_result.serialized_item
    assert {"mine", "theirs"} - set(one.titles().values()) == {"mine" if "mine" in loser else "theirs"}


def test_a_loser_is_reinstated_in_the_application(make_sites):
    one, other = make_sites(2)
    one.edit("pycon-2020/a", "mine")
    other.edit("pycon-2020/a", "theirs")
    sync(one, other)
    before = one.titles()
    logs = [(site, log) for site in (one, other) for log in site.provider.conflict_logs()]
    site, log = next(
        (site, log)
        for site, log in logs
        if "talk" in log.item_change_loser.serialization_result.serialized_item
    )
    site.provider.reinstate(str(log.id))
    assert site.titles() != before
    sync(one, other)

    assert one.titles() == other.titles() != before


def test_agents_send_on_what_a_peer_changed_and_see_where_it_comes_from(make_sites):
    one, other = make_sites(2)
    service = MemoryService()

    class Agent(PushSyncAgent):
        uploader = service.uploader_type()

    with other.db.transaction() as connection:
        manager = SyncManager.get(connection.root())
        manager.register_agent(Agent("index", audience="staff"))
        manager.activate("index", from_start=True)
    one.edit("pycon-2020/a", "of the first")
    sync(one, other)

    origins = {action.user for action in other.actions() if action.object_id == "pycon/pycon-2020/a"}
    assert origins == {"peer:site-0"}
    manager = transaction.TransactionManager()
    connection = other.db.open(transaction_manager=manager)
    Agent("index", audience="staff").run(SyncManager.get(connection.root()), other.host, now=4e9)
    manager.abort()
    connection.close()
    assert "pycon/pycon-2020/a" in service.documents


def test_what_a_peer_changed_never_echoes(make_sites):
    one, other = make_sites(2)
    one.edit("pycon-2020/a", "1")
    sync(one, other)
    stamps = [site.provider.get_claims() for site in (one, other)]
    for _ in range(3):
        assert sync(one, other) == 0

    assert [site.provider.get_claims() for site in (one, other)] == stamps


def test_an_edit_that_nobody_has_taken_yet_is_not_overwritten(make_sites):
    """Between the look at the track and the application of a chunk, people go on editing."""
    one, other = make_sites(2)
    one.edit("pycon-2020/a", "first")
    sync(one, other)
    one.edit("pycon-2020/a", "of a peer")
    one.provider.prepare()
    other.provider.prepare()
    other.edit("pycon-2020/a", "while the session runs")
    offer = one.provider.offer(("",), other.provider.get_claims(), "site-1")
    other.provider.begin(offer)
    other.provider.receive(offer, one.provider.read(offer))
    other.provider.finish(offer)
    sync(one, other)

    assert one.titles() == other.titles()
    logs = [*one.provider.conflict_logs(), *other.provider.conflict_logs()]
    said = {log.item_change_loser.serialization_result.serialized_item for log in logs}
    assert any("of a peer" in text or "while the session runs" in text for text in said)


@pytest.mark.slow
@pytest.mark.parametrize("factory", [demo_host, demo_paths_host], ids=["ids", "paths"])
def test_the_real_history_edited_on_three_sites_in_a_ring(make_sites, factory):
    sites = make_sites(3, factory)
    host = factory()

    def ring():
        return sum(sync(sites[number], sites[(number + 1) % 3]) for number in range(3))

    with recorded(sites[0].db, host):
        replay(sites[0].db, LINES[:BASE])
    ring()
    for number, line in enumerate(LINES[BASE:]):
        site = sites[number % 3]
        try:
            with recorded(site.db, host):
                replay(site.db, [line])
        except HistoryError:  # it edits what another site has made
            ring()
            with recorded(site.db, host):
                replay(site.db, [line])
    rounds = 0
    while ring():
        rounds += 1
        assert rounds < 5

    first, second, third = (site.documents() for site in sites)
    assert len(first) > 800
    assert first == second == third
