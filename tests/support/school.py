"""A school's application: records by id, each in a partition, in one tree of the database's root."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from BTrees.OOBTree import OOBTree

from livesync import Host


class School(Host):
    """Records are dicts with ``id`` and ``partition``; what else they say is the application's."""

    def __init__(self, root: Any = None) -> None:
        self._root = root

    @contextmanager
    def at(self, connection: Any) -> Iterator[Host]:
        yield School(connection.root())

    @property
    def _records(self) -> Any:
        return self._root.get("records", {})

    def object_id(self, obj: Any) -> str:
        return str(obj["id"])

    def get(self, object_id: str) -> Any:
        return self._records.get(object_id)

    def iter_objects(self, after: str | None = None) -> Iterator[Any]:
        if "records" in self._root:
            yield from self._records.values(after, excludemin=after is not None)

    def contents(self, obj: Any) -> Iterator[Any]:
        return iter(())

    def is_excluded(self, obj: Any, audience: str = "public") -> bool:
        return False

    def document(self, obj: Any, audience: str = "public") -> dict[str, Any]:
        return dict(obj)

    def sync_partition(self, obj: Any) -> str:
        return str(obj["partition"])

    def restore(self, object_id: str, document: dict[str, Any] | None) -> None:
        if "records" not in self._root:
            self._root["records"] = OOBTree()
        if document is None:
            self._records.pop(object_id, None)
        else:
            self._records[object_id] = dict(document)


def host() -> School:
    """Return the host, for LIVESYNC_HOST."""
    return School()


def change(manager: Any, root: Any, object_id: str, partition: str, says: str | None) -> None:
    """Make, change or (None) remove a record, recorded, within the caller's transaction."""
    if "records" not in root:
        root["records"] = OOBTree()
    there = object_id in root["records"]
    if says is None:
        del root["records"][object_id]
        word = "deleted"
    else:
        root["records"][object_id] = {"id": object_id, "partition": partition, "says": says}
        word = "data_changed" if there else "created"
    manager.record_changes([(object_id, frozenset({word}))], "", "")
