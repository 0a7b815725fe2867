"""Chains of certificates: when what one says is believed. Pure.

A chain begins with a root and ends with the certificate of whoever shows it. It holds when each certificate
is written in the one right way, and signed by the key of the one before it, which it names; all are of one
profile; the scope of each is a subset of that of the one before; a root whose definition has a primary
parameter rules only over what lies below its own fingerprint; the root is trusted; all are valid now; and
none was revoked. Nothing in it costs more than a signature before the signatures hold.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Final

from ..errors import CertificateRefused, ProfileDiffers
from .certificates import KIND, Certificate
from .keys import PublicKey
from .rights import Rights
from .wire import Signed

#: How many certificates a chain has at most.
MAX_CHAIN: Final = 16


def verify_chain(
    chain: Sequence[Certificate],
    *,
    now: float,
    roots: Container[str],
    revoked: Container[str] = (),
    profile: str | None = None,
) -> Rights:
    """Return the rights of the last certificate of a chain that holds.

    Args:
        chain: The root first.
        now: Epoch seconds.
        roots: Ids of the roots that are trusted.
        revoked: Ids of certificates that were revoked.
        profile: Of which it must be; None: of any one.

    Raises:
        CertificateRefused: It does not hold; its subclasses say how.
    """
    verify_signatures(chain)
    if profile is not None and chain[0].profile != profile:
        raise ProfileDiffers(f"the certificates are of profile {chain[0].profile}, not {profile}")
    if chain[0].id not in roots:
        raise CertificateRefused(f"root {chain[0].id} is not trusted here")
    rights = Rights(tuple(chain))
    rights.check(now, revoked)
    return rights


def verify_signatures(chain: Sequence[Certificate]) -> None:
    """Check all of a chain but whether it is trusted, valid now and not revoked.

    Raises:
        CertificateRefused: It does not hold.
    """
    if not chain:
        raise CertificateRefused("a chain has at least one certificate")
    if len(chain) > MAX_CHAIN:
        raise CertificateRefused(f"a chain has at most {MAX_CHAIN} certificates")
    root = chain[0]
    if not root.is_root:
        raise CertificateRefused("a chain begins with a root")
    _check_signature(root, root)
    check_own(root)
    for parent, child in pairwise(chain):
        if child.parent != parent.id:
            raise CertificateRefused(f"certificate {child.id} is not the child of the one before it")
        _check_signature(parent, child)
        check_step(parent, child)


def _check_signature(parent: Certificate, child: Certificate) -> None:
    try:
        _verify(parent.public_key, child.text, child.signature)
    except ValueError:
        raise CertificateRefused(f"certificate {child.id} is not signed by the one above it") from None


@lru_cache(maxsize=64)
def _verify(key: PublicKey, text: str, signature: bytes) -> None:
    """Verify a certificate's signature; one that holds is not verified again and again.

    Raises:
        ValueError: It does not hold; nothing is kept of that.
    """
    if not key.is_signed(KIND, text, signature):
        raise ValueError("the signature does not hold")


def check_own(root: Certificate) -> None:
    """Check that a root with a primary parameter rules only over its own.

    Raises:
        CertificateRefused: It does not.
    """
    key = root.scope_definition.primary_scope_param_key
    if key and root.scope_params.get(key) != root.root_fingerprint:
        raise CertificateRefused(f"the primary parameter of root {root.id} is not its own fingerprint")
    if key and not root.rules_its_own:
        raise CertificateRefused(f"the scope of root {root.id} is not all below its own fingerprint")


def check_step(parent: Certificate, child: Certificate) -> None:
    """Check that a certificate allows no more than the one above it.

    Raises:
        CertificateRefused: It does.
    """
    if child.profile != parent.profile:
        raise ProfileDiffers(f"certificate {child.id} is of another profile than the one above it")
    if not child.scope.is_subset_of(parent.scope):
        raise CertificateRefused(f"certificate {child.id} allows more than the one above it")


def read_chain(signed: Sequence[Signed]) -> list[Certificate]:
    """Return the certificates of a chain as it travelled; nothing of it is verified.

    Raises:
        CertificateRefused: One is no certificate, or there are too many.
    """
    if len(signed) > MAX_CHAIN:
        raise CertificateRefused(f"a chain has at most {MAX_CHAIN} certificates")
    return [Certificate.read(each) for each in signed]
