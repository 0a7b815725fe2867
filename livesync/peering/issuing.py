"""Making certificates: a root, and what it and those below it sign. Pure."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import msgspec

from .certificates import (
    KIND,
    LAST_TIME,
    Certificate,
    CertificateText,
    DefinitionText,
    root_fingerprint,
    write_text,
)
from .chains import check_own, check_step
from .keys import PrivateKey, PublicKey
from .randomness import Random
from .scopes import Scope, ScopeDefinition

#: How long a certificate holds unless something else is asked for, in seconds: a year, a root ten.
VALID_S: Final = 365 * 86_400
ROOT_VALID_S: Final = 10 * VALID_S

#: How far back a new certificate's validity begins, in seconds: clocks differ.
BACKDATED_S: Final = 300

_SALT_BYTES: Final = 16


def _signed(
    parent: str, public_key: PublicKey, scope: Scope, salt: str, period: tuple[int, int], signer: PrivateKey
) -> Certificate:
    definition = scope.definition
    text = write_text(
        CertificateText(
            format=1,
            not_after=period[1],
            not_before=period[0],
            parent=parent,
            profile=definition.profile,
            public_key=str(public_key),
            salt=salt,
            scope_definition=msgspec.convert(
                {name: getattr(definition, name) for name in DefinitionText.__struct_fields__}, DefinitionText
            ),
            scope_params=dict(scope.params),
        )
    )
    return Certificate.deserialize(text, signer.sign(KIND, text))


def generate_root_certificate(
    key: PrivateKey,
    definition: ScopeDefinition,
    params: Mapping[str, str],
    *,
    now: float,
    valid_s: float = ROOT_VALID_S,
    random: Random = os.urandom,
) -> Certificate:
    """Return a new root, signed with its own key.

    Args:
        key: The root's key.
        definition: Of its scope. Its primary parameter, where it has one, is set to the root's fingerprint.
        params: The other parameters.
        now: Epoch seconds.
        valid_s: For how long, in seconds.
        random: Returns random bytes.

    Raises:
        ValueError: The parameters are not those of the definition.
        CertificateRefused: With them, the scope is not all below the root's fingerprint.
    """
    salt = random(_SALT_BYTES).hex()
    primary = definition.primary_scope_param_key
    if primary:
        params = {**params, primary: root_fingerprint(key.public, definition.profile, salt)}
    scope = definition.get_scope(params)
    root = _signed("", key.public, scope, salt, _period(now, valid_s), key)
    check_own(root)
    return root


def _period(now: float, valid_s: float) -> tuple[int, int]:
    if valid_s <= 0:
        raise ValueError("a certificate is valid for more than no time")
    return max(int(now) - BACKDATED_S, 0), min(int(now + valid_s), LAST_TIME)


def sign_certificate(
    parent: Certificate,
    parent_key: PrivateKey,
    public_key: PublicKey,
    scope: Scope,
    *,
    now: float,
    valid_s: float = VALID_S,
    salt: str | None = None,
    random: Random = os.urandom,
) -> Certificate:
    """Return a new certificate below ``parent``, signed with its key.

    Args:
        parent: What goes before it in the chain.
        parent_key: The parent's key.
        public_key: Of whom it is for.
        scope: What it is to allow.
        now: Epoch seconds.
        valid_s: For how long, in seconds; no longer than the parent.
        salt: A nonce, where it is to be pushed; None: a random one.
        random: Returns random bytes.

    Raises:
        CertificateRefused: The parent does not allow this, or is not valid now.
        ValueError: The key is not the parent's.
    """
    if parent_key.public != parent.public_key:
        raise ValueError("this is not the key of the parent")
    parent.check_time(now)
    begin, end = _period(now, valid_s)
    period = max(begin, parent.not_before), min(end, parent.not_after)
    salt = random(_SALT_BYTES).hex() if salt is None else salt
    child = _signed(parent.id, public_key, scope, salt, period, parent_key)
    check_step(parent, child)
    return child
