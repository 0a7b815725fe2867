"""Signed messages: requests and answers of a session."""

import pytest
from support.messages import ALICE, BOB, BODY, HEADERS, KEYS, request, verified
from support.trust import NOW

from livesync.errors import DigestDiffers, SignatureRefused
from livesync.peering.signatures import (
    content_digest,
    sign_answer,
    signer_of,
    verify_answer,
)
from livesync.peering.wire import SEQUENCE, SESSION, SIGNATURE_AGE_S


def test_a_signed_request_says_who_sent_it():
    headers = request()

    assert verified(headers) == "alice"
    assert signer_of(headers) == "alice"
    assert verified({name.lower(): value for name, value in headers.items()}) == "alice"
    assert headers["Content-Digest"] == content_digest(BODY)


def test_a_request_without_a_body_is_signed_too():
    headers = request("GET", "/peer/v1/syncsessions/x", {SESSION: "a", SEQUENCE: "1"}, b"")

    assert verified(headers, "GET", "/peer/v1/syncsessions/x", b"") == "alice"


def test_a_signed_answer_says_who_sent_it():
    headers = {**HEADERS, **sign_answer(409, HEADERS, BODY, BOB, "bob", NOW)}

    assert verify_answer(409, headers, BODY, KEYS.get, NOW) == "bob"
    with pytest.raises(SignatureRefused):
        verify_answer(200, headers, BODY, KEYS.get, NOW)
    with pytest.raises(DigestDiffers):
        verify_answer(409, headers, BODY + b" ", KEYS.get, NOW)


def test_an_answer_does_not_pass_for_a_request():
    headers = {**HEADERS, **sign_answer(200, HEADERS, BODY, ALICE, "alice", NOW)}

    with pytest.raises(SignatureRefused):
        verified(headers)


@pytest.mark.parametrize("missing", [SESSION, SEQUENCE])
def test_what_must_be_signed_must_be_there(missing):
    headers = {name: value for name, value in HEADERS.items() if name != missing}

    with pytest.raises(ValueError, match="cannot be signed"):
        request(headers=headers)


def test_other_headers_may_come_and_go_on_the_way():
    headers = {**request(), "X-Forwarded-For": "10.0.0.1", "Via": "1.1 proxy", "Signature-X": "y"}

    assert verified(headers) == "alice"


def test_another_signature_may_be_added_on_the_way():
    headers = request()
    headers["Signature-Input"] += ', proxy=("@method");created=1;keyid="proxy";tag="proxy"'
    headers["Signature"] += ", proxy=:AAAA:"

    assert verified(headers) == "alice"


@pytest.mark.parametrize("offset", [-SIGNATURE_AGE_S, 0, SIGNATURE_AGE_S])
def test_clocks_may_differ_a_little(offset):
    assert verified(request(), now=NOW + offset) == "alice"


@pytest.mark.parametrize("offset", [-SIGNATURE_AGE_S - 1, SIGNATURE_AGE_S + 1])
def test_an_old_or_future_signature_is_refused(offset):
    with pytest.raises(SignatureRefused, match="set the clocks"):
        verified(request(), now=NOW + offset)
