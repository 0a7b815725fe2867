"""A real HTTP service, and one harness a destination (see support/destination.py), for the contract suite."""

from __future__ import annotations

import gzip
import hashlib
import json
import sqlite3
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from support.destination import Destination
from support.invenio_service import InvenioDestination
from support.kafka_service import KafkaDestination
from support.marc_service import MARCXMLDestination
from support.opensearch_service import OpenSearchDestination
from support.postgres_service import PostgresDestination
from support.webhook_service import SingleWebhookDestination, WebhookDestination

from livesync.delivery.push import PushSyncAgent
from livesync.delivery.uploader import DELIVERY_OPTIONS, FILE_OPTIONS, IN_FLIGHT_OPTION
from livesync.destinations.file import FileAgent
from livesync.destinations.http import HTTPAgent
from livesync.destinations.memory import MemoryService
from livesync.destinations.sqlite import SQLiteAgent


class Applied:
    """What a consumer of JSON Lines comes to that keeps to the position rule."""

    def __init__(self):
        self.documents: dict[str, bytes] = {}
        self.positions: dict[str, int] = {}
        self.files: dict[str, list[dict]] = {}

    def apply(self, line: bytes) -> int:
        """Apply one line; return the status that it would be answered with."""
        record = json.loads(line)
        object_id, position = record["id"], record["position"]
        if self.positions.get(object_id, -1) > position:
            return 409
        self.positions[object_id] = position
        if record["op"] == "delete":
            assert list(record) == ["op", "id", "position"]
            self.documents.pop(object_id, None)
            self.files.pop(object_id, None)
        else:
            keys = ["op", "id", "position", "document"]
            assert list(record) in (keys, [*keys, "files"])
            # the document is taken byte for byte
            end = -1
            if "files" in record:
                self.files[object_id] = record["files"]
                end = line.rindex(b',"files":[')
            self.documents[object_id] = line[line.index(b',"document":') + 12 : end]
        return 200

    @property
    def tombstones(self) -> dict[str, int]:
        return {key: position for key, position in self.positions.items() if key not in self.documents}


