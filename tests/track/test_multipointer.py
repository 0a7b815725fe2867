"""The track's contract, for both kinds, outside a database and in one; and a machine against a plain twin."""

import pickle
import shutil
import tempfile
from importlib import import_module
from itertools import islice

import pytest
import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage

from livesync import (
    ActionWrapper,
    EmptyTrackError,
    ListMultiPointerTrack,
    MultiPointerTrack,
    PositionPruned,
    PositionSealed,
    SetMultiPointerTrack,
)
from livesync.track import pages

KINDS = [ListMultiPointerTrack, SetMultiPointerTrack]


@pytest.fixture(params=KINDS, ids=["list", "set"])
def kind(request):
    return request.param


@pytest.fixture(params=["outside", "stored"])
def track(request, kind, monkeypatch):
    """An empty track whose pages are small; stored: it goes through pickles between the steps of a test."""
    monkeypatch.setattr(pages, "PAGE_SIZE", 4)
    if request.param == "outside":
        yield kind()
        return
    db = DB(DemoStorage())
    connection = db.open(transaction_manager=transaction.TransactionManager())
    connection.root()["track"] = made = kind()
    connection.transaction_manager.commit()
    connection.cacheMinimize()
    yield made
    connection.transaction_manager.abort()
    connection.close()
    db.close()


def settle(track):
    """Store a track that lies in a database, and forget all that is in memory."""
    if track._p_jar is not None:
        track._p_jar.transaction_manager.commit()
        track._p_jar.cacheMinimize()


@pytest.fixture
def filled(track):
    """Positions 2 (one value), 5 (nine values: more than two pages), 9 (two)."""
    for position, values in ((2, "k"), (5, "abcdefghi"), (9, "xy")):
        for value in values:
            track.add(position, value)
    settle(track)
    return track


def items(*pairs):
    return [(position, value) for position, values in pairs for value in values]


ALL = items((2, "k"), (5, "abcdefghi"), (9, "xy"))


def test_the_base_class_is_what_both_kinds_are(kind):
    assert issubclass(kind, MultiPointerTrack)


def test_a_new_track_is_empty(track):
    assert track.is_empty()
    assert len(track) == 0
    assert list(track) == []
    assert 0 not in track
    assert track.sealed == -1
    assert track


@pytest.mark.parametrize("ask", ["most_recent_ts", "oldest_ts"])
def test_an_empty_track_has_neither_oldest_nor_newest(track, ask):
    with pytest.raises(EmptyTrackError):
        getattr(track, ask)()


def test_most_recent_of_an_empty_track_is_an_error_whatever_the_maximum(track):
    with pytest.raises(EmptyTrackError):
        track.most_recent_ts(5)


def test_iterating_yields_positions_and_values_oldest_first(filled):
    assert list(filled) == ALL
    assert list(filled.iterate()) == ALL


@pytest.mark.parametrize("begin", [None, -1, 0, 1, 2, 3, 4, 5, 6, 8, 9, 10])
@pytest.mark.parametrize("end", [None, -1, 0, 1, 2, 4, 5, 6, 8, 9, 10])
def test_an_interval_is_open_at_its_beginning_and_closed_at_its_end(filled, begin, end):
    expected = [
        (position, value)
        for position, value in ALL
        if (begin is None or position > begin) and (end is None or position <= end)
    ]

    assert list(filled.iterate(begin, end)) == expected
    assert list(filled.iterate(begin, end, reverse=True)) == expected[::-1]


def test_len_counts_entries_not_values(filled):
    assert len(filled) == 3
    assert filled.count() == 12


def test_contains_tells_whether_there_is_an_entry(filled):
    assert [position for position in range(-1, 12) if position in filled] == [2, 5, 9]
    assert "2" not in filled


def test_an_entry_is_of_its_kind(kind):
    track = kind()
    for value in "bab":
        track.add(3, value)

    if kind is ListMultiPointerTrack:
        assert track[3] == ["b", "a", "b"]
    else:
        assert track[3] == {"a", "b"}
        assert list(track[3]) == ["a", "b"]
        assert track[3][0] == "a"
        assert "b" in track[3]
        assert "c" not in track[3]
        assert hash(track[3]) == hash(track[3])


