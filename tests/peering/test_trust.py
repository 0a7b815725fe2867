"""Whom a database believes: what is kept, by several writers, and found again."""

import threading
from functools import partial

import pytest
from support.trust import DAY, FULL, NOW, USER, family, key, root

from livesync.database import committed
from livesync.errors import (
    CertificateRefused,
    CertificateRevoked,
    NonceRefused,
    NotInstalled,
    UnknownCertificate,
    UnknownScope,
    UpgradeNeeded,
    UsageError,
)
from livesync.peering.certificates import Certificate
from livesync.peering.keyring import KeyRing
from livesync.peering.nonces import NONCE_S
from livesync.peering.revocation import revoke
from livesync.peering.scopes import ScopeDefinition
from livesync.peering.stored import ROOT_KEY
from livesync.peering.trust import MAX_SENT, Trust, TrustStore


@pytest.fixture
def store(memory_db):
    return TrustStore(memory_db, create=True)


def save(store, *holders):
    for holder in holders:
        store.run(lambda trust, holder=holder: trust.save_chain(holder.chain, NOW, trust_root=True))


def test_a_database_without_peers_says_so(memory_db):
    with pytest.raises(NotInstalled, match="livesync peer init"):
        TrustStore(memory_db)


def test_what_is_not_livesyncs_is_left_alone(memory_db):
    committed(memory_db, lambda root: root.update({ROOT_KEY: "somebody's"}))

    with pytest.raises(NotInstalled, match="not livesync's"):
        TrustStore(memory_db, create=True)


def test_what_a_newer_livesync_wrote_is_left_alone(memory_db, store):
    def age(root):
        root[ROOT_KEY].schema = 99

    committed(memory_db, age)

    with pytest.raises(UpgradeNeeded):
        TrustStore(memory_db)


def test_a_chain_is_kept_with_the_definitions_in_it(store):
    cloud, city, _, tablet = family()
    save(store, tablet)

    assert store.read(lambda trust: trust.chain(tablet.certificate.id)) == tablet.chain
    assert store.read(lambda trust: trust.roots) == {cloud.certificate.id}
    assert store.read(lambda trust: trust.definitions()) == [FULL, USER]
    assert store.read(lambda trust: trust.definition("facilitydata", "single-user")) == USER
    assert store.read(lambda trust: trust.find(city.certificate.id[:10])) == city.certificate
    assert store.read(lambda trust: trust.rights(tablet.certificate.id, NOW)).may_read("F1:allusers-ro")
    for wrong in ("", "g", "'", "zz"):
        with pytest.raises(UnknownCertificate):
            store.read(lambda trust, wrong=wrong: trust.find(wrong))
    with pytest.raises(UnknownCertificate):
        store.read(lambda trust: trust.chain(tablet.certificate.id[:10]))


def test_a_beginning_that_several_have_names_none(store):
    cloud = root()
    save(store, cloud, *(cloud.give(str(number), FULL, {"dataset_id": "F1"}) for number in range(16)))
    first = [each.id[0] for each in store.read(lambda trust: trust.certificates())]
    twice = next(digit for digit in first if first.count(digit) > 1)  # 17 ids, 16 digits

    with pytest.raises(UnknownCertificate, match="several"):
        store.read(lambda trust: trust.find(twice))


def test_an_untrusted_root_is_not_believed_and_nothing_is_kept(store):
    cloud, _, _, tablet = family()
    with pytest.raises(CertificateRefused, match="not trusted here"):
        store.run(lambda trust: trust.save_chain(tablet.chain, NOW))
    assert store.read(lambda trust: trust.certificates()) == []

    save(store, cloud)
    store.run(lambda trust: trust.save_chain(tablet.chain, NOW))
    store.run(lambda trust: trust.distrust_root(cloud.certificate.id))
    with pytest.raises(CertificateRefused, match="not trusted here"):
        store.read(lambda trust: trust.rights(tablet.certificate.id, NOW))


