"""Who may exchange what, over a network: partitions and filters, identities, certificates, sessions.

The public names of trust, each loaded at first use. (A ``Filter`` here is one of partitions; that of
``livesync.replication`` is one of fields.)
"""

from typing import TYPE_CHECKING

from ..imports import at_first_use as _at_first_use

if TYPE_CHECKING:
    from .certificates import Certificate as Certificate
    from .chains import verify_chain as verify_chain
    from .issuing import generate_root_certificate as generate_root_certificate
    from .issuing import sign_certificate as sign_certificate
    from .keyring import KeyRing as KeyRing
    from .keys import PrivateKey as PrivateKey
    from .keys import PublicKey as PublicKey
    from .nonces import Nonce as Nonce
    from .revocation import Revocation as Revocation
    from .revocation import revoke as revoke
    from .rights import Rights as Rights
    from .scopes import Filter as Filter
    from .scopes import Scope as Scope
    from .scopes import ScopeDefinition as ScopeDefinition
    from .signing import SharedKey as SharedKey
    from .trust import Trust as Trust
    from .trust import TrustStore as TrustStore

_HOMES = {
    "Certificate": "certificates",
    "Filter": "scopes",
    "KeyRing": "keyring",
    "Nonce": "nonces",
    "PrivateKey": "keys",
    "PublicKey": "keys",
    "Revocation": "revocation",
    "Rights": "rights",
    "Scope": "scopes",
    "ScopeDefinition": "scopes",
    "SharedKey": "signing",
    "Trust": "trust",
    "TrustStore": "trust",
    "generate_root_certificate": "issuing",
    "revoke": "revocation",
    "sign_certificate": "issuing",
    "verify_chain": "chains",
}

__all__ = [
    "Certificate",
    "Filter",
    "KeyRing",
    "Nonce",
    "PrivateKey",
    "PublicKey",
    "Revocation",
    "Rights",
    "Scope",
    "ScopeDefinition",
    "SharedKey",
    "Trust",
    "TrustStore",
    "generate_root_certificate",
    "revoke",
    "sign_certificate",
    "verify_chain",
]

__getattr__, __dir__ = _at_first_use(__name__, _HOMES, globals())
