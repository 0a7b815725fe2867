"""What livesync needs to know of the application it is plugged into.

A host is a small adapter that the application's owner writes once: how an object is called, what
document stands for it, what lies inside it, and whom it may be shown to. It keeps no state of its
own and opens nothing; :meth:`Host.at` hands out the same host reading through one ZODB connection.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import metadata
from typing import Any, BinaryIO

from .errors import HostNotFound, ReadOnlyHost
from .imports import import_object

#: The audience that an agent's documents are made for when none is named.
PUBLIC = "public"

#: Entry-point group in which hosts are found by a short name.
HOST_GROUP = "livesync.hosts"


@dataclass(frozen=True, slots=True)
class File:
    """One file that belongs to an object.

    Attributes:
        name: File name, unique within its object.
        media_type: For example ``application/pdf``.
        size: Bytes.
        digest: BLAKE2b-128 of the content, hexadecimal (:func:`content_digest`).
        open: Returns a new binary stream at the beginning of the content.
    """

    name: str
    media_type: str
    size: int
    digest: str
    open: Callable[[], BinaryIO]


def content_digest(content: bytes) -> str:
    """Return the BLAKE2b-128 of ``content`` in hexadecimal, 32 characters."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


class Host(ABC):
    """The contract between livesync and an application.

    ``obj`` is whatever the application calls an object; livesync only passes it back. All reading
    methods are called on the host that :meth:`at` returned, inside its ``with`` block, and must not
    write. They may be called from several threads, each with a connection of its own.
    """

    @abstractmethod
    def at(self, connection: Any) -> AbstractContextManager[Host]:
        """Return this host reading through ``connection``, as a context manager.

        Entering sets up what the application needs (a site, a request, a registry), leaving tears
        it down. The connection belongs to the caller: never closed, committed or aborted here.
        """

    @abstractmethod
    def object_id(self, obj: Any) -> str:
        """Return the object's id: 1 to 512 characters, never used again for another object."""

    @abstractmethod
    def get(self, object_id: str) -> Any | None:
        """Return the object of this id as it is now, or None when it does not exist now."""

    @abstractmethod
    def iter_objects(self, after: str | None = None) -> Iterator[Any]:
        """Yield all objects in ascending order of their ids, those after ``after``; excluded ones too."""

    @abstractmethod
    def contents(self, obj: Any) -> Iterator[Any]:
        """Yield everything below ``obj``, parents before their children, not ``obj`` itself."""

    @abstractmethod
    def is_excluded(self, obj: Any, audience: str = PUBLIC) -> bool:
        """Tell whether ``audience`` may not see ``obj`` now: what is excluded is deleted at services."""

    @abstractmethod
    def document(self, obj: Any, audience: str = PUBLIC) -> dict[str, Any]:
        """Return what a service is told about ``obj``, made for ``audience``.

        Values: None, bool, int, finite float, str, bytes, aware datetime, date, Decimal, UUID, and
        lists and dicts (with str keys) of these.

        Raises:
            NoDocument: This one has none; its record is set aside with the reason.
        """

    def former_id(self, obj: Any, old_parent: Any, old_name: str | None) -> str | None:
        """Return the id that ``obj`` had before a move from ``old_name`` in ``old_parent``.

        None unless a move changes ids.
        """
        return None

    def former_id_inside(self, inner: Any, obj: Any, former: str) -> str | None:
        """Return the id that ``inner``, which lies below the moved ``obj``, had when ``obj`` was ``former``.

        None when the move left it as it is. By default ids are taken to be paths: where the id of
        ``inner`` begins with that of ``obj``, the beginning is replaced.
        """
        now, inside = self.object_id(obj), self.object_id(inner)
        return former + inside[len(now) :] if inside.startswith(now) else None

    def files(self, obj: Any, audience: str = PUBLIC) -> Iterable[File]:
        """Return the object's files as ``audience`` may see them; none by default."""
        return ()

    def restore(self, object_id: str, document: dict[str, Any] | None) -> None:
        """Make the object of this id what ``document`` says; None removes it.

        Raises:
            ReadOnlyHost: By default: documents of this host can be read, not written back.
        """
        raise ReadOnlyHost("this host takes no documents back: it has no restore() of its own")

    def sync_models(self) -> Iterable[type]:
        """Return the classes that two-way sync carries as they say (``SyncableModel``); none by default.

        Everything else is carried by its document, and comes back through :meth:`restore`.
        """
        return ()

    def sync_operations(self) -> Mapping[str, Sequence[Callable[[Any], Any]]]:
        """Return what is to be asked first when a stage of a transfer with a peer is run; nothing by default.

        By the stage's name (``serializing``, ``queuing``, ``dequeuing`` …): functions that are called with
        the transfer (:class:`~livesync.replication.network.transfers.Transfer`). Each returns a
        :class:`~livesync.peering.stages.Status`, COMPLETED (the stage is done, livesync does nothing) or
        PENDING (it is to wait), or False: whatever comes next does the stage, in the end livesync itself.
        They may be called again for the same transfer.
        """
        return {}

    def sync_partition(self, obj: Any) -> str:
        """Return the partition that ``obj``, which is of no such class, belongs to in two-way sync.

        A colon-separated path, by which nodes may be given a part. It is part of what the item's id is made
        of: an object that changes it becomes another item. By default everything belongs together.
        """
        return ""

    def label(self, obj: Any) -> str:
        """Return what people call the object, for listings."""
        return self.object_id(obj)

    def iter_ids(self, after: str | None = None) -> Iterator[str]:
        """Yield the ids of :meth:`iter_objects`, in the same order."""
        for obj in self.iter_objects(after):
            yield self.object_id(obj)

    def is_never_synced(self, obj: Any) -> bool:
        """Tell whether ``obj`` is nothing to livesync for its whole life, whatever becomes of it.

        Capture asks before it records an event, so this is also the place to turn away objects
        that are not the host's own.
        """
        return False

    def stored_parts(self, obj: Any) -> Iterator[Any]:
        """Yield the persistent objects that ``obj`` is made of: those whose change is a change of ``obj``.

        ``livesync agent detect`` compares when they were last stored with the actions on ``obj``, and
        names ``obj`` where none is as new. So yield what a change of ``obj`` stores and what its
        actions speak of, and no more: not what lies inside a container, not what it lies in. A BTree
        tells only of itself, once it is large, and not of its buckets; what is not persistent, or
        stored in another database, is passed over.

        By default ``obj`` itself.
        """
        yield obj


