"""Clocks that differ: the storage's a day ahead and back, a runner's an hour behind; nothing waits long."""

import time
import uuid

import pytest
import ZODB.BaseStorage
from syshost import SERVICES, TwinAgent

from livesync.manager import SyncManager

DAY_S = 86_400
HOUR_S = 3_600


class Clock:
    """Stands in for the module ``time`` where a storage makes the ids of its transactions."""

    def __init__(self):
        self.now = 1_700_000_000.0

    def time(self):
        self.now += 0.001
        return self.now

    def __getattr__(self, name):
        return getattr(time, name)


@pytest.fixture
def clock(monkeypatch):
    """The storage's clock."""
    clock = Clock()
    monkeypatch.setattr(ZODB.BaseStorage, "time", clock)
    return clock


@pytest.fixture(params=[1, 60], ids=["1 s", "60 s"])
def place(site, clock, request):
    place = site()
    with place.change():
        root = place.connection.root()
        del root["livesync"]
        SyncManager.install(root, granularity=request.param)
    place.add_agent(TwinAgent("a", key=uuid.uuid4().hex))
    return place


def add(place, name):
    with place.change() as store:
        store.add(None, name, name)


def run_twice(place, now):
    """Run, and once more a granularity later, as the runner's clock has it."""
    with place.looking():
        granularity = place.manager.granularity
    return place.run("a", now=now).read + place.run("a", now=now + granularity).read


def sent_names(place):
    """Return the titles in the order in which they were sent for the first time."""
    with place.looking():
        service = SERVICES[place.manager.get_agent("a").values["key"]]
    titles = [record.document["title"] for batch in service.batches for record in batch if record.document]
    return list(dict.fromkeys(titles))


def test_the_storage_takes_its_time_from_the_clock(place, clock):
    clock.now += DAY_S
    add(place, "x")

    with place.looking():
        assert [int(action.timestamp - clock.now) for action in place.manager.waiting()] == [0]


def test_a_storage_clock_a_day_ahead_and_back_stalls_nothing(place, clock):
    right = clock.now
    add(place, "before")
    assert run_twice(place, right + 60) == 1
    clock.now += DAY_S
    add(place, "ahead")
    assert run_twice(place, right + 180) == 1
    clock.now = right + 200
    add(place, "back")
    add(place, "and again")
    assert run_twice(place, right + 300) == 2
    clock.now = right + 400
    add(place, "last")
    assert run_twice(place, right + 500) == 1

    place.assert_equal("a")
    assert sent_names(place) == ["before", "ahead", "back", "and again", "last"]


def test_a_commit_while_the_storages_position_is_open_is_not_lost(place, clock):
    clock.now += DAY_S
    add(place, "first")
    place.run("a", now=clock.now - DAY_S)
    add(place, "second")
    place.run("a", now=clock.now - DAY_S + 30)
    add(place, "third")

    assert run_twice(place, clock.now - DAY_S + 120) >= 1
    place.assert_equal("a")
    assert sent_names(place) == ["first", "second", "third"]


def test_a_runner_whose_clock_is_an_hour_behind_delivers_within_two_granularities(place, clock):
    runners = clock.now - HOUR_S
    for number in range(5):
        add(place, f"n{number}")
        assert run_twice(place, runners + 300 * number) == 1
        clock.now += 300

    place.assert_equal("a")
    assert sent_names(place) == [f"n{number}" for number in range(5)]


def test_runners_whose_clocks_differ_take_turns_and_lose_nothing(place, clock):
    behind, right = -HOUR_S, 0
    for number in range(8):
        add(place, f"n{number}")
        place.run("a", now=clock.now + (behind if number % 2 else right))
        clock.now += 20

    run_twice(place, clock.now + behind)
    place.assert_equal("a")
    assert sent_names(place) == [f"n{number}" for number in range(8)]


def test_positions_never_decrease_and_nothing_lands_where_it_is_sealed(place, clock):
    seen = []
    for jump in 0, DAY_S, -DAY_S, -HOUR_S, 5, 2 * DAY_S, -3 * DAY_S:
        clock.now += jump
        for number in range(3):
            with place.looking():
                sealed = place.manager.track.sealed
            add(place, f"{len(seen)}-{number}")
            place.run("a", now=1_700_000_000 + 100 * len(seen) + 70 * number)
            with place.looking():
                items = list(place.manager.track.iterate(sealed))
                assert len(items) >= 1
                assert all(position > sealed for position, _ in items)
        seen.append(jump)

    with place.looking():
        positions = [position for position, _ in place.manager.track]
    assert positions == sorted(positions)
    run_twice(place, 1_700_010_000)
    place.assert_equal("a")
