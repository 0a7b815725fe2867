"""Revocations: a stolen device loses its access."""

import pytest
from support.trust import DAY, NOW, family

from livesync.errors import CertificateRefused, CertificateRevoked
from livesync.peering.chains import verify_chain
from livesync.peering.revocation import MAX_REASON, Revocation, ends_of, revoke


def test_a_revocation_is_read_back_and_verified():
    _, city, _, tablet = family()
    made = revoke(tablet.chain, city.certificate, city.key, NOW, "stolen")

    found = Revocation.read(made.signed)

    assert found == made
    assert found.certificate == tablet.certificate
    assert (found.signer, found.signer_depth) == (city.certificate.id, 1)
    assert (found.root_id, found.profile) == (city.chain[0].id, "facilitydata")
    assert (found.revoked_at, found.reason) == (NOW, "stolen")
    assert ends_of(made.signed) == (tablet.chain[0].id, tablet.certificate.id)


def test_what_is_revoked_takes_with_it_what_is_below():
    cloud, city, facility, tablet = family()
    roots = {cloud.certificate.id}

    for holder in (city, facility, tablet):
        with pytest.raises(CertificateRevoked) as caught:
            verify_chain(holder.chain, now=NOW, roots=roots, revoked={city.certificate.id})
        assert (caught.value.code, caught.value.status) == ("revoked", 403)
    assert verify_chain(cloud.chain, now=NOW, roots=roots, revoked={city.certificate.id})


def test_rights_are_lost_in_the_middle_of_a_session():
    cloud, _, facility, tablet = family()
    rights = verify_chain(tablet.chain, now=NOW, roots={cloud.certificate.id})

    rights.check(NOW + 1, {"another"})
    with pytest.raises(CertificateRevoked):
        rights.check(NOW + 1, {facility.certificate.id})


@pytest.mark.parametrize("who", range(4))
def test_those_above_and_the_holder_may_revoke(who):
    holders = family()

    assert revoke(holders[3].chain, holders[who].certificate, holders[who].key, NOW)


def test_those_below_or_beside_may_not_revoke():
    _, city, facility, tablet = family()

    with pytest.raises(ValueError, match="one above it"):
        revoke(city.chain, tablet.certificate, tablet.key, NOW)
    with pytest.raises(ValueError, match="not the key"):
        revoke(tablet.chain, facility.certificate, tablet.key, NOW)
    with pytest.raises(ValueError, match="characters"):
        revoke(tablet.chain, facility.certificate, facility.key, NOW, "x" * (MAX_REASON + 1))


def test_a_revocation_is_needed_until_its_certificate_expires():
    _, _, facility, tablet = family()
    made = revoke(tablet.chain, facility.certificate, facility.key, NOW)

    assert made.is_needed(NOW + 30 * DAY)
    assert not made.is_needed(NOW + 31 * DAY)


def test_what_is_no_revocation_is_refused():
    _, _, facility, tablet = family()
    with pytest.raises(CertificateRefused, match="no revocation"):
        Revocation.read(tablet.certificate.signed)
    with pytest.raises(CertificateRefused, match="no revocation"):
        ends_of(facility.certificate.signed)
