"""Sessions: each rule of two-way sync, and each weakness of those before it, by name."""

import dataclasses
import json

import pytest
from msgspec.structs import replace
from persistent.mapping import PersistentMapping
from support.sync_world import image_of
from ZODB import DB
from ZODB.DemoStorage import DemoStorage

from livesync.errors import ChangesRefused, ClockAhead, ItemErased, SyncRunning
from livesync.replication import (
    ChangesExecutor,
    ConflictStatus,
    ConflictType,
    EventsManager,
    MemoryDataStore,
    MemorySyncProvider,
    SyncLock,
    SyncOrchestrator,
    SyncSessionStatus,
    ZODBDataStore,
    ZODBSyncProvider,
)
from livesync.replication.metadata.clocks import stamp_of_epoch
from livesync.replication.metadata.states import written
from livesync.replication.models.executor import Draft
from livesync.replication.sessions.steps import Chunk, Cursor


@pytest.fixture
def abc(new_provider):
    return [new_provider(name) for name in "abc"]


def send(source, target, prefixes=("",), chunks=None):
    """Send by hand; apply only these chunks (numbers) and then leave it; None: all, and finish."""
    offer = source.offer(prefixes, target.get_claims(prefixes), target.provider_id)
    target.begin(offer)
    made, cursor = [], Cursor()
    while not made or not made[-1].is_last:
        made.append(source.read(offer, len(made), cursor))
        cursor = made[-1].cursor
    for chunk in made if chunks is None else [made[number] for number in chunks]:
        target.receive(offer, chunk)
    if chunks is None:
        source.confirm(offer)
        target.finish(offer)
    return offer, made


def sent(source, target, prefixes=("",)):
    """Return the ids of what a full session sends."""
    _, chunks = send(source, target, prefixes)
    return sorted(state.item_id for chunk in chunks for state in chunk.states)


# -- partial sync ------------------------------------------------------------------------------------


def test_a_narrow_sync_then_a_wide_one_misses_nothing_and_sends_nothing_twice(abc, tools):
    a, b, _ = abc
    for item, partition in (("1", "F1"), ("2", "F1:U1"), ("3", "F2"), ("4", "F10")):
        tools.put(a, item, item, partition)

    assert sent(a, b, ("F1",)) == ["1", "2"]
    assert sent(a, b) == ["3", "4"]
    assert sent(a, b, ("F1",)) == []
    tools.put(a, "2", '"new"', "F1:U1")
    assert sent(a, b, ("F1:U1",)) == ["2"]
    assert sent(a, b) == []
    assert tools.contents(b) == tools.contents(a)


def test_a_node_that_holds_only_a_part_relays_it(abc, tools):
    a, b, c = abc
    tools.put(a, "1", "1", "F1:U1")
    tools.put(a, "2", "2", "F2")
    send(a, b, ("F1:U1",))

    assert sent(b, c) == ["1"]
    assert sent(a, c) == ["2"]


def test_what_a_write_replaced_is_sent_in_its_newest_state(abc, tools):
    """An item overwritten by somebody whose session was cut is in the ranges of both."""
    a, b, c = abc
    tools.put(a, "1", '"a"')
    send(a, b)
    tools.put(b, "1", '"b"')
    send(b, c)

    assert tools.contents(c) == {"1": '"b"'}
    assert sent(a, c) == []


def test_prefixes_are_compared_as_text_and_not_as_patterns(abc, tools):
    a, b, _ = abc
    for item, partition in (("1", "a_b:1"), ("2", "axb:1"), ("3", "A_B:1"), ("4", "it's:1")):
        tools.put(a, item, item, partition)

    assert sent(a, b, ("a_b",)) == ["1"]
    assert sent(a, b, ("it's",)) == ["4"]


def test_a_deletion_travels_within_the_filter_only(abc, tools):
    a, b, _ = abc
    for item, partition in (("1", "F1"), ("2", "F2")):
        tools.put(a, item, item, partition)
    send(a, b)
    for item, partition in (("1", "F1"), ("2", "F2")):
        tools.remove(a, item, partition)

    assert sent(a, b, ("F1",)) == ["1"]
    assert tools.contents(b) == {"2": "2"}
    assert sent(a, b) == ["2"]
    assert tools.contents(b) == {}


# -- cut sessions ------------------------------------------------------------------------------------


@pytest.fixture
def half_sent(new_provider, tools):
    """A session from a to b, of which one chunk of three was applied."""
    a, b = new_provider("a", max_num=1), new_provider("b", max_num=1)
    for item in "123":
        tools.put(a, item, item)
    offer, chunks = send(a, b, chunks=[0])
    return a, b, offer, chunks


