"""The sync manager: agents, their states, and what is sealed, whatever the clocks say."""

import os
import time
from contextlib import ExitStack, contextmanager
from importlib import import_module
from types import SimpleNamespace

import pytest
import transaction
import ZODB.BaseStorage
from hypothesis import given, settings
from hypothesis import strategies as st
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage

from livesync import ActionWrapper, LiveSyncError, PositionPruned, PositionSealed, SyncAgent, SyncManager
from livesync import manager as manager_module
from livesync.agent import MissingAgent, State, StopReason
from livesync.errors import NotInstalled, OptionError, SiteDiffers, StateForbids, UnknownAgent, UpgradeNeeded
from livesync.manager import uninstall, upgrade
from livesync.options import Option
from livesync.track.stored import SCHEMA

DAY = 86400
CHANGED = frozenset({"data_changed"})


class Reader(SyncAgent):
    options = (
        Option("where", default="here", identifies=True),
        Option("how", "int", default=3),
        Option("token", "secret"),
    )


def action(number, object_id="x"):
    return ActionWrapper(number, object_id, {"data_changed"})


@pytest.fixture
def manager():
    return SyncManager()


@pytest.fixture
def filled():
    """A manager with an action a second from 1 to 9, sealed at 9, and an agent that is new."""
    made = SyncManager()
    for number in range(1, 10):
        made.add(number, action(number))
    made.track.seal(9)
    made.register_agent(Reader("a"))
    return made


# -- in a database -------------------------------------------------------------------------------


def test_an_installed_manager_is_found(memory_db):
    with memory_db.transaction() as connection:
        made = SyncManager.install(connection.root(), granularity=10, site="production")

        assert SyncManager.get(connection.root()) is made
    assert (made.granularity, made.site, made.schema) == (10, "production", SCHEMA)


def test_installing_twice_is_refused():
    root = {}
    SyncManager.install(root)

    with pytest.raises(LiveSyncError, match="already"):
        SyncManager.install(root)


def test_without_a_manager_it_is_not_installed():
    with pytest.raises(NotInstalled, match="livesync install"):
        SyncManager.get({})
    with pytest.raises(NotInstalled):
        uninstall({})
    with pytest.raises(NotInstalled):
        upgrade({})


def test_something_else_under_the_key_is_not_a_manager():
    with pytest.raises(NotInstalled, match="not livesync's"):
        SyncManager.get({"livesync": {}})


@pytest.mark.parametrize(("schema", "way"), [(SCHEMA - 1, "livesync upgrade"), (SCHEMA + 1, "newer")])
def test_another_schema_is_refused(schema, way):
    root = {}
    SyncManager.install(root).schema = schema

    with pytest.raises(UpgradeNeeded, match=way) as caught:
        SyncManager.get(root)
    assert (caught.value.stored, caught.value.expected) == (schema, SCHEMA)


def test_newer_data_cannot_be_upgraded():
    root = {}
    SyncManager.install(root)
    assert upgrade(root) is False
    root["livesync"].schema = SCHEMA + 1

    with pytest.raises(UpgradeNeeded):
        upgrade(root)


def test_uninstalling_removes_everything():
    root = {"other": 1}
    SyncManager.install(root)

    uninstall(root)

    assert root == {"other": 1}


@pytest.mark.parametrize("granularity", [0, -1, 1.5, "1", True])
def test_a_granularity_is_a_whole_number_of_seconds(granularity):
    with pytest.raises(ValueError, match="whole number"):
        SyncManager(granularity)


def test_only_the_stored_site_may_run(manager):
    manager.check_site("")
    with pytest.raises(SiteDiffers) as caught:
        manager.check_site("staging")
    assert (caught.value.stored, caught.value.actual) == ("", "staging")


def test_adopting_a_copy_pauses_its_agents_and_renames_the_track(filled):
    filled.site = "production"
    filled.activate("a")
    filled.stored("a").acknowledged = before = filled.track_id

    filled.adopt("staging")

    filled.check_site("staging")
    assert filled.track_id != before
    assert filled.stored("a").state == State.PAUSED.value
    assert filled.stored("a").acknowledged == ""


