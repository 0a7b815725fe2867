"""What somebody might try: refused with the right status, logged without secrets, and nothing is changed."""

import base64
import gzip
import json
import logging
import uuid

import msgspec
import pytest
import zstandard
from support.peer_world import FULL, NOW, PART, PROFILE, READER, SUBPART, WRITER
from webob import Request

from livesync.peering import compression, wire
from livesync.peering.certificates import KIND, Certificate
from livesync.peering.issuing import generate_root_certificate, sign_certificate
from livesync.peering.keys import PrivateKey
from livesync.peering.records import StoredSessions
from livesync.peering.revocation import revoke
from livesync.peering.scopes import ScopeDefinition
from livesync.peering.stored import find_trust
from livesync.replication.stores.zodbstore import find_replica

pytestmark = pytest.mark.usefixtures("logged")

YEAR = 365 * 86_400


def dump(world):
    """Return all that an attack must not change: what is held, claimed, received, believed."""

    def look():
        root = world.provider.data_store.connection.root()
        replica, sessions, trust = find_replica(root), StoredSessions.get(root), find_trust(root)
        return {
            "facts": dict(replica.facts),
            "items": dict(replica.items.items()),
            "index": {name: dict(tree.items(("", 0, ""), None)) for name, tree in replica.index.items()},
            "claims": dict(replica.claims),
            "incoming": dict(replica.incoming),
            "peers": dict(replica.peers),
            "conflicts": len(replica.conflicts),
            "sync": {key: (record.active, record.profile) for key, record in sessions.sync.items()},
            "transfers": {
                key: (record.stage, record.active, record.confirmed, record.has_offer)
                for key, record in sessions.transfers.items()
            },
            "buffers": list(sessions.buffers),
            "certificates": dict(trust.certificates),
            "roots": list(trust.roots),
            "revoked": dict(trust.revoked),
            "definitions": dict(trust.definitions),
        }

    return world.provider.data_store.read(look)


@pytest.fixture
def unchanged(world):
    """Calls a function, and makes sure that it changed nothing."""

    def call(attack):
        before = dump(world)
        answer = attack()
        assert dump(world) == before
        return answer

    return call


def refused(answer, status, code):
    assert (answer.status, answer.code) == (status, code), answer
    body = json.loads(answer.body)
    assert body["error"].keys() <= {"code", "message", "incident", "next_sequence"}
    assert "\n" not in body["error"]["message"]


# -- certificates ----------------------------------------------------------------------------------


def forged(world, client):
    """A certificate whose text was changed after it was signed."""
    real = client.chain[-1]
    text = real.text.replace('"part":"F1"', '"part":"F2"')
    return [world.root, Certificate.deserialize(text, real.signature)], client.key


def signed_by_another(world, client):
    other = PrivateKey.generate()
    real = client.chain[-1]
    return [world.root, Certificate.deserialize(real.text, other.sign(KIND, real.text))], client.key


def of_a_root_of_their_own(world, client):
    key = PrivateKey.generate()
    root = generate_root_certificate(key, FULL, {}, now=NOW)
    return [
        root,
        sign_certificate(root, key, client.key.public, PART.get_scope({"part": "F1"}), now=NOW),
    ], client.key


def widened(world, client):
    """A child whose scope is wider than its parent's: made by hand, since no function makes one."""
    wide = world.sign(client.key, FULL, {}).text
    text = wide.replace(f'"parent":"{world.root.id}"', f'"parent":"{client.chain[-1].id}"')
    child = Certificate.deserialize(text, client.key.sign(KIND, text))
    return [*client.chain, child], client.key


def below_a_read_only_one(world, client):
    reader = PrivateKey.generate()
    parent = world.sign(reader, READER, {"part": "F1"})
    text = world.sign(client.key, PART, {"part": "F1"}).text
    text = text.replace(f'"parent":"{world.root.id}"', f'"parent":"{parent.id}"')
    return [world.root, parent, Certificate.deserialize(text, reader.sign(KIND, text))], client.key


def with_a_link_left_out(world, client):
    key = PrivateKey.generate()
    child = sign_certificate(
        client.chain[-1], client.key, key.public, PART.get_scope({"part": "F1"}), now=NOW
    )
    return [world.root, child], key


def without_a_root(world, client):
    return client.chain[1:], client.key


def twice_the_root(world, client):
    return [world.root, *client.chain], client.key


@pytest.mark.parametrize(
    "make",
    [
        forged,
        signed_by_another,
        of_a_root_of_their_own,
        widened,
        below_a_read_only_one,
        with_a_link_left_out,
        without_a_root,
        twice_the_root,
    ],
)
def test_a_chain_that_does_not_hold_begins_no_session(world, unchanged, make):
    client = world.node("home")
    client.chain, client.key = make(world, client)

    answer = unchanged(lambda: world.caller(client).begin(world.chain, client.introduction()))

    refused(answer, 403, "certificate")


