"""A small host on a real FileStorage, a service in memory, and an agent between them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import transaction
import ZODB
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage

from livesync import File, Host, PushSyncAgent, Record, SyncManager
from livesync.delivery.access import ManagerAccess
from livesync.delivery.uploader import DELIVERY_OPTIONS, FILE_OPTIONS
from livesync.destinations.memory import MemoryService
from livesync.errors import NoDocument
from livesync.host import content_digest


class Shelf(Host):
    """Things by id; a thing may lie in another (``parent``), be ``private``, or be ``broken``.

    Its ``files`` are a dict of names and contents (bytes); one that is None cannot be listed.

    Attributes:
        opened: The names of the files whose contents were read, in order.
    """

    def __init__(self, things: Any = None, opened: list[str] | None = None) -> None:
        self._things = things
        self.opened = [] if opened is None else opened
        self.snapshots = 0
        self.open_snapshots = 0

    @contextmanager
    def at(self, connection: Any) -> Iterator[Host]:
        self.snapshots += 1
        self.open_snapshots += 1
        try:
            yield Shelf(connection.root()["things"], self.opened)
        finally:
            self.open_snapshots -= 1

    def object_id(self, obj: Any) -> str:
        return str(obj["id"])

    def get(self, object_id: str) -> Any:
        if object_id == "explosive" and object_id in self._things:
            raise RuntimeError("the application is broken")
        return self._things.get(object_id)

    def iter_objects(self, after: str | None = None) -> Iterator[Any]:
        return iter(self._things.values(after, excludemin=after is not None))

    def contents(self, obj: Any) -> Iterator[Any]:
        for thing in self._things.values():
            if thing.get("parent") == obj["id"]:
                yield thing
                yield from self.contents(thing)

    def is_excluded(self, obj: Any, audience: str = "public") -> bool:
        while obj is not None:
            if obj.get("private") and audience == "public":
                return True
            obj = self._things.get(obj.get("parent"))
        return False

    def document(self, obj: Any, audience: str = "public") -> dict[str, Any]:
        if obj.get("broken") == "no document":
            raise NoDocument("it is blank")
        if obj.get("broken") == "raises":
            raise ZeroDivisionError("by nought")
        return {"title": obj["title"], "extra": obj.get("extra")}

    def files(self, obj: Any, audience: str = "public") -> Iterator[File]:
        for name, content in sorted(obj.get("files", {}).items()):
            if content is None:
                raise LookupError(f"{name} is lost")
            yield File(
                name,
                "text/plain",
                len(content),
                content_digest(content),
                lambda name=name, content=content: self._open(name, content),  # type: ignore[misc]
            )

    def _open(self, name: str, content: bytes) -> io.BytesIO:
        self.opened.append(name)
        if content == b"unreadable":
            raise OSError(5, "Input/output error")
        return io.BytesIO(content)


class World:
    """A database with a manager, a host, a service in memory, and an agent between them.

    Args:
        path: The file of the database, which may be there; None: in memory.
    """

    def __init__(self, path: str | None = None) -> None:
        self.db = ZODB.DB(DemoStorage() if path is None else FileStorage(path))
        self.tm = transaction.TransactionManager()
        self.connection = self.db.open(transaction_manager=self.tm)
        root = self.connection.root()
        is_new = "things" not in root
        if is_new:
            root["things"] = OOBTree()
            SyncManager.install(root)
        self.manager = SyncManager.get(root)
        self.things = root["things"]
        self.host = Shelf()
        self.service = MemoryService()
        self.clock = 1_000_000_000.0

        class Agent(PushSyncAgent):
            options = (*DELIVERY_OPTIONS, *FILE_OPTIONS)
            uploader = self.service.uploader_type()

        self.agent_type = Agent
        self.agent = Agent("index")
        if is_new:
            self.manager.register_agent(self.agent)
            self.manager.activate("index", from_start=True)
            self.tm.commit()

    def put(self, object_id: str, action: str | None = None, **fields: Any) -> None:
        """Create or change a thing in a transaction of its own.

        As in any application, a thing lies in a container that is there, or else at the top, and one
        that comes to lie elsewhere has moved.
        """
        thing = self.things.get(object_id)
        words = {action or ("created" if thing is None else "data_changed")}
        parent = fields.get("parent")
        if parent is not None and parent not in self.things:
            fields["parent"] = None
        if thing is None:
            thing = self.things[object_id] = PersistentMapping(id=object_id, title=object_id)
        elif fields.get("parent", thing.get("parent")) != thing.get("parent"):
            words.add("moved")
        thing.update(fields)
        self.record(object_id, *words)

    def remove(self, object_id: str) -> None:
        """Remove a thing with everything in it in one transaction, and tell of each, as capturing does."""
        inside = Shelf(self.things).contents(self.things[object_id])
        gone = [object_id, *(thing["id"] for thing in inside)]
        for one in gone:
            del self.things[one]
        self.manager.record_changes([(one, frozenset({"deleted"})) for one in gone], "", "")
        self.tm.commit()

    def record(self, object_id: str, *words: str) -> None:
        self.manager.record_changes([(object_id, frozenset(words))], "", "")
        self.tm.commit()

    def run(self, agent: PushSyncAgent | None = None, **kwargs: Any) -> Any:
        self.clock += 10_000_000_000  # whatever was committed lies in a position that can be sealed
        result = (agent or self.agent).run(self.manager, self.host, now=self.clock, **kwargs)
        self.tm.begin()
        return result

    def expected(self, audience: str = "public") -> dict[str, Any]:
        """What an index for an audience must hold."""
        host = Shelf(self.things)
        return {
            key: host.document(thing, audience)
            for key, thing in self.things.items()
            if not host.is_excluded(thing, audience)
        }

    @property
    def pointer(self) -> int | None:
        self.tm.begin()
        return self.manager.track.get_pointer_timestamp("index")

    @property
    def stored(self) -> Any:
        self.tm.begin()
        return self.manager.stored("index")

    def with_uploader(self, uploader: Any, **options: Any) -> PushSyncAgent:
        """The agent, with another uploader and options of its own."""
        return type("Agent", (self.agent_type,), {"uploader": uploader})("index", **options)

    def close(self) -> None:
        self.tm.abort()
        self.connection.close()
        self.db.close()

    @contextmanager
    def access(self) -> Iterator[ManagerAccess]:
        """Somebody else's access to the manager, with transactions of its own."""
        self.tm.begin()
        found = ManagerAccess(self.manager)
        try:
            yield found
        finally:
            found.close()

    def change(self, function: Callable[[SyncManager], object]) -> None:
        """Change the manager in a transaction of somebody else's."""
        with self.access() as access:
            access.change(lambda manager: (function(manager), True)[1], "a test")


class PlainAgent(PushSyncAgent):
    """An agent type that can be found by its name; it has all options and no service."""

    options = (*DELIVERY_OPTIONS, *FILE_OPTIONS)


def renamed(record: Record) -> Record:
    """A transform that can be found by its name."""
    return msgspec.structs.replace(record, document={**(record.document or {}), "title": "by its name"})
