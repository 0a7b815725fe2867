"""A proxy between a client and a server that does to messages whatever a network can do, drawn from a seed.

It loses, delays, doubles, reorders, cuts and changes requests and answers, gives an earlier answer again, and
makes up errors of its own. What is delayed waits for a later request, or for a moment; none waits long.
"""

from __future__ import annotations

import http.client
import random
import socket
import threading
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from support.waiting import LONG_S

#: What may happen to a request and its answer, and how often beside one another.
FAULTS = {
    "request lost": 3,
    "answer lost": 4,
    "request cut": 3,
    "answer cut": 4,
    "request changed": 4,
    "request's headers changed": 3,
    "answer changed": 4,
    "answer's headers changed": 3,
    "answer's status changed": 2,
    "sent twice": 4,
    "sent again later": 5,
    "sent after another": 3,
    "an earlier answer": 3,
    "an error of the proxy's": 3,
    "slow": 1,
}

_HOPS = frozenset({"connection", "keep-alive", "transfer-encoding", "host", "content-length"})


class FaultyProxy(ThreadingHTTPServer):
    """Listens on loopback.

    Args:
        port: The server's.
        seed: Of what happens.
        share: Of requests to which something happens.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, port, seed, share=0.2, faults=FAULTS):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = port
        self.share = share
        self.faults = faults
        self.happened = Counter()
        self.requests = 0
        #: Requests after which all are lost; None: none is.
        self.lose_after = None
        #: Set while a request waits that :meth:`hold_at` has named.
        self.is_holding = threading.Event()
        self._held = None
        self._release = threading.Event()
        self._dice = random.Random(f"proxy {seed}")
        self._lock = threading.Lock()
        self._later = []
        self._answers = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def close(self):
        self.shutdown()
        self._thread.join(LONG_S)
        self.server_close()

    def handle_error(self, request, client_address):
        """Say nothing: connections break here on purpose."""

    # -- one request that waits ------------------------------------------------------------------

    def hold_at(self, method, path, number):
        """Let the request of this number among those of a method and path wait, until :meth:`go_on`."""
        self._held = (method, path, number)

    def hold(self, method, path):
        """Wait, if this is the request."""
        with self._lock:
            if self._held is None or method != self._held[0] or self._held[1] not in path:
                return
            self._held = (*self._held[:2], self._held[2] - 1)
            if self._held[2]:
                return
            self._held = None
        self.is_holding.set()
        self._release.wait(LONG_S)

    def go_on(self):
        """Let the request that waits go on."""
        self._release.set()

    # -- what is drawn ---------------------------------------------------------------------------

    def draw(self):
        with self._lock:
            self.requests += 1
            if self.lose_after is not None and self.requests > self.lose_after:
                return "request lost"
            if self._dice.random() >= self.share:
                return "nothing"
            (name,) = self._dice.choices(list(self.faults), weights=self.faults.values())
            self.happened[name] += 1
            return name

    def below(self, number):
        with self._lock:
            return self._dice.randrange(max(1, number))

    def changed(self, data):
        """Return bytes with one of them changed, if there is one."""
        if not data:
            return data
        place, bit = self.below(len(data)), 1 << self.below(8)
        return data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]

    # -- what is kept ----------------------------------------------------------------------------

    def keep(self, message):
        with self._lock:
            self._later.append(message)

    def take_later(self):
        with self._lock:
            found, self._later = self._later, []
            return found

    def note(self, answer):
        with self._lock:
            self._answers = [*self._answers[-20:], answer]

    def earlier(self):
        place = self.below(len(self._answers))
        with self._lock:
            return self._answers[place] if self._answers else None

    # -- the server ------------------------------------------------------------------------------

    def forward(self, message):
        """Send a request on, and return the answer: status, headers, body."""
        method, path, headers, body = message
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=LONG_S)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", "127.0.0.1")
            for name, value in headers:
                connection.putheader(name, value)
            if body or method in ("POST", "PATCH"):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            response = connection.getresponse()
            found = response.status, response.getheaders(), response.read()
        finally:
            connection.close()
        self.note(found)
        return found

    def cut(self, message):
        """Send a request whose body breaks off."""
        method, path, headers, body = message
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        whole = head + body
        with socket.create_connection(("127.0.0.1", self.upstream), 30) as sock:
            sock.sendall(whole[: self.below(len(whole))])


class _Cut(Exception):
    """Raised where the connection of the client is closed without a further word."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    disable_nagle_algorithm = True

    def log_message(self, *_):
        """Say nothing."""

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (_Cut, OSError, http.client.HTTPException):
            self.close_connection = True

    def _serve(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        headers = [(name, value) for name, value in self.headers.items() if name.lower() not in _HOPS]
        message = (self.command, self.path, headers, body)
        proxy = self.server
        proxy.hold(self.command, self.path)
        for other in proxy.take_later():
            with suppress(OSError, http.client.HTTPException):
                proxy.forward(other)
        self._answer(*self._through(message, proxy.draw()))

    do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815

    def _through(self, message, fault):
        """Return the answer, or part of it, and whether the connection is cut after it."""
        proxy = self.server
        method, path, headers, body = message
        if fault == "request lost":
            raise _Cut
        if fault == "request cut":
            proxy.cut(message)
            raise _Cut
        if fault == "sent after another":
            proxy.keep(message)
            raise _Cut
        if fault == "an error of the proxy's":
            return 502, [("Content-Type", "text/html")], b"<h1>Bad Gateway</h1>", False
        if fault == "request changed":
            message = (method, path, headers, proxy.changed(body))
        if fault == "request's headers changed":
            message = (method, path, self._changed(headers), body)
        if fault == "sent twice":
            proxy.forward(message)
        if fault == "slow":
            threading.Event().wait(0.02)
        answer = proxy.forward(message)
        if fault == "sent again later":
            proxy.keep(message)
        return self._back(fault, *answer)

    def _changed(self, headers):
        """Return headers with a letter of one of them changed into another that may stand there."""
        place = self.server.below(len(headers))
        found = list(headers)
        name, value = found[place]
        spot = self.server.below(len(value))
        found[place] = (name, value[:spot] + "abc123"[self.server.below(6)] + value[spot + 1 :])
        return found

    def _back(self, fault, status, headers, body):
        proxy = self.server
        if fault == "answer lost":
            raise _Cut
        if fault == "answer cut":
            return status, headers, body, True
        if fault == "answer changed":
            body = proxy.changed(body)
        if fault == "answer's headers changed":
            kept = [(name, value) for name, value in headers if name.lower() not in _HOPS]
            headers = self._changed(kept) if kept else headers
        if fault == "answer's status changed":
            status = (200, 201, 204, 400, 404, 409, 500, 503)[proxy.below(8)]
        if fault == "an earlier answer":
            status, headers, body = proxy.earlier() or (status, headers, body)
        return status, headers, body, False

    def _answer(self, status, headers, body, cut):
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _HOPS:
                self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if status == 204:
            body = b""
        self.wfile.write(body[: self.server.below(len(body) + 1)] if cut else body)
        if cut:
            self.wfile.flush()
            raise _Cut
