"""What livesync needs to know of the catalogue: the hosts of the demo.

``demo`` calls things by ids that never change; ``demo-paths`` sees the same catalogue and calls things
by their paths, so that a move changes ids: that of what moves and those of everything inside.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import HostFailed
from ..host import PUBLIC, Host
from .model import EXCLUDED_SERIES, ROOT_KEY, Catalogue, Entry, everything_below, get_catalogue
from .walk import by_path


class DemoHost(Host):
    """The catalogue with ids that survive moves.

    Args:
        connection: The ZODB connection to read through. None for the host that a factory returns,
            which can only tell about objects that it is given.
    """

    _removes_with_contents = False

    def __init__(self, connection: Any = None) -> None:
        self._connection = connection

    @contextmanager
    def at(self, connection: Any) -> Iterator[Host]:
        """Give this host reading through ``connection``."""
        yield type(self)(connection)

    def _catalogue(self) -> Catalogue | None:
        if self._connection is None:
            raise HostFailed("this host reads through no connection yet: use what host.at(connection) gives")
        try:
            return get_catalogue(self._connection.root())
        except TypeError as exc:
            raise HostFailed(f"this is the database of another application: {exc}") from exc

    def object_id(self, obj: Any) -> str:
        """Return the id that it was made with."""
        return str(obj.uid)

    def get(self, object_id: str) -> Any | None:
        """Return the entry of this id, or None."""
        catalogue = self._catalogue()
        return None if catalogue is None else catalogue.by_uid.get(object_id)

    def iter_objects(self, after: str | None = None) -> Iterator[Any]:
        """Yield all entries by id."""
        catalogue = self._catalogue()
        if catalogue is not None:
            yield from catalogue.by_uid.values(min=after, excludemin=after is not None)

    def iter_ids(self, after: str | None = None) -> Iterator[str]:
        """Yield all ids, without loading the entries."""
        catalogue = self._catalogue()
        if catalogue is not None:
            yield from catalogue.by_uid.keys(min=after, excludemin=after is not None)

    def contents(self, obj: Any) -> Iterator[Any]:
        """Yield everything below, parents first."""
        return everything_below(obj)

    def is_excluded(self, obj: Any, audience: str = PUBLIC) -> bool:
        """Tell whether ``obj`` lies in the excluded series or, for the public, in or at something private."""
        top = entry = obj
        while isinstance(entry, Entry):
            if audience == PUBLIC and entry.is_private:
                return True
            top, entry = entry, entry.__parent__
        return bool(top.__name__ == EXCLUDED_SERIES)

    def document(self, obj: Any, audience: str = PUBLIC) -> dict[str, Any]:
        """Return its document with what it is and where it lies; the same for every audience.

        What it is made of must not be changed: it is the catalogue's own.
        """
        return {
            **(obj.data or {}),
            "kind": obj.kind,
            "title": obj.title,
            "path": obj.path,
            "series": obj.series,
            "source": obj.source,
        }

    def label(self, obj: Any) -> str:
        """Return its kind and title, or its path where it has none."""
        return f"{obj.kind} {obj.title or obj.path}"

    def is_never_synced(self, obj: Any) -> bool:
        """Turn away what is not of the catalogue; the catalogue's root is not in it either."""
        return not isinstance(obj, Entry)

    def stored_parts(self, obj: Any) -> Iterator[Any]:
        """Yield the entry alone: what lies in it is stored apart, and so is where it lies."""
        yield obj

    def restore(self, object_id: str, document: dict[str, Any] | None) -> None:
        """Make the entry of this id what ``document`` says, in the connection's transaction; None removes it.

        Each document speaks for its own entry only: a container that goes or moves leaves behind what
        lies in it, in a placeholder that goes once it is empty.

        Raises:
            ValueError: The document is none of this host's: it does not say what it is and where it lies.
        """
        # Only here does the host need zope's events and capture; reading does without.
        from .restoring import remove, restore
        from .wiring import visibility_recorded

        catalogue = self._catalogue()
        if catalogue is None:
            catalogue = self._connection.root()[ROOT_KEY] = Catalogue()
        entry = self.get(object_id)
        with visibility_recorded():
            if document is not None:
                restore(catalogue, entry, self._uid_for(object_id), document)
            elif entry is not None:
                remove(catalogue, entry, self._removes_with_contents)

    def _uid_for(self, object_id: str) -> str:
        """Return the id that an entry is made with which livesync calls ``object_id``."""
        return object_id


class PathsHost(DemoHost):
    """The catalogue with paths for ids."""

    # Where nothing is to lie at a path, nothing is to lie below it.
    _removes_with_contents = True

    def object_id(self, obj: Any) -> str:
        """Return the path where it lies now."""
        return str(obj.path)

    def former_id(self, obj: Any, old_parent: Any, old_name: str | None) -> str | None:
        """Return the path where it lay before it moved."""
        return f"{old_parent.path}/{old_name}" if isinstance(old_parent, Entry) else old_name

    def get(self, object_id: str) -> Any | None:
        """Return the entry at this path, or None."""
        catalogue = self._catalogue()
        return None if catalogue is None else catalogue.at_path(object_id)

    def iter_objects(self, after: str | None = None) -> Iterator[Any]:
        """Yield all entries in the order of their paths as text."""
        catalogue = self._catalogue()
        if catalogue is not None:
            yield from by_path(catalogue, after)

    def iter_ids(self, after: str | None = None) -> Iterator[str]:
        """Yield all paths in their order as text."""
        for entry in self.iter_objects(after):
            yield entry.path

    def _uid_for(self, object_id: str) -> str:
        return str(uuid.uuid4())


class SeriesHost(PathsHost):
    """The catalogue with paths for ids, of which peers may have single series or conferences."""

    def sync_partition(self, obj: Any) -> str:
        """Return ``SERIES``, or ``SERIES:CONFERENCE`` for a conference and the talks in it."""
        return ":".join(str(obj.path).split("/")[:2])


def demo_host() -> Host:
    """Return the host ``demo``: ids survive moves."""
    return DemoHost()


def demo_paths_host() -> Host:
    """Return the host ``demo-paths``: ids are paths."""
    return PathsHost()


def demo_series_host() -> Host:
    """Return the host of ``bin/demo network``: as ``demo-paths``, in partitions."""
    return SeriesHost()
