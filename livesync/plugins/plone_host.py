"""Plone's content as livesync sees it. Ids are UIDs, which survive renames and moves."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any, Final

from ..errors import HostFailed
from ..host import PUBLIC, File, Host
from . import _zope_process
from ._plone_access import VIEW, Audience, audience_named
from ._plone_document import document_of, readable_fields
from ._plone_files import Digests, files_of
from ._zope_context import application, main_connection

#: Objects after which the connection's cache is cut back to its size while all are gone through.
_CACHE_EVERY: Final = 500


class PloneHost(Host):
    """The content of the Plone sites of one Zope, or of some of them.

    An object exists for livesync when it lies where its site's catalogue says that its UID is. What is
    stored in another database (a mount point) belongs to that database's track.

    Args:
        sites: Paths of the sites that are told of, such as ``/Plone``; empty: all.
    """

    def __init__(self, sites: Iterable[str] = ()) -> None:
        self.sites = frozenset("/" + path.strip("/") for path in sites)
        self._digests = Digests()
        self._now: _Reading | None = None

    @contextmanager
    def at(self, connection: Any) -> Iterator[Host]:
        """Give this host reading through ``connection``.

        This thread then has a request, the rights of Zope's system user, and the component registry of
        the site whose objects are looked at.

        Raises:
            HostFailed: It is no database of a Zope, or a site that was named is not there.
        """
        _zope_process.set_up(connection.db())
        with application(connection) as app:
            reader = copy(self)
            reader._now = _Reading(self, connection, app)
            yield reader

    # -- what capture asks, of the application's own objects --------------------------------------

    def object_id(self, obj: Any) -> str:
        """Return its UID.

        Raises:
            HostFailed: It has none: it is no content.
        """
        uid = uid_of(obj)
        if uid is None:
            raise HostFailed(f"an object of {type(obj).__name__} has no UID: it is no content of Plone's")
        return uid

    def is_never_synced(self, obj: Any) -> bool:
        """Turn away what has no UID (tools, comments, portlets), and what lies in no site that is told of."""
        if uid_of(obj) is None:
            return True
        site = site_of(obj)
        return site is None or not self.tells_of(site)

    def contents(self, obj: Any) -> Iterator[Any]:
        """Yield the content below ``obj``, parents first; found by going there, not by the catalogue."""
        for child in _children(obj):
            was_ghost = getattr(child, "_p_changed", 0) is None
            if uid_of(child) is not None:
                yield child
                yield from self.contents(child)
            if was_ghost:
                child._p_deactivate()  # nothing where it was changed meanwhile

    def label(self, obj: Any) -> str:
        """Return its type and its title, or where it lies when it has no title."""
        title = str(getattr(obj, "title", "") or "")
        return f"{obj.portal_type} {title or '/'.join(obj.getPhysicalPath())}"

    def stored_parts(self, obj: Any) -> Iterator[Any]:
        """Yield the object, its annotations, its workflow's history and its files."""
        from plone.namedfile.interfaces import INamed

        yield obj
        stored = vars(_bare(obj))
        for name in ("__annotations__", "workflow_history"):
            if name in stored:
                yield stored[name]
        for value in list(stored.values()):
            if INamed.providedBy(value):
                yield value
                if getattr(value, "_blob", None) is not None:
                    yield value._blob

    def tells_of(self, site: Any) -> bool:
        """Tell whether the content of a Plone site is this host's."""
        return not self.sites or "/".join(site.getPhysicalPath()) in self.sites

    # -- what needs a connection ------------------------------------------------------------------

    def get(self, object_id: str) -> Any | None:
        """Return the object of this UID as it is now, or None."""
        reading = self._reading()
        for site in reading.sites:
            path = _indexed_path(site, object_id)
            obj = None if path is None else _at_path(site, path)
            # what the catalogue says may be older than what is there
            if obj is not None and uid_of(obj) == object_id and obj._p_jar is reading.connection:
                reading.go_to(site)
                return obj
        return None

    def iter_objects(self, after: str | None = None) -> Iterator[Any]:
        """Yield all content by UID."""
        for number, uid in enumerate(self.iter_ids(after), 1):
            obj = self.get(uid)
            if obj is not None:
                yield obj
            if number % _CACHE_EVERY == 0:
                self._reading().trim()

    def iter_ids(self, after: str | None = None) -> Iterator[str]:
        """Yield the UIDs that the catalogues know, sorted, without loading an object."""
        previous = None
        sites = self._reading().sites
        ids = (_uid_index(site).keys(min=after, excludemin=after is not None) for site in sites)
        for uid in heapq.merge(*ids):
            if uid != previous:  # two sites may have one: a site that was copied by export and import
                yield uid
            previous = uid

    def is_excluded(self, obj: Any, audience: str = PUBLIC) -> bool:
        """Tell whether ``audience`` lacks the permission *View* on ``obj`` itself.

        Raises:
            HostFailed: There is no such audience on its site.
        """
        return not self._reading().audience(audience, obj).may(VIEW, obj)

    def document(self, obj: Any, audience: str = PUBLIC) -> dict[str, Any]:
        """Return the document for ``audience``: ``_plone_document.py`` says what is in it."""
        reading = self._reading()
        site = reading.go_to(site_of(obj))
        found = reading.audience(audience, obj)
        return document_of(obj, self.object_id(obj), found, site.portal_catalog, reading.request)

    def files(self, obj: Any, audience: str = PUBLIC) -> Iterable[File]:
        """Return the files and images of the fields that ``audience`` may read."""
        reading = self._reading()
        reading.go_to(site_of(obj))
        fields = readable_fields(obj, reading.audience(audience, obj))
        return files_of(((name, value) for name, _, value in fields), self._digests)

    def _reading(self) -> _Reading:
        if self._now is None:
            raise HostFailed("this host reads through no connection yet: use what host.at(connection) gives")
        return self._now