def test_an_expired_certificate_and_one_of_the_future_begin_no_session(world, unchanged):
    client, caller = world.node("home"), None
    client.chain = [world.root, world.sign(client.key, PART, {"part": "F1"}, valid_s=100)]
    for now in (NOW + 200, NOW - 1000):
        world.clock.now = now
        caller = world.caller(client)
        refused(unchanged(lambda c=caller: c.begin(world.chain, client.introduction())), 403, "expired")


def test_an_expiry_in_the_middle_of_a_session_ends_it(world, unchanged):
    client = world.node("home")
    client.fill(5)
    client.chain = [world.root, world.sign(client.key, PART, {"part": "F1"}, valid_s=100)]
    caller = world.session(client)
    transfer = client.begin_push(caller)
    buffer = client.transfer(transfer).read(0, None)
    world.clock.now += 101

    answer = unchanged(lambda: caller.signed("POST", "/buffers", buffer))

    refused(answer, 403, "expired")
    assert "Signature" in answer.headers


def test_a_certificate_of_another_profile_begins_no_session(world, unchanged):
    client = world.node("home")
    foreign = ScopeDefinition(id="full", profile="photos", read_write_filter_template=":")
    root = generate_root_certificate(world.root_key, foreign, {}, now=NOW)
    world.trust.run(lambda trust: trust.save_chain([root], NOW, trust_root=True))
    client.chain = [
        root,
        sign_certificate(root, world.root_key, client.key.public, foreign.get_scope({}), now=NOW),
    ]
    caller = world.caller(client)

    refused(
        unchanged(lambda: caller.begin(world.chain, client.introduction(), profile=PROFILE)), 403, "profile"
    )
    refused(
        unchanged(lambda: caller.begin(world.chain, client.introduction(), profile="photos")), 403, "profile"
    )


def test_a_revoked_certificate_begins_no_session_and_neither_does_what_is_below_it(world, unchanged):
    client = world.node("home")
    child_key = PrivateKey.generate()
    child = sign_certificate(
        client.chain[-1], client.key, child_key.public, PART.get_scope({"part": "F1"}), now=NOW
    )
    below = world.node("below")
    below.key, below.chain = child_key, [*client.chain, child]
    world.trust.run(
        lambda trust: trust.keep_revocation(revoke(tuple(client.chain), world.root, world.root_key, NOW))
    )

    for each in (client, below):
        caller = world.caller(each)
        answer = unchanged(lambda c=caller, n=each: c.begin(world.chain, n.introduction()))
        refused(answer, 403, "revoked")


def test_a_revocation_that_comes_in_the_middle_of_a_session_ends_it_there(world, unchanged):
    thief, honest = world.node("thief"), world.node("honest", PART, {"part": "F2"})
    thief.fill(5)
    caller = world.session(thief)
    transfer = thief.begin_push(caller)
    thief.send(caller, transfer, chunk=2, most=1)
    revocation = revoke(tuple(thief.chain), world.root, world.root_key, NOW, "stolen")
    other = world.caller(honest).begin(world.chain, honest.introduction(), revocations=[revocation.signed])

    buffer = thief.transfer(transfer).read(1, None, 2)
    answers = [
        unchanged(lambda: caller.signed("POST", "/buffers", buffer)),
        unchanged(
            lambda: caller.signed("PATCH", f"/transfersessions/{transfer}", wire.Drive(stage="cleanup"))
        ),
        unchanged(lambda: caller.signed("GET", f"/syncsessions/{caller.session_id}")),
    ]

    assert other.status == 201
    for answer in answers:
        refused(answer, 403, "revoked")


def test_a_revocation_by_somebody_who_is_not_above_is_none(world, unchanged):
    client, victim = world.node("home"), world.node("victim")
    real = revoke(tuple(victim.chain), world.root, world.root_key, NOW)
    lies = [
        msgspec.structs.replace(real.signed, signature=base64.b64encode(bytes(64)).decode()),
        msgspec.structs.replace(
            real.signed,
            signature=base64.b64encode(client.key.sign("revocation 1", real.text)).decode(),
        ),
        wire.Signed(text="{}", signature=real.signed.signature),
    ]
    for lie in lies:
        caller = world.caller(client)
        answer = unchanged(
            lambda c=caller, r=lie: c.begin(world.chain, client.introduction(), revocations=[r])
        )
        refused(answer, 403, "certificate")
    assert world.session(victim)


def test_a_revocation_below_a_root_that_is_not_trusted_is_not_kept(world, unchanged):
    key = PrivateKey.generate()
    root = generate_root_certificate(key, FULL, {}, now=NOW)
    revocation = revoke((root,), root, key, NOW)
    client = world.node("home")
    caller = world.caller(client)
    body = caller.new_session(world.chain, client.introduction(), revocations=[revocation.signed])
    before = dump(world)["revoked"]

    caller.session_id, caller.server_key = body.id, world.chain[-1].public_key
    answer = caller.signed("POST", "/syncsessions", body)

    assert answer.status == 201
    assert dump(world)["revoked"] == before


def test_a_server_certificate_that_is_not_the_servers_is_not_answered_with(world, unchanged):
    client = world.node("home")
    for chain in (client.chain, [world.root]):
        caller = world.caller(client)
        answer = unchanged(lambda c=caller, s=chain: c.begin(s, client.introduction()))
        refused(answer, 403, "certificate")


