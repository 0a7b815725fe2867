"""Objects of the application that cannot be taken: the others travel, and nothing of theirs is lost."""

import logging
from contextlib import ExitStack, contextmanager

import pytest
import ZODB
from support import school
from ZODB.DemoStorage import DemoStorage

from livesync import SyncManager
from livesync.action import MOVED
from livesync.database import committed, connected
from livesync.errors import HostFailed
from livesync.replication import (
    ConflictStatus,
    HostExecutor,
    SyncLock,
    SyncOrchestrator,
    TrackReader,
    ZODBDataStore,
    ZODBSyncProvider,
)
from livesync.replication import untaken as untaken_module
from livesync.replication.untaken import MOST, untaken

PLACE = "F1"


class Picky(school.School):
    """Makes no documents of records whose ids are among ``fails``."""

    def __init__(self, fails, root=None):
        super().__init__(root)
        self.fails = fails

    @contextmanager
    def at(self, connection):
        yield Picky(self.fails, connection.root())

    def document(self, obj, audience="public"):
        if obj["id"] in self.fails:
            raise RuntimeError(f"no document\nof {obj['id']}")
        return super().document(obj, audience)


class Site:
    """A school, and what of it has no document."""

    def __init__(self, name, stack):
        self.db = ZODB.DB(DemoStorage())
        stack.callback(self.db.close)
        committed(self.db, SyncManager.install)
        self.fails = set()
        self.provider = ZODBSyncProvider(
            name,
            ZODBDataStore(self.db),
            changes_executor=HostExecutor(Picky(self.fails)),
            reader=TrackReader(),
            clock=lambda: 2_000_000_000.0,
        )

    def edit(self, *changes):
        def work(root):
            for each in changes:
                school.change(SyncManager.get(root), root, *each)

        committed(self.db, work)

    def record(self, object_id, word):
        committed(
            self.db,
            lambda root: SyncManager.get(root).record_changes([(object_id, frozenset({word}))], "", ""),
        )

    def says(self):
        with connected(self.db) as root:
            return {key: found["says"] for key, found in root.get("records", {}).items()}

    def untaken(self):
        store = self.provider.data_store
        return store.read(lambda: untaken(store))


@pytest.fixture
def sites():
    with ExitStack() as stack:
        yield Site("one", stack), Site("other", stack)


def sync(one, other):
    sessions = SyncOrchestrator(SyncLock(), [one.provider, other.provider], 3600).run()
    assert not any(each.reason for each in sessions)


BAD = {
    "no document": (("bad", PLACE, "fails"), "RuntimeError: no document of bad"),
    "no text": (("bad", PLACE, "a lone \ud800"), "UnicodeEncodeError: "),
    "no partition": (("bad", "a b", "x"), "ValueError: 'a b' is no partition: "),
    "too long": (("bad", PLACE, "x" * 8_000_000), "characters; 8,000,000 can travel"),
}


@pytest.mark.parametrize("name", BAD)
def test_one_that_cannot_be_taken_keeps_no_other_from_travelling(sites, name, caplog):
    one, other = sites
    record, reason = BAD[name]
    if "fails" in record:
        one.fails.add("bad")
    one.edit(("a", PLACE, "1"), record, ("z", PLACE, "2"))

    sync(one, other)
    before = one.db.lastTransaction()
    one.provider.prepare()

    assert other.says() == {"a": "1", "z": "2"}
    (said,) = one.untaken().values()
    assert reason in said
    assert "\n" not in said
    assert one.db.lastTransaction() == before
    warnings = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert len([each for each in warnings if "'bad' cannot be taken" in each.getMessage()]) == 1


def test_it_travels_once_it_can_be_taken_though_it_was_not_touched_again(sites):
    one, other = sites
    one.fails.add("bad")
    one.edit(("bad", PLACE, "1"))
    sync(one, other)

    one.fails.clear()
    sync(one, other)

    assert other.says() == one.says() == {"bad": "1"}
    assert one.untaken() == {}