def test_entries_of_a_set_combine_as_sets_do():
    track = SetMultiPointerTrack()
    track.extend([(1, "a"), (1, "b"), (2, "b")])

    assert track[1] & track[2] == {"b"}
    assert track[1] | {"c"} == {"a", "b", "c"}
    assert repr(track[2]) == "SortedEntry(['b'])"


def test_a_missing_entry_is_a_key_error(filled):
    with pytest.raises(KeyError):
        filled[3]


def test_a_slice_has_both_ends(filled):
    assert list(filled[2:5]) == [filled[2], filled[5]]
    assert list(filled[:4]) == [filled[2]]
    assert list(filled[5:]) == [filled[5], filled[9]]
    assert list(filled[:]) == list(filled.values()) == [filled[2], filled[5], filled[9]]
    assert list(filled[3:4]) == []
    assert list(filled[9:2]) == []


def test_a_slice_with_a_step_is_a_type_error(filled):
    with pytest.raises(TypeError, match="step"):
        filled[1:9:2]


def test_entries_of_an_interval_are_a_sequence(filled):
    values = filled.values(3)

    assert len(values) == 2
    assert values[0] == filled[5]
    assert values[-1] == filled[9]
    assert values[:1] == [filled[5]]
    assert values == [filled[5], filled[9]]
    assert values != [filled[5]]
    assert repr(values).startswith("[")


@pytest.mark.parametrize("position", [1.0, "1", None])
def test_a_position_is_an_integer(track, position):
    with pytest.raises(TypeError):
        track.add(position, "x")
    assert track.is_empty()


def test_a_prepared_entry_is_there_and_holds_nothing(filled):
    filled.prepare_entry(7)
    filled.prepare_entry(9)
    settle(filled)

    assert 7 in filled
    assert len(filled) == 4
    assert not list(filled[7])
    assert list(filled.values(6, 8)) == [filled[7]]
    assert list(filled) == ALL
    assert list(filled.positions()) == [2, 5, 7, 9]


def test_a_prepared_entry_takes_values(track):
    track.prepare_entry(7)
    track.add(7, "x")
    track.add(3, "y")

    assert len(track) == 2
    assert list(track[7]) == ["x"]


def test_a_track_with_nothing_but_prepared_entries_is_not_empty(track):
    track.prepare_entry(7)
    track.prepare_entry(3)

    assert not track.is_empty()
    assert track.most_recent_ts() == 7
    assert track.oldest_ts() == 3


def test_most_recent_is_the_newest_or_the_maximum(filled):
    assert filled.most_recent_ts() == 9
    assert filled.most_recent_ts(100) == 9
    assert filled.most_recent_ts(6) == 6
    assert filled.oldest_ts() == 2


def test_nothing_is_added_at_or_before_what_is_sealed(filled):
    filled.seal(9)

    for position in (8, 9):
        with pytest.raises(PositionSealed) as caught:
            filled.add(position, "z")
        assert (caught.value.position, caught.value.sealed) == (position, 9)
        with pytest.raises(PositionSealed):
            filled.prepare_entry(position)
    assert isinstance(caught.value, ValueError)
    assert list(filled) == ALL
    filled.add(10, "z")
    assert 10 in filled


def test_sealing_never_goes_back(filled):
    filled.seal(7)
    filled.seal(3)

    assert filled.sealed == 7


def test_what_extend_added_before_a_sealed_position_is_there(track):
    track.seal(4)

    with pytest.raises(PositionSealed):
        track.extend([(5, "a"), (6, "b"), (4, "c"), (7, "d")])
    settle(track)

    assert list(track) == [(5, "a"), (6, "b")]
    assert len(track) == 2


def test_values_added_out_of_order_are_found_in_order(track):
    for position in (9, 3, 6, 3, 1, 9, 6, 4):
        track.add(position, f"v{position}")
        settle(track)

    positions = [position for position, _ in track]
    assert positions == sorted(positions)
    assert len(track) == 5
    repeats = 8 if isinstance(track, ListMultiPointerTrack) else 5
    assert track.count() == len(positions) == repeats