def test_claims_move_only_when_the_whole_session_is_applied(half_sent):
    a, b, offer, chunks = half_sent

    assert b.get_claims() == {}
    with pytest.raises(ChangesRefused, match="lacks some of its chunks"):
        b.finish(offer)
    for chunk in chunks[1:]:
        b.receive(offer, chunk)
    b.finish(offer)
    assert b.get_claims() == a.get_claims()


def test_chunks_may_come_twice_and_in_any_order(half_sent, tools):
    a, b, offer, chunks = half_sent
    for number in (3, 0, 2, 1, 1, 0)[: len(chunks) + 2]:
        if number < len(chunks):
            b.receive(offer, chunks[number])
    b.finish(offer)

    assert tools.contents(b) == tools.contents(a)
    assert b.conflict_logs() == []


def commits_of(provider):
    """Return a list that grows by the note of each transaction of a provider's store."""
    notes, run = [], provider.data_store.run
    depth = []

    def counted(work, user="", note="", *more):
        if not depth:
            notes.append(note)
        depth.append(None)
        try:
            return run(work, user, note, *more)
        finally:
            depth.pop()

    provider.data_store.run = counted
    return notes


def test_chunks_that_come_together_are_applied_in_one_transaction(new_provider, tools):
    a, b = new_provider("a", max_num=2), new_provider("b", applied_at_once=5)
    for number in range(11):
        tools.put(a, str(number), str(number))
    notes = commits_of(b)

    assert [session.status for session in tools.sync(a, b)] == [SyncSessionStatus.FINISHED] * 2
    assert notes.count("two-way sync") == 2  # six chunks: three, and three
    assert tools.contents(b) == tools.contents(a)
    assert len(b.sessions()[0].item_changes) == 11


def test_chunks_with_much_text_are_not_gathered(new_provider, tools):
    a, b = new_provider("a", max_num=1), new_provider("b")
    for number in range(3):
        tools.put(a, str(number), '"' + "x" * 2_500_000 + '"')
    notes = commits_of(b)
    tools.sync(a, b)

    assert notes.count("two-way sync") == 2
    assert tools.contents(b) == tools.contents(a)


class Counting(ChangesExecutor):
    """An application of one object, which counts what it is told; a stranger may write to it, too."""

    def __init__(self, db, strange_writes=0):
        self.db, self.strange_writes = db, strange_writes

    def execute(self, store, state, object_id):
        told = store.connection.root()["told"]
        told[state.item_id] = state.payload
        if self.strange_writes:
            self.strange_writes -= 1
            with self.db.transaction() as other:
                other.root()["told"]["strange"] = self.strange_writes
        return Draft(state.item_id, state.item_id, state.entity_name, state.partition, state.payload)


def counting(strange_writes=0):
    db = DB(DemoStorage())
    with db.transaction() as connection:
        connection.root()["told"] = PersistentMapping()
    executor = Counting(db, strange_writes)
    store = ZODBDataStore(db)
    return ZODBSyncProvider("b", store, changes_executor=executor, max_num=2), db


def test_where_there_is_an_application_chunks_come_together_too(tools, monkeypatch):
    monkeypatch.setattr("livesync.replication.provider._OBJECTS_AT_ONCE", 4)
    a, (b, db) = MemorySyncProvider("a", MemoryDataStore(), max_num=2), counting()
    for number in range(10):
        tools.put(a, str(number), str(number))
    notes = commits_of(b)
    tools.sync(a, b)

    assert notes.count("two-way sync") == 3  # five chunks: two, two, and one
    assert tools.contents(b) == tools.contents(a)
    with db.transaction() as connection:
        assert len(connection.root()["told"]) == 10
    db.close()


@pytest.mark.parametrize("strange_writes", [1, 2, 4])
def test_chunks_that_meet_what_the_application_writes_are_applied_one_by_one(tools, strange_writes):
    a, (b, db) = MemorySyncProvider("a", MemoryDataStore(), max_num=2), counting(strange_writes)
    for number in range(10):
        tools.put(a, str(number), str(number))
    notes = commits_of(b)

    assert [session.status for session in tools.sync(a, b)] == [SyncSessionStatus.FINISHED] * 2

    assert notes.count("two-way sync") == 1 + 5
    assert tools.contents(b) == tools.contents(a)
    assert b.get_claims() == a.get_claims()
    assert len(b.sessions()[0].item_changes) == 10
    with db.transaction() as connection:
        assert len(connection.root()["told"]) == 10 + 1
    db.close()


