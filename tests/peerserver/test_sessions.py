"""Sessions as a client has them: a push, a pull, cut and gone on with, repeated, at once."""

import uuid

import msgspec
import pytest

from livesync.forms import decode_json
from livesync.peering import wire
from livesync.peering.records import StoredSessions
from livesync.peerserver.sequence import BLOCK
from livesync.replication.network.transfers import Transfer


def test_a_push_brings_everything_over(world):
    home = world.node("home")
    home.fill(20)
    caller = world.session(home)

    done = home.push(caller, chunk=3)

    assert (done.stage, done.status, done.items, done.refused) == ("cleanup", "completed", 20, 0)
    assert world.contents() == home.contents()
    assert world.provider.get_claims(["F1"]) == home.provider.get_claims(["F1"])


def test_a_pull_brings_everything_over(world):
    world.fill(20)
    home = world.node("home")
    caller = world.session(home)

    done = home.pull(caller, chunk=3)

    assert (done.stage, done.status) == ("cleanup", "completed")
    assert home.contents() == world.contents()
    assert home.provider.get_claims(["F1"]) == world.provider.get_claims(["F1"])


def test_only_what_lies_under_the_filter_travels(world):
    home = world.node("home")
    home.fill(4, "F1:U1")
    home.fill(4, "F1:U2")
    world.fill(4, "F1:U3")
    caller = world.session(home)

    home.push(caller, ["F1:U1"])
    home.pull(caller, ["F1:U3"])

    assert {state.partition for state in world.provider.items()} == {"F1:U1", "F1:U3"}
    assert {state.partition for state in home.provider.items()} == {"F1:U1", "F1:U2", "F1:U3"}


def test_a_session_that_has_nothing_new_sends_nothing(world):
    home = world.node("home")
    home.fill(3)
    home.push(world.session(home))

    done = home.push(world.session(home))

    assert done.items == 0


def test_a_transfer_goes_on_in_a_new_session_where_it_was(world):
    home = world.node("home")
    home.fill(10)
    caller = world.session(home)
    transfer = home.begin_push(caller)
    home.send(caller, transfer, chunk=2, most=2)
    world.restart()

    caller = world.session(home)
    standing = caller.signed("GET", f"/transfersessions/{transfer}").of(wire.Transfer)
    home.send(caller, transfer, chunk=2)
    done = home.end(caller, transfer)

    assert standing.confirmed == 2
    assert (done.status, done.items) == ("completed", 10)
    assert world.contents() == home.contents()


def test_a_server_that_was_started_again_says_which_number_to_go_on_with(world):
    home = world.node("home")
    home.fill(4)
    caller = world.session(home)
    transfer = home.begin_push(caller)
    world.restart()

    refused = caller.signed("GET", f"/transfersessions/{transfer}")
    caller.sequence = refused.of(wire.Error).error.next_sequence - 1
    answer = caller.signed("GET", f"/transfersessions/{transfer}")

    assert (refused.status, refused.code) == (409, "sequence")
    assert refused.of(wire.Error).error.next_sequence == BLOCK + 2
    assert answer.of(wire.Transfer).stage == "queuing"


def test_the_same_request_has_the_same_answer_byte_by_byte(world):
    home = world.node("home")
    home.fill(5)
    caller = world.session(home)
    body = wire.NewTransfer(id=uuid.uuid4().hex, direction="push", filter=["F1"])

    first = caller.signed("POST", "/transfersessions", body)
    again = caller.signed("POST", "/transfersessions", body, number=caller.sequence)

    assert (again.status, again.packed, again.headers["Signature"]) == (
        201,
        first.packed,
        first.headers["Signature"],
    )


def test_the_request_that_began_a_session_may_be_repeated_after_a_kill(world):
    home = world.node("home")
    caller = world.caller(home)
    body = caller.new_session(world.chain, home.introduction())
    caller.session_id, caller.server_key = body.id, world.chain[-1].public_key
    first = caller.signed("POST", "/syncsessions", body)
    world.restart()

    unknown = caller.signed("POST", "/syncsessions", body, number=1)
    again = caller.signed("POST", "/syncsessions", body, number=unknown.of(wire.Error).error.next_sequence)

    assert (first.status, unknown.code, again.status) == (201, "sequence", 201)
    assert again.of(wire.SyncSession).started == first.of(wire.SyncSession).started


@pytest.mark.parametrize("encoding", ["zstd", "gzip", ""])
def test_bodies_are_packed_as_both_can(world, encoding):
    home = world.node("home")
    home.fill(30)
    world.fill(30, "F1:U9")
    caller = world.session(home)
    accepted = {"Accept-Encoding": encoding or "identity"}

    transfer = home.begin_push(caller)
    buffer = home.transfer(transfer).read(0, None)
    taken = caller.signed("POST", "/buffers", buffer, packed=encoding)
    pull = home.begin_pull(caller)
    given = caller.signed(
        "GET", "/buffers", query={"transfer_session_id": pull, "number": 0}, headers=accepted
    )

    assert taken.status == 201
    assert given.headers.get("Content-Encoding", "") == encoding
    assert len(given.of(wire.Buffer).items) == 30


def test_a_buffer_that_comes_again_under_another_number_does_no_harm(world):
    home = world.node("home")
    home.fill(5)
    caller = world.session(home)
    transfer = home.begin_push(caller)
    buffer = home.transfer(transfer).read(0, None, 2)

    answers = [caller.signed("POST", "/buffers", buffer) for _ in range(3)]

    assert [answer.of(wire.Confirmed).confirmed for answer in answers] == [1, 1, 1]