def test_one_that_is_removed_or_mended_is_named_no_more(sites):
    one, other = sites
    one.edit(("bad", "a b", "1"), ("worse", PLACE, "\ud800"))
    sync(one, other)
    assert set(one.untaken()) == {"bad", "worse"}

    one.edit(("bad", PLACE, None), ("worse", PLACE, "better"))
    sync(one, other)

    assert one.untaken() == {}
    assert other.says() == {"worse": "better"}


@pytest.mark.parametrize("theirs", ["theirs", None], ids=["changed", "deleted"])
def test_what_a_peer_does_to_it_does_not_overwrite_what_cannot_be_taken(sites, theirs):
    one, other = sites
    one.edit(("bad", PLACE, "both"))
    sync(one, other)
    one.fails.add("bad")
    one.edit(("bad", PLACE, "mine"))
    other.edit(("bad", PLACE, theirs))

    sync(one, other)

    assert one.says() == {"bad": "mine"}
    (waiting,) = one.provider.conflict_logs()
    assert waiting.status is ConflictStatus.DEFERRED
    assert "cannot be taken, and is not overwritten" in waiting.description

    one.fails.clear()
    sync(one, other)

    # now both are known: one of them has lost, and is kept
    assert one.says() == other.says() == ({"bad": "mine"} if theirs else {})
    assert one.untaken() == {}
    logs = [*one.provider.conflict_logs(), *other.provider.conflict_logs()]
    assert all(log.status is ConflictStatus.RESOLVED for log in logs)
    losers = [log.item_change_loser for log in logs if log.item_change_loser is not None]
    lost = "theirs" if theirs else "mine"
    assert any(lost in str(loser.serialization_result.serialized_item) for loser in losers)


@pytest.mark.parametrize("theirs", ["theirs", None], ids=["changed", "deleted"])
def test_what_is_too_long_to_travel_is_not_taken_either_when_a_peers_change_comes_in(
    sites, theirs, monkeypatch
):
    monkeypatch.setattr(untaken_module, "MAX_CHARACTERS", 1_000)
    one, other = sites
    one.edit(("bad", PLACE, "both"))
    sync(one, other)
    one.edit(("bad", PLACE, "x" * 1_000))
    other.edit(("bad", PLACE, theirs))

    sync(one, other)

    assert one.says() == {"bad": "x" * 1_000}
    assert [item for item in one.provider.items() if len(item.payload) > 1_000] == []
    (waiting,) = one.provider.conflict_logs()
    assert waiting.status is ConflictStatus.DEFERRED
    assert "1,000 can travel" in waiting.description


def test_what_was_deleted_for_good_goes_though_it_cannot_be_taken(sites):
    one, other = sites
    one.edit(("bad", PLACE, "both"))
    sync(one, other)
    one.fails.add("bad")
    one.edit(("bad", PLACE, "mine"))
    (item,) = other.provider.items()
    other.provider.erase(item.item_id)

    sync(one, other)
    sync(one, other)

    assert one.says() == other.says() == {}
    assert one.untaken() == {}


@pytest.mark.parametrize(
    ("method", "says"), [("iter_ids", r"iter_ids\(\)"), ("contents", r"contents\(\) of 'a'")]
)
def test_where_the_host_cannot_say_what_there_is_the_sync_says_so_and_goes_on_later(
    sites, monkeypatch, method, says
):
    one, other = sites
    if method == "contents":
        one.provider.prepare()

    def fails(self, *args):
        raise KeyError("a folder")

    with monkeypatch.context() as patch:
        patch.setattr(Picky, method, fails, raising=False)
        one.edit(("a", PLACE, "1"))
        one.record("a", MOVED)
        with pytest.raises(HostFailed, match=f"the host's {says} raised KeyError: 'a folder'"):
            one.provider.prepare()
    sync(one, other)

    assert other.says() == {"a": "1"}


def test_where_nearly_nothing_can_be_taken_it_is_the_host_and_the_sync_says_so(sites):
    one, _ = sites
    one.edit(*((f"{number:04}", PLACE, "x") for number in range(MOST + 20)))
    one.fails.update(one.says())

    with pytest.raises(
        HostFailed, match=f"more than {MOST} objects .*'0000': RuntimeError: no document of 0000"
    ):
        one.provider.prepare()
    assert one.untaken() == {}
    one.fails.clear()
    one.provider.prepare()

    assert len(one.provider.items()) == MOST + 20