def test_what_came_before_a_session_broke_off_is_applied(new_provider, tools):
    a, b = new_provider("a", max_num=2), new_provider("b")
    for number in range(10):
        tools.put(a, str(number), str(number))
    orchestrator, read = SyncOrchestrator(SyncLock(), [a, b], 3600), a.read

    def failing(offer, number, *args, **options):
        if number == 3:
            raise OSError("the line is dead")
        return read(offer, number, *args, **options)

    a.read = failing
    assert orchestrator.run()[0].status is SyncSessionStatus.FAILED
    assert len(tools.contents(b)) == 6

    numbers = []
    a.read = lambda offer, number, *args, **options: (
        numbers.append(number) or read(offer, number, *args, **options)
    )
    assert orchestrator.run()[0].status is SyncSessionStatus.FINISHED
    assert numbers[0] == 3
    assert tools.contents(b) == tools.contents(a)
    assert len(b.sessions()[0].item_changes) == 10


def test_what_comes_before_a_chunk_that_makes_no_sense_is_applied(half_sent, tools):
    a, b, offer, chunks = half_sent
    alien = dataclasses.replace(chunks[2], session_id="another")

    with pytest.raises(ChangesRefused, match="another session"):
        b.receive(offer, chunks[1], alien)

    assert sorted(tools.contents(b)) == ["1", "2"]
    b.receive(offer, *chunks[2:])
    b.finish(offer)
    assert tools.contents(b) == tools.contents(a)


def test_chunks_that_come_again_with_others_are_still_known_to_the_session(half_sent, tools):
    """Else what they brought would not be touched when the session is given up."""
    _, b, offer, chunks = half_sent
    b.receive(offer, *chunks[:3])

    assert sorted(tools.contents(b)) == ["1", "2", "3"]
    assert b.abandon(offer.session_id) == 3


def test_a_session_goes_on_where_it_was_cut(half_sent, tools):
    a, b, offer, chunks = half_sent
    cursor, number = chunks[0].cursor, 1
    while True:
        chunk = a.read(offer, number, cursor)
        b.receive(offer, chunk)
        cursor, number = chunk.cursor, number + 1
        if chunk.is_last:
            break
    b.finish(offer)

    assert tools.contents(b) == tools.contents(a)


def test_what_a_session_that_was_given_up_left_travels_under_the_nodes_own_clock(
    half_sent, new_provider, tools
):
    a, b, offer, _ = half_sent
    before = b.items()[0]

    assert b.abandon(offer.session_id) == 1
    (touched,) = b.items()
    assert (touched.dot, touched.payload, touched.rank) == (before.dot, before.payload, before.rank)
    c = new_provider("c")
    assert sent(b, c) == [before.item_id]
    assert tools.sync(a, b)[1].status is SyncSessionStatus.FINISHED
    assert a.items() == b.items()
    assert b.abandon(offer.session_id) == 0


def test_what_changes_while_a_session_runs_is_not_lost(half_sent, tools):
    a, b, offer, chunks = half_sent
    tools.put(a, "1", '"new"')
    tools.put(a, "2", '"new"')
    cursor, number = chunks[0].cursor, 1
    while True:
        chunk = a.read(offer, number, cursor)
        b.receive(offer, chunk)
        cursor, number = chunk.cursor, number + 1
        if chunk.is_last:
            break
    b.finish(offer)
    send(a, b)

    assert tools.contents(b) == tools.contents(a) == {"1": '"new"', "2": '"new"', "3": "3"}


# -- nothing new -------------------------------------------------------------------------------------


def test_an_idle_round_sends_nothing_and_nothing_comes_back_to_its_maker(abc, tools):
    a, b, c = abc
    tools.put(a, "1", "1")
    tools.put(b, "2", "2")
    tools.sync(a, b)
    tools.sync(b, c)

    assert sent(a, b) == sent(b, a) == sent(c, a) == []
    assert sent(c, b) == sent(b, c) == []


# -- conflicts ---------------------------------------------------------------------------------------


def test_who_syncs_first_makes_no_difference(new_provider, tools, clock):
    outcomes = set()
    for order in ("ab", "ba"):
        a, b = new_provider("a"), new_provider("b")
        tools.put(a, "1", "0")
        tools.sync(a, b)
        tools.put(a, "1", "1")
        clock.now += 1
        tools.put(b, "1", "2")
        tools.sync(*((a, b) if order == "ab" else (b, a)))
        assert tools.contents(a) == tools.contents(b)
        outcomes.add(tools.contents(a)["1"])

    assert outcomes == {"2"}


