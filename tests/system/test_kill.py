"""kill -9 at every step of a run and of an export; whatever comes next ends with what the host has."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class _Keeper(BaseHTTPRequestHandler):
    """Keeps what is posted to each path, by the rule of positions, and gives it back."""

    rows: dict[str, dict[str, tuple[int, object]]]  # by path, then by id; set on a subclass
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        kept = self.rows.setdefault(self.path, {})
        for line in self.rfile.read(int(self.headers["Content-Length"])).splitlines():
            record = json.loads(line)
            if record["position"] >= kept.get(record["id"], (-1, None))[0]:
                kept[record["id"]] = (record["position"], record.get("document"))
        self._answer(b"")

    def do_GET(self):
        self._answer(json.dumps(self.rows.get(self.path, {})).encode())

    def _answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def keeper():
    """The URL of a server on loopback that keeps what it is sent."""
    handler = type("Keeper", (_Keeper,), {"rows": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def place(request, tmp_path):
    """What ``kill_steps.py`` calls a destination."""
    if request.param == "http":
        return request.getfixturevalue("keeper")
    if request.param == "postgres":
        from support.postgres_service import postgres_server

        server = postgres_server()
        return server.dsn(server.new_database())
    return request.param


@pytest.mark.slow
@pytest.mark.parametrize("what", ["run", "export"])
@pytest.mark.parametrize("place", ["sqlite", "file", "http", "postgres"], indirect=True)
def test_a_process_killed_at_any_step_loses_nothing(child, tmp_path, place, what):
    ended = child("kill_steps.py", tmp_path, place, what)

    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["steps"] >= 20  # it is the whole way that was tried
    assert told["ended"] == 0, ended.stderr
    assert told["failures"] == {}, ended.stderr[-3000:]