# -- nonces ----------------------------------------------------------------------------------------


def test_a_nonce_is_used_once_soon_and_by_its_client(world, unchanged):
    client, other = world.node("home"), world.node("other")
    caller = world.caller(client)
    used = caller.nonce()
    assert caller.begin(world.chain, client.introduction(), nonce=used).status == 201
    foreign = world.caller(other).nonce()
    old = caller.nonce()
    made_up = used[:-1] + ("0" if used[-1] != "0" else "1")

    for nonce in (used, foreign, made_up, "x", "0.0.0", caller.nonce("push")):
        answer = unchanged(
            lambda n=nonce: world.caller(client).begin(world.chain, client.introduction(), nonce=n)
        )
        refused(answer, 403, "nonce")
    world.clock.now += 61
    refused(
        unchanged(lambda: world.caller(client).begin(world.chain, client.introduction(), nonce=old)),
        403,
        "nonce",
    )


def test_nobody_makes_the_server_take_a_new_id_again_and_again_or_without_a_nonce(world, unchanged):
    world.fill(3)
    client = world.node("home")

    def lie(**changes):
        introduction = msgspec.structs.replace(client.introduction(), known={world.provider.provider_id: 7})
        return world.caller(client).begin(world.chain, introduction, **changes)

    refused(unchanged(lambda: lie(nonce="x")), 403, "nonce")
    assert lie().status == 201
    refused(unchanged(lie), 403, "forbidden")
    assert world.session(client)
    world.clock.now += 86_401
    assert lie().status == 201


def test_nobody_is_believed_who_knows_of_the_future(world, unchanged):
    client = world.node("home")
    introduction = msgspec.structs.replace(
        client.introduction(), known={world.provider.provider_id: wire.MAX_STAMP}
    )

    answer = unchanged(lambda: world.caller(client).begin(world.chain, introduction))

    refused(answer, 422, "clock_ahead")


# -- signatures and numbers ------------------------------------------------------------------------


def other_body(headers, data):
    return headers, compression.pack(b'{"stage":"cleanup"}', "zstd")


def other_digest(headers, data):
    from livesync.peering.signatures import content_digest

    data = compression.pack(b'{"stage":"cleanup" }', "zstd")
    return {**headers, "Content-Digest": content_digest(data)}, data


def without(*names):
    def change(headers, data):
        return {key: value for key, value in headers.items() if key not in names}, data

    change.__name__ = f"without {' '.join(names)}"
    return change


def with_(name, value):
    def change(headers, data):
        return {**headers, name: value}, data

    change.__name__ = f"with {name} {value[:20]!r}"
    return change


CHANGES = [
    (other_body, 400, "digest"),
    (other_digest, 401, "signature"),
    (without("Signature"), 401, "signature"),
    (without("Signature-Input"), 401, "signature"),
    (without("Signature", "Signature-Input", "Content-Digest"), 401, "signature"),
    (without("Content-Digest"), 401, "signature"),
    (without("Content-Encoding"), 401, "signature"),
    (without("Content-Type"), 401, "signature"),
    (without(wire.SEQUENCE), 401, "signature"),
    (without(wire.SESSION), 401, "signature"),
    (with_(wire.SEQUENCE, "77"), 401, "signature"),
    (with_(wire.SEQUENCE, "2, 3"), 401, "signature"),
    (with_(wire.SEQUENCE, "-1"), 401, "signature"),
    (with_(wire.SEQUENCE, "9" * 40), 401, "signature"),
    (with_(wire.SESSION, "../../etc/passwd"), 401, "signature"),
    (with_(wire.SESSION, "0" * 32), 404, "no_such_thing"),
    (with_("Content-Encoding", "gzip"), 401, "signature"),
    (with_("Signature", "livesync=:" + base64.b64encode(bytes(64)).decode() + ":"), 401, "signature"),
    (with_("Signature", "livesync=:!!:"), 401, "signature"),
    (with_("Signature", "x" * 20_000), 401, "signature"),
    (with_("Signature-Input", 'livesync=();created=1;keyid="x"'), 401, "signature"),
    (with_("Signature-Input", "("), 401, "signature"),
]


@pytest.mark.parametrize(
    ("change", "status", "code"), CHANGES, ids=lambda value: getattr(value, "__name__", None)
)
def test_a_message_that_was_changed_on_the_way_is_refused(world, unchanged, change, status, code):
    client = world.node("home")
    caller = world.session(client)
    transfer = client.begin_push(caller)

    answer = unchanged(
        lambda: caller.signed(
            "PATCH", f"/transfersessions/{transfer}", wire.Drive(stage="queuing"), change=change
        )
    )

    refused(answer, status, code)


