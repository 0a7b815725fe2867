"""Signatures that are made as text: the same as the library's, and no others are taken for them."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.messages import ALICE, BOB, BODY, HEADERS, KEYS, TARGET, request, verified
from support.trust import NOW

from livesync.errors import PeerRefused, SignatureRefused
from livesync.peering import signatures
from livesync.peering.signatures import sign_answer, verify_answer
from livesync.peering.wire import SEQUENCE, SESSION

TEXT = st.text(st.characters(max_codepoint=0x180), max_size=12)
TARGETS = st.one_of(
    st.sampled_from(
        [
            TARGET,
            "/",
            "/?",
            "/a//b/../c;d=1",
            "/a%2Fb?c",
            "/a?cursor=%7B%22key%22%3A%22a+b%22%7D",
            "/a?%zz",
            "/a?b?c#d",
            "/a b",
        ]
    ),
    TEXT.map("/".__add__),
)
HEADER = st.one_of(st.sampled_from(["1", "a b", " a", "a ", "", "a\tb", "a\nb", "\xe4"]), TEXT)


@pytest.fixture
def library(monkeypatch):
    """Call something while the library makes and reads every signature."""

    def call(what, *args, **kwargs):
        with monkeypatch.context() as patch:
            patch.setattr(signatures, "plain_base", lambda *args: None)
            return what(*args, **kwargs)

    return call


def outcome(what, *args, **kwargs):
    try:
        return what(*args, **kwargs)
    except (PeerRefused, ValueError) as exc:
        return type(exc)


@pytest.mark.parametrize("key_id", ["alice", "a" * 128, "a" * 129, 'a"b', ""])
@given(target=TARGETS, session=HEADER, kind=HEADER)
@example(target=TARGET, session="a" * 32, kind="application/json")
def test_a_request_is_signed_as_the_library_signs_it(key_id, target, session, kind):
    headers = {SESSION: session, SEQUENCE: "7", "Content-Type": kind}
    arguments = {"target": target, "headers": headers, "name": key_id}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signatures, "plain_base", lambda *args: None)
        theirs = outcome(request, **arguments)
    assert outcome(request, **arguments) == theirs


@pytest.mark.parametrize("method", ["GET", "PATCH", "M-SEARCH", "get", "", "GET "])
def test_a_method_is_signed_as_the_library_signs_it(method, library):
    assert outcome(request, method) == outcome(library, request, method)


@pytest.mark.parametrize("status", [200, 204, 409, 503])
def test_an_answer_is_signed_as_the_library_signs_it(status, library):
    made = sign_answer(status, HEADERS, BODY, BOB, "bob", NOW)

    assert made == library(sign_answer, status, HEADERS, BODY, BOB, "bob", NOW)
    assert verify_answer(status, {**HEADERS, **made}, BODY, KEYS.get, NOW) == "bob"
    assert library(verify_answer, status, {**HEADERS, **made}, BODY, KEYS.get, NOW) == "bob"


def test_what_is_written_otherwise_is_taken_too(library):
    """White space changes nothing of what it says: the signature holds as RFC 9421 has it."""
    plain = request()
    spaced = {**plain, "Signature-Input": " " + plain["Signature-Input"].replace('("', '(  "')}

    assert outcome(verified, spaced) == outcome(library, verified, spaced) == "alice"


@given(st.data())
def test_whatever_is_changed_the_library_agrees(data):
    headers = request()
    name = data.draw(st.sampled_from([*sorted(headers)]))
    begin = data.draw(st.integers(0, len(headers[name])))
    end = data.draw(st.integers(begin, min(len(headers[name]), begin + 3)))
    changed = {**headers, name: headers[name][:begin] + data.draw(TEXT) + headers[name][end:]}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signatures, "plain_base", lambda *args: None)
        theirs = outcome(verified, changed)
    assert outcome(verified, changed) == theirs


def test_a_signature_of_another_list_of_components_is_not_plain():
    headers = request()
    swapped = headers["Signature-Input"].replace('"@method" "@path"', '"@path" "@method"')

    with pytest.raises(SignatureRefused, match="does not hold"):
        verified({**headers, "Signature-Input": swapped})


def test_a_plain_signature_of_another_key_is_refused():
    with pytest.raises(SignatureRefused, match="does not hold"):
        verified(request(private=ALICE), keys={"alice": BOB.public})
