"""An HTTP service that keeps what it is sent by the rule of positions, and fails in every way there is."""

import json
import random
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: What may happen to a request, with its weight.
FAULTS = {
    "accepts": 40,
    "judges each record": 25,
    "refuses the connection": 4,
    "times out": 2,
    "cuts the answer": 5,
    "accepts but does not answer": 6,
    "429": 4,
    "500": 4,
    "503": 4,
    "not now for some": 6,
}


class FaultyServer(ThreadingHTTPServer):
    """Listens on loopback; what it does is drawn from a seed, in the order in which requests come.

    A record whose id is in ``poison`` is always refused: by itself where the answer judges each
    record, else with the whole batch.
    """

    daemon_threads = True

    def __init__(self, seed, poison=frozenset()):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.dice = random.Random(f"faults {seed}")
        self.poison = poison
        self.rows = {}  # id -> (position, document or None)
        self.happened = dict.fromkeys(FAULTS, 0)
        self.over = threading.Event()
        self.lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/records"

    @property
    def documents(self):
        return {key: document for key, (_, document) in self.rows.items() if document is not None}

    def draw(self):
        with self.lock:
            (name,) = self.dice.choices(list(FAULTS), weights=FAULTS.values())
            self.happened[name] += 1
            return name

    def chance(self, share):
        with self.lock:
            return self.dice.random() < share

    def keep(self, record):
        """Keep one record; return the status that it is answered with."""
        with self.lock:
            known = self.rows.get(record["id"], (-1, None))[0]
            if record["position"] < known:
                return 409
            self.rows[record["id"]] = (record["position"], record.get("document"))
            return 200

    def handle_error(self, request, client_address):
        """Say nothing: connections break here on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        lines = self.rfile.read(int(self.headers["Content-Length"])).splitlines()
        records = [json.loads(line) for line in lines]
        what = self.server.draw()
        if what == "refuses the connection":
            self._reset()
        elif what == "times out":
            self.server.over.wait(1)  # longer than the client does
            self._reset()
        elif what.isdigit():
            self._answer(int(what), b"busy", {"Retry-After": "0"} if what == "429" else {})
        elif what in ("judges each record", "not now for some"):
            self._answer(200, self._judged(records, 0.3 if what == "not now for some" else 0))
        elif any(record["id"] in self.server.poison for record in records):
            self._answer(400 if self.server.chance(0.5) else 413, b"cannot take this")
        else:
            for record in records:
                self.server.keep(record)
            self._answer_perhaps(what)

    def _judged(self, records, not_now):
        items = []
        for record in records:
            if self.server.chance(not_now):
                items.append({"id": record["id"], "status": 503})
            elif record["id"] in self.server.poison:
                items.append({"id": record["id"], "status": 422, "reason": "poison"})
            else:
                items.append({"id": record["id"], "status": self.server.keep(record)})
        return json.dumps({"items": items}).encode()

    def _answer_perhaps(self, what):
        if what == "accepts but does not answer":
            self._reset()
        elif what == "cuts the answer":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"items": [')
            self._reset()
        else:
            self._answer(200, b"")

    def _answer(self, status, body, headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _reset(self):
        """End the connection with a reset, as a crash of the service does."""
        self.close_connection = True
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, *args):
        pass