def test_a_list_keeps_the_order_of_adding_and_a_set_its_own(track):
    for value in "dbca" * 3:
        track.add(5, value)
        settle(track)

    expected = list("dbca" * 3) if isinstance(track, ListMultiPointerTrack) else list("abcd")
    assert list(track[5]) == expected


@pytest.mark.parametrize("size", [3, 4, 5, 7, 8, 9, 12, 13])
def test_nothing_is_lost_at_the_ends_of_pages(track, size):
    for number in range(size):
        track.add(number, f"{number:02}")
    settle(track)
    track.add_pointer("p")

    for number in range(size):
        track.move_pointer("p", number)
        assert track.lag("p") == size - number - 1
        assert track[number] in ([f"{number:02}"], {f"{number:02}"})
        assert list(track.pointer_iter_items("p")) == [(n, f"{n:02}") for n in range(number + 1, size)]
        assert [n for n, _ in track.iterate(None, number, reverse=True)] == list(range(number, -1, -1))


def test_deleting_removes_a_whole_entry(filled):
    del filled[5]
    settle(filled)

    assert list(filled) == items((2, "k"), (9, "xy"))
    assert len(filled) == 2
    assert filled.count() == 3
    with pytest.raises(KeyError):
        del filled[5]


def test_a_prepared_entry_can_be_deleted(track):
    track.prepare_entry(3)

    del track[3]

    assert track.is_empty()
    assert len(track) == 0


def test_an_entry_that_a_pointer_needs_cannot_be_deleted(filled):
    filled.add_pointer("behind", 4)
    filled.add_pointer("first")

    with pytest.raises(ValueError, match="needs position 5"):
        del filled[5]
    filled.remove_pointer("first")
    with pytest.raises(ValueError, match="behind"):
        del filled[5]
    filled.move_pointer("behind", 5)
    del filled[5]

    assert 5 not in filled


# -- pointers ------------------------------------------------------------------------------------


def test_a_pointer_stands_before_everything_unless_told(filled):
    filled.add_pointer("a")
    filled.add_pointer("b", 5)

    assert filled.get_pointer_timestamp("a") is None
    assert filled.get_pointer_timestamp("b") == 5
    assert list(filled.pointer_iter_values("a")) == [value for _, value in ALL]
    assert list(filled.pointer_iter_items("b")) == items((9, "xy"))
    assert dict(filled.pointers()) == {"a": None, "b": 5}
    assert filled.has_pointer("a")
    assert not filled.has_pointer("c")


def test_a_second_pointer_of_a_name_is_refused(filled):
    filled.add_pointer("a")

    with pytest.raises(ValueError, match="already"):
        filled.add_pointer("a", 2)


def test_a_pointer_that_is_not_there_is_a_key_error(filled):
    calls = [
        lambda: filled.move_pointer("x", 2),
        lambda: filled.remove_pointer("x"),
        lambda: filled.get_pointer_timestamp("x"),
        lambda: filled.get_current_position("x"),
        lambda: filled.pointer_iter_items("x"),
        lambda: filled.pointer_iter_values("x"),
        lambda: filled.lag("x"),
        lambda: filled.move_pointer_inside("x", 1),
        lambda: filled.pointer_offset("x"),
    ]
    for call in calls:
        with pytest.raises(KeyError):
            call()


def test_a_removed_pointer_is_gone_and_can_be_made_anew(filled):
    filled.add_pointer("a", 5)
    filled.remove_pointer("a")
    filled.add_pointer("a")

    assert filled.get_pointer_timestamp("a") is None


def test_no_pointer_stands_beyond_what_is_sealed(filled):
    filled.seal(5)
    filled.add_pointer("a", 5)

    with pytest.raises(ValueError, match="sealed"):
        filled.move_pointer("a", 6)
    with pytest.raises(ValueError, match="sealed"):
        filled.add_pointer("b", 6)
    assert filled.get_pointer_timestamp("a") == 5