def test_a_definition_is_never_changed(store):
    assert store.run(lambda trust: trust.add_definition(USER))
    assert not store.run(lambda trust: trust.add_definition(USER))
    other = ScopeDefinition("single-user", "facilitydata", 1, read_filter_template=":")
    with pytest.raises(UsageError, match="new version"):
        store.run(lambda trust: trust.add_definition(other))
    newer = ScopeDefinition("single-user", "facilitydata", 2, read_filter_template="F1")
    store.run(lambda trust: trust.add_definition(newer))

    assert store.read(lambda trust: trust.definition("facilitydata", "single-user")) == newer
    assert store.read(lambda trust: trust.definition("facilitydata", "single-user", 1)) == USER
    with pytest.raises(UnknownScope):
        store.read(lambda trust: trust.definition("other", "single-user"))


def test_a_certificate_holds_by_its_own_definition(store):
    other = ScopeDefinition("full-facility", "facilitydata", 1, read_filter_template=":")
    store.run(lambda trust: trust.add_definition(other))
    cloud = root()

    save(store, cloud)

    assert store.read(lambda trust: trust.definition("facilitydata", "full-facility")) == other
    assert not store.read(lambda trust: trust.rights(cloud.certificate.id, NOW)).may_read("F2")


def test_own_chains_are_those_whose_keys_are_here(store, tmp_path):
    _, city, _, tablet = family()
    save(store, tablet)
    keys = KeyRing(tmp_path)
    keys.add(city.key)

    assert store.read(lambda trust: trust.own_chains(keys)) == [city.chain]
    assert store.read(lambda trust: trust.own_chains(keys, "other")) == []


def test_looking_for_ones_own_does_not_read_those_of_others(store, tmp_path, monkeypatch):
    cloud = root()
    save(store, *(cloud.give(str(number), FULL, {"dataset_id": "F1"}) for number in range(50)))
    keys = KeyRing(tmp_path)
    keys.add(cloud.key)
    read = []
    deserialize = Certificate.deserialize
    monkeypatch.setattr(
        Certificate, "deserialize", lambda text, signature: read.append(text) or deserialize(text, signature)
    )

    assert store.read(lambda trust: trust.own_chains(keys)) == [cloud.chain]
    assert len(read) == 1


def test_a_nonce_is_used_once(store):
    nonce = store.read(lambda trust: trust.issue_nonce("client", NOW))

    store.run(lambda trust: trust.use_nonce(nonce.value, "client", NOW + 1))

    with pytest.raises(NonceRefused, match="was used"):
        store.run(lambda trust: trust.use_nonce(nonce.value, "client", NOW + 2))


def test_asking_for_nonces_writes_nothing(memory_db, store):
    before = memory_db.lastTransaction()

    for _ in range(20):
        store.read(lambda trust: trust.issue_nonce("client", NOW))

    assert memory_db.lastTransaction() == before


def test_a_nonce_of_an_aborted_transaction_can_be_used(store):
    nonce = store.read(lambda trust: trust.issue_nonce("client", NOW))

    def fail(trust):
        trust.use_nonce(nonce.value, "client", NOW)
        raise KeyError

    with pytest.raises(KeyError):
        store.run(fail)

    assert store.run(lambda trust: trust.use_nonce(nonce.value, "client", NOW)) == nonce


def test_of_several_writers_one_uses_a_nonce(store):
    nonces = [store.read(lambda trust: trust.issue_nonce("client", NOW)) for _ in range(30)]
    used, refused = [], []

    def work():
        for nonce in nonces:
            try:
                store.run(lambda trust, nonce=nonce: trust.use_nonce(nonce.value, "client", NOW))
                used.append(nonce.value)
            except NonceRefused:
                refused.append(nonce.value)

    in_threads(work, work, work)

    assert sorted(used) == sorted(nonce.value for nonce in nonces)
    assert len(refused) == 60


def in_threads(*works):
    failed = []

    def guarded(work):
        try:
            work()
        except BaseException as exc:
            failed.append(exc)
            raise

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_several_writers_keep_all_that_they_were_given(store):
    cloud = root()
    save(store, cloud)
    children = [
        [cloud.give(f"{number} {each}", FULL, {"dataset_id": "F1"}) for each in range(20)]
        for number in range(3)
    ]

    def work(mine):
        for child in mine:
            revocation = revoke(child.chain, cloud.certificate, cloud.key, NOW)
            store.run(partial(Trust.save_chain, chain=child.chain, now=NOW))
            store.run(partial(Trust.take_revocations, signed=[revocation.signed], now=NOW))

    in_threads(*(lambda mine=mine: work(mine) for mine in children))

    expected = {child.certificate.id for mine in children for child in mine}
    assert {each.id for each in store.read(lambda trust: trust.certificates())} == {
        cloud.certificate.id,
        *expected,
    }
    assert {each.certificate.id for each in store.read(lambda trust: trust.revocations())} == expected