def test_a_signature_for_another_address_method_or_query_does_not_hold(world, unchanged):
    client = world.node("home")
    caller = world.session(client)
    transfer = client.begin_push(caller)
    held = {}

    def keep(headers, data):
        held.update(headers)
        return headers, data

    caller.signed("GET", f"/transfersessions/{transfer}", change=keep)
    caller.sequence += 1
    for method, path in (
        ("DELETE", f"/transfersessions/{transfer}"),
        ("DELETE", f"/syncsessions/{caller.session_id}"),
        ("GET", f"/syncsessions/{caller.session_id}"),
        ("GET", f"/transfersessions/{transfer}?x=1"),
    ):
        answer = unchanged(lambda m=method, p=path: caller._send(m, caller.base + p, b"", held))
        refused(answer, 401, "signature")


def test_another_certificates_key_does_not_sign_for_a_session(world, unchanged):
    client, thief = world.node("home"), world.node("thief")
    caller = world.session(client)
    session = f"/syncsessions/{caller.session_id}"

    for more in (
        {"key": thief.key},
        {"key": thief.key, "key_id": thief.chain[-1].id},
        {"key": client.key, "key_id": thief.chain[-1].id},
        {"key": world.root_key, "key_id": world.root.id},
    ):
        refused(unchanged(lambda m=more: caller.signed("DELETE", session, **m)), 401, "signature")


def test_a_signature_of_long_ago_or_of_the_future_does_not_hold(world, unchanged):
    client = world.node("home")
    caller = world.session(client)
    for now in (NOW - 1000, NOW + 1000):
        answer = unchanged(lambda n=now: caller.signed("GET", f"/syncsessions/{caller.session_id}", now=n))
        refused(answer, 401, "signature")


def test_a_number_that_was_used_is_refused_with_another_request(world, unchanged):
    client = world.node("home")
    caller = world.session(client)
    transfer = client.begin_push(caller)
    number = caller.sequence

    for old in (number, number - 1, 1):
        answer = unchanged(lambda n=old: caller.signed("DELETE", f"/transfersessions/{transfer}", number=n))
        refused(answer, 409, "sequence")


def test_a_recorded_request_is_of_no_use_to_a_server_that_was_started_again(world, unchanged):
    client = world.node("home")
    client.fill(3)
    caller = world.session(client)
    transfer = client.begin_push(caller)
    held = []
    buffer = client.transfer(transfer).read(0, None)
    assert (
        caller.signed("POST", "/buffers", buffer, change=lambda h, d: held.append((h, d)) or (h, d)).status
        == 201
    )
    world.restart()

    headers, data = held[0]
    answer = unchanged(lambda: caller._send("POST", caller.base + "/buffers", data, headers))

    refused(answer, 409, "sequence")


# -- sessions that are another's -------------------------------------------------------------------


def test_a_transfer_of_another_client_is_not_there(world, unchanged):
    client, thief = world.node("home"), world.node("thief")
    client.fill(3)
    world.fill(3)
    caller, other = world.session(client), world.session(thief)
    push, pull = client.begin_push(caller), client.begin_pull(caller)
    buffer = client.transfer(push).read(0, None)

    attempts = [
        ("GET", f"/transfersessions/{push}", None, None),
        ("PATCH", f"/transfersessions/{push}", wire.Drive(stage="cleanup"), None),
        ("DELETE", f"/transfersessions/{push}", None, None),
        ("POST", "/buffers", buffer, None),
        ("GET", "/buffers", None, {"transfer_session_id": pull, "number": 0}),
        ("GET", f"/syncsessions/{caller.session_id}", None, None),
        ("DELETE", f"/syncsessions/{caller.session_id}", None, None),
        ("POST", "/transfersessions", wire.NewTransfer(id=push, direction="push", filter=["F1"]), None),
    ]
    for method, path, body, query in attempts:
        answer = unchanged(lambda m=method, p=path, b=body, q=query: other.signed(m, p, b, q))
        refused(answer, 404, "no_such_thing")


def test_a_session_is_not_begun_under_the_id_of_another(world, unchanged):
    client, thief = world.node("home"), world.node("thief")
    caller = world.session(client)
    other = world.caller(thief)
    body = other.new_session(world.chain, thief.introduction(), id=caller.session_id)
    other.session_id, other.sequence = caller.session_id, 500
    other.server_key = caller.server_key

    refused(unchanged(lambda: other.signed("POST", "/syncsessions", body)), 409, "ended")
    other.session_id = uuid.uuid4().hex
    refused(unchanged(lambda: other.signed("POST", "/syncsessions", body)), 401, "signature")


def test_the_wrong_way_round_is_refused(world, unchanged):
    client = world.node("home")
    client.fill(3)
    world.fill(3)
    caller = world.session(client)
    push, pull = client.begin_push(caller), client.begin_pull(caller)
    buffer = client.transfer(push).read(0, None)
    offer = client.transfer(push).make_offer({}, "server")

    refused(
        unchanged(lambda: caller.signed("GET", "/buffers", query={"transfer_session_id": push, "number": 0})),
        409,
        "ended",
    )
    refused(
        unchanged(
            lambda: caller.signed(
                "POST", "/buffers", msgspec.structs.replace(buffer, transfer_session_id=pull)
            )
        ),
        409,
        "ended",
    )
    refused(
        unchanged(
            lambda: caller.signed(
                "PATCH", f"/transfersessions/{pull}", wire.Drive(stage="queuing", offer=offer)
            )
        ),
        400,
        "bad_request",
    )