def test_a_track_that_was_never_sealed_sets_pointers_no_limit(track):
    track.add_pointer("a", 100)
    track.move_pointer("a", 7)
    track.move_pointer("a", 1000)

    assert track.get_pointer_timestamp("a") == 1000


def test_a_track_sealed_at_zero_is_sealed(track):
    track.seal(0)

    with pytest.raises(ValueError, match="sealed"):
        track.add_pointer("a", 1)


def test_current_position_is_the_entry_where_a_pointer_stands(filled):
    filled.add_pointer("a")
    assert filled.get_current_position("a") is None
    filled.move_pointer("a", 5)
    assert filled.get_current_position("a") == filled[5]
    filled.move_pointer("a", 6)
    assert filled.get_current_position("a") is None
    filled.move_pointer("a", 5)
    filled.seal(9)
    filled.prune()
    assert filled.get_current_position("a") is None


def test_what_is_next_ends_with_what_is_sealed(filled):
    filled.add_pointer("a", 2)
    filled.seal(7)

    assert list(filled.pointer_iter_items("a")) == items((5, "abcdefghi"))
    assert list(filled.pointer_iter_items("a", till=100)) == items((5, "abcdefghi"), (9, "xy"))
    assert list(filled.pointer_iter_items("a", till=4)) == []
    assert list(filled.pointer_iter_items("a", till=2)) == []


def test_a_pointer_inside_a_position_goes_on_there(filled):
    filled.add_pointer("a", 2)
    filled.move_pointer_inside("a", 6)
    settle(filled)

    assert filled.pointer_offset("a") == 6
    assert list(filled.pointer_iter_items("a")) == items((5, "ghi"), (9, "xy"))
    assert filled.lag("a") == 5
    filled.move_pointer("a", 5)
    assert filled.pointer_offset("a") == 0
    assert filled.lag("a") == 2


def test_lag_counts_values_after_a_pointer(filled):
    filled.add_pointer("a")

    lags = []
    for position in (None, 0, 2, 4, 5, 8, 9, 10):
        filled.move_pointer("a", position)
        lags.append(filled.lag("a"))

    assert lags == [12, 12, 11, 11, 2, 2, 0, 0]
    filled.move_pointer("a", 2)
    assert filled.lag("a", till=5) == 9
    assert filled.lag("a", till=4) == 0
    assert filled.lag("a", till=1) == 0


# -- pruning -------------------------------------------------------------------------------------


def test_prune_drops_what_every_pointer_has_passed(filled):
    filled.seal(9)
    filled.add_pointer("slow", 2)
    filled.add_pointer("quick", 9)

    assert filled.prune() == 1
    settle(filled)

    assert list(filled) == ALL[1:]
    assert len(filled) == 2
    assert filled.lag("slow") == 11
    assert filled.lag("quick") == 0
    assert filled.pruned == 2
    assert list(filled.pointer_iter_items("slow")) == ALL[1:]


def test_prune_drops_nothing_while_a_pointer_stands_before_everything(filled):
    filled.seal(9)
    filled.add_pointer("new")

    assert filled.prune() == 0
    assert filled.count() == 12


def test_prune_before_keeps_that_position(filled):
    filled.seal(9)
    filled.add_pointer("a", 9)

    assert filled.prune(before=5) == 1
    assert filled.oldest_ts() == 5
    assert filled.prune(before=6) == 9
    assert filled.oldest_ts() == 9


def test_prune_without_pointers_drops_what_is_sealed(filled):
    filled.seal(5)

    assert filled.prune() == 10
    assert list(filled) == items((9, "xy"))


def test_prune_never_drops_what_is_not_sealed(filled):
    filled.seal(5)

    filled.prune(before=100, leave_behind=True)

    assert list(filled) == items((9, "xy"))


def test_a_pointer_left_behind_says_so(filled):
    filled.seal(9)
    filled.add_pointer("slow", 2)
    filled.add_pointer("new")

    assert filled.prune(before=6, leave_behind=True) == 10

    for pid, position in (("slow", 2), ("new", None)):
        with pytest.raises(PositionPruned) as caught:
            filled.pointer_iter_items(pid)
        assert (caught.value.position, caught.value.pruned) == (position, 5)
    with pytest.raises(PositionPruned):
        filled.pointer_iter_values("slow")