def test_the_loser_is_kept_beside_the_winner(abc, tools, clock):
    a, b, _ = abc
    tools.put(a, "1", '"mine"')
    clock.now += 1
    tools.put(b, "1", '"theirs"')
    tools.sync(a, b)

    logs = [*a.conflict_logs(), *b.conflict_logs()]
    assert logs
    for log in logs:
        assert log.conflict_type is ConflictType.LOCAL_INSERT_REMOTE_INSERT
        assert log.status is ConflictStatus.RESOLVED
        assert log.item_change_loser.serialization_result.serialized_item == '"mine"'
        assert log.item_change_loser.should_ignore
        assert log.item_change_winner.serialization_result.serialized_item == '"theirs"'


def test_equal_timestamps_do_not_swap(abc, tools):
    a, b, _ = abc  # the clock stands still
    tools.put(a, "1", '"a"')
    tools.put(b, "1", '"b"')
    for _ in range(3):
        tools.sync(a, b)

    assert tools.contents(a) == tools.contents(b) == {"1": '"b"'}


def test_an_edit_of_a_node_whose_clock_stepped_back_travels(abc, tools, clock):
    a, b, _ = abc
    tools.put(a, "1", "1")
    tools.sync(a, b)
    clock.now -= 3600
    tools.put(a, "1", "2")
    tools.put(a, "2", "2")
    tools.sync(a, b)

    assert tools.contents(b) == {"1": "2", "2": "2"}
    assert b.conflict_logs() == []


def test_re_creating_after_a_delete_is_no_conflict(abc, tools):
    a, b, _ = abc
    tools.put(a, "1", "1")
    tools.sync(a, b)
    tools.remove(a, "1")
    tools.sync(a, b)
    tools.put(b, "1", "2")
    tools.sync(a, b)

    assert tools.contents(a) == tools.contents(b) == {"1": "2"}
    assert a.conflict_logs() == b.conflict_logs() == []


# -- deletion ----------------------------------------------------------------------------------------


def test_a_soft_delete_keeps_what_the_item_said_and_a_hard_one_does_not(abc, tools):
    a, b, _ = abc
    for item in ("soft", "hard"):
        tools.put(a, item, '"secret"')
    tools.sync(a, b)
    tools.remove(a, "soft")
    tools.remove(a, "hard", hard=True)
    tools.sync(a, b)

    states = {state.item_id: state for state in b.data_store.read(lambda: list(b.data_store.items()))}
    assert states["soft"].payload == '"secret"'
    assert states["hard"].payload == ""
    assert tools.contents(b) == {}


def test_a_hard_delete_erases_conflict_logs_too(abc, tools, clock):
    a, b, c = abc
    tools.put(a, "1", '"secret of a"')
    clock.now += 1
    tools.put(b, "1", '"secret of b"')
    tools.sync(a, b)
    tools.sync(b, c)
    a.erase("1")
    tools.sync(a, b)
    tools.sync(b, c)

    for node in abc:
        assert b"secret" not in image_of(node.data_store)


def test_a_late_write_to_what_was_deleted_for_good_is_refused(abc, tools, clock):
    a, b, _ = abc
    tools.put(a, "1", "1")
    tools.sync(a, b)
    a.erase("1")
    clock.now += 100
    tools.put(b, "1", '"late"')
    tools.sync(a, b)

    assert tools.contents(a) == tools.contents(b) == {}
    with pytest.raises(ItemErased):
        tools.put(b, "1", "2")
    assert b"late" not in image_of(b.data_store)


# -- identity ----------------------------------------------------------------------------------------


def test_a_database_that_was_restored_takes_a_new_id_and_gets_back_what_it_lost(abc, new_provider, tools):
    a, b, _ = abc
    tools.put(a, "1", "1")
    tools.sync(a, b)
    image = image_of(a.data_store)
    tools.put(a, "2", "2")
    tools.sync(a, b)

    restored = new_provider("a", image)
    tools.sync(restored, b)

    assert restored.provider_id != "a"
    assert restored.data_store.read(lambda: restored.data_store.past) == ("a",)
    assert tools.contents(restored) == tools.contents(b) == {"1": "1", "2": "2"}
    assert sent(restored, b) == ["1", "2"]  # under the new id, for who was told too much of the old one
    assert restored.conflict_logs() == b.conflict_logs() == []
    assert sent(restored, b) == sent(b, restored) == []


def test_a_restored_database_notices_even_after_it_has_written_something_newer(
    abc, new_provider, tools, clock
):
    a, b, _ = abc
    tools.put(a, "1", "1")
    tools.sync(a, b)
    image = image_of(a.data_store)
    tools.put(a, "2", "2")
    tools.sync(a, b)
    clock.now += 1000
    restored = new_provider("a", image)
    tools.put(restored, "3", "3")
    tools.sync(restored, b)

    assert restored.provider_id != "a"
    assert tools.contents(restored) == tools.contents(b) == {"1": "1", "2": "2", "3": "3"}


