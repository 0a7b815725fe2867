"""The endpoint of commands that were sent to the process which has the database's file open.

``POST /api/v1/commands`` takes a command's arguments and answers with a line of JSON for each piece of
what it says: ``{"out": …}``, ``{"err": …}``, in the end ``{"exit": CODE}``; an empty line now and then
says that it is still at work, and finds out that nobody listens any more.
``DELETE /api/v1/commands/ID`` asks one to end in good order, as SIGINT does.

A plain WSGI application, for this machine only: whoever sends the token could read the file that it
stands in. What carries a command out is passed in. The server is the standard library's, a thread for
each request: every installation has it, it writes each piece at once and notices a client that is gone
with the next, and one process' command line needs no more.
"""

from __future__ import annotations

import hmac
import io
import json
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from socketserver import TCPServer, ThreadingMixIn
from typing import Any, Final, Protocol, TextIO, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

logger = logging.getLogger(__name__)

#: Where commands are posted.
PATH: Final = "/api/v1/commands"

#: The longest body, in bytes; what is in files is not sent.
MOST_BYTES: Final = 1_000_000

#: The most pieces that wait for a slow reader.
_MOST_PIECES: Final = 1000

#: So often a command that says nothing is known to be at work; seconds.
_ALIVE_S: Final = 0.5

#: A request, or a piece of an answer, may take so long; seconds.
_SOCKET_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Command:
    """One command.

    Attributes:
        argv: The arguments after ``livesync``.
        directory: The absolute path that relative ones are below.
        columns: The width of the reader's terminal.
    """

    argv: tuple[str, ...]
    directory: str
    columns: int


class CarryOut(Protocol):
    """Carries a command out in the calling thread."""

    def __call__(self, command: Command, stdout: TextIO, stderr: TextIO, stop: Callable[[], bool]) -> int:
        """Return its exit code; ``stop`` tells whether it was asked to end."""


