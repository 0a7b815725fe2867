"""``livesync peer cert push``: a server is given a certificate, over the network."""

from __future__ import annotations

from contextlib import closing

from ..errors import UsageError
from .exitcodes import ExitCode
from .output import printable
from .peer_trust import connection_of, given_params, keys_of, trust_of
from .session import Session, as_usage
from .tables import utc

_DAY_S = 86_400.0


def push(session: Session) -> int:
    """Sign a certificate for the key that a server shares, and give it to the server."""
    args, out, params, keys = session.args, session.out, given_params(session), keys_of(session)
    with trust_of(session) as store:
        definition = store.read(lambda trust: trust.definition(args.profile, args.scope))
        scope = as_usage(lambda: definition.get_scope(params))
        parent = next(
            (
                chain[-1]
                for chain in store.read(lambda trust: trust.own_chains(keys, args.profile))
                if chain[-1].id.startswith(args.parent or "") and scope.is_subset_of(chain[-1].scope)
            ),
            None,
        )
        if parent is None:
            raise UsageError("no certificate whose key is here allows all that is to be given")
        connection = connection_of(session, args.url, store, keys)
        with closing(connection):
            valid_s = None if args.days is None else args.days * _DAY_S
            chain = connection.push_signed_client_certificate_chain(parent, definition, params, valid_s)
    given = chain[-1]
    out.line(printable(f"{args.url} has certificate {given.id} now, until {utc(given.not_after)[:10]}"))
    out.json({"certificate": given.id, "parent": given.parent})
    return ExitCode.OK
