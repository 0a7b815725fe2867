"""What forgers, thieves and eavesdroppers try on chains of certificates: each is refused, and why is said.

A refusal is one ``PeerRefused`` with a code and a status of the protocol, in one line without secrets.
"""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.trust import DAY, FULL, NOW, OWN, USER, family, key, root

from livesync.errors import (
    CertificateExpired,
    CertificateRefused,
    CertificateRevoked,
    PeerRefused,
    ProfileDiffers,
)
from livesync.peering.certificates import KIND, Certificate, CertificateText
from livesync.peering.chains import MAX_CHAIN, read_chain, verify_chain
from livesync.peering.keys import to_text
from livesync.peering.revocation import KIND as REVOCATION
from livesync.peering.revocation import Revocation, revoke
from livesync.peering.scopes import ScopeDefinition
from livesync.peering.wire import CODES, Signed

CLOUD, CITY, FACILITY, TABLET = family()
ROOTS = frozenset({CLOUD.certificate.id})
MALLORY = key("mallory")


def refused(chain, error=CertificateRefused, now=NOW, roots=ROOTS, revoked=(), profile=None):
    """Check that a chain is refused, in one line of text with a code, and return that text."""
    with pytest.raises(error) as caught:
        verify_chain(chain, now=now, roots=roots, revoked=revoked, profile=profile)
    return checked(caught.value)


def checked(error):
    assert isinstance(error, PeerRefused)
    status, _, _ = CODES[error.code]
    assert error.status == status
    text = str(error)
    assert text
    assert "\n" not in text
    for holder in (CLOUD, CITY, FACILITY, TABLET):
        assert holder.key.seal().split(" ")[-1] not in text
    return text


def forged(certificate, signer, **changes):
    """Return a certificate with another text, signed with a key."""
    values = {**json.loads(certificate.text), **changes}
    return signed_text(write_json(values), signer)


def write_json(values):
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def signed_text(text, signer):
    return Certificate.deserialize(text, signer.sign(KIND, text))


def test_the_chain_that_is_attacked_holds():
    assert verify_chain(TABLET.chain, now=NOW, roots=ROOTS, profile="facilitydata")
    assert write_json(json.loads(TABLET.certificate.text)) == TABLET.certificate.text


@pytest.mark.parametrize("error", [each for each in PeerRefused.__subclasses__() if each.__module__])
def test_each_refusal_has_a_code_and_a_status_of_the_protocol(error):
    for kind in (error, *error.__subclasses__()):
        assert CODES[kind.code][0] == kind.status


# -- forged ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", range(4))
def test_a_certificate_that_somebody_else_signed_is_refused(position):
    chain = list(TABLET.chain)
    chain[position] = replace(chain[position], signature=MALLORY.sign(KIND, chain[position].text))

    assert "not signed" in refused(chain)