# -- filters ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("definition", "params", "direction", "asked", "allowed"),
    [
        (PART, {"part": "F1"}, "push", ["F1"], True),
        (PART, {"part": "F1"}, "push", ["F1:U1", "F1:U2:x"], True),
        (PART, {"part": "F1"}, "push", [""], False),
        (PART, {"part": "F1"}, "push", ["F2"], False),
        (PART, {"part": "F1"}, "push", ["F10"], False),
        (PART, {"part": "F1"}, "pull", ["F1", "F2"], False),
        (PART, {"part": "a_b"}, "pull", ["axb"], False),
        (PART, {"part": "F1"}, "pull", ["f1"], False),
        (SUBPART, {"part": "F1", "sub": "U1"}, "push", ["F1"], False),
        (SUBPART, {"part": "F1", "sub": "U1"}, "pull", ["F1:U1"], True),
        (READER, {"part": "F1"}, "push", ["F1"], False),
        (READER, {"part": "F1"}, "pull", ["F1"], True),
        (WRITER, {"part": "F1"}, "push", ["F1"], True),
        (WRITER, {"part": "F1"}, "pull", ["F1"], False),
    ],
)
def test_a_filter_wider_than_the_scope_is_refused(
    world, unchanged, definition, params, direction, asked, allowed
):
    client = world.node("home", definition, params)
    caller = world.session(client)
    body = wire.NewTransfer(id=uuid.uuid4().hex, direction=direction, filter=asked)

    if allowed:
        assert caller.signed("POST", "/transfersessions", body).status == 201
    else:
        refused(unchanged(lambda: caller.signed("POST", "/transfersessions", body)), 403, "scope")


@pytest.mark.parametrize(
    "prefix", ["F1:", ":F1", "F1::U1", "F1 U1", "F1\nF2", "F1\0", "F1'--", "F1%", "x" * 513]
)
def test_a_filter_that_is_none_is_refused(world, unchanged, prefix):
    client = world.node("home")
    caller = world.session(client)
    body = {"id": uuid.uuid4().hex, "direction": "push", "filter": [prefix]}

    answer = unchanged(lambda: caller.signed("POST", "/transfersessions", body))

    assert answer.status in (400, 403, 422)


def test_an_item_that_may_not_be_written_is_left_out_whatever_the_peer_says_of_its_filter(world):
    client = world.node("home", SUBPART, {"part": "F1", "sub": "U1"})
    client.put("mine", "1", "F1:U1")
    world.put("theirs", '"secret"', "F1:U2")
    caller = world.session(client)
    transfer = client.begin_push(caller, ["F1:U1"])
    buffer = client.transfer(transfer).read(0, None)
    lies = [
        msgspec.structs.replace(buffer.items[0], id=name, partition=partition)
        for name, partition in (("theirs", "F1:U2"), ("all", ""), ("near", "F1:U10"), ("above", "F1"))
    ]

    answer = caller.signed("POST", "/buffers", msgspec.structs.replace(buffer, items=[*buffer.items, *lies]))
    done = client.end(caller, transfer)

    assert {refusal.id for refusal in answer.of(wire.Confirmed).refused} == {"theirs", "all", "near", "above"}
    assert (done.items, done.refused) == (5, 4)
    assert world.contents() == {"mine": "1", "theirs": '"secret"'}


def test_what_a_client_may_not_read_is_never_sent_whatever_it_claims(world):
    world.put("mine", '"m"', "F1:U1")
    world.put("theirs", '"secret"', "F1:U2")
    client = world.node("home", SUBPART, {"part": "F1", "sub": "U1"})
    caller = world.session(client)
    transfer = uuid.uuid4().hex
    body = wire.NewTransfer(
        id=transfer,
        direction="pull",
        filter=["F1:U1"],
        claims={"": {"x": 1}, "F1:U2": {}, "F1": {"server": 1}},
    )

    told = caller.signed("POST", "/transfersessions", body)
    answers = [
        caller.signed("GET", "/buffers", query={"transfer_session_id": transfer, "number": 0, **more})
        for more in (
            {},
            {"cursor": '{"key":["F1:U2",1,""]}'},
            {"cursor": '{"key":["",0,""]}'},
            {"cursor": '{"range_number":1}'},
        )
    ]

    assert told.status == 201
    assert b"secret" not in told.body
    for answer in answers:
        assert b"secret" not in answer.body
        assert {item.partition for item in answer.of(wire.Buffer).items} <= {"F1:U1"}