def test_what_a_restored_database_lost_reaches_those_it_met_before_it_noticed(
    abc, new_provider, tools, clock
):
    a, b, c = abc
    tools.put(a, "1", "1")
    tools.sync(a, b)
    image = image_of(a.data_store)
    tools.put(a, "2", "2")
    tools.sync(a, b)
    clock.now += 1000
    restored = new_provider("a", image)
    tools.put(restored, "3", "3")
    tools.sync(restored, c)  # c knows of nothing, and claims of a what b never saw
    assert restored.provider_id == "a"
    tools.sync(restored, b)
    tools.sync(restored, c)

    assert tools.contents(c) == tools.contents(b) == {"1": "1", "2": "2", "3": "3"}


@pytest.mark.parametrize("later_s", [1000, -1000], ids=["after", "before"])
@pytest.mark.parametrize("what", ["edit", "delete"])
def test_an_edit_after_a_restore_has_not_seen_those_of_the_lost_time(
    abc, new_provider, tools, clock, what, later_s
):
    """Its timestamp may be above theirs, under the same id: the one that loses is in a log all the same."""
    a, b, _ = abc
    tools.put(a, "1", '"first"')
    tools.sync(a, b)
    image = image_of(a.data_store)
    clock.now += 2000
    tools.put(a, "1", '"lost"')
    tools.sync(a, b)
    clock.now += later_s
    restored = new_provider("a", image)
    tools.put(restored, "1", '"edited"') if what == "edit" else tools.remove(restored, "1")
    tools.sync(restored, b)
    tools.sync(restored, b)

    assert tools.contents(restored) == tools.contents(b)
    held = tools.contents(b).get("1")
    winner = None if what == "delete" else '"edited"' if later_s > 0 else '"lost"'
    assert held == winner
    logs = restored.conflict_logs() + b.conflict_logs()
    losers = {log.item_change_loser.serialization_result.serialized_item for log in logs}
    assert losers == ({'"lost"', '"edited"'} - {held} if what == "edit" else {'"lost"'})


def test_what_was_not_claimed_yet_gives_a_restored_database_away_too(abc, new_provider, tools, clock):
    a, b, _ = abc
    tools.put(a, "1", '"first"')
    tools.sync(a, b)
    image = image_of(a.data_store)
    clock.now += 1000
    tools.put(a, "1", '"lost"')
    offer = a.offer(("",), b.get_claims(), b.provider_id)
    b.begin(offer)
    b.receive(offer, a.read(offer))
    b.abandon(offer.session_id)
    clock.now += 1000
    restored = new_provider("a", image)
    tools.put(restored, "1", '"edited"')
    offer = b.offer(("",), restored.get_claims(), restored.provider_id)
    restored.begin(offer)
    for _ in range(2):
        restored.receive(offer, b.read(offer))

    assert tools.contents(restored) == {"1": '"edited"'}
    (log,) = restored.conflict_logs()
    assert log.item_change_loser.serialization_result.serialized_item == '"lost"'


@pytest.fixture
def forked(abc, new_provider, tools, clock):
    """A function: b has writes of a's lost time, c has those that a has made since it was restored."""
    a, b, c = abc

    def make(before, lost, since, since_s=2000, by_c=(), lag_s=0):
        for payload in before:
            tools.put(a, "1", payload)
        clock.now -= lag_s
        tools.sync(a, b)
        tools.sync(a, c)
        image = image_of(a.data_store)
        clock.now += 1000
        for payload in lost:
            tools.put(a, "1", payload)
        tools.sync(a, b)
        clock.now += since_s - 1000
        restored = new_provider("a", image)
        for payload in since:
            tools.put(restored, "1", payload)
        tools.sync(restored, c)
        assert restored.provider_id == "a"  # it has not noticed
        for payload in by_c:
            tools.put(c, "1", payload)
        return b, c

    return make


def losers_of(*providers):
    logs = [log for provider in providers for log in provider.conflict_logs()]
    return {log.item_change_loser.serialization_result.serialized_item for log in logs}


MANY = [str(number) for number in range(300, 312)]


