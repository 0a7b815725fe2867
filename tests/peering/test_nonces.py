"""Nonces: of this server, for this client, soon."""

import pytest
from support.trust import NOW, randomness

from livesync.errors import NonceRefused
from livesync.peering.nonces import FOR_PUSH, NONCE_S, check_nonce, make_nonce

SECRET = b"s" * 32


def test_a_nonce_holds_for_its_client_until_it_expires():
    nonce = make_nonce(SECRET, "client", NOW, randomness())

    assert check_nonce(SECRET, nonce.value, "client", NOW) == nonce
    assert check_nonce(SECRET, nonce.value, "client", NOW + NONCE_S) == nonce
    with pytest.raises(NonceRefused, match="expired"):
        check_nonce(SECRET, nonce.value, "client", NOW + NONCE_S + 1)


@pytest.mark.parametrize("client", ["other", "", FOR_PUSH, "client\n", "\ud800"])
def test_another_clients_nonce_is_refused(client):
    nonce = make_nonce(SECRET, "client", NOW, randomness())

    with pytest.raises(NonceRefused) as caught:
        check_nonce(SECRET, nonce.value, client, NOW)
    assert (caught.value.code, caught.value.status) == ("nonce", 403)


def test_another_servers_nonce_is_refused():
    nonce = make_nonce(b"t" * 32, "client", NOW, randomness())

    with pytest.raises(NonceRefused):
        check_nonce(SECRET, nonce.value, "client", NOW)


def test_a_nonce_cannot_be_made_to_last_longer():
    value = make_nonce(SECRET, "client", NOW, randomness()).value
    expires, _, rest = value.partition(".")

    with pytest.raises(NonceRefused):
        check_nonce(SECRET, f"{int(expires) + 60}.{rest}", "client", NOW)


@pytest.mark.parametrize(
    "value", ["", ".", "..", "x", "1.2.3", "9" * 5_000, "\u0661.a.b", "1\n.a.b", "é", "\ud800"]
)
def test_what_is_no_nonce_is_refused(value):
    with pytest.raises(NonceRefused):
        check_nonce(SECRET, value, "client", NOW)


def test_nonces_differ():
    random = randomness()

    assert len({make_nonce(SECRET, "client", NOW, random).value for _ in range(50)}) == 50
