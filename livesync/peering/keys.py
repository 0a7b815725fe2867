"""Keys of Ed25519 (RFC 8032): what certificates speak of, and what signs.

What is signed is always text of one kind: a line that names the kind goes before it, so that a signature
under one kind of text never holds for another. A private key shows nothing of itself: not in ``repr``, not
in an error, and it cannot be pickled, so that it never lies in a database by mistake.

At rest a private key is its 32 bytes, either as they are or encrypted under a passphrase: scrypt (RFC 7914)
makes a key of it, and AES-256-GCM (RFC 5116) encrypts. (PKCS #8 as OpenSSL writes it asks 2,048 rounds of
PBKDF2 of somebody who guesses.)
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from dataclasses import dataclass
from typing import Final, NoReturn

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import KeyUnusable
from .randomness import Random

#: Bytes of a key, private or public.
KEY_BYTES: Final = 32

#: Cost of scrypt: 2**15 blocks of 1 KiB each is 32 MiB and about 80 ms a guess.
_SCRYPT_N: Final = 2**15
_SCRYPT_R: Final = 8
_SCRYPT_P: Final = 1
_MAX_MEMORY: Final = 128 * _SCRYPT_N * _SCRYPT_R * 2

_PLAIN: Final = "livesync-key-1 plain "
_SEALED: Final = "livesync-key-1 scrypt-aes256gcm "
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12


def to_text(raw: bytes) -> str:
    """Return bytes as base64 (RFC 4648, section 4)."""
    return base64.b64encode(raw).decode("ascii")


def from_text(text: str) -> bytes:
    """Return the bytes of base64 that is written in the one right way.

    Raises:
        ValueError: It is not.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise ValueError("this is no base64") from exc
    if to_text(raw) != text:
        raise ValueError("this base64 is written in another way than the usual one")
    return raw


def _signed_bytes(kind: str, text: str) -> bytes:
    return f"livesync {kind}\n{text}".encode()


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key.

    Args:
        raw: Its 32 bytes.

    Raises:
        ValueError: There are not 32 of them.
    """

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != KEY_BYTES:
            raise ValueError(f"a public key has {KEY_BYTES} bytes, not {len(self.raw)}")

    @classmethod
    def read(cls, text: str) -> PublicKey:
        """Return the key of its base64.

        Raises:
            ValueError: It is none.
        """
        return cls(from_text(text))

    def __str__(self) -> str:
        return to_text(self.raw)

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits by which it is called."""
        return hashlib.sha256(b"livesync public key\n" + self.raw).hexdigest()[:32]

    @property
    def crypto(self) -> ed25519.Ed25519PublicKey:
        """The key as ``cryptography`` has it."""
        return ed25519.Ed25519PublicKey.from_public_bytes(self.raw)

    def is_signed(self, kind: str, text: str, signature: bytes) -> bool:
        """Tell whether ``signature`` is this key's under a text of this kind."""
        try:
            self.crypto.verify(signature, _signed_bytes(kind, text))
        except (InvalidSignature, ValueError):
            return False
        return True


class PrivateKey:
    """A private key.

    Args:
        raw: Its 32 bytes.

    Raises:
        ValueError: There are not 32 of them.
    """

    __slots__ = ("_raw", "crypto", "public")

    def __init__(self, raw: bytes) -> None:
        if len(raw) != KEY_BYTES:
            raise ValueError(f"a private key has {KEY_BYTES} bytes")
        self._raw = raw
        #: The key as ``cryptography`` has it.
        self.crypto = ed25519.Ed25519PrivateKey.from_private_bytes(raw)
        #: What it is known by.
        self.public = PublicKey(
            self.crypto.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        )

    @classmethod
    def generate(cls, random: Random = os.urandom) -> PrivateKey:
        """Return a new key."""
        return cls(random(KEY_BYTES))

    def __repr__(self) -> str:
        return f"<PrivateKey of {self.public.fingerprint}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a private key is not pickled: it lies in a file of its own, see KeyRing")

    def sign(self, kind: str, text: str) -> bytes:
        """Return the signature under a text of this kind: 64 bytes."""
        return self.crypto.sign(_signed_bytes(kind, text))

    def seal(self, passphrase: str | None = None, random: Random = os.urandom) -> str:
        """Return the key as one line of text, encrypted where there is a passphrase."""
        if passphrase is None:
            return _PLAIN + to_text(self._raw)
        salt, nonce = random(_SALT_BYTES), random(_NONCE_BYTES)
        sealed = AESGCM(_derived(passphrase, salt)).encrypt(nonce, self._raw, self.public.raw)
        return _SEALED + to_text(self.public.raw + salt + nonce + sealed)

    @classmethod
    def open(cls, text: str, passphrase: str | None = None) -> PrivateKey:
        """Return the key that :meth:`seal` made one line of.

        Raises:
            KeyUnusable: It needs a passphrase or another one, or is broken. The text tells nothing of the
                key.
        """
        try:
            if text.startswith(_PLAIN):
                return cls(from_text(text.removeprefix(_PLAIN)))
            if text.startswith(_SEALED):
                return cls(_opened(from_text(text.removeprefix(_SEALED)), passphrase))
        except ValueError:
            pass  # its text may hold the key's
        raise KeyUnusable("this is no private key of livesync, or it is broken")


def is_sealed(text: str) -> bool:
    """Tell whether a key's line is encrypted."""
    return text.startswith(_SEALED)


def _opened(packed: bytes, passphrase: str | None) -> bytes:
    if passphrase is None:
        raise KeyUnusable(
            "the private key is encrypted: set LIVESYNC_PEER_PASSPHRASE or LIVESYNC_PEER_PASSPHRASE_FILE"
        )
    public, packed = packed[:KEY_BYTES], packed[KEY_BYTES:]
    salt, packed = packed[:_SALT_BYTES], packed[_SALT_BYTES:]
    nonce, sealed = packed[:_NONCE_BYTES], packed[_NONCE_BYTES:]
    try:
        return AESGCM(_derived(passphrase, salt)).decrypt(nonce, sealed, public)
    except InvalidTag:
        raise KeyUnusable("the passphrase is not that of this private key") from None


def _derived(passphrase: str, salt: bytes) -> bytes:
    return hashlib.scrypt(
        passphrase.encode("utf-8", "surrogatepass"),
        salt=salt,
        n=_SCRYPT_N,
        r=_SCRYPT_R,
        p=_SCRYPT_P,
        maxmem=_MAX_MEMORY,
        dklen=KEY_BYTES,
    )
