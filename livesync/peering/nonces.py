"""Nonces: a word that a server gives a client, to be used once, soon, and by that client alone.

A server need not note which ones it gave out, so nobody can fill its database by asking: a nonce says of
itself when it expires, and carries a code (HMAC-SHA-256) that only the server's secret makes, over that time
and the client it is for. What was used is noted until it has expired.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from dataclasses import dataclass
from typing import Final

from ..errors import NonceRefused
from .randomness import Random

#: How long a nonce may be used, in seconds.
NONCE_S: Final = 60

#: For whom a nonce is that becomes the salt of a certificate that is pushed.
FOR_PUSH: Final = "push"

#: Bytes of the secret that makes them.
SECRET_BYTES: Final = 32

_RANDOM_BYTES: Final = 16
_FORM: Final = re.compile(r"([0-9]{1,12})\.[0-9a-f]{32}\.[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Nonce:
    """A nonce.

    Attributes:
        value: As it travels.
        client: The id of the certificate that may use it, or :data:`FOR_PUSH`.
        expires: Epoch seconds, itself within.
    """

    value: str
    client: str
    expires: int


def make_nonce(
    secret: bytes, client: str, now: float, random: Random = os.urandom, valid_s: int = NONCE_S
) -> Nonce:
    """Return a new nonce for ``client``."""
    expires = int(now) + valid_s
    begin = f"{expires}.{random(_RANDOM_BYTES).hex()}"
    return Nonce(f"{begin}.{_code(secret, begin, client)}", client, expires)


def check_nonce(secret: bytes, value: str, client: str, now: float) -> Nonce:
    """Return the nonce of a value; whether it was used is noted elsewhere.

    Raises:
        NonceRefused: It is none of this secret's and this client's, or has expired.
    """
    match = _FORM.fullmatch(value)
    begin, _, code = value.rpartition(".")
    if match is None or not hmac.compare_digest(code, _code(secret, begin, client)):
        raise NonceRefused("the nonce is none that was given to this client: ask for one")
    expires = int(match[1])
    if now > expires:
        raise NonceRefused("the nonce has expired: ask for a new one")
    return Nonce(value, client, expires)


def _code(secret: bytes, begin: str, client: str) -> str:
    text = f"livesync nonce 1\n{begin}\n{client}"
    return hmac.new(secret, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