def test_lag_of_a_pointer_left_behind_is_what_is_left(filled):
    filled.seal(9)
    filled.add_pointer("slow", 2)
    filled.add_pointer("new")

    filled.prune(before=6, leave_behind=True)

    assert filled.lag("slow") == filled.lag("new") == 2


def test_no_position_at_or_before_what_was_pruned_is_used_again(track):
    track.add(5, "a")
    track.add_pointer("a", 7)
    track.prune()

    with pytest.raises(PositionSealed):
        track.add(5, "b")


def test_a_pruned_prepared_entry_is_gone(track):
    track.prepare_entry(3)
    track.add(5, "a")
    track.seal(4)

    track.prune()

    assert 3 not in track
    assert len(track) == 1


def test_a_pruned_track_can_go_on(filled):
    filled.seal(9)
    filled.add_pointer("a", 9)
    assert filled.prune() == 12
    settle(filled)
    assert filled.is_empty()

    filled.add(10, "n")
    settle(filled)

    assert list(filled) == [(10, "n")]
    assert filled.lag("a") == 1
    assert len(filled) == 1


def test_clear_empties_and_keeps_what_is_sealed(filled):
    filled.seal(5)
    filled.add_pointer("a", 2)
    filled.prepare_entry(12)

    filled.clear()
    settle(filled)

    assert filled.is_empty()
    assert len(filled) == 0
    assert filled.sealed == 5
    with pytest.raises(PositionSealed):
        filled.add(12, "again")
    filled.add(13, "next")
    assert filled.lag("a") == 1


def test_clear_leaves_pointers_that_can_be_read_and_moved_on(filled):
    """What was cleared although not sealed is not what the pointers still need."""
    filled.seal(5)
    filled.add_pointer("a", 2)

    filled.clear()
    filled.add(20, "next")
    filled.seal(20)

    assert filled.get_pointer_timestamp("a") == 5
    filled.move_pointer("a", 20)
    assert list(filled.pointer_iter_items("a")) == []


# -- in a database -------------------------------------------------------------------------------


def test_a_track_survives_a_file(kind, file_db):
    actions = [
        ActionWrapper(position, f"id-{number}", {"created"}) for position in (1, 7) for number in range(300)
    ]
    connection = file_db.open()
    connection.root()["track"] = track = kind()
    track.extend((int(action.timestamp), action) for action in actions)
    track.seal(7)
    track.add_pointer("p", 1)
    transaction.commit()
    connection.close()

    other = file_db.open()
    other.cacheMinimize()
    again = other.root()["track"]

    assert [value for _, value in again] == (actions if kind is ListMultiPointerTrack else sorted(actions))
    assert again.lag("p") == 300
    assert again.sealed == 7
    other.close()


def test_reading_changes_nothing_in_a_database(kind, memory_db):
    connection = memory_db.open()
    connection.root()["track"] = track = kind()
    track.extend((number, "x") for number in range(1000))
    track.add_pointer("p", 500)
    transaction.commit()

    list(track)
    list(track.iterate(100, 900, reverse=True))
    list(track.pointer_iter_items("p"))
    list(track.values(3, 9))
    _ = (len(track), 5 in track, track[7], track.lag("p"), track.most_recent_ts())

    assert not connection._registered_objects
    connection.close()


def test_an_aborted_change_leaves_nothing(kind, memory_db):
    connection = memory_db.open()
    connection.root()["track"] = track = kind()
    track.extend((number, "x") for number in range(300))
    transaction.commit()

    track.extend((number, "x") for number in range(300, 700))
    track.seal(10)
    transaction.abort()

    assert track.count() == 300
    assert track.sealed == -1
    connection.close()


def test_iterating_holds_no_more_than_a_few_pages(memory_db):
    connection = memory_db.open()
    connection.root()["track"] = track = ListMultiPointerTrack()
    track.extend((number, "x") for number in range(256 * 50))
    transaction.commit()
    connection.cacheMinimize()

    loaded = 0
    for number, _ in enumerate(track.iterate(reverse=True)):
        if number % 256 == 0:
            pages = (obj for obj in connection._cache.lru_items() if type(obj[1]).__name__ == "Page")
            loaded = max(loaded, sum(1 for _ in pages))

    assert loaded <= 2
    connection.close()


