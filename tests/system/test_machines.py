"""Several machines on one database: writers and runners, killed, frozen, cut off, with clocks that are wrong.

A machine has a host name and a clock of its own and, where this may be, a network of its own
(``support/machines.py``). The database is behind a ZEO server, or in PostgreSQL by RelStorage.
"""

import json
import os
import signal
import sqlite3
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from support.databases import EACH, shared_database
from support.machines import Machine, has_namespaces
from support.waiting import LONG_S
from syshost import Site, rows_of_sqlite
from test_leases import edit, fill, told, wait_for_line

from livesync.delivery import ledger
from livesync.delivery.record import encode_document
from livesync.demo.history import find_history
from livesync.demo.host import demo_host
from livesync.demo.replay import prepare
from livesync.destinations.sqlite import SQLiteAgent
from livesync.leases import LEASE_S
from livesync.manager import SyncManager

HERE = Path(__file__).parent
WRITERS = 4
RUNNERS = 3

pytestmark = [
    pytest.mark.slow,
    pytest.mark.server,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def namespaces():
    return has_namespaces()


@pytest.fixture(params=EACH)
def database(request, tmp_path):
    with shared_database(request.param, tmp_path) as made:
        yield made


@pytest.fixture
def machine(database, child_environment, namespaces):
    """Make a machine: ``machine("north", ahead_s=-240)``."""
    made = []

    def make(name, ahead_s=0.0):
        made.append(Machine(name, database.socket, child_environment, ahead_s, namespaces))
        return made[-1]

    yield make
    for each in made:
        each.close()


def uri_for(database, machine):
    return database.by_way_of(machine.host, machine.relay.port)


# -- the whole history -------------------------------------------------------------------------------


def histories():
    named = os.environ.get("LIVESYNC_HISTORY")
    if not named:
        return [find_history("history-small.jsonl.gz", {})]
    return sorted(path for path in Path(named).glob("*.jsonl.gz") if "small" not in path.name)


def prepared(db, tmp_path):
    """Make the catalogue, and two agents that have nothing to do yet; return where they write to."""
    prepare(db)
    places = {}
    with db.transaction() as connection:
        manager = SyncManager.get(connection.root())
        for agent_id, audience in ("public", "public"), ("staff", "staff"):
            places[agent_id] = tmp_path / f"{agent_id}.sqlite"
            manager.register_agent(SQLiteAgent(agent_id, path=str(places[agent_id]), audience=audience))
            manager.activate(agent_id, from_start=True)
    return places


def expected_of(connection, audience):
    with demo_host().at(connection) as host:
        return {
            host.object_id(obj): json.loads(encode_document(host.document(obj, audience)))
            for obj in host.iter_objects()
            if not host.is_excluded(obj, audience)
        }


def answer(process, within_s):
    out, err = process.communicate("", within_s)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out.splitlines()[-1])


@pytest.mark.parametrize("wrong_s", [0, 240], ids=["clocks-right", "clocks-4-minutes-wrong"])
def test_the_history_replayed_by_4_writers_is_delivered_by_3_runners(
    database, machine, tmp_path, wrong_s, record_property
):
    within_s = 3600 if os.environ.get("LIVESYNC_HISTORY") else LONG_S * 3
    db = database.open()
    places = prepared(db, tmp_path)
    clocks = [0, wrong_s, -wrong_s, 0]
    machines = [machine(f"machine-{number}", clocks[number]) for number in range(WRITERS)]
    files = list(map(str, histories()))
    writers = [
        each.start(HERE / "replay_part.py", uri_for(database, each), number, WRITERS, *files)
        for number, each in enumerate(machines)
    ]
    runners = [
        each.start(HERE / "run_all.py", uri_for(database, each), "demo") for each in machines[:RUNNERS]
    ]
    for process in (*writers, *runners):
        wait_for_line(process, "ready")

    began = time.monotonic()
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    written = [answer(writer, within_s) for writer in writers]
    seconds = time.monotonic() - began
    ran = [answer(runner, within_s) for runner in runners]
    all_seconds = time.monotonic() - began

    lines = sum(each["applied"] for each in written)
    assert lines >= 90
    assert [each["conflicts"] for each in (*written, *ran)] == [0] * (WRITERS + RUNNERS)
    with db.transaction() as connection:
        manager = SyncManager.get(connection.root())
        actions = [action for _, action in manager.track]
        for agent_id, place in places.items():
            found = {key: document for key, (_, document) in rows_of_sqlite(place).items()}
            expected = expected_of(connection, agent_id)
            wrong = [key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key)]
            assert not wrong, f"{agent_id}: {len(wrong)} differ: {wrong[:5]}"
            check_ledger(manager, agent_id, len(actions), wrong_s)
        assert len(expected_of(connection, "public")) > 100
        times = [action.timestamp for action in actions]
        assert times == sorted(times)
        assert {agent.lag_actions for agent in manager.status().agents} == {0}
        assert list(manager.waiting()) == []
    db.close()
    # a runner whose clock is far ahead takes agents from others, and nothing else goes wrong
    errors = {name for each in ran for name in each["errors"]}
    assert errors <= ({"LeaseLost", "RetryLater"} if wrong_s else {"RetryLater"})
    record_property("lines", lines)
    print(
        f"\n{database.kind}, clocks wrong by {wrong_s} s: {lines} lines, {len(actions):,} actions, written in"
        f" {seconds:.1f} s, delivered to {len(places)} destinations in {all_seconds:.1f} s; runs"
        f" {[each.get('runs', 0) for each in ran]}, left alone {[each.get('held', 0) for each in ran]},"
        f" errors {[each['errors'] for each in ran]}, conflicts of the catalogue's own given up:"
        f" {sum(each['given up'] for each in written)}, of livesync's: 0"
    )