@pytest.mark.parametrize("before", [[], ["0"], MANY], ids=len)
@pytest.mark.parametrize(
    ("lost", "since", "since_s", "by_c", "held", "loser"),
    [
        (["10"], MANY, 2000, [], "311", "10"),
        (["10"], ["20"], 2000, MANY, "311", "10"),
        (["10"], MANY, 2000, MANY, "311", "10"),
        (["10"], ["20"], 2000, [], "20", "10"),
        (["10"], ["20", "21"], 2000, [], "21", "10"),
        (["10"], ["20"], 2000, ["30"], "30", "10"),
        (["10"], ["20", "21"], 2000, ["30", "31"], "31", "10"),
        (["10", "11"], ["20"], 500, [], "11", "20"),
    ],
)
def test_what_was_told_since_a_restore_does_not_hide_what_was_told_before_it(
    forked, tools, before, lost, since, since_s, by_c, held, loser
):
    b, c = forked(before, lost, since, since_s, by_c)
    send(b, c)  # nothing where c claims as much of a
    tools.sync(b, c)
    tools.sync(b, c)
    tools.sync(b, c)

    assert tools.contents(b) == tools.contents(c) == {"1": held}
    assert losers_of(b, c) == {loser}


@pytest.mark.parametrize(
    ("lost", "since", "by_c", "held", "loser"),
    [
        (["10"], ["20"], [], "20", "10"),
        (["20"], ["10"], [], "20", "10"),
        (["10"], ["20"], ["30"], "30", "10"),
        (["10"], ["20"], MANY, "311", "10"),
        (["10", "11"], ["20", "21"], ["30"], "30", "11"),
        (["10", "11"], ["20"], [], "11", "20"),
        (["10"], ["20", "21"], [], "21", "10"),
    ],
)
def test_two_lives_that_issued_the_same_timestamps_have_not_seen_one_another(
    forked, tools, lost, since, by_c, held, loser
):
    """Their clock lags behind what was seen, so that each write has the next timestamp, in both."""
    b, c = forked(["1"], lost, since, 2000, by_c, lag_s=9000)
    for _ in range(4):
        send(b, c)
        send(c, b)

    assert tools.contents(b) == tools.contents(c) == {"1": held}
    assert losers_of(b, c) == {loser}


@pytest.mark.parametrize("lag_s", [0, 9000], ids=["on time", "lagging"])
@pytest.mark.parametrize("count", [1, 12])
def test_what_a_copy_writes_beside_its_original_hides_nothing_that_the_original_wrote(
    abc, new_provider, tools, clock, lag_s, count
):
    a, b, c = abc
    tools.put(a, "1", "0")
    tools.sync(a, b)
    tools.sync(a, c)
    clock.now -= lag_s
    copied = new_provider("a", image_of(a.data_store))
    for number in range(count):
        tools.put(a, "1", f"1{number:02}")
        tools.put(copied, "1", f"2{number:02}")
    tools.sync(a, b)
    tools.sync(copied, c)
    assert a.provider_id == copied.provider_id == "a"
    for number in range(count):
        tools.put(c, "1", f"3{number:02}")
    for _ in range(4):
        send(b, c)
        send(c, b)

    assert tools.contents(b) == tools.contents(c) == {"1": f"3{count - 1:02}"}
    assert losers_of(b, c) == {f"1{count - 1:02}"}


def test_what_follows_in_one_line_of_lives_is_no_conflict(abc, new_provider, tools):
    a, b, _ = abc
    for number in range(40):
        tools.put(a, "1", str(number))
        if number % 20 == 0:
            tools.sync(a, b)
        a = new_provider("a", image_of(a.data_store))
    tools.put(a, "1", "100")
    tools.sync(a, b)

    assert a.provider_id == "a"
    assert tools.contents(b) == {"1": "100"}
    assert losers_of(a, b) == set()


def test_a_copy_that_meets_its_original_takes_a_new_id(abc, new_provider, tools):
    a, _, _ = abc
    tools.put(a, "1", "1")
    copied = new_provider("a", image_of(a.data_store))
    tools.put(a, "2", "2")
    tools.sync(a, copied)

    assert a.provider_id != copied.provider_id
    assert tools.contents(a) == tools.contents(copied) == {"1": "1", "2": "2"}


# -- bad input ---------------------------------------------------------------------------------------


def chunk_of(offer, *states):
    return Chunk(offer.session_id, 0, states, Cursor(), True)


