"""Signed messages: who sent a request or an answer, unchanged, in which session, as which in turn. Pure.

HTTP Message Signatures (RFC 9421) with Ed25519 and Content-Digest (RFC 9530), made and checked by the
library of that name. What must be signed is fixed here and not chosen by the sender: every component that
:mod:`~livesync.peering.wire` names, a header of it where the message has it, the body's digest, the session
and the number always. One signature a message, labelled and tagged ``livesync``; no other algorithm; as old
as :data:`~livesync.peering.wire.SIGNATURE_AGE_S` at most.

The path is signed as the client wrote it into its request: a proxy that changes it breaks signatures.

Messages as livesync itself signs them, which is nearly all, are made and checked as text
(:mod:`~livesync.peering.plainsignatures`); the library has the others.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cryptography.exceptions import InvalidSignature as NotSigned
from http_message_signatures import (
    HTTPMessageSignaturesException,
    HTTPMessageSigner,
    HTTPMessageVerifier,
    HTTPSignatureKeyResolver,
    InvalidSignature,
    algorithms,
)

from ..errors import DigestDiffers, SignatureRefused
from .keys import PrivateKey, PublicKey, to_text
from .plainsignatures import (
    LABEL,
    PlainSignature,
    derived_of_request,
    headers_of,
    listed,
    plain_base,
    plain_parameters,
    read_plain,
)
from .wire import SIGNATURE_AGE_S, SIGNED_OF_ANSWER, SIGNED_OF_REQUEST

#: Headers, lower case, that may be absent; they are signed where they are there.
_OPTIONAL: Final = frozenset({"content-type", "content-encoding"})

#: The host is not signed, since a server may have several names; the library wants one.
_HOST: Final = "http://peer"

#: What a signature's own headers may have, in characters.
_MAX_HEADER: Final = 4_000

_ANOTHER: Final = "the signature does not hold: the message is another one"

_DIGEST: Final = re.compile(r"sha-256=:[A-Za-z0-9+/]{43}=:")


@dataclass
class _Request:
    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)

    def derived(self) -> dict[str, str]:
        """Return the values of components that are no headers; nothing where they are to be parsed."""
        return derived_of_request(self.method, self.url.removeprefix(_HOST))


@dataclass
class _Answer:
    status_code: int
    headers: dict[str, str] = field(default_factory=dict)

    def derived(self) -> dict[str, str]:
        """Return the values of components that are no headers."""
        return {"@status": str(self.status_code)}


class _Keys(HTTPSignatureKeyResolver):
    def __init__(self, public: Any = None, private: Any = None) -> None:
        self._public, self._private = public, private

    def resolve_public_key(self, key_id: str) -> Any:
        return self._public

    def resolve_private_key(self, key_id: str) -> Any:
        return self._private


class _Verifier(HTTPMessageVerifier):
    """The library's, by a clock that is passed in."""

    def __init__(self, key: PublicKey, now: float) -> None:
        super().__init__(signature_algorithm=algorithms.ED25519, key_resolver=_Keys(public=key.crypto))
        self._now = now

    def validate_created_and_expires(self, sig_input: Any, max_age: timedelta | None = None) -> None:
        created, expires = sig_input.params.get("created"), sig_input.params.get("expires")
        _check_age(created if type(created) is int else None, self._now)
        if expires is not None and self._now > expires:
            raise SignatureRefused("the signature has expired")


def _check_age(created: int | None, now: float) -> None:
    if created is None or abs(now - created) > SIGNATURE_AGE_S:
        raise SignatureRefused(
            f"the signature is not of now, by {SIGNATURE_AGE_S} seconds: set the clocks of both ends"
        )


def content_digest(body: bytes) -> str:
    """Return ``Content-Digest`` of a body as it travels, packed where it is packed."""
    return f"sha-256=:{to_text(hashlib.sha256(body).digest())}:"


def sign_request(
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
    key: PrivateKey,
    key_id: str,
    now: float,
) -> dict[str, str]:
    """Return the headers to add to a request.

    Args:
        method: In upper case.
        target: The path, and the query after ``?``, as they travel.
        headers: Those of the request; the session's and the number are among them.
        body: As it travels.
        key: Of the sender.
        key_id: The id of the sender's certificate.
        now: Epoch seconds.

    Raises:
        ValueError: A header that must be signed is missing, or cannot be.
    """
    return _sign(_request(method, target, headers), headers, body, SIGNED_OF_REQUEST, key, key_id, now)


def sign_answer(
    status: int, headers: Mapping[str, str], body: bytes, key: PrivateKey, key_id: str, now: float
) -> dict[str, str]:
    """Return the headers to add to an answer; see :func:`sign_request`."""
    return _sign(_Answer(status), headers, body, SIGNED_OF_ANSWER, key, key_id, now)


def verify_request(
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
    key_of: Callable[[str], PublicKey | None],
    now: float,
) -> str:
    """Return the id of the certificate whose holder signed a request.

    Args:
        method: As it came.
        target: The path, and the query after ``?``, as they came.
        headers: All of them; names in any case, one that came several times joined by ``, ``.
        body: As it came, packed where it is packed.
        key_of: Returns the key of a certificate by its id; None: it may not sign this.
        now: Epoch seconds.

    Raises:
        SignatureRefused: It is not signed, not so, not by such a key, or not now.
        DigestDiffers: The body is not what its digest says.
    """
    return _verify(_request(method, target, headers), headers, body, SIGNED_OF_REQUEST, key_of, now)


