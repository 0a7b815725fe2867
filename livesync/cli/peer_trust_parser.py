"""The grammar of ``livesync peer init``, ``peer cert`` and ``peer scope``."""

from __future__ import annotations

import argparse

from .grammar import COMPLETE_FILE, Commands
from .peer_client_parser import add_online_request, add_transport
from .values import count, key_value


def add_trust_commands(commands: Commands) -> None:
    """Add all commands to the group ``peer``."""
    init = commands.add(
        "init",
        "peer_trust:init",
        "let this database sync both ways",
        "Make what two-way sync and its certificates keep in this database, where livesync is installed."
        " With --root, make a root certificate, too: this site then says who may exchange what. What is there"
        " already stays as it is.",
    )
    init.add_argument(
        "--root",
        metavar="PROFILE",
        help="make a root certificate for everything of this profile, unless there is one",
    )
    _add_certificate_commands(commands.group("cert", "see, give and take certificates"))
    _add_scope_commands(commands.group("scope", "see and add scopes: of which parts there are certificates"))


def _add_certificate_commands(commands: Commands) -> None:
    listing = commands.add(
        "list",
        "peer_certs:list_certificates",
        "list certificates",
        "List the certificates that are kept here: the id, the scope with its parameters, until when it is"
        " valid, whether its private key is here, and whether it holds.",
    )
    _profile(listing, required=False)
    show = commands.add(
        "show",
        "peer_certs:show",
        "show a certificate, or write its chain into a file",
        "Show what a certificate allows, and the chain above it. With --to, write the chain into a file that"
        " `livesync peer cert import` takes elsewhere. It holds nothing secret.",
    )
    _certificate(show)
    _to(show, required=False)
    root = commands.add(
        "root",
        "peer_certs:make_root",
        "make a root certificate",
        "Make a root certificate, and trust it here. Whoever has its private key says who may do what.",
    )
    _profile(root)
    _scope(root, required=False)
    _valid(root)
    request = commands.add(
        "request",
        "peer_certs:request",
        "ask for a certificate",
        "Make a private key, and write a request for a certificate into a file, which holds nothing secret."
        " It is carried to a site that may give one, signed there with `livesync peer cert sign`, and carried"
        " back for `livesync peer cert import`. With --from, a server is asked instead, in the name of one of"
        " its users, and the certificate is kept here at once.",
    )
    _profile(request)
    _scope(request)
    _valid(request)
    _to(request, required=False)
    add_online_request(request)
    push = commands.add(
        "push",
        "peer_pushing:push",
        "give a server a certificate",
        "Sign a certificate for the key that a server shares, and give it to the server, which then may"
        " exchange what it allows. A server that does not know its root takes it only if that root rules over"
        " its own fingerprint and nothing else.",
    )
    push.add_argument("url", metavar="URL", help="the server's address: https://HOST[:PORT][/PREFIX]")
    _profile(push)
    _scope(push)
    _valid(push)
    push.add_argument(
        "--parent", metavar="ID", help="the certificate that is to sign (default: one that can)"
    )
    add_transport(push)
    sign = commands.add(
        "sign",
        "peer_certs:sign",
        "sign a request that was carried here",
        "Sign a request of `livesync peer cert request --to FILE`, with a certificate whose key is here, and"
        " write the chain into a file that is carried back.",
    )
    _from_file(sign, "the request")
    sign.add_argument(
        "--parent", metavar="ID", help="the certificate that is to sign (default: the one that can)"
    )
    _to(sign)
    importing = commands.add(
        "import",
        "peer_certs:import_chain",
        "take a chain of certificates from a file",
        "Take a chain of certificates that was carried here. Its root must be trusted here, or is trusted"
        " from now on with --trust-root. Compare its id with the one that its owner tells you before.",
    )
    _from_file(importing, "the chain")
    importing.add_argument(
        "--trust-root",
        action="store_true",
        help="trust its root: whoever holds that root's key says who may read and write here",
    )
    distrust = commands.add(
        "distrust",
        "peer_certs:distrust",
        "trust a root no more",
        "Trust a root no more, nor anything below it. This holds here; to take a certificate away from"
        " everybody, revoke it.",
    )
    _certificate(distrust)
    revoke = commands.add(
        "revoke",
        "peer_certs:revoke",
        "take a certificate away",
        "Take a certificate away, for ever, and with it all below it: what is lost or stolen has no access"
        " any more. Its private key, or one above it, must be here. Peers are told before"
        " anything else at their next session, and hand it on.",
    )
    _certificate(revoke)
    revoke.add_argument("--reason", metavar="TEXT", default="", help="why; all peers can read it")


def _add_scope_commands(commands: Commands) -> None:
    listing = commands.add(
        "list",
        "peer_scopes:list_scopes",
        "list scopes",
        "List the scope definitions that are kept here, with their parameters.",
    )
    _profile(listing, required=False)
    add = commands.add(
        "add",
        "peer_scopes:add",
        "add scopes from a file",
        "Add the scope definitions of a JSON file: an object, or a list of them, with the keys id, profile,"
        " version, description, primary_scope_param_key, read_filter_template, write_filter_template and"
        " read_write_filter_template; a fixture of morango's is taken as it is. A definition never changes:"
        " another one has another version.",
    )
    _from_file(add, "the definitions")
    show = commands.add(
        "show",
        "peer_scopes:show",
        "show a scope",
        "Show what a scope definition allows. With its parameters: of which partitions.",
    )
    show.add_argument("scope", metavar="ID", help="the definition's id")
    _profile(show, required=False)
    show.add_argument("--version", type=int, metavar="N", help="this version (default: the newest)")
    _params(show)


def _certificate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("certificate", metavar="ID", help="the certificate's id, or its beginning")


def _profile(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument(
        "--profile",
        metavar="NAME",
        required=required,
        help="the profile: the name of models that belong together" if required else "of this profile only",
    )


def _scope(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument(
        "--scope",
        metavar="ID",
        required=required,
        default=None if required else "everything",
        help="the scope definition" + ("" if required else " (default: everything)"),
    )
    _params(parser)


def _params(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-p",
        "--param",
        dest="params",
        action="append",
        default=[],
        type=key_value,
        metavar="NAME=VALUE",
        help="a value for a parameter of the scope; may be given several times",
    )


def _valid(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--days", type=count, metavar="N", help="for how many days (default: a year; a root ten years)"
    )


def _to(parser: argparse.ArgumentParser, required: bool = True) -> None:
    action = parser.add_argument("--to", metavar="FILE", required=required, help="write into this file")
    action.complete = COMPLETE_FILE  # type: ignore[attr-defined]


def _from_file(parser: argparse.ArgumentParser, what: str) -> None:
    action = parser.add_argument("from_file", metavar="FILE", help=f"the file with {what}")
    action.complete = COMPLETE_FILE  # type: ignore[attr-defined]