@pytest.mark.parametrize("storage", ["memory", "file"])
def test_two_agents_that_move_their_pointers_at_once_do_not_conflict(kind, storage, request):
    db = request.getfixturevalue(f"{storage}_db")
    setup = db.open()
    setup.root()["track"] = track = kind()
    track.extend((number, "x") for number in range(1, 100))
    track.seal(99)
    for number in range(6):
        track.add_pointer(f"agent-{number}")
    transaction.commit()
    setup.close()
    connections = [db.open(transaction_manager=transaction.TransactionManager()) for _ in range(6)]

    for position in (10, 50, 99):
        for number, connection in enumerate(connections):
            connection.transaction_manager.begin()
            connection.root()["track"].move_pointer(f"agent-{number}", position + number - number)
        for connection in connections:
            connection.transaction_manager.commit()

    connections[0].transaction_manager.begin()
    assert set(dict(connections[0].root()["track"].pointers()).values()) == {99}
    for connection in connections:
        connection.close()


def test_a_track_can_be_pickled(filled, kind):
    if filled._p_jar is None:
        again = kind()
        again.__setstate__(pickle.loads(pickle.dumps(filled.__getstate__())))
        assert list(again) == ALL


# -- against a plain twin ------------------------------------------------------------------------


class PlainTrack:
    """The same rules over a dict of lists."""

    def __init__(self, is_set):
        self.is_set = is_set
        self.entries = {}
        self.pointers = {}
        self.sealed = -1
        self.pruned = -1

    def add(self, position, value):
        values = self.entries.setdefault(position, [])
        if not self.is_set:
            values.append(value)
        elif value not in values:
            values.append(value)
            values.sort()

    def items(self, begin=None, end=None):
        return [
            (position, value)
            for position in sorted(self.entries)
            if (begin is None or position > begin) and (end is None or position <= end)
            for value in self.entries[position]
        ]

    def can_add(self, position):
        return position > max(self.sealed, self.pruned)

    def prune(self, before, leave_behind):
        bound = self.sealed if before is None else before - 1
        if self.sealed >= 0:
            bound = min(bound, self.sealed)
        elif before is None and self.pointers:
            bound = 10**9
        if not leave_behind:
            bound = min([bound, *(-1 if p is None else p for p in self.pointers.values())])
        gone = [position for position in self.entries if position <= bound]
        for position in gone:
            del self.entries[position]
        self.pruned = max([self.pruned, *gone])


POSITIONS = st.integers(0, 14)
VALUES = st.integers(0, 5)
NAMES = st.sampled_from("pqr")