# -- agents --------------------------------------------------------------------------------------


def test_a_registered_agent_comes_back(manager):
    manager.register_agent(Reader("a", "An agent", "what it does", how="7"))

    agent = manager.agents["a"]

    assert isinstance(agent, Reader)
    assert (agent.id, agent.name, agent.description, agent.values["how"]) == (
        "a",
        "An agent",
        "what it does",
        7,
    )
    assert manager.agent_ids() == ["a"]
    assert manager.stored("a").state == State.NEW.value


def test_a_second_agent_of_an_id_is_refused(filled):
    with pytest.raises(ValueError, match="already"):
        filled.register_agent(Reader("a"))


def test_an_unknown_agent_is_named(manager):
    for call in (
        lambda: manager.stored("b"),
        lambda: manager.get_agent("b"),
        lambda: manager.remove_agent("b"),
        lambda: manager.activate("b"),
        lambda: manager.pause("b"),
        lambda: manager.rewind("b", 1),
        lambda: manager.edit_agent("b"),
        lambda: manager.query("b"),
        lambda: manager.advance("b", 1),
        lambda: manager.set_interval("b", 1),
        lambda: manager.dead_letters("b"),
    ):
        with pytest.raises(UnknownAgent, match="'b'"):
            call()


def test_a_removed_agent_takes_its_pointer_along(filled):
    filled.activate("a")

    filled.remove_agent("a")

    assert filled.agents == {}
    assert list(filled.track.pointers()) == []


def test_editing_what_identifies_the_destination_needs_an_export(filled):
    filled.activate("a")

    assert filled.edit_agent("a", options={"where": "there"}) is True

    stored = filled.stored("a")
    assert (stored.state, stored.reason) == ("stopped", "needs_export")
    assert filled.get_agent("a").values["where"] == "there"


def test_editing_anything_else_changes_no_state(filled):
    filled.activate("a")

    assert filled.edit_agent("a", name="N", description="D", options={"how": "9", "where": "here"}) is False

    agent = filled.get_agent("a")
    assert (agent.name, agent.description, agent.values["how"]) == ("N", "D", 9)
    assert filled.stored("a").state == "active"


def test_editing_the_audience_needs_an_export(filled):
    filled.activate("a")

    assert filled.edit_agent("a", options={"audience": "staff"}) is True


def test_editing_the_destination_of_a_new_agent_is_free(filled):
    assert filled.edit_agent("a", options={"where": "there"}) is False
    assert filled.stored("a").state == "new"


def test_an_option_goes_back_to_its_default(filled):
    filled.edit_agent("a", options={"how": 9})
    filled.edit_agent("a", options={"how": None})

    assert filled.stored("a").options == {}


def test_a_wrong_edit_changes_nothing(filled):
    with pytest.raises(OptionError):
        filled.edit_agent("a", name="N", options={"how": "many"})

    assert filled.get_agent("a").name == "a"


def test_a_secret_is_stored_by_reference_only(filled, monkeypatch):
    monkeypatch.setitem(os.environ, "A_TOKEN", "hush")
    filled.edit_agent("a", options={"token": "env:A_TOKEN"})

    assert filled.stored("a").options == {"token": "env:A_TOKEN"}
    assert filled.get_agent("a").secret("token") == "hush"
    assert "hush" not in repr(filled.get_agent("a").values)
    with pytest.raises(OptionError) as caught:
        filled.edit_agent("a", options={"token": "hush"})
    assert "hush" not in str(caught.value)


def test_an_agent_whose_type_is_gone_is_shown_as_stopped(filled):
    filled.activate("a")
    filled.stored("a").type_name = "no.such.module:Agent"

    agent = filled.get_agent("a")
    [status] = filled.status(now=20).agents

    assert isinstance(agent, MissingAgent)
    assert (status.state, status.reason) == ("stopped", "type_missing")
    assert "no.such.module" in status.detail
    assert filled.stored("a").state == "active"
    filled.remove_agent("a")


