"""The grammar of ``livesync peer``: who is known, and sessions with them."""

from __future__ import annotations

import argparse

from .grammar import COMPLETE_FILE, Commands
from .values import count, span


def add_client_commands(commands: Commands) -> None:
    """Add all commands to the group ``peer``."""
    _add_registry(commands)
    _add_sessions(commands)


def _add_registry(commands: Commands) -> None:
    add = commands.add(
        "add",
        "peers:add",
        "add a peer",
        "Keep the address of another node, to sync with. Nothing is sent to it yet. Which certificates are"
        " used, and what is sent, is what both ends' certificates allow, unless it is said here.",
    )
    _name(add)
    add.add_argument("url", metavar="URL", help="its address: https://HOST[:PORT][/PREFIX]")
    add.add_argument("--profile", metavar="NAME", required=True, help="the profile of the certificates")
    add.add_argument("--certificate", metavar="ID", help="a certificate of this database, or its beginning")
    add.add_argument("--server-certificate", metavar="ID", help="the id of the certificate that it must show")
    for word, what in (("push", "send"), ("pull", "ask for")):
        group = add.add_mutually_exclusive_group()
        group.add_argument(
            f"--{word}",
            action="append",
            metavar="PREFIX",
            help=f"{what} only what lies at or below this partition (: for everything); may be given several"
            " times",
        )
        group.add_argument(f"--no-{word}", action="store_true", help=f"{what} nothing")
    add_transport(add)
    commands.add(
        "list",
        "peers:list_peers",
        "list peers",
        "List the peers that were added, with their addresses, and how the last session with each went.",
    )
    remove = commands.add(
        "remove",
        "peers:remove",
        "forget a peer",
        "Forget a peer's address. What was synced stays, and so do its certificates: to take those away,"
        " revoke them.",
    )
    _name(remove)


def _add_sessions(commands: Commands) -> None:
    sync = commands.add(
        "sync",
        "peer_syncing:sync",
        "sync with peers, now",
        "Sync with all peers, or those that are named: first what they have changed comes in, then what was"
        " changed here goes out. What was cut before goes on where it was.",
    )
    sync.add_argument("peers", metavar="NAME", nargs="*", help="the peers (default: all)")
    only = sync.add_mutually_exclusive_group()
    only.add_argument("--pull-only", action="store_true", help="only receive")
    only.add_argument("--push-only", action="store_true", help="only send")
    status = commands.add(
        "status",
        "peers:status",
        "show how syncing stands",
        "Show who this database is, and of each peer: when it was synced with last, what travelled, why it"
        " failed, and what was cut and can be gone on with. With --ask, each peer is asked what it is.",
    )
    status.add_argument("peers", metavar="NAME", nargs="*", help="the peers (default: all)")
    status.add_argument("--ask", action="store_true", help="ask the peers, over the network")
    sessions = commands.add(
        "sessions",
        "peers:sessions",
        "list sessions with peers",
        "List the sessions that this database has begun or served, the newest first, with their transfers:"
        " how far each has come.",
    )
    sessions.add_argument("--active", action="store_true", help="only those that go on")
    sessions.add_argument("--limit", type=count, metavar="N", help="show so many at most (default: all)")
    resume = commands.add(
        "resume",
        "peer_syncing:resume",
        "go on with a session that was cut",
        "Go on with a session that this database has begun and that was cut: at the last buffer that the"
        " receiver has confirmed.",
    )
    resume.add_argument(
        "session", metavar="ID", help="the id of the session or of one of its transfers, or its beginning"
    )
    resume.add_argument(
        "--force", action="store_true", help="even if the process that began it seems to be at work"
    )
    _add_cleanup(commands)


def _add_cleanup(commands: Commands) -> None:
    cleanup = commands.add(
        "cleanup",
        "peer_syncing:cleanup",
        "end sessions that nobody goes on with",
        "End the sessions of which nothing was heard for a while, and clean up after them: what they have"
        " applied travels on, and what waits is dropped. Records of old sessions are forgotten.",
    )
    cleanup.add_argument(
        "--older-than",
        type=span,
        default=6 * 3600.0,
        metavar="INTERVAL",
        help="after how long without a word: 90s, 5m, 1h, 2d, or 0 (default: 6h)",
    )
    cleanup.add_argument("--peer", metavar="URL", help="only with this peer: its address or provider id")
    cleanup.add_argument(
        "--session", action="append", default=[], metavar="ID", help="only this session or transfer"
    )
    direction = cleanup.add_mutually_exclusive_group()
    direction.add_argument("--pull", action="store_true", help="only pulls")
    direction.add_argument("--push", action="store_true", help="only pushes")
    cleanup.add_argument("--prefix", metavar="PREFIX", help="only transfers within this partition")


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="what the peer is called here")


def add_transport(parser: argparse._ActionsContainer) -> None:
    """Add what says how an address is spoken to."""
    parser.add_argument(
        "--insecure-http",
        action="store_true",
        help="take an address that begins with http://, though whoever is in between can read everything",
    )
    action = parser.add_argument(
        "--ca-file", metavar="FILE", help="trust these certificates of TLS (PEM) in place of the system's"
    )
    action.complete = COMPLETE_FILE  # type: ignore[attr-defined]


def add_online_request(parser: argparse.ArgumentParser) -> None:
    """Add what asks a server for a certificate to ``livesync peer cert request``."""
    group = parser.add_argument_group("over the network")
    group.add_argument("--from", dest="url", metavar="URL", help="ask the server at this address")
    group.add_argument("--user", metavar="NAME", help="who may give it, on the server")
    group.add_argument(
        "--password", metavar="env:NAME|file:PATH", help="where their password is; without it, you are asked"
    )
    group.add_argument(
        "--parent", metavar="ID", help="the certificate that is to sign (default: one that can)"
    )
    group.add_argument(
        "--trust-root",
        action="store_true",
        help="trust the root of the certificate: whoever holds that root's key says who may do what here",
    )
    add_transport(group)
