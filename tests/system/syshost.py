"""A small real host in a FileStorage, agents whose destinations fail on demand, and a site with both.

Nodes lie in nodes. A private node and what is inside it are for the staff only, a hidden one for
nobody; a broken one has no document. ``NodeHost`` calls nodes by ids that never change, ``PathHost``
by their paths.
"""

import json
import sqlite3
from collections import deque
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import transaction
import ZODB
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from transaction.interfaces import NoTransaction
from ZODB.FileStorage import FileStorage
from zope.event import notify
from zope.lifecycleevent import (
    Attributes,
    ObjectAddedEvent,
    ObjectModifiedEvent,
    ObjectMovedEvent,
    ObjectRemovedEvent,
)

from livesync.capture import Capture, record_action
from livesync.delivery.push import PushSyncAgent
from livesync.delivery.record import Op, encode_document
from livesync.delivery.uploader import DELIVERY_OPTIONS, RecordUploader
from livesync.destinations.memory import MemoryService, MemoryUploader
from livesync.destinations.sqlite import SQLiteAgent, SQLiteUploader
from livesync.errors import NoDocument
from livesync.host import Host
from livesync.manager import SyncManager
from livesync.options import Option
from livesync.upkeep.export import export


class Node(Persistent):
    """Anything; ``children`` by name."""

    __parent__ = None
    __name__ = None
    private = False
    hidden = False
    broken = False

    def __init__(self, uid, title=""):
        self.uid = uid
        self.title = title
        self.children = OOBTree()

    @property
    def path(self):
        above = self.__parent__
        return f"{above.path}/{self.__name__}" if isinstance(above, Node) and above.uid else self.__name__


class Store(Persistent):
    """The root node (which is no object of the host) and all nodes by uid."""

    def __init__(self):
        self.top = Node("")
        self.by_uid = OOBTree()
        self.made = 0

    def add(self, parent, name, title="", announce=True):
        """Put a new node into ``parent`` (None: the top)."""
        parent = self.top if parent is None else parent
        self.made += 1
        node = Node(f"n{self.made:07}", title)
        node.__parent__, node.__name__ = parent, name
        parent.children[name] = node
        self.by_uid[node.uid] = node
        if announce:
            notify(ObjectAddedEvent(node, parent, name))
        return node

    def edit(self, node, title):
        node.title = title
        notify(ObjectModifiedEvent(node, Attributes(None, "title")))

    def move(self, node, parent, name):
        parent = self.top if parent is None else parent
        old_parent, old_name = node.__parent__, node.__name__
        del old_parent.children[old_name]
        node.__parent__, node.__name__ = parent, name
        parent.children[name] = node
        notify(ObjectMovedEvent(node, old_parent, old_name, parent, name))

    def remove(self, node):
        notify(ObjectRemovedEvent(node, node.__parent__, node.__name__))
        for inner in [*below(node)]:
            del self.by_uid[inner.uid]
        del self.by_uid[node.uid]
        del node.__parent__.children[node.__name__]

    def set_private(self, node, private):
        node.private = private
        record_action(node, "set_private" if private else "set_public")

    def set_hidden(self, node, hidden):
        node.hidden = hidden
        record_action(node, "acl_changed")


def below(node):
    """Yield what lies below a node, parents first."""
    for child in node.children.values():
        yield child
        yield from below(child)


class NodeHost(Host):
    """The nodes by uid."""

    store = None

    @contextmanager
    def at(self, connection):
        reader = type(self)()
        reader.store = connection.root().get("store")
        yield reader

    def object_id(self, obj):
        return obj.uid

    def get(self, object_id):
        return None if self.store is None else self.store.by_uid.get(object_id)

    def iter_objects(self, after=None):
        if self.store is not None:
            yield from self.store.by_uid.values(min=after, excludemin=after is not None)

    def iter_ids(self, after=None):
        if self.store is not None:
            yield from self.store.by_uid.keys(min=after, excludemin=after is not None)

    def contents(self, obj):
        return below(obj)

    def is_excluded(self, obj, audience="public"):
        node = obj
        while isinstance(node, Node):
            if node.hidden or (node.private and audience == "public"):
                return True
            node = node.__parent__
        return False

    def document(self, obj, audience="public"):
        if obj.broken:
            raise NoDocument("it is broken")
        return {"title": obj.title, "path": obj.path, "for": audience}

    def is_never_synced(self, obj):
        return not isinstance(obj, Node)


