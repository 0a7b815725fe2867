"""A server, and nodes that talk to it, each with a database and a certificate of its own."""

from __future__ import annotations

import uuid

from support.peer_caller import Caller
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage

from livesync.peering import wire
from livesync.peering.controller import SessionController
from livesync.peering.issuing import generate_root_certificate, sign_certificate
from livesync.peering.keyring import KeyRing
from livesync.peering.keys import PrivateKey
from livesync.peering.scopes import ScopeDefinition
from livesync.peering.stages import Stage
from livesync.peering.trust import TrustStore
from livesync.peerserver.app import PeerApp, make_app
from livesync.peerserver.gate import Gate
from livesync.replication import Operation, ZODBDataStore, ZODBSyncProvider
from livesync.replication.network.operations import OPERATIONS
from livesync.replication.network.transfers import Transfer
from livesync.replication.network.wired import introduction_to_wire

NOW = 1_700_000_000.0
PROFILE = "notes"

#: Everything; what lies below one prefix; read only; write only.
FULL = ScopeDefinition(id="full", profile=PROFILE, read_write_filter_template=":")
PART = ScopeDefinition(id="part", profile=PROFILE, read_write_filter_template="$part")
SUBPART = ScopeDefinition(id="sub", profile=PROFILE, read_write_filter_template="$part:$sub")
READER = ScopeDefinition(id="reader", profile=PROFILE, read_filter_template="$part")
WRITER = ScopeDefinition(id="writer", profile=PROFILE, write_filter_template="$part")

CONTROLLER = SessionController(OPERATIONS)


class Clock:
    """Epoch seconds that stand still."""

    def __init__(self):
        self.now = NOW

    def __call__(self):
        return self.now


class Node:
    """A database in two-way sync."""

    def __init__(self, name, clock, stack, db=None, **options):
        self.db = DB(DemoStorage()) if db is None else db
        if db is None:
            stack.callback(self.db.close)
        self.name = name
        provider_id = options.pop("provider_id", name)
        self.provider = ZODBSyncProvider(provider_id, ZODBDataStore(self.db), clock=clock, **options)

    def put(self, item_id, payload, partition="F1"):
        self.provider.commit_item_change(Operation.UPDATE, "note", item_id, payload, partition)

    def fill(self, count, partition="F1"):
        for number in range(count):
            self.put(f"{self.name} {partition} {number}", f'"{number}"', partition)

    def contents(self):
        return {state.item_id: state.payload for state in self.provider.items()}