class Refused(Exception):
    """Raised when a request is none that is answered; holds the status and what to say."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


class CommandApp:
    """The WSGI application.

    Args:
        carry_out: Carries a command out.
        token: What a request has to prove.
    """

    def __init__(self, carry_out: CarryOut, token: str) -> None:
        self._carry_out = carry_out
        self._token = token
        self._running: dict[str, Running] = {}
        self._lock = threading.Lock()

    def __call__(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request."""
        try:
            self._check(environ)
            return self._answer(environ, start_response)
        except Refused as exc:
            body = json.dumps({"error": str(exc)}).encode()
            start_response(
                f"{exc.status.value} {exc.status.phrase}", [*_HEADERS, ("Content-Length", str(len(body)))]
            )
            return [body]

    def stop_all(self) -> None:
        """Ask all that are at work to end."""
        with self._lock:
            for running in self._running.values():
                running.stop()

    def _check(self, environ: Mapping[str, Any]) -> None:
        """Let through only who reads the token's file, and no browser.

        Raises:
            Refused: It is somebody else.
        """
        name = environ.get("HTTP_HOST", "").rpartition(":")[0]
        if name not in ("127.0.0.1", "localhost", "[::1]") or environ.get("REMOTE_ADDR") not in _LOOPBACK:
            raise Refused(HTTPStatus.FORBIDDEN, "commands are taken from this machine only")
        if "HTTP_ORIGIN" in environ:
            raise Refused(HTTPStatus.FORBIDDEN, "commands are not taken from web pages")
        kind, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        if kind != "Bearer" or not hmac.compare_digest(token.encode(), self._token.encode()):
            raise Refused(HTTPStatus.UNAUTHORIZED, "the token is not this process'")

    def _answer(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path, method = environ.get("PATH_INFO", ""), environ["REQUEST_METHOD"]
        if path == PATH:
            if method != "POST":
                raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "commands are posted")
            return self._post(environ, start_response)
        if path.startswith(f"{PATH}/"):
            if method != "DELETE":
                raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "a command is deleted, or left alone")
            return self._delete(path[len(PATH) + 1 :], start_response)
        raise Refused(HTTPStatus.NOT_FOUND, "there is nothing at this address")

    def _post(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        ident, command = _decoded(_body(environ))
        running = Running(lambda: self._forget(ident))
        with self._lock:
            if ident in self._running:
                raise Refused(HTTPStatus.CONFLICT, "a command of this id is at work")
            self._running[ident] = running
        start_response("200 OK", [("Content-Type", "application/x-ndjson"), ("Cache-Control", "no-store")])
        running.begin(self._carry_out, command)
        return running

    def _delete(self, ident: str, start_response: Callable[..., Any]) -> Iterable[bytes]:
        with self._lock:
            running = self._running.get(ident)
        if running is None:
            raise Refused(HTTPStatus.NOT_FOUND, "no command of this id is at work")
        running.stop()
        start_response("202 Accepted", [*_HEADERS, ("Content-Length", "2")])
        return [b"{}"]

    def _forget(self, ident: str) -> None:
        with self._lock:
            self._running.pop(ident, None)


class Running:
    """One command at work: iterate for the lines of its answer.

    Args:
        ended: Called when it has ended.
    """

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended
        self._pieces: queue.Queue[dict[str, Any] | None] = queue.Queue(_MOST_PIECES)
        self._stop = threading.Event()
        self._gone = threading.Event()

    def begin(self, carry_out: CarryOut, command: Command) -> None:
        """Let it be carried out in a thread of its own."""
        work = threading.Thread(
            target=self._work, args=(carry_out, command), name="livesync-command", daemon=True
        )
        work.start()

    def stop(self) -> None:
        """Ask it to end in good order."""
        self._stop.set()

    def close(self) -> None:
        """Called by the server when nothing more is read: a command whose reader is gone is to end."""
        self._gone.set()
        self._stop.set()

    def put(self, piece: dict[str, Any] | None) -> None:
        """Take what the command says; it waits for a slow reader, and never for one that is gone."""
        while not self._gone.is_set():
            try:
                self._pieces.put(piece, timeout=_ALIVE_S)
                return
            except queue.Full:
                continue

    def __iter__(self) -> Iterator[bytes]:
        yield b"\n"  # at once: whoever asked is to know that it was taken, however long it says nothing
        while True:
            try:
                piece = self._pieces.get(timeout=_ALIVE_S)
            except queue.Empty:
                yield b"\n"
                continue
            if piece is None:
                return
            yield json.dumps(piece).encode() + b"\n"

    def _work(self, carry_out: CarryOut, command: Command) -> None:
        code = 70
        try:
            out, err = (cast(TextIO, Stream(self, name)) for name in ("out", "err"))
            code = carry_out(command, out, err, self._stop.is_set)
        except Exception:
            logger.exception("a command that was sent to this process failed")
        finally:
            self._ended()
            self.put({"exit": int(code)})
            self.put(None)


class Stream(io.TextIOBase):
    """Text that a command writes, on its way to who sent it."""

    def __init__(self, running: Running, name: str) -> None:
        super().__init__()
        self._running = running
        self._name = name

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Any character can be written."""
        return "utf-8"

    def writable(self) -> bool:
        """It is for writing."""
        return True

    def write(self, text: str) -> int:
        """Send a piece of text."""
        if text:
            self._running.put({self._name: text})
        return len(text)


_HEADERS: Final = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})


def _body(environ: Mapping[str, Any]) -> bytes:
    if environ.get("CONTENT_TYPE", "").partition(";")[0].strip() != "application/json":
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a command is sent as application/json")
    text = environ.get("CONTENT_LENGTH") or ""
    if not (text.isascii() and text.isdigit()):
        raise Refused(HTTPStatus.LENGTH_REQUIRED, "a command is sent with its length")
    if int(text) > MOST_BYTES:
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a command has at most {MOST_BYTES:,} bytes")
    body: bytes = environ["wsgi.input"].read(int(text))
    return body


def _decoded(body: bytes) -> tuple[str, Command]:
    """Return the id and the command that a body holds.

    Raises:
        Refused: It holds something else.
    """
    try:
        values = json.loads(body)
        ident, argv = values["id"], values["argv"]
        directory, columns = values["directory"], values["columns"]
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise Refused(HTTPStatus.BAD_REQUEST, "this is no command") from exc
    usable = (
        isinstance(argv, list)
        and all(isinstance(word, str) for word in argv)
        and isinstance(ident, str)
        and ident.isalnum()
        and len(ident) <= 64
        and isinstance(directory, str)
        and directory.startswith("/")
        and isinstance(columns, int)
        and 0 < columns < 10_000
    )
    if not usable:
        raise Refused(HTTPStatus.BAD_REQUEST, "this is no command")
    return ident, Command(tuple(argv), directory, columns)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False

    def server_bind(self) -> None:
        """Bind without asking a name server what this machine is called."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Leave a connection that broke to the log."""
        logger.debug("a connection of the command line broke", exc_info=True)


class _Handler(WSGIRequestHandler):
    timeout = _SOCKET_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the base class calls it
        """Say nothing."""

    def get_stderr(self) -> TextIO:
        """Keep what goes wrong on the way off the application's standard error."""
        return io.StringIO()


class CommandServer:
    """Serves commands on a port of this machine that is free.

    Args:
        app: The application.
    """

    def __init__(self, app: CommandApp) -> None:
        self._app = app
        self._server = make_server("127.0.0.1", 0, app, _Server, _Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.1},
            name="livesync-commands",
            daemon=True,
        )

    @property
    def url(self) -> str:
        """Where commands are posted."""
        return f"http://127.0.0.1:{self._server.server_port}{PATH}"

    def start(self) -> None:
        """Begin to take commands."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more commands, and ask those that are at work to end."""
        self._app.stop_all()
        self._server.shutdown()
        self.close()

    def close(self) -> None:
        """Give the port back; for a server that has not begun."""
        self._server.server_close()