GOOD = written(None, "i", "thing", "F1", "1", ("a", 5))


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (replace(GOOD, partition="F2"), "outside the filter"),
        (replace(GOOD, partition="F10"), "outside the filter"),
        (replace(GOOD, partition="F1:"), "is no partition"),
        (replace(GOOD, payload="{no json"), "is no JSON"),
        (replace(GOOD, payload="[" * 100_000), "is no JSON"),
        (replace(GOOD, entity_name=""), "is of no model"),
        (replace(GOOD, item_id=""), "an item id has"),
        (replace(GOOD, item_id="x" * 600), "an item id has"),
        (replace(GOOD, item_id="\ud800"), "is no text"),
        (replace(GOOD, entity_name="\ud800"), "is no text"),
        (replace(GOOD, length=0), "was never created"),
        (replace(GOOD, vector={"b": 3}), "has not seen the write"),
        (replace(GOOD, vector={"a": 5, "b": -3}), "impossible clock"),
        (replace(GOOD, met=((1, 6),)), "its clock does not know"),
        (replace(GOOD, met=((1, 0),)), "its clock does not know"),
        (replace(GOOD, met=((-1, 4),)), "its clock does not know"),
        (replace(GOOD, met=((1 << 62, 4),)), "its clock does not know"),
        (replace(GOOD, life=-1), "in no life"),
        (replace(GOOD, life=1 << 62), "in no life"),
        (replace(GOOD, hard=True), "still says something"),
    ],
)
def test_what_makes_no_sense_is_refused_as_a_whole_and_the_store_is_unchanged(abc, tools, state, reason):
    a, b, _ = abc
    tools.put(a, "1", "1")
    offer = a.offer(("F1",), b.get_claims())
    b.begin(offer)
    before = image_of(b.data_store)

    with pytest.raises(ChangesRefused, match=reason):
        b.receive(offer, chunk_of(offer, GOOD, state))

    assert image_of(b.data_store) == before


def test_a_change_from_the_future_waits_with_a_clear_reason(new_provider, tools, clock):
    fast = tools.Clock(clock.now + 90_000)
    a, b = new_provider("a", clock=fast), new_provider("b")
    tools.put(a, "1", "1")
    tools.put(b, "2", "2")

    orchestrator = SyncOrchestrator(SyncLock(), [a, b], 3600)
    there, back = orchestrator.run()

    assert there.status is SyncSessionStatus.FAILED
    assert "ClockAhead" in there.reason
    assert "clocks" in there.reason
    assert back.status is SyncSessionStatus.FINISHED
    assert tools.contents(b) == {"2": "2"}
    assert [session.status for session in b.sessions()] == [SyncSessionStatus.FAILED]
    assert "ClockAhead" in b.sessions()[0].reason
    clock.now += 10_000
    assert orchestrator.run()[0].status is SyncSessionStatus.FINISHED
    assert tools.contents(b) == {"1": "1", "2": "2"}


def test_a_future_stamp_is_refused_by_the_step_itself(abc, clock):
    a, b, _ = abc
    offer = a.offer(("F1",), {})
    b.begin(offer)

    with pytest.raises(ClockAhead):
        b.receive(
            offer, chunk_of(offer, written(None, "i", "t", "F1", "1", ("a", stamp_of_epoch(clock.now + 1e6))))
        )


def test_a_chunk_of_another_session_is_refused(abc):
    a, b, _ = abc
    offer, other = a.offer(("",), {}), a.offer(("",), {})
    b.begin(offer)

    with pytest.raises(ChangesRefused, match="another session"):
        b.receive(offer, chunk_of(other))
    with pytest.raises(ChangesRefused, match="not under way"):
        b.receive(other, chunk_of(other))


def test_a_sender_may_claim_only_within_the_filter(abc):
    a, b, _ = abc
    offer = dataclasses.replace(a.offer(("F1",), {}), claims={"F2": {"a": 9}})

    with pytest.raises(ChangesRefused, match="outside the filter"):
        b.begin(offer)


def test_nobody_is_told_how_far_it_has_come_itself(abc, tools):
    a, b, _ = abc
    tools.put(b, "1", "1")
    own = b.get_claims()[""]["b"]
    offer = dataclasses.replace(a.offer(("",), {}), claims={"": {"b": own + 100}})
    b.begin(offer)
    b.receive(offer, chunk_of(offer))
    b.finish(offer)

    assert b.get_claims()[""]["b"] == own


# -- orchestrator ------------------------------------------------------------------------------------


def test_two_sessions_are_returned_stored_and_read_back_with_their_changes(abc, tools, clock):
    a, b, _ = abc
    tools.put(a, "1", '"one"')
    there, back = tools.sync(a, b)

    assert (there.source_provider_id, there.target_provider_id) == ("a", "b")
    assert (back.source_provider_id, back.target_provider_id) == ("b", "a")
    assert there.status is back.status is SyncSessionStatus.FINISHED
    assert there.started_at <= there.ended_at
    assert [change.serialization_result.serialized_item for change in there.item_changes] == ['"one"']
    assert len(there.item_changes) == 1
    assert there.item_changes[0].is_applied
    assert b.sessions() == [there] or b.sessions()[0].id == there.id
    tools.put(a, "1", '"two"')
    tools.sync(a, b)
    assert [change.serialization_result.serialized_item for change in there.item_changes] == [""]


