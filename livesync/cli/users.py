"""``livesync user``: who may log in at the web pages, and the tokens of programs."""

from __future__ import annotations

import getpass
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from .exitcodes import ExitCode
from .output import printable
from .session import Session
from .tables import print_table, utc

if TYPE_CHECKING:
    from ..web.users import Users


def add(session: Session) -> int:
    """Add a user."""
    from ..web.users import Role, check_name

    users, name = _users(session), check_name(session.args.name)
    users.add_user(name, _password(session), Role(session.args.role))
    return _done(session, f"user {name} may {session.args.role}", name=name, role=session.args.role)


def list_users(session: Session) -> int:
    """Print who may log in, and the tokens there are."""
    users = _users(session)
    people, tokens = users.names(), users.tokens()
    session.out.json(
        {
            "users": [{"name": user.name, "role": user.role.value} for user in people],
            "tokens": [
                {"id": token.id, "name": token.name, "role": token.role.value, "created": token.created}
                for token in tokens
            ],
        }
    )
    rows = [(user.name, user.role.value, "password", "") for user in people]
    rows += [(token.name, token.role.value, f"token {token.id}", utc(token.created)) for token in tokens]
    if rows:
        print_table(session.out, ("NAME", "ROLE", "BY", "SINCE"), rows)
    else:
        session.out.line("nobody may log in yet; add somebody: livesync user add NAME --role see")
    return ExitCode.OK


def password(session: Session) -> int:
    """Give a user another password."""
    users, name = _users(session), session.args.name
    users.known(name)  # before a password is asked for
    users.set_password(name, _password(session))
    return _done(session, f"user {name} has another password", name=name)


def role(session: Session) -> int:
    """Give a user another role."""
    from ..web.users import Role

    name, wanted = session.args.name, session.args.role
    _users(session).set_role(name, Role(wanted))
    return _done(session, f"user {name} may {wanted}", name=name, role=wanted)


def remove(session: Session) -> int:
    """Remove a user."""
    name = session.args.name
    _users(session).remove_user(name)
    return _done(session, f"user {name} is removed", name=name, removed=True)


def add_token(session: Session) -> int:
    """Make a token, and print it this once."""
    from ..web.users import Role

    name, wanted = session.args.name, session.args.role
    token = _users(session).add_token(name, Role(wanted), time.time())
    session.out.note("this token is shown once, and never again:")
    session.out.line(token)
    session.out.json({"name": name, "role": wanted, "token": token})
    return ExitCode.OK


def remove_token(session: Session) -> int:
    """Remove a token."""
    _users(session).remove_token(session.args.token)
    return _done(session, f"token {session.args.token} holds no more", token=session.args.token, removed=True)


def _users(session: Session) -> Users:
    from ..web.users import Users

    path = session.args.users or session.settings.users
    if not path:
        raise UsageError(
            'no users\' file is set: give --users FILE, set LIVESYNC_USERS, or write users = "…" into'
            " livesync.toml"
        )
    return Users(path)


def _password(session: Session) -> str:
    """Return the password that is to be set, checked.

    Raises:
        UsageError: There is nobody to ask, the two differ, the file cannot be read, or it has another form.
    """
    from ..web.users import check_password

    path = session.args.password_file
    if path is not None:
        try:
            return check_password(Path(path).read_text("utf-8").partition("\n")[0].rstrip("\r"))
        except (OSError, UnicodeDecodeError) as exc:
            reason = getattr(exc, "strerror", None) or "it is not UTF-8"
            raise UsageError(f"the password in {path} cannot be read: {reason}") from exc
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask for the password: give --password-file FILE")
    first = check_password(getpass.getpass("Password: "))
    if getpass.getpass("Again: ") != first:
        raise UsageError("the two passwords differ; nothing was changed")
    return first


def _done(session: Session, text: str, **values: object) -> int:
    session.out.line(printable(text))
    session.out.json(values)
    return ExitCode.OK