def test_an_agent_whose_type_no_longer_takes_its_options_is_shown_as_stopped(filled):
    filled.stored("a").options = {"gone": 1}

    assert isinstance(filled.agents["a"], MissingAgent)


# -- states --------------------------------------------------------------------------------------

STATES = {
    "new": lambda manager: None,
    "active": lambda manager: manager.activate("a"),
    "paused": lambda manager: (manager.activate("a"), manager.pause("a")),
    "failing": lambda manager: (manager.activate("a"), manager.stop_agent("a", StopReason.FAILING)),
    "needs_export": lambda manager: (manager.activate("a"), manager.stop_agent("a", StopReason.NEEDS_EXPORT)),
    "recording": lambda manager: (manager.activate("a"), setattr(manager.stored("a"), "state", "recording")),
}
AFTER = {  # what becomes of each state; None: it is refused
    "new": {"activate": "active", "pause": None, "rewind": None},
    "active": {"activate": "active", "pause": "paused", "rewind": None},
    "paused": {"activate": "active", "pause": "paused", "rewind": "paused"},
    "failing": {"activate": "active", "pause": None, "rewind": None},
    "needs_export": {"activate": None, "pause": None, "rewind": None},
}
VERBS = {
    "activate": lambda manager: manager.activate("a"),
    "pause": lambda manager: manager.pause("a"),
    "rewind": lambda manager: manager.rewind("a", 4),
}


@pytest.mark.parametrize(("state", "verb"), [(state, verb) for state in AFTER for verb in VERBS])
def test_what_each_state_allows(filled, state, verb):
    STATES[state](filled)
    before = filled.stored("a").state
    expected = AFTER[state][verb]

    if expected is None:
        with pytest.raises(StateForbids, match="'a'") as caught:
            VERBS[verb](filled)
        assert caught.value.state == before
        assert filled.stored("a").state == before
    else:
        VERBS[verb](filled)
        assert filled.stored("a").state == expected
        assert filled.stored("a").reason == ""


@pytest.mark.parametrize("verb", ["activate", "rewind"])
def test_an_export_that_is_not_finished_is_in_the_way(filled, verb):
    STATES["recording"](filled)

    with pytest.raises(StateForbids):
        VERBS[verb](filled)


def test_a_new_agent_begins_at_the_last_sealed_position_or_at_the_start(filled):
    filled.register_agent(Reader("b"))
    filled.activate("a")
    filled.activate("b", from_start=True)

    assert list(filled.query("a")) == []
    assert [position for position, _ in filled.query("b")] == list(range(1, 10))


def test_from_start_begins_with_the_oldest_that_is_kept(filled):
    filled.track.prune(before=4)

    filled.activate("a", from_start=True)

    assert [position for position, _ in filled.query("a")] == list(range(4, 10))


@pytest.mark.parametrize("state", ["active", "paused", "failing"])
def test_an_agent_that_has_a_pointer_keeps_it(filled, state):
    STATES[state](filled)
    filled.advance("a", 5)

    filled.activate("a")

    assert filled.track.get_pointer_timestamp("a") == 5
    with pytest.raises(StateForbids, match="keeps its pointer"):
        filled.activate("a", from_start=True)
    with pytest.raises(StateForbids, match="keeps its pointer"):
        filled.activate("a", from_now=True)


def test_a_rewound_agent_gets_everything_again(filled):
    STATES["paused"](filled)
    generation = filled.stored("a").generation

    filled.rewind("a", 3)

    assert [position for position, _ in filled.query("a")] == list(range(4, 10))
    assert filled.stored("a").catching_up_to == 9
    assert filled.stored("a").generation == generation + 1


def test_rewinding_before_everything_and_forward(filled):
    STATES["paused"](filled)
    filled.rewind("a", None)
    assert filled.track.get_pointer_timestamp("a") is None
    filled.rewind("a", 9)
    assert filled.track.get_pointer_timestamp("a") == 9


