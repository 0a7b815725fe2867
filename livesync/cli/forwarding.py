"""Sending a command to the process that has the database's file open.

A FileStorage's file is written by one process. Where that one takes commands (``schedule/owner.py``),
what only reads is done here, on the file opened for reading, and every other command is sent there.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final
from urllib.parse import urlsplit

from ..database import database_file
from ..errors import DatabaseError, DatabaseLocked
from ..schedule.owner import Owner, owner_path, read_owner
from .exitcodes import ExitCode
from .session import Session

#: Commands that only read, by their handlers.
READING: Final = frozenset(
    {
        "agents:list_agents",
        "agents:show",
        "agents:types",
        "dead:list_letters",
        "dead:show",
        "doctor:doctor",
        "listing:list_track",
        "peer_certs:list_certificates",
        "peer_certs:show",
        "peer_scopes:list_scopes",
        "peer_scopes:show",
        "peers:list_peers",
        "peers:sessions",
        "simulating:simulate",
        "status:status",
        "tasking:list_tasks",
        "verifying:verify",
        "version_looking:diff",
        "version_looking:history",
        "version_looking:log",
        "version_looking:show",
        "version_looking:status",
        "version_keeping:blame",
        "version_keeping:fsck",
    }
)

#: Those of them that need the application.
_WITH_HOST: Final = frozenset(
    {"simulating:simulate", "verifying:verify", "version_looking:diff", "version_looking:status"}
)

#: Commands that are about this process, or about files that have nothing to do with the database.
_HERE: Final = ("serving:", "users:")

#: The process sends something every half second: after so many it is as good as gone.
_SILENCE_S: Final = 30.0


def forwarded(session: Session, argv: Sequence[str]) -> int | None:
    """Let the process that has the database's file open carry a command out, where there is one.

    Args:
        session: The command.
        argv: Its arguments as they were given.

    Returns:
        Its exit code; None: it is to be carried out here.

    Raises:
        DatabaseLocked: The process does not take it.
        DatabaseError: It has gone away in the middle.
    """
    args = session.args
    file = database_file(session.settings.db)
    if file is None or args.handler.startswith(_HERE) or _is_for_here(session):
        return None
    owner = read_owner(owner_path(file))
    if owner is None or not owner.is_alive():
        return None  # what was left by a process that is gone says nothing
    ask = _asking(args.handler)
    if ask is not None:
        if not ask(session):
            return ExitCode.OK
        argv = [*argv, "--yes"]
    return _sent(session, argv, owner, file)


def _asking(handler: str) -> Callable[[Session], bool] | None:
    """Return what asks before a command is carried out: here, where the person is."""
    if handler == "installing:destroy":
        from .installing import agree_to_destroy

        return agree_to_destroy
    if handler == "peer_erasing:erase":
        from .peer_erasing import agree_to_erase

        return agree_to_erase
    return None


def _is_for_here(session: Session) -> bool:
    """Tell whether a command only reads; one that needs the application needs to know which it is, too."""
    handler, has_host = session.args.handler, bool(session.settings.host)
    if handler == "exporting:export":
        return session.args.to is not None and has_host
    return handler in READING and (has_host or handler not in _WITH_HOST)


def _sent(session: Session, argv: Sequence[str], owner: Owner, file: Path) -> int | None:
    """Send a command, show what it says, and return its exit code; None: nobody took it."""
    ident = uuid.uuid4().hex
    body = {
        "id": ident,
        "argv": list(argv),
        "directory": os.getcwd(),
        "columns": shutil.get_terminal_size().columns,
    }
    try:
        connection = _connection(owner)
        connection.request("POST", urlsplit(owner.url).path, json.dumps(body), _headers(owner))
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException):
        return None  # it takes no commands any more; if it has the file open still, opening it says so
    try:
        if answer.status != http.client.OK:
            raise DatabaseLocked(
                f"process {owner.pid} has {file} open and does not take this command: {_reason(answer)}"
            )
        with _interrupts(lambda: _ask_to_end(owner, ident)):
            return _shown(session, answer, owner)
    finally:
        connection.close()


def _connection(owner: Owner) -> http.client.HTTPConnection:
    parts = urlsplit(owner.url)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_SILENCE_S)


def _headers(owner: Owner) -> dict[str, str]:
    return {"Authorization": f"Bearer {owner.token}", "Content-Type": "application/json"}


def _reason(answer: http.client.HTTPResponse) -> str:
    try:
        return str(json.loads(answer.read(10_000))["error"])
    except (ValueError, KeyError, TypeError):
        return f"it answered {answer.status}"


def _shown(session: Session, answer: http.client.HTTPResponse, owner: Owner) -> int:
    """Print what the command says as it comes; return its exit code.

    Raises:
        DatabaseError: There was none.
    """
    out = session.out
    try:
        for line in answer:
            piece = json.loads(line) if line.strip() else {}
            if "out" in piece:
                out.write(piece["out"])
            elif "err" in piece:
                out.stderr.write(piece["err"])
                out.stderr.flush()
            elif "exit" in piece:
                return int(piece["exit"])
            else:
                out.stdout.flush()
        reason = "it has ended"
    except BrokenPipeError:
        raise  # whoever reads our own output
    except (OSError, ValueError, http.client.HTTPException) as exc:
        reason = str(exc) or type(exc).__name__
    raise DatabaseError(
        f"process {owner.pid}, which carried this out, is gone in the middle of it ({reason}); what it has"
        " done is kept: look at livesync status"
    )


def _ask_to_end(owner: Owner, ident: str) -> None:
    try:
        connection = _connection(owner)
        connection.request("DELETE", f"{urlsplit(owner.url).path}/{ident}", headers=_headers(owner))
        connection.getresponse().read()
        connection.close()
    except (OSError, http.client.HTTPException):
        return  # it has ended, or the answer that we read will tell


@contextmanager
def _interrupts(ask: Callable[[], None]) -> Iterator[None]:
    """Let the first SIGINT or SIGTERM ask the command to end in good order; a second SIGINT ends us."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupted(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # apart: what we are reading may not be disturbed
        threading.Thread(target=ask, daemon=True).start()

    before: dict[int, Any] = {
        number: signal.signal(number, interrupted) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
