"""Keys: what they sign, and how they lie at rest."""

import base64
import copy
import pickle

import pytest
from support.trust import key, randomness

from livesync.errors import KeyUnusable
from livesync.peering.keys import PrivateKey, PublicKey, from_text, is_sealed


def secrets_of(private):
    raw = from_text(private.seal().split(" ")[-1])
    return [raw.hex(), private.seal().split(" ")[-1], repr(raw), str(raw)[2:-1]]


def test_a_signature_holds_for_its_text_kind_and_key_only():
    one, other = key("one"), key("other")
    signature = one.sign("certificate 1", "hello")

    assert one.public.is_signed("certificate 1", "hello", signature)
    assert not one.public.is_signed("certificate 1", "hello!", signature)
    assert not one.public.is_signed("revocation 1", "hello", signature)
    assert not other.public.is_signed("certificate 1", "hello", signature)
    assert not one.public.is_signed("certificate 1", "hello", b"short")


@pytest.mark.parametrize("passphrase", [None, "correct horse battery staple", "ä\ud800"])
def test_a_key_comes_back_from_where_it_lies(passphrase):
    one = key("one")

    line = one.seal(passphrase, randomness())
    found = PrivateKey.open(line, passphrase)

    assert found.public == one.public
    assert is_sealed(line) == (passphrase is not None)
    assert "\n" not in line


def test_an_encrypted_key_shows_nothing_and_needs_its_passphrase():
    one = key("one")
    line = one.seal("secret passphrase")

    for secret in secrets_of(one):
        assert secret not in line
    with pytest.raises(KeyUnusable, match="LIVESYNC_PEER_PASSPHRASE"):
        PrivateKey.open(line)
    with pytest.raises(KeyUnusable, match="not that of this private key") as caught:
        PrivateKey.open(line, "another passphrase")
    assert "another" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    ["", "x", "livesync-key-1 plain AAAA", "livesync-key-1 plain ?", "livesync-key-1 scrypt-aes256gcm "],
)
def test_a_broken_key_is_refused(line):
    with pytest.raises(KeyUnusable):
        PrivateKey.open(line, "passphrase")


def test_an_encrypted_key_that_was_changed_is_refused():
    line = key("one").seal("passphrase")
    raw = bytearray(from_text(line.split(" ")[-1]))
    raw[0] ^= 1

    with pytest.raises(KeyUnusable):
        PrivateKey.open("livesync-key-1 scrypt-aes256gcm " + base64.b64encode(raw).decode(), "passphrase")


def test_a_key_shows_nothing_of_itself():
    one = key("one")
    shown = f"{one} {one!r} {vars(one) if hasattr(one, '__dict__') else ''}"

    for secret in secrets_of(one):
        assert secret not in shown
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(one)
    with pytest.raises(TypeError, match="not pickled"):
        copy.copy(one)


def test_a_public_key_is_read_back_from_its_text():
    public = key("one").public

    assert PublicKey.read(str(public)) == public
    assert len(public.fingerprint) == 32


@pytest.mark.parametrize(
    "text", ["", "AAAA", "A" * 44, "A" * 43 + "?", "A" * 42 + "B=", " " + "A" * 43 + "="]
)
def test_text_that_is_no_public_key_is_refused(text):
    with pytest.raises(ValueError, match=r"public key|base64"):
        PublicKey.read(text)
