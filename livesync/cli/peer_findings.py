"""What ``livesync doctor`` says of certificates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import CertificateRefused, KeyUnusable, LiveSyncError
from .exitcodes import ExitCode
from .findings import Finding
from .peer_trust import keys_of
from .session import Session
from .tables import duration

if TYPE_CHECKING:
    from ..peering.keyring import KeyRing
    from ..peering.trust import Trust

#: A certificate that expires within so many seconds is a problem.
SOON_S = 30 * 86_400


def look_at_trust(session: Session, root: Any, now: float) -> Iterator[Finding]:
    """Look at the certificates whose keys are here: do they hold, how long still, can their keys be used?

    Args:
        session: Whose settings tell where the keys lie.
        root: The root of the database.
        now: Epoch seconds.
    """
    if "livesync.peering" not in root:
        return
    try:
        keys = keys_of(session)
        from ..peering.stored import find_trust
        from ..peering.trust import Trust

        trust = Trust(find_trust(root))
        chains = trust.own_chains(keys)
    except LiveSyncError as exc:
        yield Finding.problem("certificates", exc)
        return
    if not chains:
        yield Finding("certificates", f"{keys.directory} has the key of none: this site can sync with nobody")
    for chain in chains:
        yield _certificate(trust, keys, chain[-1].id, now)


def look_at_untaken(root: Any) -> Iterator[Finding]:
    """Look whether there are objects of the application that cannot be taken into two-way sync.

    Args:
        root: The root of the database.
    """
    if "livesync.replication" not in root:
        return
    from ..replication.stores.zodbstore import find_replica
    from ..replication.untaken import read

    for object_id, reason in read(find_replica(root).facts).items():
        text = f"object {object_id} cannot be taken, and does not travel: {reason}"
        yield Finding("two-way sync", text, ExitCode.DIFFERENT)


def _certificate(trust: Trust, keys: KeyRing, certificate_id: str, now: float) -> Finding:
    subject = f"certificate {certificate_id[:12]}"
    try:
        rights = trust.rights(certificate_id, now)
        keys.get(rights.public_key)
    except (CertificateRefused, KeyUnusable) as exc:
        return Finding.problem(subject, exc)
    left = min(each.not_after for each in rights.chain) - now
    if left < SOON_S:
        text = f"it, or one above it, expires in {duration(left)}: request a new one in time"
        return Finding(subject, text, ExitCode.DIFFERENT)
    return Finding(subject, f"holds for {duration(left)} more, and its key can be used")