class _Reading:
    """One snapshot, read in one thread: its sites, and what is looked up once."""

    def __init__(self, host: PloneHost, connection: Any, app: Any) -> None:
        self.connection = connection
        self.request = app.REQUEST
        self.sites = [site for site in sites_in(app) if host.tells_of(site)]
        self._main = main_connection(connection)
        self._audiences: dict[tuple[str, str], Audience] = {}
        self._here: Any = None
        missing = host.sites - {"/".join(site.getPhysicalPath()) for site in self.sites}
        if missing:
            raise HostFailed(f"there is no Plone site at {', '.join(sorted(missing))}")

    def audience(self, name: str, obj: Any) -> Audience:
        """Return the audience of this name on the site of an object."""
        site: Any = site_of(obj)
        key = (name, "/".join(site.getPhysicalPath()))
        if key not in self._audiences:
            self._audiences[key] = audience_named(name, site)
        return self._audiences[key]

    def go_to(self, site: Any) -> Any:
        """Let the components of ``site`` be found in this thread; return it."""
        if self._here is not site:
            from zope.component.hooks import setSite

            setSite(site)
            self._here = site
        return site

    def trim(self) -> None:
        """Cut the caches back to their size."""
        self._main.cacheGC()
        self.connection.cacheGC()


def uid_of(obj: Any) -> str | None:
    """Return the UID of an object; None where it is no content (a comment has a UID and is none)."""
    from plone.uuid.interfaces import IUUID
    from Products.CMFCore.interfaces import IContentish

    uid = IUUID(obj, None) if IContentish.providedBy(obj) else None
    return str(uid) if uid else None


def site_of(obj: Any) -> Any | None:
    """Return the Plone site in which an object lies, or which it is; None: it lies in none."""
    from Acquisition import aq_chain, aq_inner
    from Products.CMFPlone.interfaces import IPloneSiteRoot

    return next((parent for parent in aq_chain(aq_inner(obj)) if IPloneSiteRoot.providedBy(parent)), None)


def sites_in(container: Any) -> Iterator[Any]:
    """Yield the Plone sites in an application or in its folders."""
    from OFS.Folder import Folder
    from Products.CMFPlone.interfaces import IPloneSiteRoot

    for child in container.objectValues():
        if IPloneSiteRoot.providedBy(child):
            yield child
        elif type(_bare(child)) is Folder:
            yield from sites_in(child)


def _bare(obj: Any) -> Any:
    from Acquisition import aq_base

    return aq_base(obj)


def _children(obj: Any) -> Iterable[Any]:
    values = getattr(_bare(obj), "objectValues", None)
    return () if values is None else obj.objectValues()


def _uid_index(site: Any) -> Any:
    """Return the BTree of a site from UIDs to numbers in its catalogue.

    Raises:
        HostFailed: Its catalogue has no index of UIDs.
    """
    indexes = site.portal_catalog._catalog.indexes
    if "UID" not in indexes:
        raise HostFailed(f"the catalogue of {'/'.join(site.getPhysicalPath())} has no index UID")
    return indexes["UID"]._index


def _indexed_path(site: Any, uid: str) -> str | None:
    number = _uid_index(site).get(uid)
    path: str | None = None if number is None else site.portal_catalog._catalog.paths.get(number)
    return path


def _at_path(site: Any, path: str) -> Any | None:
    """Return the object at a path within a site, going from container to container: nothing is acquired."""
    names = path.split("/")
    begin = len(site.getPhysicalPath())
    if tuple(names[:begin]) != site.getPhysicalPath():
        return None
    obj = site
    for name in names[begin:]:
        if not hasattr(_bare(obj), "_getOb"):
            return None
        obj = obj._getOb(name, None)
        if obj is None:
            return None
    return obj
