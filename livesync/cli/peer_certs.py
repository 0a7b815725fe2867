"""``livesync peer cert``: certificates are seen, given, taken and revoked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ..errors import CertificateRefused, NotFound, UsageError
from .exitcodes import ExitCode
from .output import printable
from .peer_scopes import shown
from .peer_trust import (
    check_extra,
    check_new_file,
    check_root,
    given_params,
    keys_of,
    make_root_in,
    optional_keys_of,
    read_file,
    say_key,
    say_root,
    trust_of,
    write_file,
)
from .session import Session, as_usage
from .tables import print_table, utc

if TYPE_CHECKING:
    from ..peering.certificates import Certificate
    from ..peering.keyring import KeyRing
    from ..peering.scopes import Scope
    from ..peering.trust import Trust
    from ..peering.wire import Signed

_DAY_S = 86_400

#: What the file of a request is.
_REQUEST = "livesync signing request 1"


def list_certificates(session: Session) -> int:
    """Print the certificates that are kept here."""
    profile, out, now = session.args.profile, session.out, time.time()
    keys = optional_keys_of(session)
    with trust_of(session, read_only=True) as store:
        found = store.read(
            lambda trust: [(each, _state(trust, each, now)) for each in trust.certificates(profile)]
        )
    found.sort(key=lambda pair: (pair[0].profile, not pair[0].is_root, pair[0].not_before, pair[0].id))
    out.json({"certificates": [_as_json(each, state, keys) for each, state in found]})
    rows = [
        (
            each.id[:12],
            each.profile,
            _scope(each),
            utc(each.not_after)[:10],
            "here" if _has_key(keys, each) else "-",
            ("root, " if each.is_root else "") + state,
        )
        for each, state in found
    ]
    if rows:
        print_table(out, ("ID", "PROFILE", "SCOPE", "UNTIL", "KEY", "STATE"), rows)
    else:
        out.line("there are no certificates yet: livesync peer cert root, or livesync peer cert request")
    return ExitCode.OK


def _state(trust: Trust, certificate: Certificate, now: float) -> str:
    try:
        trust.rights(certificate.id, now)
    except CertificateRefused as exc:
        return exc.code if exc.code != "certificate" else "not trusted"
    return "valid"


def _scope(certificate: Certificate) -> str:
    params = " ".join(f"{name}={value}" for name, value in sorted(certificate.scope_params.items()))
    return f"{certificate.scope_definition_id} {params}".strip()


def _has_key(keys: KeyRing | None, certificate: Certificate) -> bool:
    return keys is not None and keys.has(certificate.public_key)


def _as_json(certificate: Certificate, state: str, keys: KeyRing | None) -> dict[str, Any]:
    return {
        "id": certificate.id,
        "parent": certificate.parent or None,
        "profile": certificate.profile,
        "scope": certificate.scope_definition_id,
        "scope_version": certificate.scope_version,
        "params": dict(certificate.scope_params),
        "public_key": str(certificate.public_key),
        "not_before": certificate.not_before,
        "not_after": certificate.not_after,
        "reads": list(certificate.scope.read_filter),
        "writes": list(certificate.scope.write_filter),
        "key_is_here": _has_key(keys, certificate),
        "state": state,
    }


def show(session: Session) -> int:
    """Print what a certificate allows; or write its chain into a file."""
    args, out, now = session.args, session.out, time.time()
    keys = optional_keys_of(session)
    with trust_of(session, read_only=True) as store:
        certificate = store.read(lambda trust: trust.find(args.certificate))
        chain = store.read(lambda trust: trust.chain(certificate.id))
        state = store.read(lambda trust: _state(trust, certificate, now))
        revoked = store.read(lambda trust: {each.certificate.id: each for each in trust.revocations()})
    if args.to is not None:
        write_file(args.to, _chain_file(chain))
        out.line(printable(f"the chain of certificate {certificate.id} is in {args.to}"))
    else:
        for name, value in (
            ("certificate", certificate.id),
            ("profile", certificate.profile),
            ("scope", f"{_scope(certificate)} (version {certificate.scope_version})"),
            ("reads", shown(certificate.scope.read_filter)),
            ("writes", shown(certificate.scope.write_filter)),
            ("valid", f"{utc(certificate.not_before)} to {utc(certificate.not_after)}"),
            ("state", state),
            ("private key", "here" if _has_key(keys, certificate) else "not here"),
        ):
            out.line(printable(f"{name + ':':<13}{value}"))
        for each in chain:
            if each.id in revoked:
                why = revoked[each.id]
                out.line(
                    printable(
                        f"{'revoked:':<13}{each.id} by {why.signer}, {utc(why.revoked_at)}"
                        + (f": {why.reason}" if why.reason else "")
                    )
                )
        for depth, each in enumerate(chain):
            out.line(printable(f"{'chain:' if depth == 0 else '':<13}{each.id} {_scope(each)}"))
    out.json(
        {
            "certificate": _as_json(certificate, state, keys),
            "chain": [each.id for each in chain],
            "file": args.to,
        }
    )
    return ExitCode.OK


def make_root(session: Session) -> int:
    """Make a root certificate."""
    from ..peering.scopes import EVERYTHING_ID, everything

    args, params = session.args, given_params(session)
    with trust_of(session) as store:
        if args.scope == EVERYTHING_ID:
            definition = as_usage(lambda: everything(args.profile))
        else:
            definition = store.read(lambda trust: trust.definition(args.profile, args.scope))
        root = make_root_in(session, store, definition, params, _seconds(args.days))
    say_root(session, root)
    session.out.json({"certificate": root.id})
    return ExitCode.OK


def _seconds(days: int | None) -> float | None:
    return None if days is None else float(days * _DAY_S)


def request(session: Session) -> int:
    """Make a key, and write a request into a file."""
    args, out, params = session.args, session.out, given_params(session)
    if (args.to is None) == (args.url is None):
        raise UsageError("say where the request goes: --to FILE, or --from URL")
    if args.url is not None:
        from .peer_requesting import request_online

        return request_online(session, params)
    keys = keys_of(session)
    with trust_of(session) as store:
        scope = _scope_asked(store.read(lambda trust: trust.definitions(args.profile)), args, params)
    with keys.new_key() as key:
        write_file(
            args.to,
            {
                "kind": _REQUEST,
                "profile": args.profile,
                "scope": args.scope,
                "params": params,
                "public_key": str(key.public),
                "days": args.days,
            },
        )
    out.line(printable(f"the request is in {args.to}; have it signed: livesync peer cert sign {args.to}"))
    if scope is None:
        out.note(f"scope {args.scope} is not known here; the site that signs must know it")
    out.json({"file": args.to, "public_key": str(key.public)})
    return ExitCode.OK


def _scope_asked(definitions: list[Any], args: Any, params: dict[str, str]) -> Scope | None:
    """Return the scope that is asked for, checked; None: its definition is not known here."""
    found = [each for each in definitions if each.id == args.scope]
    return as_usage(lambda: found[-1].get_scope(params)) if found else None


def sign(session: Session) -> int:
    """Sign a request that was carried here, and write the chain into a file."""
    check_extra()
    from ..peering.signing import answer_request
    from ..peering.wire import SigningRequest

    args, out, now = session.args, session.out, time.time()
    given, keys = _read_request(args.from_file), keys_of(session)
    check_new_file(args.to)
    with trust_of(session) as store:
        asked = SigningRequest(
            parent=store.read(lambda trust: _parent(trust, keys, given, args.parent, now)),
            profile=given["profile"],
            scope_definition=given["scope"],
            scope_params=given["params"],
            public_key=given["public_key"],
            valid_s=_seconds(given["days"]) or 0,
        )
        chain = store.run(lambda trust: answer_request(trust, keys, asked, now, user=""))
    write_file(args.to, _chain_file(chain))
    out.line(printable(f"signed certificate {chain[-1].id}: {_scope(chain[-1])}"))
    out.line(printable(f"its chain is in {args.to}; carry it back: livesync peer cert import {args.to}"))
    out.json({"certificate": chain[-1].id, "file": args.to})
    return ExitCode.OK


def _read_request(path: str) -> dict[str, Any]:
    """Return the request of a file.

    Raises:
        UsageError: It is none.
    """
    given = read_file(path)
    types = {"kind": str, "profile": str, "scope": str, "params": dict, "public_key": str}
    if not isinstance(given, dict) or given.get("kind") != _REQUEST:
        raise UsageError(f"{path} holds no signing request of livesync")
    days = given.setdefault("days", None)
    if any(not isinstance(given.get(name), form) for name, form in types.items()) or not (
        days is None or (type(days) is int and days > 0)
    ):
        raise UsageError(f"the signing request in {path} is broken")
    if any(not isinstance(value, str) for value in given["params"].values()):
        raise UsageError(f"the signing request in {path} is broken")
    return given


def _parent(trust: Trust, keys: KeyRing, given: dict[str, Any], named: str | None, now: float) -> str:
    """Return the id of the certificate that is to sign.

    Raises:
        UsageError: None that is here can.
        NotFound: The one that was named is not here.
    """
    if named is not None:
        return trust.find(named).id
    definition = trust.definition(given["profile"], given["scope"])
    scope = as_usage(lambda: definition.get_scope(given["params"]))
    for chain in trust.own_chains(keys, given["profile"]):
        if scope.is_subset_of(chain[-1].scope) and _state(trust, chain[-1], now) == "valid":
            return chain[-1].id
    raise UsageError("no certificate whose key is here allows all that is asked for")


def import_chain(session: Session) -> int:
    """Keep a chain that was carried here."""
    check_extra()
    args, out, now = session.args, session.out, time.time()
    chain = _read_chain(args.from_file)
    keys = optional_keys_of(session)
    is_ours = bool(chain) and _has_key(keys, chain[-1])

    with trust_of(session) as store:
        if chain:
            check_root(store, chain[0].id, args.trust_root)
        rights = store.run(lambda trust: trust.save_chain(chain, now, trust_root=args.trust_root))
    certificate = rights.certificate
    out.line(printable(f"certificate {certificate.id} holds: {_scope(certificate)}"))
    if is_ours:
        say_key(session, certificate)
    out.json({"certificate": certificate.id, "root": chain[0].id, "key_is_here": is_ours})
    return ExitCode.OK


def _chain_file(chain: tuple[Certificate, ...]) -> dict[str, Any]:
    return {"chain": [{"text": each.text, "signature": each.signed.signature} for each in chain]}


def _read_chain(path: str) -> list[Certificate]:
    """Return the chain of a file.

    Raises:
        UsageError: It is none.
        CertificateRefused: One of it is no certificate.
    """
    import msgspec

    from ..forms import converted
    from ..peering.chains import read_chain
    from ..peering.wire import NewCertificate

    contents = read_file(path)
    try:
        found: list[Signed] = converted(contents, NewCertificate).chain
    except msgspec.ValidationError as exc:
        raise UsageError(f"{path} holds no chain of certificates") from exc
    return read_chain(found)


def distrust(session: Session) -> int:
    """Trust a root no more."""
    args, out = session.args, session.out

    def change(trust: Trust) -> Certificate:
        root = trust.find(args.certificate)
        if root.id not in trust.roots:
            raise NotFound(f"certificate {root.id} is no root that is trusted here")
        trust.distrust_root(root.id)
        return root

    with trust_of(session) as store:
        root = store.run(change)
    out.line(printable(f"root {root.id} is trusted here no more, nor is what is below it"))
    out.json({"certificate": root.id})
    return ExitCode.OK


def revoke(session: Session) -> int:
    """Take a certificate away."""
    check_extra()
    from ..peering.revocation import revoke as revoked

    args, out, now, keys = session.args, session.out, time.time(), keys_of(session)
    with trust_of(session) as store:
        chain = store.read(lambda trust: trust.chain(trust.find(args.certificate).id))
        # nearest first: a root's key is best used least
        signer = next((each for each in reversed(chain[:-1]) if keys.has(each.public_key)), None)
        if signer is None and keys.has(chain[-1].public_key):
            signer = chain[-1]
        if signer is None:
            raise UsageError("no private key of this certificate, or of one above it, is here")
        signing, key = signer, keys.get(signer.public_key)
        revocation = as_usage(lambda: revoked(chain, signing, key, now, args.reason))
        store.run(lambda trust: trust.keep_revocation(revocation))
    out.line(printable(f"certificate {chain[-1].id} is revoked; peers are told at their next session"))
    out.json({"certificate": chain[-1].id, "signer": signing.id})
    return ExitCode.OK
