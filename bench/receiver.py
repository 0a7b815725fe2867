"""A receiver of posted batches, in a process of its own: it keeps what comes and says what it was."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import requests


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # so that connections are kept, as services keep them
    bodies: ClassVar[list[bytes]] = []
    wait_s: ClassVar[float] = 0.0

    def do_POST(self) -> None:
        time.sleep(self.wait_s)
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self._answer(b"")

    def do_GET(self) -> None:
        """Answer with what came since the last time: how many lines, and a digest of their documents."""
        lines = [json.loads(line) for body in self.bodies for line in body.splitlines()]
        self.bodies.clear()
        self._answer(json.dumps({"lines": len(lines), "digest": digest(lines)}).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


def digest(lines: list[dict[str, Any]]) -> str:
    """Return a digest of ids, ops and documents in order: positions are the sender's own affair."""
    found = hashlib.blake2b(digest_size=16)
    for line in lines:
        found.update(json.dumps([line["op"], line["id"], line.get("document")]).encode())
    return found.hexdigest()


@contextmanager
def receiving(wait_ms: int = 0) -> Iterator[str]:
    """Run a receiver for a ``with`` block, one that takes so long for each answer; its URL."""
    command = [sys.executable, "-m", "bench.receiver", str(wait_ms)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/batches"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def received(url: str) -> dict[str, Any]:
    """Return what the receiver got since this was last asked: ``lines`` and ``digest``."""
    answer = requests.get(url, timeout=120)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


if __name__ == "__main__":
    _Handler.wait_s = int(sys.argv[1]) / 1000
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