def load_host(name: str) -> Host:
    """Return the host of an entry-point name or of ``package.module:factory``.

    Raises:
        HostNotFound: Nothing of this name, it cannot be imported, or it makes no :class:`Host`.
    """
    factory = _host_factory(name)
    try:
        host = factory()
    except Exception as exc:
        raise HostNotFound(f"host {name!r}: its factory raised {type(exc).__name__}: {exc}") from exc
    if not isinstance(host, Host):
        raise HostNotFound(f"host {name!r}: its factory made a {type(host).__name__}, not a livesync.Host")
    return host


def _host_factory(name: str) -> Callable[[], Any]:
    if ":" in name:
        try:
            found = import_object(name)
        except ImportError as exc:
            raise HostNotFound(f"host {name!r} cannot be imported: {exc}") from exc
        if not callable(found):
            raise HostNotFound(f"host {name!r} is not a factory: it cannot be called")
        factory: Callable[[], Any] = found
        return factory
    entry_points = {point.name: point for point in metadata.entry_points(group=HOST_GROUP)}
    if name not in entry_points:
        known = ", ".join(sorted(entry_points)) or "none"
        raise HostNotFound(f"there is no host {name!r} (known by name: {known}; else package.module:factory)")
    try:
        loaded: Callable[[], Any] = entry_points[name].load()
    except Exception as exc:
        raise HostNotFound(f"host {name!r} cannot be imported: {type(exc).__name__}: {exc}") from exc
    return loaded
