"""Revocations: a certificate holds no more, and so does nothing below it. Pure.

A revocation is signed by the holder of a certificate above the one it takes away, or by its own holder, who
may give up what was stolen. It carries the whole chain of what is revoked, so that whoever trusts the root
can check it, wherever it comes from, and hand it on, even if it has never met any of the others. What is
revoked stays revoked. A revocation is no longer needed once the certificate has expired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from ..errors import CertificateRefused
from .certificates import KIND as CERTIFICATE_KIND
from .certificates import LAST_TIME, Certificate, read_text, text_id, write_text
from .chains import MAX_CHAIN, read_chain, verify_signatures
from .keys import PrivateKey, from_text, to_text
from .wire import Signed

#: The kind of text that a revocation is, for its signature.
KIND: Final = "revocation 1"

#: Characters of a revocation's text, and of its reason, at most.
MAX_TEXT: Final = 120_000
MAX_REASON: Final = 500


class _Link(Struct, frozen=True, forbid_unknown_fields=True):
    signature: Annotated[str, Meta(max_length=200)]
    text: str


class _RevocationText(Struct, frozen=True, forbid_unknown_fields=True):
    chain: Annotated[list[_Link], Meta(min_length=1, max_length=MAX_CHAIN)]
    format: Literal[1]
    reason: Annotated[str, Meta(max_length=MAX_REASON)]
    revoked_at: Annotated[int, Meta(ge=0, le=LAST_TIME)]
    signer: str


@dataclass(frozen=True)
class Revocation:
    """A certificate was taken away. One that is read is verified, but for whether its root is trusted.

    Attributes:
        text: What is signed.
        signature: By the signer: 64 bytes.
        chain: Of what is revoked, which is the last one; the root first.
        signer: The id of the certificate whose holder signed, one of the chain.
        revoked_at: Epoch seconds, as the signer says.
        reason: For people.
    """

    text: str
    signature: bytes
    chain: tuple[Certificate, ...]
    signer: str
    revoked_at: int
    reason: str

    @classmethod
    def read(cls, signed: Signed) -> Revocation:
        """Return the revocation of a signed text.

        Raises:
            CertificateRefused: It is none, its chain does not hold, or it is not signed by one of it.
        """
        form = read_text(signed.text, _RevocationText, MAX_TEXT, "revocation")
        chain = read_chain([Signed(text=link.text, signature=link.signature) for link in form.chain])
        verify_signatures(chain)
        signer = next((each for each in chain if each.id == form.signer), None)
        if signer is None:
            raise CertificateRefused(f"certificate {chain[-1].id} is revoked by one that is not above it")
        try:
            signature = from_text(signed.signature)
        except ValueError:
            raise CertificateRefused("the signature of a revocation is no base64") from None
        if not signer.public_key.is_signed(KIND, signed.text, signature):
            raise CertificateRefused(
                f"the revocation of certificate {chain[-1].id} is not signed by whom it says"
            )
        return cls(signed.text, signature, tuple(chain), form.signer, form.revoked_at, form.reason)

    @property
    def signer_depth(self) -> int:
        """How far the signer is from the root: 0 is the root itself."""
        return [each.id for each in self.chain].index(self.signer)

    @property
    def certificate(self) -> Certificate:
        """What is revoked."""
        return self.chain[-1]

    @property
    def profile(self) -> str:
        """The profile."""
        return self.certificate.profile

    @property
    def root_id(self) -> str:
        """The id of the root above what is revoked."""
        return self.chain[0].id

    @property
    def signed(self) -> Signed:
        """As it travels."""
        return Signed(text=self.text, signature=to_text(self.signature))

    def is_needed(self, now: float) -> bool:
        """Tell whether the certificate would be valid, now or later, if it were not revoked."""
        return now <= self.certificate.not_after

    def __repr__(self) -> str:
        return f"<Revocation of {self.certificate.id} by {self.signer}>"


def ends_of(signed: Signed) -> tuple[str, str]:
    """Return the ids of the root and of what a revocation takes away; nothing of it is verified.

    Raises:
        CertificateRefused: It has another form.
    """
    form = read_text(signed.text, _RevocationText, MAX_TEXT, "revocation")
    root, revoked = (text_id(CERTIFICATE_KIND, form.chain[end].text) for end in (0, -1))
    return root, revoked


def revoke(
    chain: tuple[Certificate, ...], signer: Certificate, key: PrivateKey, now: float, reason: str = ""
) -> Revocation:
    """Return the revocation of the last certificate of a chain.

    Args:
        chain: The root first.
        signer: One of the chain.
        key: The signer's.
        now: Epoch seconds.
        reason: For people; everybody who trusts the root can read it.

    Raises:
        ValueError: The signer is none of the chain, or the key is not the signer's; the reason is too long.
        CertificateRefused: The chain does not hold, or is too long to be written down.
    """
    if signer not in chain:
        raise ValueError("a certificate is revoked by one above it, or by itself")
    if key.public != signer.public_key:
        raise ValueError("this is not the key of the signer")
    if len(reason) > MAX_REASON:
        raise ValueError(f"a reason has at most {MAX_REASON} characters")
    links = [_Link(text=each.text, signature=to_text(each.signature)) for each in chain]
    text = write_text(
        _RevocationText(chain=links, format=1, reason=reason, revoked_at=int(now), signer=signer.id)
    )
    return Revocation.read(Signed(text=text, signature=to_text(key.sign(KIND, text))))
