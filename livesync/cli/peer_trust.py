"""``livesync peer init``: this database takes part in two-way sync; and what the commands on trust share."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..database import database_file
from ..errors import CertificateRefused, UsageError
from .exitcodes import ExitCode
from .output import printable
from .session import Session, as_usage

if TYPE_CHECKING:
    from ..peering.certificates import Certificate
    from ..peering.connection import PeerConnection
    from ..peering.keyring import KeyRing
    from ..peering.scopes import ScopeDefinition
    from ..peering.trust import TrustStore


def check_extra() -> None:
    """Check that what certificates need is installed.

    Raises:
        UsageError: It is not.
    """
    try:
        import cryptography  # noqa: F401
    except ImportError as exc:
        raise UsageError("certificates need the extra peer: pip install 'zodb-livesync[peer]'") from exc


@contextmanager
def trust_of(session: Session, read_only: bool = False) -> Iterator[TrustStore]:
    """Open the database, and give whom it believes."""
    check_extra()
    from ..peering.trust import TrustStore

    with session.database(read_only=read_only) as db:
        yield TrustStore(db)


def keys_of(session: Session) -> KeyRing:
    """Return the key ring of the database."""
    check_extra()
    from ..peering.keyring import open_keyring

    return open_keyring(session.settings.require_db())


def optional_keys_of(session: Session) -> KeyRing | None:
    """Return the key ring of the database; None: it is not said where it lies."""
    check_extra()
    from ..peering.keyring import KEYS_VARIABLE

    if database_file(session.settings.require_db()) is None and not os.environ.get(KEYS_VARIABLE):
        return None
    return keys_of(session)


def ca_file_of(session: Session) -> str | None:
    """Return the path that ``--ca-file`` names, whole; None: none is named.

    Raises:
        UsageError: There are no certificates in it.
    """
    from ..peering.http import check_ca_file

    given = session.args.ca_file
    if not given:
        return None
    return check_ca_file(os.path.join(session.directory or os.getcwd(), os.path.expanduser(given)))


def connection_of(session: Session, url: str, store: TrustStore, keys: KeyRing) -> PeerConnection:
    """Return a connection with the server at an address, for somebody who sits there and waits."""
    from ..peering.connection import PeerConnection
    from ..peering.retrying import Retries

    return PeerConnection(
        url,
        store,
        keys,
        retries=Retries(most=3),
        ca_file=ca_file_of(session),
        insecure_http=session.args.insecure_http,
    )


def check_root(store: TrustStore, root: str, is_told: bool) -> None:
    """Check that a root is trusted here, or that somebody tells to trust it.

    Raises:
        CertificateRefused: Neither.
    """
    if not is_told and root not in store.read(lambda trust: trust.roots):
        raise CertificateRefused(
            f"root {root} is not trusted here: if that is the id that its owner tells you, give --trust-root"
        )


def given_params(session: Session) -> dict[str, str]:
    """Return the parameters of ``-p NAME=VALUE``.

    Raises:
        UsageError: One is given twice.
    """
    given: dict[str, str] = {}
    for name, value in session.args.params:
        if name in given:
            raise UsageError(f"the parameter {name} is given twice")
        given[name] = value
    return given


def init(session: Session) -> int:
    """Make what two-way sync keeps in the database."""
    check_extra()
    from ..database import committed
    from ..manager import SyncManager
    from ..peering.scopes import everything
    from ..peering.trust import TrustStore
    from ..replication.stores.zodbstore import ZODBDataStore

    profile, out = session.args.root, session.out
    definition = None if profile is None else as_usage(lambda: everything(profile))
    with session.database() as db:
        committed(db, lambda root: SyncManager.get(root).check_site(session.settings.site))
        replica = ZODBDataStore(db)
        provider = replica.run(replica.begin)
        trust = TrustStore(db, create=True)
        made = None
        if definition is not None and not _has_root(session, trust, definition.profile):
            made = make_root_in(session, trust, definition, {})
    out.line(printable(f"this database is provider {provider}"))
    if made is not None:
        say_root(session, made)
    out.json({"provider": provider, "root": None if made is None else made.id})
    return ExitCode.OK


def _has_root(session: Session, store: TrustStore, profile: str) -> bool:
    keys = keys_of(session)
    return any(len(chain) == 1 for chain in store.read(lambda trust: trust.own_chains(keys, profile)))


def make_root_in(
    session: Session,
    store: TrustStore,
    definition: ScopeDefinition,
    params: Mapping[str, str],
    valid_s: float | None = None,
) -> Certificate:
    """Return a new root, which is kept and trusted here, its key in the key ring."""
    from ..peering.issuing import ROOT_VALID_S, generate_root_certificate

    keys, now = keys_of(session), time.time()
    primary = definition.primary_scope_param_key
    if primary and primary in params:
        raise UsageError(f"{primary} is the root's own fingerprint: leave out -p {primary}=…")
    wanted = definition.parameters - {primary}
    as_usage(lambda: definition.get_scope({**dict.fromkeys(definition.parameters - wanted, "x"), **params}))
    with keys.new_key() as key:
        root = as_usage(
            lambda: generate_root_certificate(
                key, definition, params, now=now, valid_s=valid_s or ROOT_VALID_S
            )
        )
        store.run(lambda trust: trust.save_chain((root,), now, trust_root=True))
    return root


def say_root(session: Session, root: Certificate) -> None:
    """Tell of a root that was made."""
    session.out.line(printable(f"made root certificate {root.id} of profile {root.profile}"))
    say_key(session, root)


def say_key(session: Session, certificate: Certificate) -> None:
    """Tell where the private key of a certificate lies, and how."""
    from ..peering.keyring import PASSPHRASE_VARIABLE

    keys = keys_of(session)
    session.out.line(printable(f"its private key is in {keys.directory}: keep a copy of it apart"))
    if not keys.is_encrypted(certificate.public_key):
        session.out.note(
            f"warning: the private key is not encrypted; set {PASSPHRASE_VARIABLE} before keys are made"
        )


def read_file(path: str) -> Any:
    """Return the JSON of a file.

    Raises:
        UsageError: It cannot be read, or is no JSON.
    """
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except OSError as exc:
        raise UsageError(f"{path} cannot be read: {exc.strerror or exc}") from exc
    except (ValueError, RecursionError) as exc:
        raise UsageError(f"{path} is no JSON") from exc


def check_new_file(path: str) -> None:
    """Make sure, before something is done, that what comes of it can be written to ``path``.

    Raises:
        UsageError: There is a file already, or no directory for it.
    """
    found = Path(path)
    if found.exists():
        raise UsageError(f"{path} exists already: give another file")
    if not found.parent.is_dir():
        raise UsageError(f"{path} cannot be written: there is no directory {found.parent}")


def write_file(path: str, value: Any) -> None:
    """Write JSON into a file that must not exist yet.

    Raises:
        UsageError: It does, or cannot be written.
    """
    try:
        with Path(path).open("x", encoding="utf-8") as file:
            json.dump(value, file, indent=2, ensure_ascii=False)
            file.write("\n")
    except FileExistsError:
        raise UsageError(f"{path} exists already: give another file") from None
    except OSError as exc:
        raise UsageError(f"{path} cannot be written: {exc.strerror or exc}") from exc
