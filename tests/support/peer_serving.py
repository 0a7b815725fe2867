"""A peers' server over HTTP, in a thread, and nodes that sync with it as real clients do."""

from __future__ import annotations

import uuid

from support.peer_world import PART, PROFILE, Client
from waitress.server import create_server

from livesync.cli.listening import ServerThread
from livesync.peering.keyring import KeyRing
from livesync.peering.peers import Peer, PeerRegistry
from livesync.peering.retrying import Retries
from livesync.peering.trust import TrustStore
from livesync.replication.network.connection import NetworkSyncConnection
from livesync.replication.network.syncing import PeerSync


class Waits(list):
    """Waits between tries: noted, and none is waited."""

    def __call__(self, seconds):
        self.append(seconds)


class Served:
    """A WSGI application on a port of its own; ``app`` may be another one later."""

    def __init__(self, app):
        self.app = app
        self._server = create_server(
            lambda environ, start: self.app(environ, start), host="127.0.0.1", port=0, threads=4
        )
        self.port = self._server.effective_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = ServerThread(self._server, "served")
        self._thread.start()

    def close(self):
        self._thread.close(5)


class NetworkNode(Client):
    """A node of a world, which talks HTTP."""

    def __init__(self, world, name, definition=PART, params=None, directory=None, **options):
        super().__init__(world, name, definition, params, **options)
        self.keys = KeyRing((directory or world.directory) / f"{name}-{uuid.uuid4().hex[:6]}")
        self.keys.add(self.key)
        self.trust = TrustStore(self.db, create=True)
        self.trust.run(lambda trust: trust.save_chain(self.chain, world.clock(), trust_root=True))
        self.waits = Waits()
        self.retries = Retries(most=4, random=lambda: 0.5, sleep=self.waits)
        self.registry = PeerRegistry(self.db)

    def connection(self, url, **options):
        options = {"retries": self.retries, "clock": self.world.clock, "insecure_http": True, **options}
        return NetworkSyncConnection(
            url, self.provider, self.trust, self.keys, client_name=self.name, **options
        )

    def peer(self, url, name="server", **options):
        return self.registry.add(Peer(name, url, PROFILE, insecure_http=True, **options))

    def syncer(self, **options):
        options = {"retries": self.retries, "clock": self.world.clock, "name": self.name, **options}
        return PeerSync(self.provider, self.trust, self.keys, **options)

    def sync(self, peer, *directions, **options):
        return self.syncer(**options).run(peer, *([directions] if directions else []))