@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("bit", [0, 255, 511])
def test_a_signature_of_which_a_bit_was_changed_is_refused(position, bit):
    chain = list(TABLET.chain)
    signature = bytearray(chain[position].signature)
    signature[bit // 8] ^= 1 << bit % 8
    chain[position] = replace(chain[position], signature=bytes(signature))

    refused(chain)


@pytest.mark.parametrize(
    "changes",
    [
        {"scope_params": {"dataset_id": "F1", "user_id": "U2"}},
        {"not_after": int(NOW + 300 * DAY)},
        {"not_before": 0},
        {"public_key": str(MALLORY.public)},
        {"salt": "other"},
        {"parent": CLOUD.certificate.id},
    ],
)
def test_a_certificate_that_was_changed_is_refused(changes):
    changed = forged(TABLET.certificate, MALLORY, **changes)
    kept = Certificate.deserialize(changed.text, TABLET.certificate.signature)

    refused([*FACILITY.chain, kept])
    refused([*FACILITY.chain, changed])


def test_a_holder_cannot_sign_for_itself():
    widened = forged(TABLET.certificate, TABLET.key, scope_params={"dataset_id": "F1", "user_id": "U2"})

    assert "not signed" in refused([*FACILITY.chain, widened])


def test_a_text_of_another_kind_is_no_certificate_though_it_is_signed():
    text = TABLET.certificate.text
    signature = FACILITY.key.sign(REVOCATION, text)

    refused([*FACILITY.chain, Certificate.deserialize(text, signature)])


# -- out of time -----------------------------------------------------------------------------------


@pytest.mark.parametrize("holder", [CLOUD, CITY, FACILITY, TABLET])
def test_an_expired_certificate_is_refused_wherever_it_stands(holder):
    below = (
        (USER, {"dataset_id": "F1", "user_id": "U1"}) if holder is TABLET else (FULL, {"dataset_id": "F1"})
    )
    short = holder.give("short", *below, valid_s=60).give("below", *below, valid_s=60)

    assert verify_chain(short.chain, now=NOW + 60, roots=ROOTS)
    assert "expired" in refused(short.chain, CertificateExpired, now=NOW + 61)


def test_an_expired_parent_takes_its_children_with_it():
    city = CLOUD.give("brief city", FULL, {"dataset_id": "F1"}, valid_s=60)
    text = forged(TABLET.certificate, city.key, parent=city.certificate.id)

    assert verify_chain([*city.chain, text], now=NOW, roots=ROOTS)
    refused([*city.chain, text], CertificateExpired, now=NOW + 61)


def test_a_certificate_that_is_not_valid_yet_is_refused():
    assert "not valid yet" in refused(TABLET.chain, CertificateExpired, now=NOW - DAY)


# -- revoked ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", range(4))
def test_a_revoked_certificate_is_refused_wherever_it_stands(position):
    refused(TABLET.chain, CertificateRevoked, revoked={TABLET.chain[position].id})


def test_a_new_certificate_below_a_revoked_one_is_refused():
    thief = FACILITY.give("thief", FULL, {"dataset_id": "F1"})

    refused(thief.chain, CertificateRevoked, revoked={FACILITY.certificate.id})


def test_what_is_revoked_is_told_before_that_it_has_expired():
    refused(TABLET.chain, CertificateRevoked, now=NOW + 900 * DAY, revoked={TABLET.certificate.id})


def revocation_text(chain, signer, key_used):
    made = revoke(TABLET.chain, FACILITY.certificate, FACILITY.key, NOW)
    values = json.loads(made.text)
    values["chain"] = [{"signature": to_text(each.signature), "text": each.text} for each in chain]
    values["signer"] = signer.id
    text = write_json(values)
    return Signed(text=text, signature=to_text(key_used.sign(REVOCATION, text)))


@pytest.mark.parametrize(
    "signed",
    [
        revocation_text(CITY.chain, FACILITY.certificate, FACILITY.key),  # by one below
        revocation_text(TABLET.chain, FACILITY.certificate, MALLORY),  # with another key
        revocation_text(TABLET.chain, FACILITY.certificate, TABLET.key),
        revocation_text(TABLET.chain[1:], FACILITY.certificate, FACILITY.key),  # of half a chain
        revocation_text((CLOUD.certificate, TABLET.certificate), CLOUD.certificate, CLOUD.key),
        revocation_text(
            (*FACILITY.chain, forged(TABLET.certificate, MALLORY)), FACILITY.certificate, FACILITY.key
        ),
    ],
)
def test_a_forged_revocation_is_refused(signed):
    with pytest.raises(CertificateRefused) as caught:
        Revocation.read(signed)
    checked(caught.value)


# -- another profile, more rights ------------------------------------------------------------------


def test_a_chain_of_another_profile_is_refused():
    refused(TABLET.chain, ProfileDiffers, profile="other")


def test_a_child_of_another_profile_is_refused():
    values = json.loads(CITY.certificate.text)
    definition = {**values["scope_definition"], "profile": "other"}
    child = forged(CITY.certificate, CLOUD.key, profile="other", scope_definition=definition)

    refused([CLOUD.certificate, child], ProfileDiffers)


def test_a_definition_of_another_profile_than_the_certificates_is_refused():
    definition = {**json.loads(CITY.certificate.text)["scope_definition"], "profile": "other"}

    with pytest.raises(ProfileDiffers) as caught:
        forged(CITY.certificate, CLOUD.key, scope_definition=definition)
    checked(caught.value)


@pytest.mark.parametrize(
    ("definition", "params"),
    [
        (FULL, {"dataset_id": "F2"}),
        (FULL, {"dataset_id": "F10"}),
        (ScopeDefinition("all", "facilitydata", read_write_filter_template=":"), {}),
        (ScopeDefinition("all", "facilitydata", read_filter_template=":"), {}),
        (ScopeDefinition("all", "facilitydata", write_filter_template="F1 F2"), {}),
        (ScopeDefinition("full-facility", "facilitydata", 1, read_write_filter_template="F"), {}),
    ],
)
def test_a_widened_scope_is_refused_though_its_parent_signed_it(definition, params):
    scope = definition.get_scope(params)
    text = write_json(
        {
            **json.loads(CITY.certificate.text),
            "scope_definition": {
                name: getattr(definition, name)
                for name in json.loads(CITY.certificate.text)["scope_definition"]
            },
            "scope_params": dict(scope.params),
        }
    )

    assert "allows more" in refused([CLOUD.certificate, signed_text(text, CLOUD.key)])


def test_what_was_narrowed_is_not_widened_further_down():
    wide = forged(
        FACILITY.certificate, TABLET.key, parent=TABLET.certificate.id, public_key=str(MALLORY.public)
    )

    assert "allows more" in refused([*TABLET.chain, wide])


# -- cut, reordered, without a root ----------------------------------------------------------------


@pytest.mark.parametrize(
    "positions",
    [
        (),
        (1,),
        (1, 2, 3),
        (0, 2, 3),
        (0, 3),
        (0, 1, 3),
        (0, 2, 1, 3),
        (3, 2, 1, 0),
        (0, 0, 1, 2, 3),
        (0, 1, 1, 2, 3),
        (0, 1, 2, 3, 0),
        (3,),
    ],
)
def test_a_chain_that_is_cut_or_reordered_is_refused(positions):
    refused([TABLET.chain[position] for position in positions])


def test_a_root_of_ones_own_is_not_trusted():
    mine = root("mallory")

    assert "not trusted here" in refused(mine.chain)
    assert "not trusted here" in refused(mine.give("x", FULL, {"dataset_id": "F1"}).chain)


def test_a_child_that_signs_itself_is_no_root():
    child = forged(TABLET.certificate, TABLET.key, parent="")

    assert "not trusted here" in refused([child])
    refused([CLOUD.certificate, child])


def test_a_chain_of_another_root_is_not_mixed_in():
    mine = root("mallory")
    grafted = forged(CITY.certificate, mine.key, parent=CLOUD.certificate.id)

    refused([CLOUD.certificate, grafted, *TABLET.chain[2:]])
    refused([mine.certificate, *TABLET.chain[1:]])


def test_a_root_that_claims_what_is_anothers_is_refused():
    victim, mine = root("victim", OWN), root("mallory", OWN)
    stolen = {"dataset_id": victim.certificate.root_fingerprint}
    forgery = forged(mine.certificate, mine.key, scope_params=stolen)

    assert "not its own fingerprint" in refused([forgery], roots={forgery.id})


def test_a_root_with_anothers_public_key_is_not_signed():
    forgery = forged(CLOUD.certificate, MALLORY, salt="x")

    assert "not signed" in refused([forgery], roots={forgery.id})


# -- huge ------------------------------------------------------------------------------------------


def test_a_chain_that_is_too_long_is_refused_before_it_costs_anything():
    holder = CLOUD
    for number in range(MAX_CHAIN):
        holder = holder.give(str(number), FULL, {"dataset_id": "F1"})

    assert verify_chain(holder.chain[:MAX_CHAIN], now=NOW, roots=ROOTS)
    assert "at most 16" in refused(holder.chain)
    with pytest.raises(CertificateRefused, match="at most 16"):
        read_chain([TABLET.certificate.signed] * 100_000)


@pytest.mark.parametrize("text", ["x" * 10_000_000, "[" * 5_999, '{"a":' * 1_000, '"' + "\\" * 5_998 + '"'])
def test_a_huge_or_deep_text_is_no_certificate(text):
    with pytest.raises(CertificateRefused) as caught:
        Certificate.deserialize(text, bytes(64))
    assert len(checked(caught.value)) < 200


def test_a_certificate_with_too_many_parameters_is_refused():
    params = {f"p{number}": "x" for number in range(1_000)}

    with pytest.raises(CertificateRefused):
        forged(CITY.certificate, CLOUD.key, scope_params=params)


# -- another form ----------------------------------------------------------------------------------


def other_forms():
    text = CITY.certificate.text
    values = json.loads(text)
    yield "spaces", text.replace(",", ", ")
    yield "a line end", text + "\n"
    yield "a mark of the byte order", "\ufeff" + text
    yield "another order", json.dumps(dict(reversed(values.items())), separators=(",", ":"))
    yield "a key twice", text.replace('"format":1', '"format":1,"format":1')
    yield "a key twice, hidden", text.replace('"salt":', '"not_after":9999999999,"salt":')
    yield "an escape", text.replace("facilitydata", "facilit\\u0079data")
    yield "a number written otherwise", text.replace('"format":1', '"format":1.0')
    yield "a big number", text.replace('"format":1', '"format":1e0')
    yield "another key", write_json({**values, "admin": True})
    yield "a key less", write_json({name: value for name, value in values.items() if name != "salt"})
    yield "another format", write_json({**values, "format": 2})
    yield "null", write_json({**values, "salt": None})
    yield "a time that is text", write_json({**values, "not_after": "2100"})
    yield "a time before all", write_json({**values, "not_before": -1})
    yield "a time after all", write_json({**values, "not_after": 10**15})
    yield "not a number", text.replace(f'"not_after":{values["not_after"]}', '"not_after":NaN')
    yield "another parent", write_json({**values, "parent": "../x"})
    yield "a parent with a line end", write_json({**values, "parent": values["parent"] + "\n"})
    yield "a key that is none", write_json({**values, "public_key": "AAAA"})
    yield "a key with a line end", write_json({**values, "public_key": values["public_key"] + "\n"})
    yield "half a pair", text.replace("facilitydata", "facility\\ud800data")
    yield "a lone surrogate", text.replace("facilitydata", "facility\ud800data")
    yield "a prefix brought in", write_json({**values, "scope_params": {"dataset_id": "F1\nF2"}})
    yield "a parameter too many", write_json({**values, "scope_params": {"dataset_id": "F1", "x": "y"}})
    yield "a parameter too few", write_json({**values, "scope_params": {}})
    yield "a list", "[]"
    yield "nothing", ""


@pytest.mark.parametrize(("what", "text"), list(other_forms()))
def test_a_text_of_another_form_is_refused_though_it_is_signed(what, text):
    assert text != CITY.certificate.text
    signature = CLOUD.key.sign(KIND, text.encode("utf-8", "replace").decode())

    with pytest.raises(CertificateRefused) as caught:
        Certificate.deserialize(text, signature)
    checked(caught.value)


@pytest.mark.parametrize("signature", ["", "AAAA", "A" * 88, "?", "A" * 86, "A" * 85 + "B==", "\ud800"])
def test_a_signature_of_another_form_is_refused(signature):
    signed = Signed(text=CITY.certificate.text, signature=signature)

    with pytest.raises(CertificateRefused) as caught:
        believed([CLOUD.certificate.signed, signed])
    checked(caught.value)


def believed(signed):
    """Return the rights of a chain as it travelled."""
    return verify_chain(read_chain(signed), now=NOW, roots=ROOTS)


@settings(max_examples=150)
@given(st.text(max_size=200), st.binary(min_size=64, max_size=64))
def test_whatever_is_sent_is_refused_or_a_certificate(text, signature):
    with pytest.raises(CertificateRefused) as caught:
        Certificate.deserialize(text, signature)
    checked(caught.value)


@settings(max_examples=150)
@given(st.data())
def test_a_text_of_which_some_characters_were_changed_never_holds(data):
    certificate = TABLET.certificate
    begin = data.draw(st.integers(0, len(certificate.text)))
    end = data.draw(st.integers(begin, min(begin + 5, len(certificate.text))))
    text = certificate.text[:begin] + data.draw(st.text(max_size=5)) + certificate.text[end:]
    signature = to_text(certificate.signature)
    if text == certificate.text:
        return

    with pytest.raises(PeerRefused) as caught:
        believed([*(each.signed for each in FACILITY.chain), Signed(text=text, signature=signature)])
    checked(caught.value)


def test_the_forms_of_this_page_are_the_ones_of_certificates():
    assert set(json.loads(CITY.certificate.text)) == set(CertificateText.__struct_fields__)
