"""Certificates and their chains: made, read back, believed."""

import pytest
from support.trust import DAY, FULL, NOW, OWN, USER, Holder, family, key, randomness, root

from livesync.errors import CertificateRefused, ProfileDiffers, ScopeExceeded
from livesync.peering.certificates import Certificate
from livesync.peering.chains import read_chain, verify_chain
from livesync.peering.issuing import BACKDATED_S, generate_root_certificate, sign_certificate
from livesync.peering.rights import check_flow, may_flow
from livesync.peering.scopes import Filter, ScopeDefinition


def test_a_chain_gives_the_rights_of_its_last_certificate():
    cloud, _, _, tablet = family()

    rights = verify_chain(tablet.chain, now=NOW, roots={cloud.certificate.id}, profile="facilitydata")

    assert rights.certificate_id == tablet.certificate.id
    assert rights.public_key == tablet.key.public
    assert rights.may_read("F1:user-ro:U1")
    assert not rights.may_read("F1:user-ro:U2")
    assert not rights.may_read("F1:anonymous")
    assert rights.may_write("F1:anonymous")
    assert not rights.may_write("F1:allusers-ro")
    assert rights.read_filter == Filter("F1:allusers-ro F1:user-ro:U1 F1:user-rw:U1")


def test_a_chain_is_read_back_as_it_travelled():
    _, _, _, tablet = family()

    found = read_chain([certificate.signed for certificate in tablet.chain])

    assert found == list(tablet.chain)
    assert [certificate.id for certificate in found] == [certificate.id for certificate in tablet.chain]


def test_a_certificate_tells_what_it_is():
    cloud, city, _, tablet = family()
    certificate = tablet.certificate

    assert cloud.certificate.is_root
    assert not city.certificate.is_root
    assert certificate.scope_definition_id == "single-user"
    assert certificate.scope_version == 1
    assert certificate.scope_definition == USER
    assert certificate.get_scope().params == {"dataset_id": "F1", "user_id": "U1"}
    assert certificate.not_before == NOW - BACKDATED_S
    assert certificate.not_after == NOW + 30 * DAY
    assert repr(certificate) == (
        f"<Certificate {certificate.id} facilitydata <Scope single-user 1 dataset_id=F1 user_id=U1>>"
    )


def test_nobody_is_valid_for_longer_than_who_signed():
    cloud = root(valid_s=DAY)

    child = cloud.give("city", FULL, {"dataset_id": "F1"}, valid_s=2 * DAY).certificate

    assert child.not_after == cloud.certificate.not_after


def test_two_certificates_for_the_same_key_differ():
    cloud = root()
    one, two = (
        sign_certificate(
            cloud.certificate, cloud.key, key("x").public, FULL.get_scope({"dataset_id": "F1"}), now=NOW
        )
        for _ in range(2)
    )

    assert one.id != two.id


def test_a_root_with_a_primary_parameter_rules_over_its_own():
    holder = root(definition=OWN)
    certificate = holder.certificate

    assert certificate.scope_params == {"dataset_id": certificate.root_fingerprint}
    assert certificate.rules_its_own
    assert verify_chain(holder.chain, now=NOW, roots={certificate.id}).may_write(
        certificate.root_fingerprint + ":x"
    )
    assert not root().certificate.rules_its_own


def test_a_root_cannot_reach_beyond_its_own():
    wide = ScopeDefinition(
        "wide",
        "p",
        primary_scope_param_key="d",
        read_write_filter_template="${d}",
        read_filter_template="common",
    )

    with pytest.raises(CertificateRefused, match="not all below its own fingerprint"):
        generate_root_certificate(key("x"), wide, {}, now=NOW, random=randomness())


def test_a_key_that_is_not_the_parents_cannot_sign():
    cloud, city, _, _ = family()

    with pytest.raises(ValueError, match="not the key"):
        sign_certificate(
            cloud.certificate, city.key, key("x").public, FULL.get_scope({"dataset_id": "F1"}), now=NOW
        )


def test_a_child_that_may_do_more_is_not_made():
    _, _, facility, tablet = family()

    with pytest.raises(CertificateRefused, match="allows more"):
        tablet.give("x", FULL, {"dataset_id": "F1"})
    with pytest.raises(CertificateRefused, match="allows more"):
        facility.give("x", USER, {"dataset_id": "F10", "user_id": "U1"})
    with pytest.raises(ValueError, match="no time"):
        facility.give("x", FULL, {"dataset_id": "F1"}, valid_s=0)


def rights_of(holder):
    return verify_chain(holder.chain, now=NOW, roots={holder.chain[0].id})


def test_what_flows_is_what_one_may_write_and_the_other_read():
    _, _, facility, tablet = family()
    above, below = rights_of(facility), rights_of(tablet)

    assert may_flow(below, above) == Filter("F1:anonymous F1:user-rw:U1")
    assert may_flow(above, below) == Filter("F1:allusers-ro F1:user-ro:U1 F1:user-rw:U1")
    assert check_flow(Filter("F1:user-ro:U1"), above, below) == Filter("F1:user-ro:U1")


@pytest.mark.parametrize("asked", ["F1", "F1:user-ro:U2", ":", "", "F1:user-ro:U1 F2", "F1:user-rw"])
def test_a_filter_that_is_wider_than_what_may_flow_is_refused(asked):
    _, _, facility, tablet = family()

    with pytest.raises(ScopeExceeded) as caught:
        check_flow(Filter(asked), rights_of(facility), rights_of(tablet))
    assert (caught.value.code, caught.value.status) == ("scope", 403)


def test_a_certificate_is_read_from_its_text_and_signature():
    certificate = root().certificate

    assert Certificate.deserialize(certificate.text, certificate.signature) == certificate


def other_root(definition):
    made = generate_root_certificate(key("other"), definition, {}, now=NOW, random=randomness())
    return Holder(key("other"), (made,))


def test_nothing_flows_between_profiles():
    other = ScopeDefinition("all", "other", read_write_filter_template="F1")
    one, two = rights_of(root()), rights_of(other_root(other))

    with pytest.raises(ProfileDiffers):
        may_flow(one, two)
