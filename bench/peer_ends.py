"""The processes of ``bench/peers.py``: servers and a client, each with a database file of its own.

``fill DIR FROM TO``, ``server DIR``, ``bare DIR`` and ``client DIR URL``. A server says its port, and what it
holds when it gets a line ``held``; a client obeys lines: ``sync`` says seconds and items, ``bare`` sends what
a session would, as fast as it can. In the end each says the peak of its memory. Where ``talks.install`` was
called, items are an application's objects.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import requests
import ZODB
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from ZODB.FileStorage import FileStorage

from livesync.peering import compression, wire
from livesync.peering.issuing import generate_root_certificate, sign_certificate
from livesync.peering.keyring import KeyRing
from livesync.peering.keys import PrivateKey
from livesync.peering.peers import Peer
from livesync.peering.scopes import everything
from livesync.peering.trust import TrustStore
from livesync.replication import Operation, ZODBDataStore, ZODBSyncProvider, open_provider
from livesync.replication.network.syncing import PeerSync
from livesync.replication.network.wired import chunk_to_wire
from livesync.replication.sessions.steps import Cursor

from . import talks

PROFILE = "talks"
_PAYLOAD = '{"title": "A talk about nothing in particular", "number": %d, "edition": %d}'


def open_db(directory: Path) -> Any:
    """Open the database of a directory, with the cache that ZODB gives a connection: 400 objects."""
    return ZODB.DB(FileStorage(str(directory / "Data.fs")))


def prepare(*directories: Path, with_application: bool = False) -> None:
    """Make a database in each directory, with a certificate below one root."""
    now = time.time()
    root_key = PrivateKey.generate()
    definition = everything(PROFILE)
    root = generate_root_certificate(root_key, definition, {}, now=now)
    for directory in directories:
        directory.mkdir(parents=True)
        db = open_db(directory)
        key = PrivateKey.generate()
        KeyRing(directory / "keys").add(key)
        chain = (root, sign_certificate(root, root_key, key.public, definition.get_scope({}), now=now))
        TrustStore(db, create=True).run(
            lambda trust, chain=chain: trust.save_chain(chain, now, trust_root=True)
        )
        ZODBDataStore(db)
        if with_application:
            talks.install(db)
        db.close()


def has_application(db: Any) -> bool:
    """Tell whether items are an application's objects."""
    with db.transaction() as connection:
        return "talks" in connection.root()


def provider_of(db: Any) -> ZODBSyncProvider:
    """Return a database's side of two-way sync."""
    return open_provider(db, talks.TalksHost() if has_application(db) else None)


def item_id(number: int) -> str:
    """Return a scattered id, as calculated ones are."""
    return uuid.uuid5(uuid.NAMESPACE_OID, str(number)).hex


def write(db: Any, provider: ZODBSyncProvider, numbers: range, edition: int, per_commit: int = 1000) -> None:
    """Write items, so many in a transaction."""
    if has_application(db):
        talks.write(db, numbers, edition, per_commit)
        return
    store = provider.data_store
    for begin in range(0, len(numbers), per_commit):
        part = numbers[begin : begin + per_commit]

        def work(part: range = part) -> None:
            for number in part:
                provider.commit_item_change(
                    Operation.UPDATE,
                    "talk",
                    item_id(number),
                    _PAYLOAD % (number, edition),
                    f"talks:{number % 50}",
                )

        store.run(work)


def fill(directory: Path, first: int, last: int) -> None:
    """Write new items into a database."""
    db = open_db(directory)
    write(db, provider_of(db), range(first, last), 0, per_commit=5000)
    db.close()


def _serve(app: Any, held: Callable[[], dict[str, int]] = dict) -> None:
    from waitress.server import create_server

    server = create_server(app, host="127.0.0.1", port=0, threads=4, max_request_body_size=2**30)
    print(server.effective_port, flush=True)
    threading.Thread(target=server.run, daemon=True).start()
    for line in sys.stdin:
        if line.strip() != "held":
            break
        _say(**held())
    _say(peak_mb=_peak_mb())