@pytest.mark.parametrize(
    ("lie", "status", "code"),
    [
        ({"claims": {"F2": {"home": 5}}}, 422, "refused"),
        ({"claims": {"": {"home": 5}}}, 422, "refused"),
        ({"claims": {"F1": {"somebody": wire.MAX_STAMP}}}, 422, "clock_ahead"),
        ({"prefixes": [""]}, 422, "refused"),
        ({"prefixes": ["F1", "F2"]}, 422, "refused"),
        ({"snapshots": ["F2"]}, 422, "refused"),
        ({"collected": {"": {"home": 5}}}, 422, "refused"),
        ({"source": "server"}, 422, "refused"),
        ({"source": "another"}, 422, "refused"),
    ],
)
def test_an_offer_that_says_more_than_it_may_is_refused(world, unchanged, lie, status, code):
    client = world.node("home")
    caller = world.session(client)
    transfer = uuid.uuid4().hex
    caller.signed("POST", "/transfersessions", wire.NewTransfer(id=transfer, direction="push", filter=["F1"]))
    offer = wire.Offer(source="home", prefixes=["F1"], claims={"F1": {"home": 5}}, receiver={})
    body = wire.Drive(stage="queuing", offer=msgspec.structs.replace(offer, **lie))

    refused(unchanged(lambda: caller.signed("PATCH", f"/transfersessions/{transfer}", body)), status, code)


def test_nobody_claims_what_the_server_wrote_itself(world):
    world.fill(3)
    client = world.node("home")
    before = world.provider.get_claims()
    caller = world.session(client)
    transfer = uuid.uuid4().hex
    caller.signed("POST", "/transfersessions", wire.NewTransfer(id=transfer, direction="push", filter=["F1"]))
    offer = wire.Offer(
        source="home", prefixes=["F1"], claims={"F1": {"server": before[""]["server"] + 10}}, receiver={}
    )
    caller.signed("PATCH", f"/transfersessions/{transfer}", wire.Drive(stage="queuing", offer=offer))
    caller.signed(
        "POST",
        "/buffers",
        wire.Buffer(transfer_session_id=transfer, number=0, items=[], next=wire.Cursor(), last=True),
    )

    done = caller.signed("PATCH", f"/transfersessions/{transfer}", wire.Drive(stage="cleanup"))

    assert done.status == 200
    assert world.provider.get_claims() == before


# -- bodies ----------------------------------------------------------------------------------------


BODIES = {
    "no JSON": (b"{", 400, "bad_request"),
    "nothing": (b"", 415, "media_type"),
    "a list": (b"[]", 400, "bad_request"),
    "a number": (b"1e999", 400, "bad_request"),
    "no UTF-8": (b'{"client":"\xff"}', 400, "bad_request"),
    "a lone surrogate": (b'{"client":"\\ud800"}', 400, "bad_request"),
    "nested deeply": (b"[" * 100_000, 400, "bad_request"),
    "an unknown key": (b'{"client":"x","admin":true}', 400, "bad_request"),
    "a wrong type": (b'{"client":7}', 400, "bad_request"),
    "too long": (b'{"client":"' + b"x" * 600 + b'"}', 400, "bad_request"),
    "too large": (b" " * (wire.MAX_BODY_BYTES + 1), 413, "too_large"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_malformed_or_oversized_body_is_refused(world, unchanged, name):
    body, status, code = BODIES[name]
    caller = world.caller(world.node("home"))

    refused(unchanged(lambda: caller.ask("POST", "/nonces", body)), status, code)


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Content-Type": "text/plain"}, 415, "media_type"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "media_type"),
        ({"Content-Type": "application/json; charset=utf-16"}, 415, "media_type"),
        ({"Content-Encoding": "br"}, 415, "media_type"),
        ({"Content-Encoding": "zstd, zstd"}, 415, "media_type"),
        ({"Content-Encoding": "zstd"}, 400, "bad_encoding"),
        ({"Content-Encoding": "gzip"}, 400, "bad_encoding"),
    ],
)
def test_a_body_that_is_packed_or_typed_in_another_way_is_refused(world, unchanged, headers, status, code):
    caller = world.caller(world.node("home"))

    answer = unchanged(lambda: caller.ask("POST", "/nonces", b'{"client":"x"}', headers))

    refused(answer, status, code)


BOMBS = {
    "zstd": zstandard.ZstdCompressor(level=19).compress(bytes(500_000_000)),
    "gzip": gzip.compress(bytes(100_000_000), 9),
}


@pytest.mark.parametrize("encoding", BOMBS)
def test_a_decompression_bomb_is_refused(world, unchanged, encoding):
    client = world.node("home")
    caller = world.session(client)
    transfer = client.begin_push(caller)
    bomb = BOMBS[encoding]

    plain = unchanged(lambda: caller.ask("POST", "/nonces", bomb, {"Content-Encoding": encoding}))
    signed = unchanged(
        lambda: caller.signed("POST", "/buffers", bomb, packed="", headers={"Content-Encoding": encoding})
    )
    drive = unchanged(
        lambda: caller.signed(
            "PATCH", f"/transfersessions/{transfer}", bomb, packed="", headers={"Content-Encoding": encoding}
        )
    )

    for answer in (plain, signed, drive):
        refused(answer, 413, "too_large")


