"""Around a session: a full disk, others at the same items at the same time, a host's own stages."""

import errno
import threading

import pytest
from support.waiting import LONG_S
from ZODB.Connection import Connection
from ZODB.POSException import ConflictError

from livesync.errors import HostFailed
from livesync.peering import wire
from livesync.peering.stages import Stage, Status
from livesync.replication.network.operations import OPERATIONS
from livesync.replication.network.transfers import Transfer


@pytest.fixture
def disk(world, monkeypatch):
    """Lets commits of the server's database fail as long as there are errors to raise."""
    errors = []
    vote = Connection.tpc_vote

    def failing(connection, transaction):
        if errors and connection.db() is world.db:
            raise errors.pop(0)
        return vote(connection, transaction)

    monkeypatch.setattr(Connection, "tpc_vote", failing)
    return errors


def full():
    return OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("applied_at_once", [1, 100])
def test_a_full_disk_is_said_so_and_the_session_goes_on_when_there_is_room(world, disk, applied_at_once):
    world.provider.applied_at_once = applied_at_once
    home = world.node("home")
    home.fill(9)
    caller = world.session(home)
    transfer = home.begin_push(caller)
    home.send(caller, transfer, chunk=3, most=1)
    buffer = home.transfer(transfer).read(1, home.transfer(transfer).read(0, None, 3).next, 3)
    before = world.contents()

    disk.append(full())
    refused = caller.signed("POST", "/buffers", buffer)
    disk.append(full())
    again = caller.signed("POST", "/buffers", buffer, number=caller.sequence)

    for answer in (refused, again):
        assert (answer.status, answer.code) == (503, "database")
        assert int(answer.headers["Retry-After"]) > 0
        assert "Signature" in answer.headers
    assert world.contents() == before
    assert Transfer(world.provider, transfer).view().confirmed == 1
    taken = caller.signed("POST", "/buffers", buffer, number=caller.sequence)
    assert taken.of(wire.Confirmed).confirmed == 2
    home.send(caller, transfer, chunk=3)
    home.end(caller, transfer)
    assert world.contents() == home.contents()


def test_a_disk_that_is_full_at_the_end_claims_nothing(world, disk):
    home = world.node("home")
    home.fill(4)
    caller = world.session(home)
    transfer = home.begin_push(caller)
    home.send(caller, transfer)

    disk.extend(full() for _ in range(2))  # what waits cannot be applied, and that cannot be noted either
    refused = caller.signed("PATCH", f"/transfersessions/{transfer}", wire.Drive(stage="cleanup"))
    claims = world.provider.get_claims(["F1"])
    disk.clear()
    home.end(caller, transfer)

    assert (refused.status, refused.code) == (503, "database")
    assert claims == {}
    assert world.contents() == home.contents()


def test_a_conflict_that_does_not_end_is_answered_as_one_that_may_be_tried_again(world, disk, monkeypatch):
    monkeypatch.setattr("livesync.attempts.pause", lambda failed: None)
    home = world.node("home")
    caller = world.session(home)
    body = wire.NewTransfer(id="a" * 32, direction="push", filter=["F1"])

    disk.extend(ConflictError() for _ in range(100))
    refused = caller.signed("POST", "/transfersessions", body)
    disk.clear()
    again = caller.signed("POST", "/transfersessions", body, number=caller.sequence)

    assert (refused.status, refused.code) == (503, "conflict")
    assert again.status == 201


def test_what_nobody_foresaw_is_in_the_log_and_not_in_the_answer(world, disk, caplog):
    home = world.node("home")
    caller = world.session(home)

    disk.append(RuntimeError("a secret of the server's"))
    answer = caller.signed(
        "POST", "/transfersessions", wire.NewTransfer(id="a" * 32, direction="push", filter=["F1"])
    )

    error = answer.of(wire.Error).error
    assert (answer.status, error.code) == (500, "internal")
    assert b"secret" not in answer.body
    assert error.incident
    assert error.incident in caplog.text


def test_sessions_of_several_clients_at_the_same_items_at_the_same_time_converge(world):
    nodes = [world.node(f"node{number}") for number in range(3)]
    for number, node in enumerate(nodes):
        for item in range(30):
            node.put(f"i{item}", f'"{number} {item}"')
    failures = []

    def sync(node):
        try:
            caller = world.session(node)
            node.push(Patient(caller), chunk=4)
            node.pull(Patient(caller), chunk=4)
        except BaseException as exc:
            failures.append(exc)
            raise

    for _ in range(2):
        threads = [threading.Thread(target=sync, args=(node,)) for node in nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG_S)
    for node in nodes:
        node.pull(world.session(node))

    assert failures == []
    assert len(world.contents()) == 30
    assert all(node.contents() == world.contents() for node in nodes)


class Patient:
    """A caller that asks again where the server says that others were in the way."""

    def __init__(self, caller):
        self._caller = caller
        self.session_id = caller.session_id

    def signed(self, *args, **options):
        answer = self._caller.signed(*args, **options)
        while answer.code == "conflict":
            answer = self._caller.signed(*args, **options, number=self._caller.sequence)
        return answer


def test_a_host_puts_its_own_operation_before_a_stage_and_can_make_it_wait(world):
    seen, ready = [], []

    def mine(transfer):
        seen.append(transfer.view().direction)
        return False if ready else Status.PENDING

    world.options["operations"] = {Stage.DEQUEUING: [mine, *OPERATIONS[Stage.DEQUEUING]]}
    world.restart()
    home = world.node("home")
    home.fill(3)
    caller = world.session(home)
    transfer = home.begin_push(caller)
    home.send(caller, transfer)

    waiting = caller.signed("PATCH", f"/transfersessions/{transfer}", wire.Drive(stage="cleanup"))
    ready.append(True)
    done = caller.signed("PATCH", f"/transfersessions/{transfer}", wire.Drive(stage="cleanup"))

    told = waiting.of(wire.Transfer)
    assert (told.stage, told.status) == ("dequeuing", "pending")
    assert done.of(wire.Transfer).status == "completed"
    assert seen == ["push", "push"]
    assert world.contents() == home.contents()


def test_listeners_hear_of_every_stage(world):
    events = []
    world.options["listeners"] = [events.append]
    world.restart()
    home = world.node("home")
    home.push(world.session(home))

    completed = [event.stage for event in events if event.moment == "completed"]
    assert completed == list(Stage)


def test_an_application_that_fails_is_said_so_without_what_it_says_and_the_session_goes_on(
    world, monkeypatch, caplog
):
    home = world.node("home")
    home.fill(2)
    caller = world.session(home)
    body = wire.NewTransfer(id="a" * 32, direction="push", filter=["F1"])

    def fails(*args):
        raise HostFailed("'ada' cannot be taken")

    with monkeypatch.context() as patch:
        patch.setattr(world.provider, "prepare", fails)
        refused = caller.signed("POST", "/transfersessions", body)
    done = home.push(caller)

    assert (refused.status, refused.code) == (503, "database")
    assert b"ada" not in refused.body
    assert "'ada' cannot be taken" in caplog.text
    assert done.status == "completed"
    assert world.contents() == home.contents()
