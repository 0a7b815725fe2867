"""What the holder of a verified chain of certificates may do, and what two of them may exchange."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import CertificateRevoked, ProfileDiffers, ScopeExceeded
from .keys import PublicKey
from .scopes import Filter

if TYPE_CHECKING:
    from .certificates import Certificate


@dataclass(frozen=True, slots=True)
class Rights:
    """The rights of the last certificate of a chain; :func:`~.certificates.verify_chain` makes them.

    Attributes:
        chain: The root first.
    """

    chain: tuple[Certificate, ...]

    @property
    def certificate(self) -> Certificate:
        """The last one: whose rights these are."""
        return self.chain[-1]

    @property
    def certificate_id(self) -> str:
        """Its id, which is the ``keyid`` of what its holder signs."""
        return self.certificate.id

    @property
    def public_key(self) -> PublicKey:
        """The holder's key."""
        return self.certificate.public_key

    @property
    def profile(self) -> str:
        """The profile."""
        return self.certificate.profile

    @property
    def read_filter(self) -> Filter:
        """What the holder may be sent."""
        return self.certificate.scope.read_filter

    @property
    def write_filter(self) -> Filter:
        """What the holder may send."""
        return self.certificate.scope.write_filter

    def may_read(self, partition: str) -> bool:
        """Tell whether the holder may be sent what lies in ``partition``."""
        return self.read_filter.contains_partition(partition)

    def may_write(self, partition: str) -> bool:
        """Tell whether what lies in ``partition`` is believed when the holder sends it."""
        return self.write_filter.contains_partition(partition)

    def check(self, now: float, revoked: Container[str]) -> None:
        """Check that they still hold: at the start of a session, and at each of its requests.

        Args:
            now: Epoch seconds.
            revoked: Ids of certificates that were revoked.

        Raises:
            CertificateExpired: A certificate of the chain is not valid now.
            CertificateRevoked: One was revoked.
        """
        for certificate in self.chain:
            if certificate.id in revoked:
                raise CertificateRevoked(f"certificate {certificate.id} was revoked")
        for certificate in self.chain:
            certificate.check_time(now)

    def __repr__(self) -> str:
        return f"<Rights of {self.certificate!r}>"


def may_flow(sender: Rights, receiver: Rights) -> Filter:
    """Return what may go from one to the other: what the one may write, and the other read.

    Raises:
        ProfileDiffers: They are of different profiles.
    """
    if sender.profile != receiver.profile:
        raise ProfileDiffers(f"one certificate is of profile {sender.profile}, one of {receiver.profile}")
    return sender.write_filter & receiver.read_filter


def check_flow(asked: Filter, sender: Rights, receiver: Rights) -> Filter:
    """Return ``asked``, the filter of a transfer.

    Raises:
        ScopeExceeded: It is wider than what may flow, or contains nothing.
        ProfileDiffers: They are of different profiles.
    """
    if not asked:
        raise ScopeExceeded("a filter without a prefix asks for nothing")
    allowed = may_flow(sender, receiver)
    for prefix in asked:
        if not allowed.contains_partition(prefix):
            raise ScopeExceeded(f"the certificates do not allow to send {prefix or 'everything'} this way")
    return asked