class TrackMachine(RuleBasedStateMachine):
    kind = ListMultiPointerTrack
    page_size = 3

    def make(self):
        return self.kind()

    @initialize()
    def start(self):
        self.before = pages.PAGE_SIZE
        pages.PAGE_SIZE = self.page_size
        self.track = self.make()
        self.twin = PlainTrack(self.kind is SetMultiPointerTrack)

    def teardown(self):
        if hasattr(self, "before"):
            pages.PAGE_SIZE = self.before

    @rule(position=POSITIONS, value=VALUES)
    def add(self, position, value):
        if self.twin.can_add(position):
            self.track.add(position, value)
            self.twin.add(position, value)
        else:
            with pytest.raises(PositionSealed):
                self.track.add(position, value)

    @rule(pairs=st.lists(st.tuples(POSITIONS, VALUES), max_size=20), ordered=st.booleans())
    def extend(self, pairs, ordered):
        pairs = [pair for pair in (sorted(pairs) if ordered else pairs) if self.twin.can_add(pair[0])]
        self.track.extend(pairs)
        for position, value in pairs:
            self.twin.add(position, value)

    @rule(position=POSITIONS)
    def prepare(self, position):
        if self.twin.can_add(position):
            self.track.prepare_entry(position)
            self.twin.entries.setdefault(position, [])
        else:
            with pytest.raises(PositionSealed):
                self.track.prepare_entry(position)

    @rule(position=POSITIONS)
    def seal(self, position):
        if position < 10:
            self.track.seal(position)
            self.twin.sealed = max(self.twin.sealed, position)

    @rule(position=POSITIONS)
    def delete(self, position):
        if position not in self.twin.entries:
            expected = KeyError
        elif any(p is None or p < position for p in self.twin.pointers.values()):
            expected = ValueError
        else:
            del self.track[position]
            del self.twin.entries[position]
            return
        with pytest.raises(expected):
            del self.track[position]

    @rule(name=NAMES, position=st.none() | POSITIONS)
    def add_pointer(self, name, position):
        refused = position is not None and 0 <= self.twin.sealed < position
        if name in self.twin.pointers or refused:
            with pytest.raises(ValueError, match="pointer"):
                self.track.add_pointer(name, position)
        else:
            self.track.add_pointer(name, position)
            self.twin.pointers[name] = position

    @rule(name=NAMES, position=st.none() | POSITIONS)
    def move_pointer(self, name, position):
        if name not in self.twin.pointers:
            expected = KeyError
        elif position is not None and 0 <= self.twin.sealed < position:
            expected = ValueError
        else:
            self.track.move_pointer(name, position)
            self.twin.pointers[name] = position
            return
        with pytest.raises(expected):
            self.track.move_pointer(name, position)

    @rule(name=NAMES)
    def remove_pointer(self, name):
        if name in self.twin.pointers:
            self.track.remove_pointer(name)
            del self.twin.pointers[name]
        else:
            with pytest.raises(KeyError):
                self.track.remove_pointer(name)

    @rule(before=st.none() | POSITIONS, leave_behind=st.booleans())
    def prune(self, before, leave_behind):
        dropped = len(self.twin.items())
        self.twin.prune(before, leave_behind)
        assert self.track.prune(before, leave_behind) == dropped - len(self.twin.items())

    @rule(begin=st.none() | POSITIONS, end=st.none() | POSITIONS)
    def iterate(self, begin, end):
        expected = self.twin.items(begin, end)
        assert list(self.track.iterate(begin, end)) == expected
        reverse = list(self.track.iterate(begin, end, reverse=True))
        assert reverse == expected[::-1]

    @rule(begin=st.none() | POSITIONS, end=st.none() | POSITIONS)
    def slices(self, begin, end):
        expected = [
            values
            for position, values in sorted(self.twin.entries.items())
            if (begin is None or position >= begin) and (end is None or position <= end)
        ]
        assert [list(entry) for entry in self.track[begin:end]] == expected

    @invariant()
    def the_two_agree(self):
        track, twin = getattr(self, "track", None), getattr(self, "twin", None)
        if twin is None:
            return
        assert list(track) == twin.items()
        assert len(track) == len(twin.entries)
        assert track.count() == len(twin.items())
        assert track.is_empty() == (not twin.entries)
        assert list(track.positions()) == sorted(twin.entries)
        assert track.sealed == twin.sealed
        assert track.pruned == twin.pruned
        if twin.entries:
            assert (track.oldest_ts(), track.most_recent_ts()) == (min(twin.entries), max(twin.entries))

    @invariant()
    def pointers_agree(self):
        twin = getattr(self, "twin", None)
        if twin is None:
            return
        assert dict(self.track.pointers()) == twin.pointers
        for name, position in twin.pointers.items():
            assert self.track.lag(name) == len(twin.items(position))
            if twin.pruned > (-1 if position is None else position):
                with pytest.raises(PositionPruned):
                    self.track.pointer_iter_items(name)
            else:
                till = twin.sealed if twin.sealed >= 0 else None
                assert list(self.track.pointer_iter_items(name)) == twin.items(position, till)

    @invariant()
    def the_keys_of_pages_tell_the_truth(self):
        if getattr(self, "track", None) is None:
            return
        count = None
        for (position, before), page in self.track._pages.items():
            assert page.positions()
            assert page.positions()[0] == position
            assert len(page.positions()) == len(page.read()[1]) <= 2 * self.page_size
            assert count in (None, before)
            count = before + len(page.positions())