class Receiver(ThreadingHTTPServer):
    """Applies what is posted and answers a verdict a record, unless ``script`` holds other answers."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), ReceiverHandler)
        self.applied = Applied()
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.script: deque[tuple[int, dict[str, str], bytes]] = deque()
        #: What was asked and not posted: method, path, headers, body.
        self.questions: list[tuple[str, str, dict[str, str], bytes]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/sync"

    @property
    def rows_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/rows?key=1"

    def row(self, object_id: str, digests: bool = True) -> bytes:
        """One line of what is held."""
        row = {"id": object_id, "position": self.applied.positions[object_id]}
        if digests:
            body = self.applied.documents[object_id]
            row["digest"] = hashlib.blake2b(body, digest_size=16).hexdigest()
        return json.dumps(row).encode() + b"\n"

    def handle_error(self, request, client_address):
        if not isinstance(sys.exception(), ConnectionError):  # a client that has read enough
            super().handle_error(request, client_address)


class ReceiverHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # one segment a packet, and nothing waits for a full one
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/rows"):
            self._ask(body)
            return
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        with self.server.lock:
            self.server.requests.append((self.path, dict(self.headers), body))
            scripted = self.server.script.popleft() if self.server.script else None
            items = []
            if scripted is None:
                items = [
                    {"id": json.loads(line)["id"], "status": self.server.applied.apply(line)}
                    for line in body.split(b"\n")[:-1]
                ]
        said = {"Content-Type": "application/json"}
        self._answer(*(scripted or (200, said, json.dumps({"items": items}).encode())))

    def do_HEAD(self):
        self._ask(b"")

    def do_GET(self):
        self._ask(b"")

    def _ask(self, body):
        with self.server.lock:
            self.server.questions.append((self.command, self.path, dict(self.headers), body))
            scripted = self.server.script.popleft() if self.server.script else None
            rows = b"" if scripted or self.command == "HEAD" else b"".join(self._rows(body))
        status = 405 if self.command == "HEAD" else 200
        self._answer(*(scripted or (status, {"Content-Type": "application/x-ndjson"}, rows)))

    def _rows(self, body):
        query = dict(parse_qsl(urlsplit(self.path).query))
        held = self.server.applied.documents
        if self.command == "POST":
            return [self.server.row(key) for key in json.loads(body)["ids"] if key in held]
        ids = sorted(key for key in held if key > query.get("after", ""))
        return [self.server.row(key, query.get("digests") != "no") for key in ids[: int(query["limit"])]]

    def _answer(self, status, headers, body):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class MemoryDestination(Destination):
    keeps_pointer = True
    sweeps = True
    readable = True
    takes_files = True
    rebuilds = True
    concurrent = False

    def __init__(self, directory: Path, receiver: Receiver):
        self.service = MemoryService(concurrent=self.concurrent)
        bound = self.service.uploader_type()

        class BoundAgent(PushSyncAgent):
            options = (*FILE_OPTIONS, IN_FLIGHT_OPTION, *DELIVERY_OPTIONS)
            uploader = bound

        self.agent_type = BoundAgent

    def agent(self, agent_id="a", **options):
        return self.agent_type(agent_id, **options)

    def documents(self):
        return {
            key: json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
            for key, document in self.service.documents.items()
        }

    def tombstones(self):
        return self.service.tombstones

    def alter(self, object_id):
        self.service.alter(object_id, {"altered": True})

    def files(self):
        return {
            key: {file.name: self.service.contents.get(file.digest) for file in files}
            for key, files in self.service.files.items()
        }


class MemoryStreamsDestination(MemoryDestination):
    concurrent = True


class SQLiteDestination(Destination):
    keeps_pointer = True
    sweeps = True
    readable = True
    takes_files = True

    def __init__(self, directory: Path, receiver: Receiver):
        self.path = directory / "index.sqlite"

    def agent(self, agent_id="a", **options):
        return SQLiteAgent(agent_id, path=self.path, **options)

    def _read(self, select):
        if not self.path.exists():
            return []
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(select).fetchall()

    def documents(self):
        return {key: text.encode() for key, text in self._read("SELECT object_id, document FROM documents")}

    def tombstones(self):
        return dict(self._read("SELECT object_id, position FROM tombstones"))

    def alter(self, object_id):
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(
                "UPDATE documents SET document = json_set(document, '$.title', 'altered')"
                " WHERE object_id = ?",
                (object_id,),
            )

    def files(self):
        if not self._read("SELECT 1 FROM sqlite_master WHERE name = 'files'"):
            return {}
        files: dict[str, dict[str, bytes | None]] = {}
        for object_id, name, content in self._read(
            "SELECT object_id, name, content FROM files LEFT JOIN contents USING (digest)"
        ):
            files.setdefault(object_id, {})[name] = content
        return files


class FileDestination(Destination):
    takes_files = True

    def __init__(self, directory: Path, receiver: Receiver):
        self.directory = directory / "out"

    def agent(self, agent_id="a", **options):
        return FileAgent(agent_id, directory=self.directory, **options)

    def _applied(self):
        applied = Applied()
        for path in sorted(self.directory.glob("*.jsonl")):
            for line in path.read_bytes().split(b"\n")[:-1]:
                applied.apply(line)
        return applied

    def documents(self):
        return self._applied().documents

    def tombstones(self):
        return self._applied().tombstones

    def files(self):
        return {
            key: {file["name"]: self._content(file["digest"]) for file in files}
            for key, files in self._applied().files.items()
            if files
        }

    def _content(self, digest):
        path = self.directory / "files" / digest[:2] / digest
        return path.read_bytes() if path.exists() else None


class HTTPDestination(Destination):
    takes_back = False
    readable = True
    gzip = False

    def __init__(self, directory: Path, receiver: Receiver):
        self.receiver = receiver
        self.reading_options = {"rows_url": receiver.rows_url}

    def agent(self, agent_id="a", **options):
        return HTTPAgent(agent_id, url=self.receiver.url, gzip=self.gzip, **options)

    def documents(self):
        return self.receiver.applied.documents

    def tombstones(self):
        return self.receiver.applied.tombstones

    def alter(self, object_id):
        self.receiver.applied.documents[object_id] = b'{"altered":true}'


class GzipDestination(HTTPDestination):
    gzip = True


KINDS = {
    "memory": MemoryDestination,
    "memory-streams": MemoryStreamsDestination,
    "sqlite": SQLiteDestination,
    "file": FileDestination,
    "http": HTTPDestination,
    "http-gzip": GzipDestination,
    "opensearch": OpenSearchDestination,
    "invenio": InvenioDestination,
    "kafka": KafkaDestination,
    "marcxml": MARCXMLDestination,
    "postgres": PostgresDestination,
    "webhook": WebhookDestination,
    "webhook-single": SingleWebhookDestination,
}


#: Those that are tested against servers of their own.
SERVERS = {"postgres", "kafka"}


@pytest.fixture(
    params=[pytest.param(kind, marks=[pytest.mark.server] if kind in SERVERS else []) for kind in KINDS]
)
def new_destination(request, tmp_path, receiver):
    """A function that makes an empty destination of one kind."""
    numbers = count()

    def make() -> Destination:
        directory = tmp_path / str(next(numbers))
        directory.mkdir()
        receiver.applied = Applied()
        return KINDS[request.param](directory, receiver)

    return make


@pytest.fixture
def destination(new_destination) -> Destination:
    return new_destination()
