"""Whom a database believes: its roots, certificates, scope definitions, revocations and nonces.

``Trust`` works within a transaction of the caller's; ``TrustStore`` gives it one. Nothing is kept that was
not verified first: what lies in the store needs no second look but at the time and at revocations.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, TypeVar

from ..database import committed, connected
from ..errors import CertificateRefused, NonceRefused, UnknownCertificate, UnknownScope, UsageError
from .certificates import Certificate
from .chains import verify_chain
from .keyring import KeyRing
from .keys import PublicKey, to_text
from .nonces import Nonce, check_nonce, make_nonce
from .randomness import Random
from .revocation import Revocation, ends_of
from .rights import Rights
from .scopes import ScopeDefinition
from .stored import StoredTrust, find_trust, forget_expired, make_trust
from .wire import Signed

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Revocations that are sent at once, and characters that they have together, at most.
MAX_SENT = 1_000
MAX_SENT_CHARACTERS = 3_000_000


class Trust:
    """Whom a database believes, within the current transaction.

    Args:
        stored: What lies in the database: of :func:`~livesync.peering.stored.find_trust`.
        random: Returns random bytes.
    """

    def __init__(self, stored: StoredTrust, random: Random = os.urandom) -> None:
        self._stored = stored
        self._random = random

    # -- scope definitions -----------------------------------------------------------------------

    def add_definition(self, definition: ScopeDefinition) -> bool:
        """Keep a scope definition; tell whether it is new.

        Raises:
            UsageError: There is another one of this profile, id and version.
        """
        key = (definition.profile, definition.id, definition.version)
        rest = (
            definition.primary_scope_param_key,
            definition.description,
            definition.read_filter_template,
            definition.write_filter_template,
            definition.read_write_filter_template,
        )
        kept = self._stored.definitions.get(key)
        if kept is None:
            self._stored.definitions[key] = rest
        elif kept != rest:
            raise UsageError(
                f"there is another version {definition.version} of scope {definition.id}: give this one a new"
                " version"
            )
        return kept is None

    def definitions(self, profile: str | None = None) -> list[ScopeDefinition]:
        """Return all scope definitions, of one profile or of all, in the order of profile, id and version."""
        return [
            _definition(key, rest)
            for key, rest in self._stored.definitions.items()
            if profile in (None, key[0])
        ]

    def definition(self, profile: str, definition_id: str, version: int | None = None) -> ScopeDefinition:
        """Return a scope definition.

        Args:
            profile: Its profile.
            definition_id: Its id.
            version: None: the newest.

        Raises:
            UnknownScope: There is none.
        """
        found = [
            definition
            for definition in self.definitions(profile)
            if definition.id == definition_id and version in (None, definition.version)
        ]
        if not found:
            raise UnknownScope(f"there is no scope definition {definition_id!r} of profile {profile!r}")
        return found[-1]

    # -- certificates ----------------------------------------------------------------------------

    @property
    def revoked(self) -> Container[str]:
        """Ids of the certificates that were revoked: for :meth:`~livesync.peering.rights.Rights.check`."""
        found: Container[str] = self._stored.revoked
        return found

    @property
    def roots(self) -> frozenset[str]:
        """Ids of the roots that are trusted."""
        return frozenset(self._stored.roots)

    def trust_root(self, certificate_id: str) -> None:
        """Believe a root, and what is below it."""
        self._stored.roots.insert(certificate_id)

    def distrust_root(self, certificate_id: str) -> None:
        """Believe a root no more, nor what is below it."""
        if certificate_id in self._stored.roots:
            self._stored.roots.remove(certificate_id)

    def verify(self, chain: Sequence[Certificate], now: float, profile: str | None = None) -> Rights:
        """Return the rights of the last certificate of a chain that holds here; nothing is kept.

        Raises:
            CertificateRefused: It does not hold.
        """
        return verify_chain(chain, now=now, roots=self._stored.roots, revoked=self.revoked, profile=profile)

    def save_chain(
        self, chain: Sequence[Certificate], now: float, profile: str | None = None, trust_root: bool = False
    ) -> Rights:
        """Keep a chain that holds, and the scope definitions in it, and return its rights.

        A definition that is another one here under the same version is left as it is: a certificate holds
        by its own.

        Args:
            chain: The root first.
            now: Epoch seconds.
            profile: Of which it must be; None: of any one.
            trust_root: Believe its root from now on.

        Raises:
            CertificateRefused: It does not hold; nothing is kept.
        """
        roots = self.roots | {chain[0].id} if trust_root and chain else self.roots
        rights = verify_chain(chain, now=now, roots=roots, revoked=self.revoked, profile=profile)
        if trust_root:
            self.trust_root(chain[0].id)
        for certificate in chain:
            if certificate.id not in self._stored.certificates:
                self._stored.certificates[certificate.id] = (certificate.text, certificate.signature)
                self._stored.holders.insert((certificate.public_key.fingerprint, certificate.id))
            definition = certificate.scope_definition
            if (definition.profile, definition.id, definition.version) not in self._stored.definitions:
                self.add_definition(definition)
        return rights

    def certificate(self, certificate_id: str) -> Certificate:
        """Return a certificate.

        Raises:
            UnknownCertificate: There is none.
        """
        kept = self._stored.certificates.get(certificate_id)
        if kept is None:
            raise UnknownCertificate(
                f"there is no certificate {certificate_id!r}; `livesync peer cert list` shows those there are"
            )
        return Certificate.deserialize(*kept)

    def find(self, beginning: str) -> Certificate:
        """Return the certificate whose id begins so, and no other one's.

        Raises:
            UnknownCertificate: There is none, or there are several.
        """
        found = list(self._stored.certificates.keys(beginning, beginning + "g"))
        if beginning not in found and (not beginning or len(found) != 1):
            what = "several certificates begin" if beginning and found else "no certificate begins"
            raise UnknownCertificate(
                f"{what} with {beginning!r}; `livesync peer cert list` shows those there are"
            )
        return self.certificate(beginning if beginning in found else found[0])

    def chain(self, certificate_id: str) -> tuple[Certificate, ...]:
        """Return the chain of a certificate, the root first.

        Raises:
            UnknownCertificate: There is none.
        """
        found = [self.certificate(certificate_id)]
        while not found[0].is_root:
            found.insert(0, self.certificate(found[0].parent))
        return tuple(found)

    def certificates(self, profile: str | None = None) -> list[Certificate]:
        """Return all certificates, of one profile or of all, by id."""
        found = [Certificate.deserialize(*kept) for kept in self._stored.certificates.values()]
        return [certificate for certificate in found if profile in (None, certificate.profile)]

    def own_chains(self, keys: KeyRing, profile: str | None = None) -> list[tuple[Certificate, ...]]:
        """Return the chains of the certificates whose keys are here; those of others cost nothing."""
        ids = [
            certificate_id
            for fingerprint in keys.fingerprints()
            for _, certificate_id in self._stored.holders.keys((fingerprint, ""), (fingerprint, "g"))
        ]
        chains = map(self.chain, ids)
        return [chain for chain in chains if profile in (None, chain[-1].profile)]

    def rights(self, certificate_id: str, now: float) -> Rights:
        """Return the rights of a certificate that is kept here; its signatures were verified before.

        Raises:
            UnknownCertificate: There is none.
            CertificateRefused: It does not hold any more.
        """
        rights = Rights(self.chain(certificate_id))
        if rights.chain[0].id not in self._stored.roots:
            raise CertificateRefused(f"root {rights.chain[0].id} is not trusted here")
        rights.check(now, self.revoked)
        return rights

    # -- nonces ----------------------------------------------------------------------------------

    def issue_nonce(self, client: str, now: float) -> Nonce:
        """Return a new nonce for a client; nothing is written."""
        return make_nonce(self._stored.facts["secret"], client, now, self._random)

    def use_nonce(self, value: str, client: str, now: float) -> Nonce:
        """Use up a nonce. Two transactions cannot both do so: one of them goes again, and is refused.

        Raises:
            NonceRefused: It is none of this server's for this client, has expired, or was used.
        """
        nonce = check_nonce(self._stored.facts["secret"], value, client, now)
        if not self._stored.used_nonces.insert((nonce.expires, nonce.value)):
            raise NonceRefused("the nonce was used: ask for a new one")
        return nonce

    # -- revocations -----------------------------------------------------------------------------

    def take_revocations(self, signed: Iterable[Signed], now: float) -> list[Revocation]:
        """Take in revocations: before anything else of a session, from whomever they come.

        Those that are known, that nobody needs any more, or whose root is not trusted here are passed over.

        Returns:
            Those that are new.

        Raises:
            CertificateRefused: One is none; nothing is to be kept then.
        """
        taken = []
        for each in signed:
            root, revoked = ends_of(each)
            # a stranger's costs no signature
            if root in self._stored.roots and revoked not in self._stored.revoked:
                revocation = Revocation.read(each)
                if revocation.is_needed(now):
                    self.keep_revocation(revocation)
                    taken.append(revocation)
        return taken

    def keep_revocation(self, revocation: Revocation) -> None:
        """Keep a revocation; where there is one of the same certificate, that one stays."""
        revoked = revocation.certificate.id
        if revoked not in self._stored.revoked:
            self._stored.revocations[revoked] = (
                revocation.text,
                revocation.signature,
                revocation.profile,
                revocation.signer_depth,
                revocation.revoked_at,
            )
            self._stored.revoked[revoked] = revocation.certificate.not_after

    def revocations(self, profile: str | None = None) -> list[Revocation]:
        """Return all revocations, of one profile or of all, in the order in which they are told."""
        return [Revocation.read(each) for each in self.pending(profile)]

    def pending(self, profile: str | None, known: Container[str] = ()) -> list[Signed]:
        """Return the revocations that a peer is to be told before anything else.

        Those that are signed close to the root come first, then the newest: should there be more than are
        sent, nobody further down can push these out.

        Args:
            profile: Of the session; None: of all.
            known: Ids of revoked certificates of which the peer has told itself.
        """
        found = [
            kept
            for revoked, kept in self._stored.revocations.items()
            if profile in (None, kept[2]) and revoked not in known
        ]
        found.sort(key=lambda kept: (kept[3], -kept[4], kept[1]))
        sent: list[Signed] = []
        characters = 0
        for text, signature, *_ in found:
            characters += len(text)
            if len(sent) == MAX_SENT or characters > MAX_SENT_CHARACTERS:
                logger.warning("a peer is told %d of %d revocations", len(sent), len(found))
                break
            sent.append(Signed(text=text, signature=to_text(signature)))
        return sent

    # -- the key that certificates are pushed for ------------------------------------------------

    @property
    def shared_key(self) -> PublicKey | None:
        """The public key that certificates may be pushed for; None: there is none yet."""
        text = self._stored.facts.get("shared_key")
        return None if text is None else PublicKey.read(text)

    def share_key(self, public: PublicKey) -> None:
        """Make this the key that certificates are pushed for. The private one is in the key ring before."""
        self._stored.facts["shared_key"] = str(public)

    # -- upkeep ----------------------------------------------------------------------------------

    def forget(self, now: float, limit: int = 10_000) -> int:
        """Drop what nobody needs; see :func:`~livesync.peering.stored.forget_expired`."""
        return forget_expired(self._stored, now, limit)


def _definition(key: tuple[str, str, int], rest: tuple[str, ...]) -> ScopeDefinition:
    profile, definition_id, version = key
    return ScopeDefinition(definition_id, profile, version, *rest)


class TrustStore:
    """Whom a database believes; each call is a transaction of its own.

    Args:
        db: An open ``ZODB.DB``.
        create: Make what is kept where there is nothing.
        random: Returns random bytes.

    Raises:
        NotInstalled: There is nothing, and ``create`` is False.
        UpgradeNeeded: It was written by a newer livesync.
    """

    def __init__(self, db: Any, create: bool = False, random: Random = os.urandom) -> None:
        self.db = db
        self._random = random
        if create:
            committed(db, lambda root: make_trust(root, random) and None)
        else:
            self.read(lambda trust: None)

    def run(self, work: Callable[[Trust], T]) -> T:
        """Carry out ``work`` and commit; again where it conflicts."""
        return committed(self.db, lambda root: work(Trust(find_trust(root), self._random)))

    def read(self, work: Callable[[Trust], T]) -> T:
        """Carry out ``work`` on a snapshot."""
        with connected(self.db) as root:
            return work(Trust(find_trust(root), self._random))