def verify_answer(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    key_of: Callable[[str], PublicKey | None],
    now: float,
) -> str:
    """Return the id of the certificate whose holder signed an answer; see :func:`verify_request`.

    That it is the answer to what was asked is for the caller to see: the session and the number are the
    request's.
    """
    return _verify(_Answer(status), headers, body, SIGNED_OF_ANSWER, key_of, now)


def signer_of(headers: Mapping[str, str]) -> str | None:
    """Return the id of the certificate that a message says it is signed with; None: it says none.

    Nothing of it is verified.
    """
    match = re.search(r';keyid="([A-Za-z0-9_.-]{1,128})"', _lower(headers).get("signature-input", ""))
    return None if match is None else match[1]


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _request(method: str, target: str, headers: Mapping[str, str]) -> _Request:
    if not target.startswith("/") or "#" in target:
        raise SignatureRefused("the address of the request is no path")
    return _Request(method, _HOST + target)


def _covered(fields: Mapping[str, str], components: Sequence[str]) -> list[str]:
    return [name for name in components if name not in _OPTIONAL or name in fields]


def _sign(
    message: _Request | _Answer,
    headers: Mapping[str, str],
    body: bytes,
    components: Sequence[str],
    key: PrivateKey,
    key_id: str,
    now: float,
) -> dict[str, str]:
    fields = message.headers = {**_lower(headers), "content-digest": content_digest(body)}
    covered = _covered(fields, components)
    parameters = plain_parameters(covered, int(now), key_id)
    base = None if parameters is None else plain_base(covered, message.derived(), fields, parameters)
    if parameters is not None and base is not None:
        made = headers_of(parameters, key.crypto.sign(base))
        return {"Content-Digest": fields["content-digest"], **made}
    signer = HTTPMessageSigner(signature_algorithm=algorithms.ED25519, key_resolver=_Keys(private=key.crypto))
    try:
        signer.sign(
            message,
            key_id=key_id,
            created=datetime.fromtimestamp(int(now), UTC),
            label=LABEL,
            tag=LABEL,
            covered_component_ids=covered,
            use_existing_digest=True,
        )
    except HTTPMessageSignaturesException as exc:
        raise ValueError(f"the message cannot be signed: {exc}") from exc
    return {
        "Content-Digest": message.headers["content-digest"],
        "Signature-Input": message.headers["Signature-Input"],
        "Signature": message.headers["Signature"],
    }


def _verify(
    message: _Request | _Answer,
    headers: Mapping[str, str],
    body: bytes,
    components: Sequence[str],
    key_of: Callable[[str], PublicKey | None],
    now: float,
) -> str:
    fields = message.headers = _lower(headers)
    key_id = _claimed(fields, components)
    key = key_of(key_id)
    if key is None:
        raise SignatureRefused("the signature is by a certificate that may not sign this")
    plain = read_plain(fields)
    covered = _covered(fields, components)
    base = None
    if plain is not None and plain.key_id == key_id and plain.names == listed(covered):
        base = plain_base(covered, message.derived(), fields, plain.parameters)
    if plain is not None and base is not None:
        _verify_plain(plain, base, key, now)
    else:
        _verify_other(message, covered, key, key_id, now)
    if not hmac.compare_digest(fields["content-digest"].encode(), content_digest(body).encode()):
        raise DigestDiffers("the body is not what its digest says")
    return key_id


def _verify_plain(plain: PlainSignature, base: bytes, key: PublicKey, now: float) -> None:
    """Verify a signature of the shape that livesync gives its own."""
    _check_age(plain.created, now)
    try:
        key.crypto.verify(plain.raw, base)
    except (NotSigned, ValueError):
        raise SignatureRefused(_ANOTHER) from None


def _verify_other(
    message: _Request | _Answer, covered: Sequence[str], key: PublicKey, key_id: str, now: float
) -> None:
    """Verify a signature of any shape that RFC 9421 has."""
    try:
        results = _Verifier(key, now).verify(message, max_age=None, expect_tag=LABEL)
    except InvalidSignature:
        raise SignatureRefused(_ANOTHER) from None
    if len(results) != 1:
        raise SignatureRefused(f"the message has several signatures tagged {LABEL}")
    found = results[0]
    needed = {f'"{name}"' for name in covered}
    missing = sorted(needed - found.covered_components.keys())
    if missing:
        raise SignatureRefused(f"the signature does not cover {', '.join(missing)}")
    if found.parameters.get("keyid") != key_id:
        raise SignatureRefused("the signature does not say which certificate it is by")


def _claimed(fields: Mapping[str, str], components: Sequence[str]) -> str:
    """Return the certificate that signs, after the cheap checks."""
    for name in ("signature-input", "signature", "content-digest"):
        if name not in fields:
            raise SignatureRefused(f"the message is not signed: it has no header {name}")
        if len(fields[name]) > _MAX_HEADER:
            raise SignatureRefused(f"the header {name} is too long")
    for name in components:
        if not name.startswith("@") and name not in _OPTIONAL and name not in fields:
            raise SignatureRefused(f"the message has no header {name}")
    if not _DIGEST.fullmatch(fields["content-digest"]):
        raise SignatureRefused("the digest of the body is one of SHA-256, in base64")
    key_id = signer_of(fields)
    if key_id is None:
        raise SignatureRefused("the signature does not say which certificate it is by")
    return key_id
