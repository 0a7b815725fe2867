"""A service that fails in every way there is: what it holds in the end is what the host has."""

import random
import threading

import pytest
from faulty_server import FAULTS, FaultyServer

from livesync.delivery import ledger
from livesync.destinations.http import HTTPAgent

#: Quick enough for a test; the time that a request may take is what decides how long the test does.
QUICK = {"backoff_s": 0.001, "backoff_cap_s": 0.004, "timeout_s": 0.15}


@pytest.fixture
def faulty():
    """Make servers; all end with the test."""
    made = []

    def make(*args, **kwargs):
        server = FaultyServer(*args, **kwargs)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        made.append((server, thread))
        return server

    yield make
    for server, thread in made:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def change_something(site, dice):
    """Make a few host transactions."""
    for _ in range(dice.randrange(1, 12)):
        with site.change() as store:
            nodes = list(store.by_uid.values())
            what = dice.random()
            if what < 0.5 or len(nodes) < 5:
                parent = dice.choice([None, *nodes])
                store.add(parent, f"n{dice.random()}", "new")
            elif what < 0.75:
                store.edit(dice.choice(nodes), f"edit {dice.random()}")
            elif what < 0.85:
                store.remove(dice.choice(nodes))
            else:
                node = dice.choice(nodes)
                store.set_private(node, not node.private)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_a_service_that_fails_in_every_way_ends_equal_to_the_host(site, faulty, seed):
    place, dice = site(), random.Random(f"changes {seed}")
    poison = frozenset(f"n{number:07}" for number in range(seed, 1000, 13))
    server = faulty(seed, poison)
    options = {"batch_size": dice.choice([1, 5, 40]), "in_flight": dice.choice([1, 4]), "max_attempts": 0}
    place.add_agent(HTTPAgent("a", url=server.url, dead_threshold=10_000, **options, **QUICK))

    for _ in range(12):
        change_something(place, dice)
        place.run("a")

    expected = {key: document for key, document in place.expected().items() if key not in poison}
    assert server.documents == expected
    with place.looking():
        stored = place.manager.stored("a")
        assert {key for key in stored.dead if key in place.expected_ids()} == poison & place.expected_ids()
        assert [line for line in ledger.entries(stored) if ledger.balance(line)] == []
        assert stored.state == "active"
        assert place.manager.status().agents[0].lag_actions == 0
        assert stored.totals["retried"] > 0


@pytest.mark.slow
def test_every_fault_is_met(site, faulty):
    place, dice = site(), random.Random("all of them")
    server = faulty("all of them")
    place.add_agent(HTTPAgent("a", url=server.url, batch_size=2, in_flight=3, max_attempts=0, **QUICK))

    while not all(server.happened[name] for name in FAULTS):
        change_something(place, dice)
        place.run("a")

    assert server.documents == place.expected()


def test_an_outage_ends_the_run_and_leaves_no_dead_letters(site, faulty):
    place = site()
    server = faulty(1)
    place.add_agent(HTTPAgent("a", url=server.url, max_attempts=2, **QUICK))
    with place.change() as store:
        store.add(None, "one", "One")
    server.draw = lambda: "503"

    with pytest.raises(Exception, match="given up after 2 tries"):
        place.run("a")

    with place.looking():
        stored = place.manager.stored("a")
        assert (stored.state, dict(stored.dead)) == ("active", {})
        assert "503" in stored.last_run["error"]
    del server.draw
    server.dice = random.Random(4)
    while place.run("a").accepted == 0:
        pass
    assert server.documents == place.expected()


def test_a_service_that_suddenly_refuses_everything_stops_the_agent_before_dead_letters_fill(site, faulty):
    place = site()
    server = faulty(1, poison={f"n{number:07}" for number in range(1000)})
    place.add_agent(HTTPAgent("a", url=server.url, dead_threshold=20, **QUICK))
    with place.change() as store:
        for number in range(60):
            store.add(None, f"n{number}", "One")
    server.draw = lambda: "judges each record"

    with pytest.raises(Exception, match="of the last"):
        place.run("a")

    with place.looking():
        stored = place.manager.stored("a")
        assert (stored.state, stored.reason, dict(stored.dead)) == ("stopped", "failing", {})
        assert "poison" in stored.detail
    server.poison = frozenset()
    place.run("a")
    assert server.documents == place.expected()
    assert place.state("a") == ("active", "")