def test_an_item_that_makes_no_sense_takes_its_buffer_with_it(world, unchanged):
    client = world.node("home")
    client.fill(2)
    caller = world.session(client)
    transfer = client.begin_push(caller)
    buffer = client.transfer(transfer).read(0, None)
    item = buffer.items[0]
    for changed, status, code in (
        ({"payload": "{"}, 422, "refused"),
        ({"payload": "[" * 100_000}, 422, "refused"),
        ({"vector": {"x": 1}}, 422, "refused"),
        ({"dot": ("home", wire.MAX_STAMP)}, 422, "clock_ahead"),
        ({"hard": True}, 422, "refused"),
        ({"length": 0}, 400, "bad_request"),
        ({"id": "x" * 513}, 400, "bad_request"),
        ({"entity": ""}, 400, "bad_request"),
    ):
        body = msgspec.structs.replace(
            buffer, items=[*buffer.items, msgspec.structs.replace(item, **changed)]
        )
        refused(unchanged(lambda b=body: caller.signed("POST", "/buffers", b)), status, code)
    body = msgspec.structs.replace(buffer, items=buffer.items * 400)
    refused(unchanged(lambda: caller.signed("POST", "/buffers", body)), 400, "bad_request")


# -- addresses and headers -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/peer/v1/nothing", 404, "no_such_thing"),
        ("GET", "/peer/v2/info", 404, "no_such_thing"),
        ("GET", "/", 404, "no_such_thing"),
        ("GET", "/peer/v1/../../etc/passwd", 404, "no_such_thing"),
        ("GET", "/peer/v1/%2e%2e/info", 404, "no_such_thing"),
        ("GET", "/peer/v1//info", 404, "no_such_thing"),
        ("GET", "/peer/v1/info/", 404, "no_such_thing"),
        ("GET", "/peer/v1/info?x=1", 400, "bad_request"),
        ("GET", "/peer/v1/certificates", 400, "bad_request"),
        ("GET", "/peer/v1/certificates?profile=a&profile=b", 400, "bad_request"),
        ("GET", "/peer/v1/certificates?profile=%ff", 400, "bad_request"),
        ("GET", "/peer/v1/%ff", 400, "bad_request"),
        ("GET", "/peer/v1/syncsessions/1' OR '1'='1", 401, "signature"),
        ("PUT", "/peer/v1/info", 405, "method"),
        ("TRACE", "/peer/v1/nonces", 405, "method"),
        ("GET", "/peer/v1/nonces", 405, "method"),
        ("PATCH", "/peer/v1/buffers", 405, "method"),
        ("GET", "/peer/v1/buffers", 401, "signature"),
        ("DELETE", f"/peer/v1/syncsessions/{'0' * 32}", 401, "signature"),
    ],
)
def test_tricks_with_addresses_are_answered_in_the_one_form(world, unchanged, method, path, status, code):
    caller = world.caller(world.node("home"))

    refused(unchanged(lambda: caller._send(method, path.replace(" ", "%20"), b"", {})), status, code)


def test_a_body_where_none_is_taken_is_refused(world, unchanged):
    caller = world.caller(world.node("home"))

    refused(unchanged(lambda: caller.ask("GET", "/info", b"{}")), 400, "bad_request")


def test_what_is_asked_in_a_session_is_checked_too(world, unchanged):
    world.fill(1)
    client = world.node("home")
    caller = world.session(client)
    pull = client.begin_pull(caller)
    for query in (
        {"number": 0},
        {"transfer_session_id": pull},
        {"transfer_session_id": pull, "number": -1},
        {"transfer_session_id": pull, "number": "1\n"},
        {"transfer_session_id": pull, "number": 0, "cursor": "{"},
        {"transfer_session_id": pull, "number": 0, "cursor": '{"range_number":-1}'},
        {"transfer_session_id": pull, "number": 0, "cursor": '{"range_number":99999}'},
        {"transfer_session_id": pull, "number": 0, "cursor": "x" * 5000},
        {"transfer_session_id": pull, "number": 0, "more": 1},
        {"transfer_session_id": "x", "number": 0},
    ):
        answer = unchanged(lambda q=query: caller.signed("GET", "/buffers", query=q))
        assert answer.status in (400, 422), (query, answer)


def test_headers_of_a_proxy_change_nothing(world, unchanged):
    caller = world.caller(world.node("home"))
    for headers in (
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-HTTP-Method-Override": "DELETE"},
        {"X-Original-URL": "/peer/v1/syncsessions"},
        {"Host": "evil.example"},
        {"Cookie": "livesync=1"},
    ):
        assert unchanged(lambda h=headers: caller.ask("GET", "/info", headers=h)).status == 200


# -- signing requests and pushed chains ------------------------------------------------------------


def basic(name, password):
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def request_of(world, client, **changes):
    body = wire.SigningRequest(
        parent=world.chain[-1].id,
        profile=PROFILE,
        scope_definition="part",
        scope_params={"part": "F1"},
        public_key=str(client.key.public),
    )
    return msgspec.structs.replace(body, **changes)


@pytest.fixture
def signing(world):
    world.trust.run(lambda trust: trust.add_definition(PART))
    world.options["login"] = lambda name, password: (name, password) == ("admin", "the right password")
    world.restart()
    return world