class PathHost(NodeHost):
    """The nodes by path."""

    def object_id(self, obj):
        return obj.path

    def former_id(self, obj, old_parent, old_name):
        return f"{old_parent.path}/{old_name}" if old_parent.uid else old_name

    def get(self, object_id):
        node = None if self.store is None else self.store.top
        for name in object_id.split("/"):
            node = None if node is None else node.children.get(name)
        return node

    def iter_objects(self, after=None):
        nodes = {} if self.store is None else {node.path: node for node in below(self.store.top)}
        for path in sorted(nodes):
            if after is None or path > after:
                yield nodes[path]

    def iter_ids(self, after=None):
        for node in self.iter_objects(after):
            yield node.path


class Crash(BaseException):
    """Stands for the end of the process: nothing of livesync may catch it."""


class Faults:
    """What goes wrong next: names of points in the order in which they are to fail.

    ``points`` holds ``(point, what)``: at the next passage of ``point`` (``beginning``, ``batch``,
    ``sent``, ``ending``, ``ended``) ``what`` is raised, or called with the batch.
    """

    def __init__(self):
        self.points = deque()

    def plan(self, *points):
        self.points.extend(points)

    def pass_by(self, point, batch=None):
        if self.points and self.points[0][0] == point:
            what = self.points.popleft()[1]
            if callable(what) and not isinstance(what, type):
                return what(batch)
            raise what
        return None


#: By the key of an agent: its service, and what goes wrong with it. Tests take new keys.
SERVICES: dict[str, MemoryService] = {}
FAULTS: dict[str, Faults] = {}


def faults(key):
    return FAULTS.setdefault(key, Faults())


class _Failing:
    """Fails where its faults say; sleeps never."""

    def __init__(self, agent, *args, **kwargs):
        self.agent = agent  # its key says which service it is
        super().__init__(agent, *args, sleep=lambda seconds: None, **kwargs)
        self.faults = faults(agent.values["key"])

    def _upload_batch(self, batch):
        answer = self.faults.pass_by("batch", batch)
        if answer is not None:
            taken = [index for index, verdict in enumerate(answer) if verdict.outcome.value == "accepted"]
            super()._upload_batch(batch.only(taken))
            return answer
        verdicts = super()._upload_batch(batch)
        self.faults.pass_by("sent", batch)
        return verdicts

    def begin_slice(self, till):
        super().begin_slice(till)
        self.faults.pass_by("beginning")

    def end_slice(self, position):
        self.faults.pass_by("ending")
        super().end_slice(position)
        self.faults.pass_by("ended")


class _TwinUploader(_Failing, MemoryUploader):
    @property
    def service(self):
        return SERVICES.setdefault(self.agent.values["key"], MemoryService())


class TwinAgent(PushSyncAgent):
    """Into the memory service of its key."""

    options = (Option("key", required=True), *DELIVERY_OPTIONS)
    uploader = _TwinUploader


class _RowsUploader(RecordUploader):
    """A service without transactions and without pointers: what is sent is there at once."""

    def _upload_batch(self, batch):
        rows = ROWS.setdefault(self.agent.values["key"], {})
        for record, body in zip(batch, batch.bodies):
            if record.position >= rows.get(record.object_id, (-1, None))[0]:
                rows[record.object_id] = (record.position, None if record.op is Op.DELETE else body)


ROWS: dict[str, dict[str, tuple[int, bytes | None]]] = {}


class _RowsUploaderFailing(_Failing, _RowsUploader):
    pass


class RowsAgent(PushSyncAgent):
    """Into a dictionary that keeps no pointer."""

    options = (Option("key", required=True), *DELIVERY_OPTIONS)
    uploader = _RowsUploaderFailing


class _FileUploader(_Failing, SQLiteUploader):
    pass


class IndexAgent(SQLiteAgent):
    """Into an SQLite file, failing as its key's faults say."""

    options = (Option("key", required=True), *SQLiteAgent.options)
    uploader = _FileUploader


def rows_of_sqlite(path):
    """Return id -> (position, document) of an SQLite destination."""
    with closing(sqlite3.connect(path)) as connection:
        return {
            object_id: (position, json.loads(document))
            for object_id, position, document in connection.execute(
                "SELECT object_id, position, document FROM documents"
            )
        }