def test_buffers_come_in_order(world):
    home = world.node("home")
    home.fill(5)
    caller = world.session(home)
    transfer = home.begin_push(caller)
    buffer = home.transfer(transfer).read(0, None, 2)

    answer = caller.signed("POST", "/buffers", msgspec.structs.replace(buffer, number=1))
    early = caller.signed("PATCH", f"/transfersessions/{transfer}", wire.Drive(stage="cleanup"))

    assert (answer.status, answer.code) == (409, "gap")
    assert (early.status, early.code) == (409, "gap")


def test_two_sessions_at_once_over_the_same_items_stay_right(world):
    home, away = world.node("home"), world.node("away")
    for number in range(12):
        home.put(f"i{number}", f'"home {number}"')
        away.put(f"i{number}", f'"away {number}"')
    callers = [world.session(home), world.session(away)]
    transfers = [node.begin_push(caller) for node, caller in zip((home, away), callers, strict=True)]
    done = [False, False]
    while not all(done):
        for index, node in enumerate((home, away)):
            done[index] = done[index] or node.send(callers[index], transfers[index], chunk=2, most=1)
    for index, node in enumerate((home, away)):
        node.end(callers[index], transfers[index])
        node.pull(callers[index])
    home.pull(world.session(home))

    assert home.contents() == away.contents() == world.contents()
    assert len(world.contents()) == 12
    assert len(world.provider.conflict_logs()) == 12


def test_a_transfer_that_is_ended_by_the_client_is_cleaned_up_after(world):
    home = world.node("home")
    home.fill(5)
    caller = world.session(home)
    transfer = home.begin_push(caller)
    home.send(caller, transfer, chunk=2, most=1)

    ended = caller.signed("DELETE", f"/transfersessions/{transfer}")
    again = caller.signed("DELETE", f"/transfersessions/{transfer}")

    assert (ended.status, again.status) == (204, 204)
    assert world.provider.unfinished() == []
    assert not Transfer(world.provider, transfer).view().active


def test_a_session_that_has_ended_serves_nothing_more(world):
    home = world.node("home")
    caller = world.session(home)

    ended = caller.signed("DELETE", f"/syncsessions/{caller.session_id}")
    repeated = caller.signed("DELETE", f"/syncsessions/{caller.session_id}", number=caller.sequence)
    late = caller.signed("GET", f"/syncsessions/{caller.session_id}")

    assert (ended.status, repeated.status) == (204, 204)
    assert (late.status, late.code) == (409, "ended")


def test_both_meet_and_tell_each_other_only_what_concerns_them(world):
    world.fill(2)
    home, away = world.node("home"), world.node("away")
    home.fill(1)
    away.fill(1, "F1:U2")
    for node in (home, away):
        node.push(world.session(node))

    answer = world.caller(home).begin(world.chain, home.introduction())

    told = answer.of(wire.SyncSession)
    assert answer.status == 201
    assert told.introduction.provider_id == world.provider.provider_id
    assert set(told.introduction.known) == {home.provider.provider_id}
    assert told.server_chain == [certificate.signed for certificate in world.chain]


def test_a_server_that_was_restored_notices_and_takes_a_new_id(world):
    home = world.node("home")
    world.fill(3)
    home.pull(world.session(home))
    before = world.provider.provider_id
    introduction = msgspec.structs.replace(
        home.introduction(), known={before: world.provider.introduce().newest + 1}
    )

    answer = world.caller(home).begin(world.chain, introduction)

    assert answer.status == 201
    assert world.provider.provider_id != before
    assert before in answer.of(wire.SyncSession).introduction.past


def test_a_copy_of_the_server_is_told_so(world):
    home = world.node("home")
    introduction = msgspec.structs.replace(home.introduction(), provider_id=world.provider.provider_id)

    answer = world.caller(home).begin(world.chain, introduction)

    assert (answer.status, answer.code) == (409, "copy")


def test_a_pull_of_which_what_was_pinned_changed_is_not_claimed(world):
    world.fill(5)
    home = world.node("home")
    caller = world.session(home)
    transfer = home.begin_pull(caller)
    home.receive(caller, transfer, chunk=500)
    store = world.provider.data_store
    store.run(lambda: store.note_collected("F1", {world.provider.provider_id: 1}))

    ended = caller.signed("PATCH", f"/transfersessions/{transfer}", wire.Drive(stage="cleanup"))
    asked = caller.signed("GET", f"/transfersessions/{transfer}")

    assert (ended.status, ended.code) == (409, "changed")
    assert (asked.status, asked.code) == (409, "changed")


def test_records_say_what_has_been(world):
    home = world.node("home")
    home.fill(7)
    caller = world.session(home)
    home.push(caller, chunk=3)

    def look():
        stored = StoredSessions.get(world.provider.data_store.connection.root())
        return stored.sync[caller.session_id].view(), [
            record.view() for record in stored.transfers_of(caller.session_id)
        ]

    session, (transfer,) = world.provider.data_store.read(look)

    assert session.is_server
    assert session.peer_provider_id == home.provider.provider_id
    assert session.client_certificate_id == caller.certificate_id
    assert (transfer.direction, transfer.items, transfer.confirmed, transfer.active) == ("push", 7, 3, False)
    assert transfer.bytes_received > 0
    assert transfer.cursor is None or decode_json(transfer.cursor, wire.Cursor)
