"""Who is given a certificate: requests with a password, and chains that are pushed."""

import base64

import pytest
from support.trust import DAY, FULL, NOW, OWN, USER, key, root

from livesync.errors import (
    CertificateExpired,
    CertificateRefused,
    CertificateRevoked,
    LoginRefused,
    NonceRefused,
    NotAllowed,
    PeerRefused,
    ProfileDiffers,
    ScopeExceeded,
)
from livesync.peering.keyring import KeyRing
from livesync.peering.nonces import FOR_PUSH, NONCE_S
from livesync.peering.revocation import revoke
from livesync.peering.scopes import ScopeDefinition
from livesync.peering.signing import (
    SharedKey,
    answer_request,
    check_login,
    read_login,
    sign_for_push,
    take_pushed,
)
from livesync.peering.trust import TrustStore
from livesync.peering.wire import SigningRequest


class Site:
    """A database with a key ring."""

    def __init__(self, db, directory):
        self.store = TrustStore(db, create=True)
        self.keys = KeyRing(directory)

    def own(self, *holders):
        for holder in holders:
            self.keys.add(holder.key)
            self.store.run(lambda trust, holder=holder: trust.save_chain(holder.chain, NOW, trust_root=True))
        for definition in (FULL, USER, OWN):
            self.store.run(lambda trust, definition=definition: trust.add_definition(definition))

    def answer(self, request, now=NOW, **options):
        options = {"user": "admin", **options}
        return self.store.run(lambda trust: answer_request(trust, self.keys, request, now, **options))


@pytest.fixture
def server(memory_db, tmp_path):
    return Site(memory_db, tmp_path / "server")


@pytest.fixture
def client(file_db, tmp_path):
    return Site(file_db, tmp_path / "client")


def asking(holder, **others):
    values = {
        "parent": holder.certificate.id,
        "profile": "facilitydata",
        "scope_definition": "single-user",
        "scope_params": {"dataset_id": "F1", "user_id": "U1"},
        "public_key": str(key("tablet").public),
        **others,
    }
    return SigningRequest(**values)


def basic(text):
    return "Basic " + base64.b64encode(text.encode()).decode()


def test_a_request_is_answered_with_a_chain(server):
    facility = root()
    server.own(facility)

    chain = server.answer(asking(facility, valid_s=DAY))

    assert chain[0] == facility.certificate
    assert chain[1].public_key == key("tablet").public
    assert chain[1].scope_definition == USER
    assert chain[1].not_after == NOW + DAY
    assert server.store.read(lambda trust: trust.chain(chain[1].id)) == chain


def test_nobody_gets_a_certificate_for_longer_than_a_year(server):
    facility = root(valid_s=3_000 * DAY)
    server.own(facility)

    assert server.answer(asking(facility, valid_s=2_000 * DAY))[-1].not_after == NOW + 365 * DAY
    assert server.answer(asking(facility))[-1].not_after == NOW + 365 * DAY


@pytest.mark.parametrize(
    ("others", "error"),
    [
        ({"parent": "0" * 32}, NotAllowed),
        ({"parent": ""}, NotAllowed),
        ({"scope_definition": "other"}, NotAllowed),
        ({"profile": "other"}, NotAllowed),
        ({"scope_params": {"dataset_id": "F1"}}, CertificateRefused),
        ({"scope_params": {"dataset_id": "F1", "user_id": "U1 F2"}}, CertificateRefused),
        ({"scope_params": {"dataset_id": "F2", "user_id": "U1"}}, ScopeExceeded),
        ({"scope_definition": "full-facility", "scope_params": {"dataset_id": "F10"}}, ScopeExceeded),
        ({"public_key": ""}, CertificateRefused),
        ({"public_key": "AAAA"}, CertificateRefused),
    ],
)
def test_a_request_that_makes_no_sense_or_asks_too_much_is_refused(server, others, error):
    facility = root()
    server.own(facility)

    with pytest.raises(error) as caught:
        server.answer(asking(facility, **others))

    assert isinstance(caught.value, PeerRefused)
    assert server.store.read(lambda trust: trust.certificates()) == [facility.certificate]


def test_a_parent_of_another_profile_does_not_sign(server):
    facility = root()
    server.own(facility)
    server.store.run(lambda trust: trust.add_definition(ScopeDefinition("single-user", "other")))

    with pytest.raises(ProfileDiffers):
        server.answer(asking(facility, profile="other", scope_params={}))


def test_a_parent_whose_key_is_elsewhere_does_not_sign(server):
    facility = root()
    server.own(facility)
    child = facility.give("child", FULL, {"dataset_id": "F1"})
    server.store.run(lambda trust: trust.save_chain(child.chain, NOW))

    with pytest.raises(NotAllowed, match="does not sign"):
        server.answer(asking(child))