def serve(directory: Path) -> None:
    """Serve peers, until there is a line on standard input."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from livesync.peerserver.app import PeerApp, make_app
        from livesync.peerserver.gate import Gate

    db = open_db(directory)
    provider = provider_of(db)
    gate = Gate(provider.data_store, KeyRing(directory / "keys"), time.time)
    _serve(make_app(PeerApp(provider, gate, name="bench")), lambda: held(db, provider))


def held(db: Any, provider: ZODBSyncProvider) -> dict[str, int]:
    """Return how many items there are, and how many of them were edited."""
    if has_application(db):
        return {"items": talks.count(db), "edited": talks.count(db, 1)}
    payloads = [msgspec.json.decode(state.payload) for state in provider.items()]
    return {"items": len(payloads), "edited": sum(each["edition"] for each in payloads)}


class Bare(Persistent):
    """One item of the bare loop."""

    def __init__(self, payload: str) -> None:
        self.payload = payload


def serve_bare(directory: Path) -> None:
    """Take chunks as they come: unpack, decode, one persistent object an item in a BTree, commit."""
    db = open_db(directory)
    with db.transaction() as connection:
        connection.root()["items"] = OOBTree()
    decode = msgspec.json.Decoder(wire.Buffer).decode

    def app(environ: dict[str, Any], start: Any) -> list[bytes]:
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        buffer = decode(compression.unpack(body, "zstd", wire.MAX_BUFFER_UNPACKED))
        with db.transaction() as connection:
            items = connection.root()["items"]
            for item in buffer.items:
                items[item.id] = Bare(item.payload)
        start("201 Created", [("Content-Length", "2")])
        return [b"{}"]

    _serve(app)


def client(directory: Path, url: str, bare_url: str) -> None:
    """Obey lines of standard input."""
    db = open_db(directory)
    provider = provider_of(db)
    sync = PeerSync(provider, TrustStore(db), KeyRing(directory / "keys"))
    peer = Peer("server", url, PROFILE, insecure_http=True)
    for line in sys.stdin:
        word, *numbers = line.split()
        if word == "sync":
            began = time.perf_counter()
            outcome = sync.run(peer)
            _say(seconds=time.perf_counter() - began, items=outcome.pushed)
        elif word == "bare":
            seconds, items = _send_bare(provider, bare_url)
            _say(seconds=seconds, items=items)
        elif word == "write":
            first, last, edition = map(int, numbers)
            write(db, provider, range(first, last), edition)
            _say()
        else:
            break
    _say(peak_mb=_peak_mb())


def _send_bare(provider: ZODBSyncProvider, url: str) -> tuple[float, int]:
    """Send all items in chunks as a session does, packed beforehand; return seconds and items."""
    offer = provider.offer(("",), {})
    chunks, items, cursor = [], 0, Cursor()
    while True:
        chunk = provider.read(
            offer, len(chunks), cursor, size=wire.CHUNK_SIZE, characters=wire.CHUNK_CHARACTERS
        )
        buffer = msgspec.structs.replace(chunk_to_wire(chunk), transfer_session_id=uuid.uuid4().hex)
        chunks.append(compression.pack(msgspec.json.encode(buffer), "zstd"))
        items, cursor = items + len(chunk.states), chunk.cursor
        if chunk.is_last:
            break
    session = requests.Session()
    began = time.perf_counter()
    for packed in chunks:
        session.post(url, data=packed, timeout=60).raise_for_status()
    return time.perf_counter() - began, items


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    what, place, *rest = sys.argv[1:]
    if what == "fill":
        fill(Path(place), *map(int, rest))
    elif what == "server":
        serve(Path(place))
    elif what == "bare":
        serve_bare(Path(place))
    else:
        client(Path(place), *rest)