def documents_at(agent):
    """Return id -> document at the destination of an agent."""
    if isinstance(agent, TwinAgent):
        return SERVICES[agent.values["key"]].documents if agent.values["key"] in SERVICES else {}
    if isinstance(agent, RowsAgent):
        rows = ROWS.get(agent.values["key"], {})
        return {key: json.loads(body) for key, (_, body) in rows.items() if body is not None}
    return {key: document for key, (_, document) in rows_of_sqlite(agent.values["path"]).items()}


class Site:
    """A database with the host's store, livesync and capture, and what a test does to them."""

    def __init__(self, path, host=None, name="", open_with=FileStorage):
        self.path = path
        self.host = host or NodeHost()
        self.db = ZODB.DB(open_with(str(path)))
        self.capture = Capture(self.host).install(self.db)
        self.transactions = transaction.TransactionManager(explicit=True)
        self.transactions.begin()
        self.connection = self.db.open(self.transactions)
        root = self.connection.root()
        if "store" not in root:
            root["store"] = Store()
            SyncManager.install(root, site=name)
            self.transactions.commit()
        else:
            self.transactions.abort()

    def close(self):
        if self.db is None:
            return
        self.capture.uninstall()
        with suppress(NoTransaction):
            self.transactions.abort()
        self.connection.close()
        self.db.close()
        self.db = None

    @property
    def store(self):
        return self.connection.root()["store"]

    @property
    def manager(self):
        return SyncManager.get(self.connection.root())

    @contextmanager
    def change(self):
        """One host transaction: ``with site.change() as store``."""
        self.transactions.begin()
        try:
            yield self.store
        except BaseException:
            self.transactions.abort()
            raise
        self.transactions.commit()

    @contextmanager
    def looking(self):
        """Look at the store and the manager as they are now."""
        self.transactions.begin()
        try:
            yield self
        finally:
            self.transactions.abort()

    def add_agent(self, agent, how="from_start"):
        with self.change():
            self.manager.register_agent(agent)
            if how:
                self.manager.activate(agent.id, **{how: True})
        return agent

    def agent(self, agent_id):
        with self.looking():
            return self.manager.get_agent(agent_id)

    def state(self, agent_id):
        with self.looking():
            stored = self.manager.stored(agent_id)
            return stored.state, stored.reason

    def run(self, agent_id, now=None, stop=None):
        """Run an agent as the runner does, between transactions."""
        with self.looking():
            agent, manager = self.manager.get_agent(agent_id), self.manager
        return agent.run(manager, self.host, now=now, stop=stop)

    def export(self, agent_id, now=None, stop=None):
        with self.looking():
            manager = self.manager
        return export(manager, agent_id, self.host, now=now, stop=stop)

    def undo(self, tid, note=""):
        """Undo a transaction of the storage by its id, as Zope's Undo does."""
        self.transactions.begin()
        self.db.undo(tid, self.transactions.get())
        self.transactions.get().note(note or "undo")
        self.transactions.commit()

    def undoable(self, note):
        """Return the ids of the transactions with this note, the newest first."""
        return [
            entry["id"]
            for entry in self.db.undoInfo(0, 100_000)
            if entry["description"] in (note, note.encode())
        ]

    def expected(self, audience="public"):
        """Return id -> document: what a destination for this audience must hold."""
        with self.looking(), self.host.at(self.connection) as host:
            return {
                host.object_id(obj): json.loads(encode_document(host.document(obj, audience)))
                for obj in host.iter_objects()
                if not host.is_excluded(obj, audience) and not obj.broken
            }

    def expected_ids(self, audience="public"):
        """Return the ids of what a destination for this audience must hold; called while looking."""
        with self.host.at(self.connection) as host:
            return {
                host.object_id(obj)
                for obj in host.iter_objects()
                if not host.is_excluded(obj, audience) and not obj.broken
            }

    def assert_equal(self, *agent_ids):
        """Compare the destinations of agents with the host."""
        for agent_id in agent_ids:
            agent = self.agent(agent_id)
            found, expected = documents_at(agent), self.expected(agent.audience)
            wrong = {
                key: (found.get(key), expected.get(key))
                for key in found.keys() | expected.keys()
                if found.get(key) != expected.get(key)
            }
            assert not wrong, (
                f"{agent_id}: {len(wrong)} differ (found, expected): {dict([*wrong.items()][:5])}"
            )


def peak_kb():
    """Return the peak of this process's resident memory.

    Not by getrusage: its peak is inherited from the process that started this one.
    """
    status = Path("/proc/self/status").read_text("ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
