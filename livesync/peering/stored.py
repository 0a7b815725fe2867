"""What trust keeps in the ZODB: trees of plain values in one persistent object.

Its import path never changes, and what lies in the trees are text, numbers, bytes and tuples, so that later
versions can read it (promise 15); no library but ZODB's is needed to load it. Each fact has a key of its own,
so that several processes write at the same time; where two split the same bucket, one of them goes again. No
private key is here.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import Any, Final

from BTrees.OOBTree import OOBTree, OOTreeSet
from persistent import Persistent

from ..errors import NotInstalled, check_schema
from .nonces import SECRET_BYTES
from .randomness import Random

#: Where it lies in a database's root.
ROOT_KEY: Final = "livesync.peering"

#: How long after it has expired a revocation, or a used nonce, is kept, in seconds.
KEPT_S: Final = 86_400

#: What ``StoredTrust.schema`` is for data of this code.
SCHEMA: Final = 1


class StoredTrust(Persistent):
    """Whom one database believes, and what it knows of certificates.

    Attributes:
        certificates: id -> (text, signature).
        holders: (fingerprint of the public key, id) of each certificate.
        definitions: (profile, id, version) -> the other fields, in order, as a tuple.
        roots: Ids of the roots that are trusted.
        revocations: id of what is revoked -> (text, signature, profile, the signer's distance from the root,
            epoch seconds of the revocation).
        revoked: id of what is revoked -> epoch seconds until which it must be known. It has just the keys of
            ``revocations``, and is what each request looks at.
        used_nonces: (expires, value) of nonces that were used.
        facts: Single values by name: ``secret`` makes nonces, ``shared_key`` is the public key that
            certificates are pushed for.
    """

    def __init__(self, random: Random = os.urandom) -> None:
        self.schema = SCHEMA
        self.certificates = OOBTree()
        self.holders = OOTreeSet()
        self.definitions = OOBTree()
        self.roots = OOTreeSet()
        self.revocations = OOBTree()
        self.revoked = OOBTree()
        self.used_nonces = OOTreeSet()
        self.facts = OOBTree()
        self.facts["secret"] = random(SECRET_BYTES)


def find_trust(root: Any) -> StoredTrust:
    """Return what trust keeps in the database whose ``root`` this is.

    Raises:
        NotInstalled: There is nothing.
        UpgradeNeeded: It was written by a newer livesync.
    """
    found = root.get(ROOT_KEY)
    if found is None:
        raise NotInstalled("this database has no peers yet: livesync peer init")
    if not isinstance(found, StoredTrust):
        raise NotInstalled(f"what lies under {ROOT_KEY!r} in this database is not livesync's")
    check_schema("the stored schema of certificates", found.schema, SCHEMA)
    return found


def make_trust(root: Any, random: Random = os.urandom) -> StoredTrust:
    """Return what trust keeps in a database, made where there is nothing, within the caller's transaction.

    Raises:
        NotInstalled, UpgradeNeeded: As :func:`find_trust` does.
    """
    if ROOT_KEY not in root:
        root[ROOT_KEY] = StoredTrust(random)
    return find_trust(root)


def forget_expired(stored: StoredTrust, now: float, limit: int = 10_000) -> int:
    """Drop what nobody needs: used nonces and revocations that have long expired.

    Args:
        stored: What trust keeps, within the caller's transaction.
        now: Epoch seconds.
        limit: How many of each at once.

    Returns:
        How many were dropped.
    """
    until = now - KEPT_S
    nonces = list(islice(stored.used_nonces.keys(None, (until,)), limit))
    for nonce in nonces:
        stored.used_nonces.remove(nonce)
    expired = list(islice((key for key, needed in stored.revoked.items() if needed < until), limit))
    for certificate_id in expired:
        del stored.revoked[certificate_id]
        del stored.revocations[certificate_id]
    return len(nonces) + len(expired)
