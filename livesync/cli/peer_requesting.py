"""``livesync peer cert request --from URL``: a server is asked for a certificate, over the network."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from ..errors import CertificateRefused, OptionError, UsageError
from ..options import read_secret
from .exitcodes import ExitCode
from .output import printable
from .peer_trust import check_root, connection_of, keys_of, say_key, trust_of
from .session import Session

if TYPE_CHECKING:
    from ..peering.certificates import Certificate

_DAY_S = 86_400.0


def request_online(session: Session, params: Mapping[str, str]) -> int:
    """Ask a server for a certificate, and keep it."""
    args, out = session.args, session.out
    if not args.user:
        raise UsageError("say who gives the certificate, on the server: --user NAME")
    keys = keys_of(session)
    with trust_of(session) as store:
        connection = connection_of(session, args.url, store, keys)
        with closing(connection):
            connection.server_info  # noqa: B018 - before a password is asked for: is anybody there?
            shown = connection.get_remote_certificates(args.profile)
            parent = _parent(shown, args)
            root = next(chain[0].id for chain in shown if chain[-1] == parent)
            check_root(store, root, args.trust_root)  # before the server gives what would be of no use
            chain = connection.certificate_signing_request(
                parent,
                args.scope,
                params,
                args.user,
                _password(session),
                trust_root=args.trust_root,
                valid_s=(args.days or 0) * _DAY_S,
            )
    out.line(printable(f"certificate {chain[-1].id} of profile {args.profile} is here"))
    say_key(session, chain[-1])
    out.json({"certificate": chain[-1].id, "root": chain[0].id})
    return ExitCode.OK


def _parent(shown: Sequence[tuple[Certificate, ...]], args: Any) -> Certificate:
    """Return the server's certificate that is to sign: the one that is named, or the one that allows most.

    Raises:
        CertificateRefused: There is none.
    """
    found = [chain[-1] for chain in shown if chain[-1].id.startswith(args.parent or "")]
    if not shown:
        raise CertificateRefused(f"{args.url} has no certificate of profile {args.profile} to sign with")
    if not found:
        raise CertificateRefused(f"no certificate that {args.url} can sign with begins with {args.parent!r}")
    return max(found, key=lambda one: sum(other.scope.is_subset_of(one.scope) for other in found))


def _password(session: Session) -> str:
    """Return the password of whoever gives the certificate.

    Raises:
        UsageError: It is not where it is said to be, or there is nobody to ask.
    """
    reference = session.args.password
    if reference is not None:
        try:
            return read_secret(reference)
        except OptionError as exc:
            raise UsageError(f"--password: {exc}") from exc
    if session.is_hosted or not sys.stdin.isatty():
        raise UsageError("there is nobody to ask for a password: give --password env:NAME or file:PATH")
    return getpass.getpass(f"Password of {session.args.user}: ", session.out.stderr)
