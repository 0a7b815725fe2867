"""A small host on a real FileStorage, a service in memory, and an agent between them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import transaction
import ZODB
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from ZODB.FileStorage import FileStorage

from livesync import Host, PushSyncAgent, SyncManager
from livesync.destinations.memory import MemoryService
from livesync.errors import NoDocument


class Shelf(Host):
    """Things by id; a thing may lie in another (``parent``), be ``private``, or be ``broken``."""

    def __init__(self, things: Any = None) -> None:
        self._things = things
        self.snapshots = 0
        self.open_snapshots = 0

    @contextmanager
    def at(self, connection: Any) -> Iterator[Host]:
        self.snapshots += 1
        self.open_snapshots += 1
        try:
            yield Shelf(connection.root()["things"])
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


class World:
    """A database with a manager, a host, a service in memory, and an agent between them."""

    def __init__(self, path: str) -> None:
        self.db = ZODB.DB(FileStorage(path))
        self.tm = transaction.TransactionManager()
        self.connection = self.db.open(transaction_manager=self.tm)
        self.manager = SyncManager.install(self.connection.root())
        self.things = self.connection.root()["things"] = OOBTree()
        self.host = Shelf()
        self.service = MemoryService()
        self.clock = 1_000_000_000.0

        class Agent(PushSyncAgent):
            uploader = self.service.uploader_type()

        self.agent_type = Agent
        self.agent = Agent("index")
        self.manager.register_agent(self.agent)
        self.manager.activate("index", from_start=True)
        self.tm.commit()

    def put(self, object_id: str, action: str | None = None, **fields: Any) -> None:
        """Create or change a thing in a transaction of its own."""
        thing = self.things.get(object_id)
        word = action or ("created" if thing is None else "data_changed")
        if thing is None:
            thing = self.things[object_id] = PersistentMapping(id=object_id, title=object_id)
        thing.update(fields)
        self.record(object_id, word)

    def remove(self, object_id: str) -> None:
        del self.things[object_id]
        self.record(object_id, "deleted")

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