def check_ledger(manager, agent_id, actions, wrong_s):
    stored = manager.stored(agent_id)
    lines = ledger.entries(stored)
    assert [line for line in lines if ledger.balance(line)] == []
    assert dict(stored.dead) == {}
    if not wrong_s:
        # each action was taken once, by whichever runner
        assert stored.totals["read"] == actions
        assert all(line["ended"] for line in lines)
        for later, earlier in pairwise(lines):
            assert earlier["ended"] <= later["began"]


# -- one machine fails -------------------------------------------------------------------------------


@pytest.fixture
def site(database, tmp_path):
    made = Site(tmp_path, open_with=database.open_storage)
    yield made
    made.close()


class Place:
    """What the helpers of ``test_leases`` expect."""

    def __init__(self, site):
        self.site = site


@pytest.fixture
def index(site, tmp_path):
    """An agent of the site's, with something to do; the file that it writes."""
    path = tmp_path / "index.sqlite"
    site.add_agent(SQLiteAgent("a", path=str(path), batch_size=5, max_attempts=1))
    fill(Place(site))
    return path


def at_work(database, machine, batch, parameters=""):
    """Start a runner on a machine; it waits before it sends its batch of this number."""
    uri = uri_for(database, machine) + parameters
    runner = machine.start(HERE / "lease_runner.py", uri, "freeze", batch)
    wait_for_line(runner, "sending")
    return runner


def taking(database, machine):
    """Start a runner on a machine that takes the agent as soon as it can, and runs it to the end."""
    return machine.start(HERE / "lease_runner.py", uri_for(database, machine), "take")


def lease_of(site):
    with site.looking():
        lease = site.manager.stored("a").lease
        return lease.holder, lease.until


def lines_of(site):
    """The lines of the ledger, the oldest first."""
    with site.looking():
        return ledger.entries(site.manager.stored("a"))[::-1]


def check_end(site, index, ended):
    """What no failure may change: the index is right, and the pointer where the last runner left it."""
    assert site.run("a").read == 0
    assert {key: document for key, (_, document) in rows_of_sqlite(index).items()} == site.expected()
    with site.looking():
        pointer = site.manager.track.get_pointer_timestamp("a")
        totals = site.manager.stored("a").totals["read"]
        assert totals == sum(1 for _ in site.manager.track)
    with closing(sqlite3.connect(index)) as connection:
        assert connection.execute("SELECT position FROM pointers").fetchone()[0] == pointer
    first, *others = lines_of(site)
    # of the one that failed nothing is noted but that it began
    assert (first["ended"], "read" in first) == (None, False)
    assert [line for line in others if ledger.balance(line) or not line["ended"]] == []
    assert ended["runs"] >= 1


def test_a_runner_killed_on_another_machine_is_replaced_when_its_lease_has_run_out(
    database, site, machine, index
):
    north, south = machine("north"), machine("south")
    killed = at_work(database, north, 2)
    waiting = taking(database, south)
    wait_for_line(waiting, "leased")
    killed.send_signal(signal.SIGKILL)
    killed.wait(LONG_S)
    holder, until = lease_of(site)
    ended = told(waiting)

    second = lines_of(site)[1]
    assert holder[0] == "north"
    assert ended["leased"] > 0
    # it tries fifty times a second; a machine that is busy may keep it from that for a while
    assert until <= second["began"] <= until + LEASE_S
    check_end(site, index, ended)


def test_a_runner_frozen_on_another_machine_cannot_move_the_pointer_when_it_wakes_up(
    database, site, machine, index
):
    north, south = machine("north"), machine("south")
    frozen = at_work(database, north, 1)
    frozen.send_signal(signal.SIGSTOP)
    _, until = lease_of(site)
    edit(Place(site), 1)
    ended = told(taking(database, south))
    with site.looking():
        pointer = site.manager.track.get_pointer_timestamp("a")
    frozen.stdin.write("\n")
    frozen.stdin.flush()
    frozen.send_signal(signal.SIGCONT)
    woken = told(frozen)

    assert woken["error"] == "LeaseLost"
    with site.looking():
        assert site.manager.track.get_pointer_timestamp("a") == pointer
    assert lines_of(site)[1]["began"] >= until
    check_end(site, index, ended)


def test_a_runner_cut_off_from_the_database_is_replaced_and_does_no_harm_afterwards(
    database, site, machine, index, namespaces
):
    north, south = machine("north"), machine("south")
    # two seconds in place of 25 until PostgreSQL's client gives a silent server up
    patience = "&tcp_user_timeout=2000" if database.kind != "zeo" else ""
    cut_off = at_work(database, north, 1, patience)
    north.cut()
    _, until = lease_of(site)
    edit(Place(site), 1)
    ended = told(taking(database, south))
    cut_off.stdin.write("\n")
    cut_off.stdin.flush()

    if patience and namespaces:
        _, said = cut_off.communicate("", LONG_S)  # it gives up while it is still cut off
        assert "OperationalError" in said
        north.mend()
    else:
        north.mend()
        assert told(cut_off)["error"] == "LeaseLost"
    assert lines_of(site)[1]["began"] >= until
    check_end(site, index, ended)