def test_rewinding_where_nothing_is_kept_or_sealed_is_refused(filled):
    STATES["paused"](filled)
    filled.track.prune(before=5)

    with pytest.raises(PositionPruned):
        filled.rewind("a", 3)
    with pytest.raises(ValueError, match="sealed"):
        filled.rewind("a", 10)
    assert filled.track.get_pointer_timestamp("a") == 9
    filled.rewind("a", 4)
    assert next(filled.query("a"))[0] == 5


def test_an_interval_is_longer_than_nothing(filled):
    filled.set_interval("a", 2.5)
    assert filled.stored("a").interval_s == 2.5
    filled.set_interval("a", None)
    assert filled.stored("a").interval_s is None
    for wrong in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="longer"):
            filled.set_interval("a", wrong)


# -- the track -----------------------------------------------------------------------------------


def test_a_granularity_divides_time():
    manager = SyncManager(10)
    manager.add(25.5, action(25.5))
    manager.add(29.9, action(29.9))

    assert [position for position, _ in manager.track] == [2, 2]


def test_nothing_is_added_to_a_sealed_position(filled):
    with pytest.raises(PositionSealed):
        filled.add(9.5, action(9.5))


def test_an_agent_without_pointer_has_nothing_to_read(filled):
    with pytest.raises(StateForbids, match="no pointer"):
        filled.query("a")
    with pytest.raises(StateForbids, match="no pointer"):
        filled.advance("a", 1)


def test_advancing_shortens_what_is_left(filled):
    filled.activate("a", from_start=True)
    filled.advance("a", 7)

    assert [position for position, _ in filled.query("a")] == [8, 9]
    assert [position for position, _ in filled.query("a", till=8)] == [8]
    with pytest.raises(ValueError, match="sealed"):
        filled.advance("a", 10)


def test_pruning_waits_for_the_slowest(filled):
    filled.activate("a", from_start=True)
    filled.advance("a", 3)

    assert filled.prune() == 3
    assert filled.stored("a").state == "active"
    assert len(list(filled.query("a"))) == 6


def test_an_agent_left_behind_needs_an_export(filled):
    filled.activate("a", from_start=True)

    assert filled.prune(before=5, leave_behind=True) == 4

    assert (filled.stored("a").state, filled.stored("a").reason) == ("stopped", "needs_export")
    with pytest.raises(PositionPruned):
        filled.query("a")
    with pytest.raises(StateForbids, match="needs an export"):
        filled.activate("a")


def test_reset_empties_the_track_and_stops_agents(filled):
    filled.activate("a", from_start=True)
    generation = filled.stored("a").generation

    filled.reset()

    assert filled.track.is_empty()
    assert filled.track.sealed == 9
    assert (filled.stored("a").state, filled.stored("a").reason) == ("stopped", "needs_export")
    assert filled.stored("a").generation == generation + 1
    assert list(filled.query("a")) == []


def test_reset_of_agents_only_leaves_the_track(filled):
    filled.activate("a", from_start=True)

    filled.reset(agents_only=True)

    assert filled.track.count() == 9
    assert filled.stored("a").reason == "needs_export"


def test_reset_of_the_track_only_leaves_the_agents(filled):
    filled.activate("a", from_start=True)

    filled.reset(track_only=True)

    assert filled.track.is_empty()
    assert filled.stored("a").state == "active"
    filled.add(20, action(20))
    filled.track.seal(20)
    assert [position for position, _ in filled.query("a")] == [20]


def test_reset_leaves_a_reader_that_is_no_agent_before_what_was_lost(filled):
    filled.track.add_pointer("livesync.replication", 9)

    filled.reset(agents_only=True)
    assert filled.track.get_pointer_timestamp("livesync.replication") == 9
    filled.reset()
    assert filled.track.get_pointer_timestamp("livesync.replication") is None


