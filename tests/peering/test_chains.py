"""Random families of certificates: what a chain gives is never more than anybody above has."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from support.trust import DAY, NOW, Holder, key, root

from livesync.errors import CertificateRefused, PeerRefused
from livesync.peering.chains import verify_chain
from livesync.peering.issuing import generate_root_certificate, sign_certificate
from livesync.peering.revocation import revoke
from livesync.peering.scopes import Filter, ScopeDefinition
from livesync.peering.trust import TrustStore

KEYS = [key(number) for number in range(6)]
PARTITIONS = ["", "a", "a:x", "a:x:1", "a:y", "b", "b:x", "ab"]
FILTERS = st.lists(st.sampled_from(PARTITIONS), max_size=3).map(lambda found: str(Filter.of(found)))


@st.composite
def definitions(draw):
    return ScopeDefinition(
        "drawn",
        "p",
        read_filter_template=draw(FILTERS),
        write_filter_template=draw(FILTERS),
        read_write_filter_template=draw(FILTERS),
    )


@settings(max_examples=60)
@given(st.lists(definitions(), min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_a_chain_allows_what_all_of_it_allow(drawn, source):
    chain = [generate_root_certificate(KEYS[0], drawn[0], {}, now=NOW, random=source.randbytes)]
    for number, definition in enumerate(drawn[1:], 1):
        scope = definition.get_scope({})
        wider = not scope.is_subset_of(chain[-1].scope)
        try:
            child = sign_certificate(
                chain[-1], KEYS[number - 1], KEYS[number].public, scope, now=NOW, random=source.randbytes
            )
        except CertificateRefused:
            assert wider
            break
        assert not wider
        chain.append(child)

    rights = verify_chain(chain, now=NOW, roots={chain[0].id})

    for partition in PARTITIONS:
        assert rights.may_read(partition) <= all(
            each.scope.read_filter.contains_partition(partition) for each in chain
        )
        assert rights.may_write(partition) <= all(
            each.scope.write_filter.contains_partition(partition) for each in chain
        )


@settings(max_examples=40)
@given(st.data())
def test_a_chain_holds_just_while_nothing_in_it_has_expired_or_was_revoked(data):
    source = random.Random(data.draw(st.integers(0, 1_000)))
    spans = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=5))
    holder = root("any", valid_s=spans[0] * DAY)
    for number, days in enumerate(spans[1:], 1):
        child = sign_certificate(
            holder.certificate,
            holder.key,
            KEYS[number].public,
            holder.certificate.scope,
            now=NOW,
            valid_s=days * DAY,
            random=source.randbytes,
        )
        holder = Holder(KEYS[number], (*holder.chain, child))
    revoked = data.draw(st.sets(st.sampled_from([each.id for each in holder.chain])))
    now = NOW + data.draw(st.integers(0, 45)) * DAY

    should_hold = not revoked and now <= NOW + min(spans) * DAY
    try:
        verify_chain(holder.chain, now=now, roots={holder.chain[0].id}, revoked=revoked)
    except PeerRefused:
        assert not should_hold
    else:
        assert should_hold


def test_revocations_reach_everybody_over_any_path(memory_db, file_db):
    """Two sites that tell each other what they know end up with the same, in whatever order."""
    cloud = root()
    one, other = TrustStore(memory_db, create=True), TrustStore(file_db, create=True)
    children = [
        cloud.give(str(number), cloud.certificate.scope_definition, {"dataset_id": "F1"})
        for number in range(6)
    ]
    for store in (one, other):
        store.run(lambda trust: trust.save_chain(cloud.chain, NOW, trust_root=True))
    for number, child in enumerate(children):
        made = revoke(child.chain, cloud.certificate, cloud.key, NOW + number)
        store = one if number % 2 else other
        store.run(lambda trust, made=made: trust.take_revocations([made.signed], NOW))

    for source, target in ((one, other), (other, one)):
        told = source.read(lambda trust: trust.pending("facilitydata"))
        target.run(lambda trust, told=told: trust.take_revocations(told, NOW))

    everywhere = [
        {each.text for each in store.read(lambda t: t.pending("facilitydata"))} for store in (one, other)
    ]
    assert everywhere[0] == everywhere[1]
    assert len(everywhere[0]) == 6