class SetTrackMachine(TrackMachine):
    kind = SetMultiPointerTrack


class StoredTrackMachine(TrackMachine):
    """The same in a file, with commits, aborts and a reopened database in between."""

    def make(self):
        self.file_storage = import_module("ZODB.FileStorage.FileStorage")
        self.fsync, self.file_storage.fsync = self.file_storage.fsync, None
        self.directory = tempfile.mkdtemp()
        self.open()
        self.connection.root()["track"] = track = self.kind()
        self.commit()
        return track

    def open(self):
        self.db = DB(FileStorage(f"{self.directory}/Data.fs"))
        self.connection = self.db.open(transaction_manager=transaction.TransactionManager())

    def close(self):
        self.connection.transaction_manager.abort()
        self.connection.close()
        self.db.close()

    @rule()
    def commit(self):
        self.connection.transaction_manager.commit()
        twin = getattr(self, "twin", None)
        self.kept = pickle.dumps(twin) if twin is not None else None

    @precondition(lambda self: getattr(self, "kept", None) is not None)
    @rule()
    def abort(self):
        self.connection.transaction_manager.abort()
        self.twin = pickle.loads(self.kept)

    @rule()
    def forget(self):
        self.connection.transaction_manager.savepoint(True)
        self.connection.cacheMinimize()

    @rule()
    def reopen(self):
        self.commit()
        self.close()
        self.open()
        self.track = self.connection.root()["track"]

    def teardown(self):
        super().teardown()
        if hasattr(self, "directory"):
            self.close()
            self.file_storage.fsync = self.fsync
            shutil.rmtree(self.directory)


MACHINE = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestListTrack = TrackMachine.TestCase
TestListTrack.settings = MACHINE
TestSetTrack = SetTrackMachine.TestCase
TestSetTrack.settings = MACHINE
TestStoredTrack = StoredTrackMachine.TestCase
TestStoredTrack.settings = settings(MACHINE, max_examples=40)


@given(
    st.lists(st.integers(0, 6), max_size=700).map(sorted),
    st.integers(1, 300),
    st.none() | st.integers(-1, 7),
    st.none() | st.integers(-1, 7),
    st.integers(-1, 7),
)
def test_parts_of_a_list_come_to_the_whole_and_stay_as_they_are(positions, size, after, till, pruned):
    track = ListMultiPointerTrack()
    track.extend((position, number) for number, position in enumerate(positions))
    expected = [(position, value) for position, value in track.iterate(after, till, reverse=True)]

    seen, below = [], None
    while part := list(islice(track.ranked(after, till, below), size)):
        seen += [(position, value) for position, _, value in part]
        assert [rank for _, rank, _ in part] == [value for _, _, value in part]
        below = part[-1][:2]
        track.add(8, len(positions))  # what is added meanwhile moves nothing
        positions = [*positions, 8]
        if till is None:
            till = 7

    assert seen == [item for item in expected if item[0] != 8]
    track.prune(pruned)
    assert list(track.ranked()) == [(p, r, v) for p, v in track.iterate(reverse=True) for r in [v]]


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.sampled_from(["a", "b"]), st.sampled_from(["", "u"])), max_size=40
    ),
    st.none() | st.integers(-1, 21),
    st.integers(0, 20),
    st.booleans(),
)
def test_where_a_pointer_stands_is_its_lag_and_what_follows(items, pointer, pruned, packed):
    track = ListMultiPointerTrack()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "PAGE_SIZE", 4)
        for position, name, user in sorted(items):
            track.add(
                position, ActionWrapper(position + 0.5, name, {"created", f"by-{user or 'none'}"}, user)
            )
        track.prune(pruned)
        track.add_pointer("p", pointer)
        if packed:
            track = pickle.loads(pickle.dumps(track))

        lag, following = track.standing("p")

        assert lag == track.lag("p")
        assert following == next((value for _, value in track.iterate(pointer)), None)
        if following is not None:
            assert following.user == next(track.iterate(pointer))[1].user