def test_status_names_the_readers_that_are_no_agents(filled):
    filled.track.add_pointer("livesync.replication", 7)

    (reader,) = filled.status(now=20).readers

    assert (reader.id, reader.position, reader.lag_actions) == ("livesync.replication", 7, 2)
    assert reader.lag_seconds == 12


def test_reset_of_both_only_is_a_contradiction(filled):
    with pytest.raises(ValueError, match="exclude"):
        filled.reset(agents_only=True, track_only=True)


def test_reset_leaves_a_new_agent_new(filled):
    filled.reset()

    assert filled.stored("a").state == "new"


def test_status_tells_where_everything_stands(filled):
    filled.activate("a", from_start=True)
    filled.advance("a", 7)

    status = filled.status(now=20)

    assert (status.sealed, status.oldest, status.newest, status.entries, status.actions) == (9, 1, 9, 9, 9)
    assert status.waiting == 0
    [agent] = status.agents
    assert (agent.id, agent.state, agent.position, agent.lag_actions, agent.lag_seconds) == (
        "a",
        "active",
        7,
        2,
        12.0,
    )


def test_status_of_an_empty_track(manager):
    status = manager.status(now=5)

    assert (status.oldest, status.newest, status.sealed, status.waiting, status.agents) == (
        None,
        None,
        -1,
        0,
        (),
    )


# -- collect, and what clocks do -----------------------------------------------------------------


class Clocked:
    """A database whose storage has a clock of its own."""

    clock = 1_000_000.0

    def __init__(self, path, granularity=1):
        self.db = DB(FileStorage(path))
        self.tm = transaction.TransactionManager()
        self.connection = self.db.open(transaction_manager=self.tm)
        SyncManager.install(self.connection.root(), granularity)
        self.tm.commit()
        self.count = 0

    def set_clock(self, seconds):
        self.clock = float(seconds)

    @property
    def manager(self):
        return SyncManager.get(self.connection.root())

    def commit(self):
        self.count += 1
        self.tm.begin()
        self.manager.record_changes([(f"id-{self.count}", CHANGED)], "", "")
        self.tm.commit()

    def collect(self, now):
        self.tm.begin()
        moved = self.manager.collect(now)
        self.tm.commit()
        return moved

    def sealed_part(self):
        track = self.manager.track
        return list(track.iterate(None, track.sealed))

    def close(self):
        self.tm.abort()
        self.connection.close()
        self.db.close()


@contextmanager
def clocked_database(path, granularity, limit=50_000):
    """Make a database whose storage goes by the clock that ``set_clock`` sets."""
    storage_module = import_module("ZODB.FileStorage.FileStorage")
    made = []
    clock = SimpleNamespace(time=lambda: made[0].clock if made else 1_000_000.0, gmtime=time.gmtime)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ZODB.BaseStorage, "time", clock)
        patch.setattr(storage_module, "time", clock)
        patch.setattr(storage_module, "fsync", None)
        patch.setattr(manager_module, "COLLECT_LIMIT", limit)
        made.append(Clocked(path, granularity))
        try:
            yield made[0]
        finally:
            made[0].close()


@pytest.fixture
def make_clocked(tmp_path):
    with ExitStack() as stack:
        yield lambda granularity=1: stack.enter_context(
            clocked_database(str(tmp_path / "Data.fs"), granularity)
        )


def test_an_action_lies_at_the_time_of_its_commit(make_clocked):
    clocked = make_clocked(10)
    clocked.set_clock(1_000_123)
    clocked.commit()
    clocked.collect(1_000_125)

    [(position, found)] = clocked.manager.track
    assert position == 100_012
    assert int(found.timestamp) == 1_000_123


def test_what_lies_before_now_is_sealed(make_clocked):
    clocked = make_clocked()
    clocked.set_clock(1_000_100)
    clocked.commit()

    clocked.collect(1_000_100.5)
    assert clocked.manager.track.sealed == 1_000_099
    assert clocked.sealed_part() == []
    clocked.collect(1_000_101)
    assert clocked.manager.track.sealed == 1_000_100
    assert len(clocked.sealed_part()) == 1


