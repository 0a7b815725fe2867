"""One real HTTP server for all stand-ins: each is a WSGI app below a path of its own, with scripted faults.

A server of one's own rather than a ready one, since the faults are in how it answers: a connection
that is cut before, in the middle of, or in place of an answer, and one that is never answered.
"""

from __future__ import annotations

import atexit
import functools
import io
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import unquote_to_bytes

from werkzeug.test import run_wsgi_app


@dataclass(frozen=True)
class Request:
    """One request as it came: the path is without the stand-in's own beginning, but with its query."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


def _any(method: str, path: str) -> bool:
    return True


@dataclass
class Fault:
    """What happens to one request.

    ``answer``: this is answered and nothing is done. ``cut``: the connection is closed: ``before``
    anything is done, ``after`` it was done, or in the ``middle`` of the answer. ``silent``: it is
    done if ``done``, and nothing is ever answered.
    """

    answer: tuple[int, dict[str, str], bytes] | None = None
    cut: str = ""
    silent: bool = False
    done: bool = False
    when: Callable[[str, str], bool] = _any


def answering(
    status: int, body: bytes = b"", when: Callable[[str, str], bool] = _any, **headers: str
) -> Fault:
    return Fault((status, {name.replace("_", "-"): text for name, text in headers.items()}, body), when=when)


def on(method: str, ending: str = "") -> Callable[[str, str], bool]:
    """Tell whether a request is of this method and its path, without the query, ends so."""
    return lambda its, path: its == method and path.partition("?")[0].endswith(ending)


@dataclass
class Service:
    """A WSGI app that can be reached at ``url``; it answers as ``script`` says, else as the app does."""

    app: Callable[..., Iterable[bytes]]
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    script: list[Fault] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        server = _server()
        name = f"/{next(server.numbers)}"
        server.services[name] = self
        self.url = f"http://127.0.0.1:{server.server_port}{name}"

    def next_fault(self, request: Request) -> Fault | None:
        with self._lock:
            self.requests.append(request)
            for number, fault in enumerate(self.script):
                if fault.when(request.method, request.path):
                    return self.script.pop(number)
        return None

    def call(self, environ: dict[str, Any]) -> tuple[int, list[tuple[str, str]], bytes]:
        try:
            parts, status, headers = run_wsgi_app(self.app, environ, buffered=True)
            return int(status.split()[0]), list(headers), b"".join(parts)
        except Exception as exc:  # noqa: BLE001 - it is answered, and kept for the test to look at
            self.errors.append(exc)
            return 500, [], repr(exc).encode()

    def told(self, method: str, ending: str = "") -> list[Request]:
        """The requests of this method whose path, without the query, ends so."""
        wanted = on(method, ending)
        return [request for request in self.requests if wanted(request.method, request.path)]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.services: dict[str, Service] = {}
        self.numbers = count()
        self.ended = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # one segment a packet, and nothing waits for a full one
    disable_nagle_algorithm = True
    wbufsize = -1

    def _serve(self) -> None:
        name = "/" + self.path.split("/", 2)[1].partition("?")[0]
        service = self.server.services[name]
        request = Request(self.command, self.path.removeprefix(name), dict(self.headers), self._body())
        fault = service.next_fault(request)
        if fault is None:
            self._answer(*service.call(self._environ(request, name)))
        elif fault.answer is not None:
            status, headers, body = fault.answer
            self._answer(status, list(headers.items()), body)
        elif fault.silent:
            if fault.done:
                service.call(self._environ(request, name))
            self.server.ended.wait()
            self.close_connection = True
        else:
            self._cut(fault.cut, service, request, name)

    do_DELETE = do_GET = do_HEAD = do_OPTIONS = do_POST = do_PUT = _serve  # noqa: N815

    def _cut(self, where: str, service: Service, request: Request, name: str) -> None:
        if where != "before":
            status, headers, body = service.call(self._environ(request, name))
            if where == "middle":
                self._answer(status, headers, body, cut=True)
        self.close_connection = True

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = bytearray()
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    def _environ(self, request: Request, name: str) -> dict[str, Any]:
        path, _, query = request.path.partition("?")
        environ = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": name,
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": str(self.server.server_port),
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": self.client_address[0],
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(request.body)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(request.body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for header, value in request.headers.items():
            key = header.upper().replace("-", "_")
            if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                environ[f"HTTP_{key}"] = value
        return environ

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() != "content-length":
                self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body) + (1 if cut else 0)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *args: Any) -> None:
        pass


@functools.cache
def _server() -> _Server:
    """Start the server, once a test session."""
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()

    def stop() -> None:
        server.ended.set()
        server.shutdown()
        server.server_close()

    atexit.register(stop)
    return server