def test_a_revocation_is_taken_once_and_handed_on(memory_db, store):
    cloud, city, _, tablet = family()
    save(store, cloud)  # this one has never met those below
    revocation = revoke(tablet.chain, city.certificate, city.key, NOW, "stolen")

    assert store.run(lambda trust: trust.take_revocations([revocation.signed], NOW)) == [revocation]
    assert store.run(lambda trust: trust.take_revocations([revocation.signed], NOW)) == []

    with pytest.raises(CertificateRevoked):
        store.read(lambda trust: trust.verify(tablet.chain, NOW))
    assert store.read(lambda trust: trust.pending("facilitydata")) == [revocation.signed]
    assert store.read(lambda trust: trust.pending("other")) == []
    assert store.read(lambda trust: trust.pending("facilitydata", {tablet.certificate.id})) == []
    assert store.read(lambda trust: trust.revocations()) == [revocation]


def test_revocations_of_strangers_and_of_the_past_are_passed_over(store):
    cloud, city, _, tablet = family()
    revocation = revoke(tablet.chain, city.certificate, city.key, NOW)

    assert store.run(lambda trust: trust.take_revocations([revocation.signed], NOW)) == []
    save(store, cloud)
    assert store.run(lambda trust: trust.take_revocations([revocation.signed], NOW + 31 * DAY)) == []
    assert store.read(lambda trust: trust.pending("facilitydata")) == []


def test_nobody_further_down_pushes_out_what_a_root_revokes(store, monkeypatch, caplog):
    cloud, _, facility, tablet = family()
    save(store, cloud)
    low = [
        revoke(
            facility.give(str(number), USER, {"dataset_id": "F1", "user_id": "x"}).chain,
            facility.certificate,
            facility.key,
            NOW + number,
        )
        for number in range(4)
    ]
    high = revoke(tablet.chain, cloud.certificate, cloud.key, NOW - 100)
    monkeypatch.setattr("livesync.peering.trust.MAX_SENT", 3)
    store.run(lambda trust: trust.take_revocations([each.signed for each in [*low, high]], NOW))

    sent = store.read(lambda trust: trust.pending("facilitydata"))

    assert sent == [high.signed, low[3].signed, low[2].signed]
    assert "3 of 5 revocations" in caplog.text
    assert MAX_SENT == 1_000


def test_what_nobody_needs_is_forgotten(store):
    cloud, city, _, tablet = family()
    save(store, cloud)
    nonce = store.read(lambda trust: trust.issue_nonce("client", NOW))
    store.run(lambda trust: trust.use_nonce(nonce.value, "client", NOW))
    revocation = revoke(tablet.chain, city.certificate, city.key, NOW)
    store.run(lambda trust: trust.take_revocations([revocation.signed], NOW))

    assert store.run(lambda trust: trust.forget(NOW + NONCE_S + 1)) == 0
    assert store.run(lambda trust: trust.forget(NOW + 2 * DAY)) == 1
    assert store.read(lambda trust: trust.pending("facilitydata")) == [revocation.signed]
    assert store.run(lambda trust: trust.forget(NOW + 32 * DAY)) == 1
    assert store.read(lambda trust: trust.pending("facilitydata")) == []


def test_the_database_holds_no_private_key(file_db, tmp_path):
    from livesync.peering.keys import from_text
    from livesync.peering.signing import SharedKey

    store, keys = TrustStore(file_db, create=True), KeyRing(tmp_path / "keys")
    holder = root()
    keys.add(holder.key)
    save(store, holder)
    shared = SharedKey.get_or_create_shared_key(store, keys)

    content = (tmp_path / "Data.fs").read_bytes()

    assert holder.certificate.id.encode() in content
    for private in (holder.key, keys.get(shared)):
        text = private.seal().split(" ")[-1]
        assert text.encode() not in content
        assert from_text(text) not in content
    assert key("root").public == holder.key.public