def test_a_signing_request_is_answered_for_the_right_password_only(signing, unchanged, caplog):
    caplog.set_level(logging.DEBUG)
    client = signing.node("home")
    caller = signing.caller(client)
    body = request_of(signing, client)
    for headers in (
        {},
        basic("admin", "a wrong password"),
        basic("nobody", "the right password"),
        {"Authorization": "Basic !!!"},
        {"Authorization": "Bearer the right password"},
        {"Authorization": "Basic " + "x" * 10_000},
    ):
        answer = unchanged(lambda h=headers: caller.ask("POST", "/certificates", body, h))
        refused(answer, 401, "not_logged_in")

    given = caller.ask("POST", "/certificates", body, basic("admin", "the right password"))

    assert given.status == 201
    client.chain = [Certificate.read(each) for each in given.of(wire.NewCertificate).chain]
    assert signing.session(client)
    for secret in ("the right password", "a wrong password", headers["Authorization"]):
        assert secret not in caplog.text


def test_passwords_are_not_guessed(signing, unchanged):
    client = signing.node("home")
    caller = signing.caller(client)
    body = request_of(signing, client)
    codes = [
        unchanged(
            lambda n=number: caller.ask("POST", "/certificates", body, basic("admin", f"guess {n}"))
        ).code
        for number in range(12)
    ]
    right = unchanged(lambda: caller.ask("POST", "/certificates", body, basic("admin", "the right password")))
    signing.clock.now += 301
    later = caller.ask("POST", "/certificates", body, basic("admin", "the right password"))

    assert codes == ["not_logged_in"] * 10 + ["too_often"] * 2
    refused(right, 429, "too_often")
    assert int(right.headers["Retry-After"]) > 0
    assert later.status == 201


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"parent": "0" * 32}, 403, "forbidden"),
        ({"scope_definition": "none"}, 403, "forbidden"),
        ({"scope_params": {}}, 403, "certificate"),
        ({"scope_params": {"part": "F1", "more": "x"}}, 403, "certificate"),
        ({"scope_params": {"part": "F1 F2"}}, 403, "certificate"),
        ({"scope_params": {"part": "F1:U1"}}, 403, "certificate"),
        ({"public_key": "x"}, 403, "certificate"),
        ({"profile": "photos"}, 403, "forbidden"),
    ],
)
def test_a_signing_request_gets_no_more_than_there_is(signing, unchanged, changes, status, code):
    client = signing.node("home")
    body = request_of(signing, client, **changes)

    answer = unchanged(
        lambda: signing.caller(client).ask(
            "POST", "/certificates", body, basic("admin", "the right password")
        )
    )

    refused(answer, status, code)


def test_a_certificate_is_pushed_only_for_the_key_that_is_shared_and_under_a_nonce(world, unchanged):
    client = world.node("home")
    caller = world.caller(client)
    refused(unchanged(lambda: caller.ask("GET", "/publickey")), 403, "forbidden")
    shared = world.keys.generate()
    world.trust.run(lambda trust: trust.share_key(shared.public))
    told = caller.ask("GET", "/publickey").of(wire.PublicKey).public_key

    def chain(public=shared.public, salt=None, now=NOW):
        child = sign_certificate(
            client.chain[-1], client.key, public, PART.get_scope({"part": "F1"}), now=now, salt=salt
        )
        return wire.PushedChain(chain=[each.signed for each in (*client.chain, child)])

    nonce = caller.nonce("push")
    refused(unchanged(lambda: caller.ask("POST", "/certificatechains", chain())), 403, "nonce")
    refused(
        unchanged(
            lambda: caller.ask("POST", "/certificatechains", chain(PrivateKey.generate().public, nonce))
        ),
        403,
        "forbidden",
    )
    refused(
        unchanged(lambda: caller.ask("POST", "/certificatechains", chain(salt=caller.nonce()))), 403, "nonce"
    )
    body = chain(salt=nonce)
    taken = caller.ask("POST", "/certificatechains", body)
    again = unchanged(lambda: caller.ask("POST", "/certificatechains", body))

    assert told == str(shared.public)
    assert taken.status == 201
    refused(again, 403, "nonce")


# -- logs ------------------------------------------------------------------------------------------


def test_logs_hold_no_payload_key_certificate_or_nonce(world, caplog):
    caplog.set_level(logging.DEBUG)
    client = world.node("home")
    client.put("a", '"a payload that is nobody\'s business"')
    caller = world.session(client)
    client.push(caller)
    nonce = caller.nonce()
    world.caller(client).begin(world.chain, client.introduction(), nonce=nonce[:-1] + "x")
    caller.signed("GET", "/info/x")
    caller.signed("DELETE", f"/syncsessions/{caller.session_id}", key=PrivateKey.generate())

    text = caplog.text
    for secret in (
        "nobody's business",
        nonce,
        client.chain[-1].text,
        client.key.seal(),
        world.key.seal().split()[-1],
        "Basic ",
    ):
        assert secret not in text
    assert "signature" in text
    assert caller.session_id in text


def test_an_address_that_is_no_text_is_answered(world, logged):
    request = Request.blank("/peer/v1/info")
    request.environ["PATH_INFO"] = "/peer/v1/\xff\xfe"
    status, _, body = request.call_application(world.app)

    assert status.startswith("400")
    logged.append(json.loads(b"".join(body))["error"]["code"])
    assert logged == ["bad_request"]