def test_what_is_committed_late_comes_after_what_is_sealed(make_clocked):
    clocked = make_clocked()
    clocked.collect(1_000_500)
    clocked.commit()
    clocked.collect(1_000_500)

    [(position, _)] = clocked.manager.track
    assert position == clocked.manager.track.floor + 1 == 1_000_500


def test_a_storage_clock_that_jumped_ahead_stalls_nothing(make_clocked):
    clocked = make_clocked()
    now = 1_000_010
    clocked.set_clock(now + DAY)
    clocked.commit()
    clocked.set_clock(now)
    clocked.commit()  # its id follows the other's: ids never go back

    clocked.collect(now)
    clocked.collect(now + 1)

    assert len(clocked.sealed_part()) == 2
    clocked.commit()
    clocked.collect(now + 2)
    clocked.collect(now + 3)
    assert len(clocked.sealed_part()) == 3


def test_a_runner_whose_clock_is_behind_delivers_soon(make_clocked):
    clocked = make_clocked()
    now = 1_000_010
    for turn in range(5):
        clocked.set_clock(now + turn)
        clocked.commit()
        clocked.collect(now + turn - 3600)
        clocked.collect(now + turn + 1 - 3600)

        assert len(clocked.sealed_part()) == turn + 1


def test_a_runner_whose_clock_is_ahead_loses_nothing(make_clocked):
    clocked = make_clocked()
    now = 1_000_010
    clocked.collect(now + 3600)
    for turn in range(4):
        clocked.set_clock(now + turn)
        clocked.commit()
        clocked.collect(now + turn)

    clocked.collect(now + 10)
    assert [found.object_id for _, found in clocked.sealed_part()] == ["id-1", "id-2", "id-3", "id-4"]


def test_a_now_that_steps_back_does_no_harm(make_clocked):
    clocked = make_clocked()
    now = 1_000_010
    clocked.set_clock(now + DAY)
    clocked.commit()
    clocked.collect(now)
    sealed = clocked.manager.track.sealed

    clocked.collect(now - 7200)

    assert clocked.manager.track.sealed == sealed
    clocked.collect(now - 7198)
    assert len(clocked.sealed_part()) == 1


def test_sealing_waits_until_everything_is_collected(make_clocked, monkeypatch):
    clocked = make_clocked()
    monkeypatch.setattr(manager_module, "COLLECT_LIMIT", 2)
    for _ in range(5):
        clocked.commit()

    sealed = []
    for _ in range(3):
        clocked.collect(2_000_000)
        sealed.append(clocked.manager.track.sealed)

    assert sealed == [-1, -1, 1_999_999]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("clock"), st.integers(-DAY, DAY)),
        st.tuples(st.just("commit"), st.just(0)),
        st.tuples(st.just("collect"), st.integers(-7200, 7200)),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, granularity=st.sampled_from([1, 7, 60]), limit=st.sampled_from([2, 50_000]))
def test_positions_never_decrease_and_what_is_sealed_never_changes(
    tmp_path_factory, steps, granularity, limit
):
    path = str(tmp_path_factory.mktemp("clocks") / "Data.fs")
    with clocked_database(path, granularity, limit) as clocked:
        now = 1_000_000
        sealed, part = -1, []
        for what, offset in steps:
            now += 1
            if what == "clock":
                clocked.set_clock(now + offset)
            elif what == "commit":
                clocked.commit()
            else:
                clocked.collect(now + offset)
                track = clocked.manager.track
                assert track.sealed >= sealed
                sealed = track.sealed
                assert clocked.sealed_part()[: len(part)] == part
                part = clocked.sealed_part()
        while clocked.collect(now) == limit:
            pass
        clocked.collect(now)
        clocked.collect(now + granularity)
        clocked.collect(now + 2 * granularity)
        found = clocked.sealed_part()
        assert [one.object_id for _, one in found] == [f"id-{number + 1}" for number in range(clocked.count)]
        positions = [position for position, _ in found]
        assert positions == sorted(positions)
        assert found[: len(part)] == part
