"""Certificates: who may exchange what, signed by the one above. Pure.

A certificate says that the holder of a public key has a scope of a profile, from a time to a time. The one
above it in its chain, its *parent*, has signed it; the topmost one, the *root*, has signed itself, and is
trusted because somebody said so. What is signed is exactly the text that travels and is stored: JSON, keys
sorted, no spaces, UTF-8. Its id is a digest of that text, so no two certificates have the same id, and
nothing in one can be changed. The text holds the scope's definition, not just its name, so that all who read
it read the same.

Whether one holds tells only the chain above it: ``chains.py``. How they are made: ``issuing.py``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from ..errors import CertificateExpired, CertificateRefused, ProfileDiffers
from ..forms import decode_json
from .keys import PublicKey, from_text, to_text
from .scopes import MAX_PARAM, MAX_TEMPLATE, Scope, ScopeDefinition
from .wire import Signed

#: The kind of text that a certificate is, for its signature.
KIND: Final = "certificate 1"

#: Characters of a certificate's text, at most.
MAX_TEXT: Final = 6_000

_SIGNATURE_BYTES: Final = 64
#: The end of the year 9999, in epoch seconds.
LAST_TIME: Final = 253_402_300_799

_LongText = Annotated[str, Meta(max_length=MAX_TEMPLATE)]
_ShortText = Annotated[str, Meta(max_length=MAX_PARAM)]
_Time = Annotated[int, Meta(ge=0, le=LAST_TIME)]


class DefinitionText(Struct, frozen=True, forbid_unknown_fields=True):
    """A scope definition within a certificate's text."""

    id: _ShortText
    profile: _ShortText
    version: Annotated[int, Meta(ge=1, le=2**31)]
    primary_scope_param_key: _ShortText
    description: _LongText
    read_filter_template: _LongText
    write_filter_template: _LongText
    read_write_filter_template: _LongText


class CertificateText(Struct, frozen=True, forbid_unknown_fields=True):
    """What a certificate's text holds."""

    format: Literal[1]
    not_after: _Time
    not_before: _Time
    parent: Annotated[str, Meta(pattern=r"\A([0-9a-f]{32})?\Z")]
    profile: _ShortText
    public_key: _ShortText
    salt: _ShortText
    scope_definition: DefinitionText
    scope_params: Annotated[dict[str, _ShortText], Meta(max_length=100)]


@dataclass(frozen=True)
class Certificate:
    """One certificate, written in the right way; only its chain tells whether it holds.

    Attributes:
        text: What is signed.
        signature: By the parent, or a root's own: 64 bytes.
        id: 32 hexadecimal digits, a digest of the text.
        parent: The parent's id; "" of a root.
        profile: The profile.
        public_key: The holder's.
        scope_definition: The definition of its scope.
        scope_params: The values of its parameters.
        salt: Random, or the nonce under which it was pushed.
        not_before, not_after: Epoch seconds, both within.
    """

    text: str
    signature: bytes
    id: str
    parent: str
    profile: str
    public_key: PublicKey
    scope_definition: ScopeDefinition
    scope_params: Mapping[str, str]
    salt: str
    not_before: int
    not_after: int

    @classmethod
    def read(cls, signed: Signed) -> Certificate:
        """Return the certificate of a signed text.

        Raises:
            CertificateRefused: It is none.
        """
        try:
            signature = from_text(signed.signature)
        except ValueError:
            raise CertificateRefused("the signature of a certificate is no base64") from None
        return cls.deserialize(signed.text, signature)

    @classmethod
    def deserialize(cls, text: str, signature: bytes) -> Certificate:
        """Return the certificate of a text and its signature.

        Raises:
            CertificateRefused: It is none.
        """
        if len(signature) != _SIGNATURE_BYTES:
            raise CertificateRefused(f"the signature of a certificate has {_SIGNATURE_BYTES} bytes")
        form = read_text(text, CertificateText, MAX_TEXT, "certificate")
        try:
            definition = ScopeDefinition(**msgspec.structs.asdict(form.scope_definition))
            definition.get_scope(form.scope_params)
            public_key = PublicKey.read(form.public_key)
        except ValueError as exc:
            raise CertificateRefused(f"this is no certificate: {exc}") from exc
        if definition.profile != form.profile:
            raise ProfileDiffers("this is no certificate: its scope definition is of another profile")
        return cls(
            text,
            signature,
            text_id(KIND, text),
            form.parent,
            form.profile,
            public_key,
            definition,
            form.scope_params,
            form.salt,
            form.not_before,
            form.not_after,
        )

    @property
    def signed(self) -> Signed:
        """As it travels."""
        return Signed(text=self.text, signature=to_text(self.signature))

    @property
    def is_root(self) -> bool:
        """Whether nothing is above it."""
        return not self.parent

    @property
    def scope_definition_id(self) -> str:
        """The id of its scope's definition."""
        return self.scope_definition.id

    @property
    def scope_version(self) -> int:
        """The version of its scope's definition."""
        return self.scope_definition.version

    @cached_property
    def scope(self) -> Scope:
        """What it allows."""
        return self.scope_definition.get_scope(self.scope_params)

    def get_scope(self) -> Scope:
        """Return what it allows."""
        return self.scope

    @property
    def root_fingerprint(self) -> str:
        """What the primary parameter of a root with this key, profile and salt is."""
        return root_fingerprint(self.public_key, self.profile, self.salt)

    @property
    def rules_its_own(self) -> bool:
        """Whether all that it allows lies below its own fingerprint: nobody else can make such a root."""
        key = self.scope_definition.primary_scope_param_key
        return bool(key) and self.scope.lies_below(self.root_fingerprint)

    def check_time(self, now: float) -> None:
        """Check that it is valid at ``now`` (epoch seconds).

        Raises:
            CertificateExpired: It is not.
        """
        if now < self.not_before:
            raise CertificateExpired(f"certificate {self.id} is not valid yet: set the clocks")
        if now > self.not_after:
            raise CertificateExpired(f"certificate {self.id} has expired: request a new one")

    def __repr__(self) -> str:
        return f"<Certificate {self.id} {self.profile} {self.scope!r}>"


def root_fingerprint(public_key: PublicKey, profile: str, salt: str) -> str:
    """Return what the primary parameter of a root is: 32 hexadecimal digits."""
    return text_id("root", f"{public_key}\n{profile}\n{salt}")


def text_id(kind: str, text: str) -> str:
    """Return the id of a signed text: 32 hexadecimal digits."""
    return hashlib.sha256(f"livesync {kind}\n{text}".encode()).hexdigest()[:32]


def write_text(form: Struct) -> str:
    """Return the one right text of a form: JSON, keys sorted, no spaces."""
    return msgspec.json.encode(form, order="sorted").decode()


def read_text(text: str, form: type[Any], limit: int, what: str) -> Any:
    """Return the form of a text that is written in the one right way.

    Raises:
        CertificateRefused: It is not, or is longer than ``limit`` characters.
    """
    if len(text) > limit:
        raise CertificateRefused(f"this is no {what}: it has more than {limit:,} characters")
    try:
        found = decode_json(text.encode(), form)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
        raise CertificateRefused(f"this is no {what}: it has another form") from exc
    if write_text(found) != text:
        raise CertificateRefused(f"this is no {what}: it is not written in the one right way")
    return found