def test_a_parent_that_holds_no_more_does_not_sign(server):
    facility = root(valid_s=DAY)
    server.own(facility)

    with pytest.raises(CertificateExpired):
        server.answer(asking(facility), now=NOW + 2 * DAY)
    revocation = revoke(facility.chain, facility.certificate, facility.key, NOW)
    server.store.run(lambda trust: trust.keep_revocation(revocation))
    with pytest.raises(CertificateRevoked):
        server.answer(asking(facility))


def test_the_host_has_a_say_in_who_may_give_what(server):
    facility = root()
    server.own(facility)
    asked = []

    def may_give(user, scope):
        asked.append((user, scope.params["user_id"]))
        return user == "head"

    with pytest.raises(NotAllowed):
        server.answer(asking(facility), may_give=may_give)
    assert server.answer(asking(facility), may_give=may_give, user="head")
    assert asked == [("admin", "U1"), ("head", "U1")]


def test_a_login_is_a_name_and_a_password():
    asked = []

    def login(name, password):
        asked.append((name, password))
        return password == "right: indeed"

    assert check_login(basic("ada:right: indeed"), login) == "ada"
    with pytest.raises(LoginRefused, match="wrong") as caught:
        check_login(basic("ada:hunter2"), login)
    assert (caught.value.code, caught.value.status) == ("not_logged_in", 401)
    assert "hunter2" not in str(caught.value)
    assert asked == [("ada", "right: indeed"), ("ada", "hunter2")]


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "Basic",
        "Basic ",
        "Bearer x",
        "Basic ?",
        "Basic /w==",
        basic("nocolon"),
        basic(":x"),
        "Basic " + "A" * 5_000,
    ],
)
def test_a_login_of_another_form_is_refused(value):
    with pytest.raises(LoginRefused):
        read_login(value)


def push(server, client, holder, definition=FULL, params=None, now=NOW):
    public = SharedKey.get_or_create_shared_key(server.store, server.keys)
    nonce = server.store.read(lambda trust: trust.issue_nonce(FOR_PUSH, now))
    return client.store.run(
        lambda trust: sign_for_push(
            trust,
            client.keys,
            holder.certificate.id,
            definition,
            params or dict(holder.certificate.scope_params),
            public,
            nonce.value,
            now,
        )
    )


def test_a_chain_is_pushed_to_a_server_that_had_none(server, client):
    facility = root(definition=OWN)
    client.own(facility)

    chain = push(server, client, facility)
    rights = server.store.run(lambda trust: take_pushed(trust, chain, NOW))

    fingerprint = facility.certificate.root_fingerprint
    assert rights.may_write(f"{fingerprint}:x")
    assert not rights.may_write("F1")
    assert server.store.read(lambda trust: trust.own_chains(server.keys)) == [chain]
    assert server.store.read(lambda trust: trust.roots) == {facility.certificate.id}


def test_a_root_that_rules_over_more_than_its_own_cannot_be_pushed(server, client):
    facility = root()
    client.own(facility)
    chain = push(server, client, facility)

    with pytest.raises(NotAllowed, match="more than its own"):
        server.store.run(lambda trust: take_pushed(trust, chain, NOW))
    assert server.store.read(lambda trust: trust.roots) == frozenset()

    server.store.run(lambda trust: trust.trust_root(facility.certificate.id))
    assert server.store.run(lambda trust: take_pushed(trust, chain, NOW)).may_write("F1")


def test_a_pushed_chain_is_for_the_shared_key_and_a_nonce_of_now(server, client):
    facility = root(definition=OWN)
    client.own(facility)
    chain = push(server, client, facility)

    with pytest.raises(NotAllowed, match="not for the key"):
        server.store.run(lambda trust: take_pushed(trust, facility.chain, NOW))
    with pytest.raises(NonceRefused, match="expired"):
        server.store.run(lambda trust: take_pushed(trust, chain, NOW + NONCE_S + 1))
    server.store.run(lambda trust: take_pushed(trust, chain, NOW))
    with pytest.raises(NonceRefused, match="used"):
        server.store.run(lambda trust: take_pushed(trust, chain, NOW))
    with pytest.raises(CertificateRefused):
        server.store.run(lambda trust: take_pushed(trust, (), NOW))


def test_a_server_without_a_shared_key_takes_no_chain(server, client):
    facility = root(definition=OWN)
    client.own(facility)

    with pytest.raises(NotAllowed, match="not for the key"):
        server.store.run(lambda trust: take_pushed(trust, facility.chain, NOW))


def test_the_shared_key_stays_until_another_one_is_asked_for(server):
    one = SharedKey.get_or_create_shared_key(server.store, server.keys)

    assert SharedKey.get_or_create_shared_key(server.store, server.keys) == one
    other = SharedKey.get_or_create_shared_key(server.store, server.keys, force_new=True)
    assert other != one
    assert server.keys.has(one)
    assert server.keys.has(other)
