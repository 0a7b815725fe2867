"""The grammar of ``livesync user``."""

from __future__ import annotations

import argparse

from .grammar import COMPLETE_FILE, Commands

_ROLES = ("see", "operate")


def add_user_commands(commands: Commands) -> None:
    """Add all commands of the group to ``commands``."""
    add = commands.add(
        "add",
        "users:add",
        "let somebody log in at the web pages",
        "Add a user to the users' file, which is made where there is none, readable by its owner only. The"
        " password is asked for twice, or read from a file; only a hash of it is kept.",
    )
    _name(add)
    _role(add)
    _password(add)
    listing = commands.add(
        "list",
        "users:list_users",
        "list users and tokens",
        "List who may log in, and the tokens of programs.",
    )
    _file(listing)
    password = commands.add(
        "password",
        "users:password",
        "give a user another password",
        "Give a user another password. Whoever is logged in by the old one no longer is.",
    )
    _name(password)
    _password(password)
    role = commands.add(
        "role", "users:role", "give a user another role", "Give a user another role; it holds at once."
    )
    _name(role)
    _role(role)
    remove = commands.add(
        "remove", "users:remove", "remove a user", "Remove a user, who is logged out at once."
    )
    _name(remove)
    add_token = commands.add(
        "add_token",
        "users:add_token",
        "make a token for a program",
        "Make a token, which a program sends as `Authorization: Bearer TOKEN`, and print it. It is shown this"
        " once: only a hash of it is kept.",
    )
    add_token.add_argument("name", metavar="NAME", help="what it is for")
    _role(add_token)
    _file(add_token)
    remove_token = commands.add(
        "remove_token", "users:remove_token", "remove a token", "Remove a token; it holds no more at once."
    )
    remove_token.add_argument("token", metavar="TOKEN_ID", help="its id, as `livesync user list` shows it")
    _file(remove_token)


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the user's name")
    _file(parser)


def _file(parser: argparse.ArgumentParser) -> None:
    action = parser.add_argument(
        "--users", metavar="FILE", help="the users' file (default: users of the settings, or LIVESYNC_USERS)"
    )
    action.complete = COMPLETE_FILE  # type: ignore[attr-defined]


def _role(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--role",
        choices=_ROLES,
        required=True,
        metavar="ROLE",
        help="see: look at everything; operate: change it too",
    )


def _password(parser: argparse.ArgumentParser) -> None:
    action = parser.add_argument(
        "--password-file", metavar="FILE", help="read the password from the first line of this file"
    )
    action.complete = COMPLETE_FILE  # type: ignore[attr-defined]