def test_a_session_that_takes_too_long_fails_and_the_next_one_goes_on_where_it_was(new_provider, tools):
    a, b = new_provider("a", max_num=1), new_provider("b")
    for item in "123456":
        tools.put(a, item, item)
    ticks = iter(range(1000))
    orchestrator = SyncOrchestrator(SyncLock(), [a, b], 3, clock=lambda: next(ticks))

    there, _ = orchestrator.run()
    assert (there.status, b.sessions()[0].status) == (SyncSessionStatus.FAILED, SyncSessionStatus.FAILED)
    assert "SessionTimedOut" in there.reason
    begun = len(b.items())
    assert 0 < begun < 6
    assert there.ended_at is not None

    seen = []
    a.events_manager.on_item_changes_sent = seen.append
    rounds = 0
    while there.status is not SyncSessionStatus.FINISHED:
        there, _ = orchestrator.run()
        rounds += 1
    assert rounds <= 6
    assert tools.contents(b) == tools.contents(a)
    assert b.unfinished() == []


def test_one_direction_runs_although_the_other_fails(abc, tools):
    a, b, _ = abc
    tools.put(a, "1", "1")
    tools.put(b, "2", "2")

    def refuse(*_):
        raise OSError("the cable is out")

    b.receive = refuse
    there, back = tools.sync(a, b)

    assert (there.status, back.status) == (SyncSessionStatus.FAILED, SyncSessionStatus.FINISHED)
    assert there.reason == "OSError: the cable is out"
    assert tools.contents(a) == {"1": "1", "2": "2"}


def test_two_sessions_do_not_run_at_once(abc):
    a, b, _ = abc
    lock = SyncLock()
    orchestrator = SyncOrchestrator(lock, [a, b], 10)
    with lock.lock():
        assert lock.is_running()
        with pytest.raises(SyncRunning):
            orchestrator.run()
        with pytest.raises(SyncRunning):
            orchestrator.synchronize_providers("a", "b")
    assert not lock.is_running()
    assert orchestrator.synchronize_providers("a", "b").status is SyncSessionStatus.FINISHED


def test_who_is_to_be_synced_is_checked(abc):
    a, b, c = abc
    with pytest.raises(ValueError, match="two providers"):
        SyncOrchestrator(SyncLock(), [a, b, c], 10)
    with pytest.raises(ValueError, match="nobody syncs with itself"):
        SyncOrchestrator(SyncLock(), [a, a], 10)
    orchestrator = SyncOrchestrator(SyncLock(), [a, b], 10)
    with pytest.raises(ValueError, match="no provider 'x'"):
        orchestrator.synchronize_providers("a", "x")
    with pytest.raises(ValueError, match="itself"):
        orchestrator.synchronize_providers("a", "a")
    with pytest.raises(ValueError, match="no provider"):
        orchestrator.run("x")


def test_events_tell_what_happens(new_provider, tools, clock):
    told = []

    class Told(EventsManager):
        def on_start_sync_session(self, session):
            told.append(("start", session.status))

        def on_end_sync_session(self, session):
            told.append(("end", session.status))

        def on_item_changes_sent(self, item_changes):
            told.append(("sent", len(item_changes)))

        def on_item_change_applied(self, item_change):
            told.append(("applied", item_change.serialization_result.item_id))

        def on_conflict_resolved(self, conflict_log):
            told.append(("conflict", conflict_log.conflict_type))

        def on_progress(self, progress):
            told.append((progress.stage, progress.status, progress.count))

    events = Told()
    a, b = new_provider("a", events_manager=events), new_provider("b", events_manager=events)
    tools.put(a, "1", "1")
    clock.now -= 5
    tools.put(b, "1", "2")
    SyncOrchestrator(SyncLock(), [a, b], 10).synchronize_providers("a", "b")

    assert told == [
        ("deferred", "started", 0),
        ("deferred", "completed", 0),
        ("serializing", "started", 0),
        ("serializing", "completed", 0),
        ("start", SyncSessionStatus.IN_PROGRESS),
        ("transferring", "started", 0),
        ("sent", 1),
        ("applied", "1"),
        ("conflict", ConflictType.LOCAL_INSERT_REMOTE_INSERT),
        ("transferring", "completed", 1),
        ("finishing", "started", 0),
        ("finishing", "completed", 0),
        ("end", SyncSessionStatus.FINISHED),
    ]


def test_values_of_a_session_are_plain_enough_for_any_wire(abc, tools):
    a, b, _ = abc
    tools.put(a, "1", "1")
    offer, chunks = send(a, b)

    assert json.dumps([offer.claims, offer.receiver, offer.prefixes, offer.snapshots, offer.collected])
    for state in chunks[0].states:
        assert json.dumps([getattr(state, name) for name in state.__slots__])