class Client(Node):
    """A node that talks to the server."""

    def __init__(self, world, name, definition=PART, params=None, key=None, db=None, **options):
        super().__init__(name, world.clock, world.stack, db, **options)
        self.world = world
        self.key = key or PrivateKey.generate()
        self.chain = [
            *world.root_chain,
            world.sign(self.key, definition, {"part": "F1"} if params is None else params),
        ]

    def introduction(self):
        return introduction_to_wire(self.provider.introduce(), self.world.provider.provider_id)

    def transfer(self, transfer_id):
        return Transfer(self.provider, transfer_id)

    # -- a push ------------------------------------------------------------------------------------

    def begin_push(self, caller, prefixes=("F1",)):
        """Begin a push; return its id."""
        transfer_id = uuid.uuid4().hex
        body = wire.NewTransfer(id=transfer_id, direction="push", filter=list(prefixes))
        answer = caller.signed("POST", "/transfersessions", body)
        assert answer.status == 201, answer
        told = answer.of(wire.Transfer)
        transfer = Transfer.begin(
            self.provider, transfer_id, caller.session_id, "push", is_sender=True, prefixes=prefixes
        )
        CONTROLLER.proceed_to(Stage.SERIALIZING, transfer)
        offer = transfer.make_offer(told.claims, told.provider_id)
        CONTROLLER.proceed_to(Stage.QUEUING, transfer)
        answer = caller.signed(
            "PATCH", f"/transfersessions/{transfer_id}", wire.Drive(stage="queuing", offer=offer)
        )
        assert answer.status == 200, answer
        return transfer_id

    def send(self, caller, transfer_id, chunk=500, most=None):
        """Send buffers; tell whether the last was sent."""
        transfer = self.transfer(transfer_id)
        standing = caller.signed("GET", f"/transfersessions/{transfer_id}").of(wire.Transfer)
        if standing.complete:
            return True
        number, cursor = standing.confirmed, standing.cursor
        while most is None or most > 0:
            buffer = transfer.read(number, cursor, chunk)
            answer = caller.signed("POST", "/buffers", buffer)
            assert answer.status == 201, answer
            number, cursor = answer.of(wire.Confirmed).confirmed, buffer.next
            if buffer.last:
                return True
            most = None if most is None else most - 1
        return False

    def end(self, caller, transfer_id):
        answer = caller.signed("PATCH", f"/transfersessions/{transfer_id}", wire.Drive(stage="cleanup"))
        assert answer.status == 200, answer
        CONTROLLER.proceed_to(Stage.CLEANUP, self.transfer(transfer_id))
        return answer.of(wire.Transfer)

    def push(self, caller, prefixes=("F1",), chunk=500):
        transfer_id = self.begin_push(caller, prefixes)
        self.send(caller, transfer_id, chunk)
        return self.end(caller, transfer_id)

    # -- a pull ------------------------------------------------------------------------------------

    def begin_pull(self, caller, prefixes=("F1",), chunk=500):
        transfer_id = uuid.uuid4().hex
        transfer = Transfer.begin(
            self.provider, transfer_id, caller.session_id, "pull", is_sender=False, prefixes=prefixes
        )
        CONTROLLER.proceed_to(Stage.SERIALIZING, transfer)
        body = wire.NewTransfer(
            id=transfer_id,
            direction="pull",
            filter=list(prefixes),
            claims=transfer.claims(),
            chunk_size=chunk,
        )
        answer = caller.signed("POST", "/transfersessions", body)
        assert answer.status == 201, answer
        transfer.take_offer(answer.of(wire.Transfer).offer)
        CONTROLLER.proceed_to(Stage.QUEUING, transfer)
        return transfer_id

    def receive(self, caller, transfer_id, chunk=500):
        transfer = self.transfer(transfer_id)
        while True:
            view = transfer.view()
            if view.has_last:
                return
            query = {"transfer_session_id": transfer_id, "number": view.confirmed}
            if view.cursor is not None:
                query["cursor"] = view.cursor.decode()
            answer = caller.signed("GET", "/buffers", query=query)
            assert answer.status == 200, answer
            transfer.take(answer.of(wire.Buffer))

    def pull(self, caller, prefixes=("F1",), chunk=500):
        transfer_id = self.begin_pull(caller, prefixes, chunk)
        self.receive(caller, transfer_id, chunk)
        return self.end(caller, transfer_id)


class World(Node):
    """The server, and what it knows of certificates."""

    def __init__(self, stack, directory, name="server", clock=None, db=None, **options):
        self.options = {}
        self.clock = clock or Clock()
        self.stack = stack
        super().__init__(name, self.clock, stack, db, **options)
        self.directory = directory
        self.root_key = PrivateKey.generate()
        self.root = generate_root_certificate(self.root_key, FULL, {}, now=self.clock())
        self.root_chain = [self.root]
        self.key = PrivateKey.generate()
        self.chain = [self.root, self.sign(self.key, FULL, {})]
        self.keys = KeyRing(directory / "keys")
        self.keys.add(self.key)
        self.trust = TrustStore(self.db, create=True)
        self.trust.run(lambda trust: trust.save_chain(self.chain, self.clock(), trust_root=True))
        self.restart()

    def sign(self, key, definition, params, **options):
        """Return a certificate below the root."""
        return sign_certificate(
            self.root, self.root_key, key.public, definition.get_scope(params), now=self.clock(), **options
        )

    def restart(self):
        """Let the server begin anew with what its database holds."""
        gate = Gate(self.provider.data_store, self.keys, self.clock)
        self.peer_app = PeerApp(self.provider, gate, name="server", clock=self.clock, **self.options)
        self.app = make_app(self.peer_app)

    def node(self, name, *scope, **options):
        return Client(self, name, *scope, **options)

    def caller(self, client):
        return Caller(lambda: self.app, client.key, client.chain, self.clock)

    def session(self, client):
        """Return a caller that has begun a session."""
        caller = self.caller(client)
        answer = caller.begin(self.chain, client.introduction())
        assert answer.status == 201, answer
        return caller
