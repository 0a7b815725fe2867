"""The catalogue: series, conferences, talks, and the root that holds them. State and its rules, nothing else.

A conference is there as long as it has a document or a talk, a series as long as it has a conference.
Changes go through :mod:`livesync.demo.editor`, which announces them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from BTrees.OOBTree import OOBTree, OOTreeSet
from persistent import Persistent
from zope.interface import Attribute, Interface, implementer

from .places import Place, conference_folder, conference_name, series_name

#: The key of the catalogue in the database's root.
ROOT_KEY = "catalogue"

#: The series that is kept out of every index, whoever asks.
EXCLUDED_SERIES = "kyivpy"


class IEntry(Interface):
    """Anything in the catalogue."""

    title = Attribute("What people call it")
    data = Attribute("Its document: a dict of JSON values, or None when it has none")


@implementer(IEntry)
class Entry(Persistent):
    """Something in the catalogue, with its place in it.

    Args:
        uid: Its id: never changes, never used again.
        data: Its document; never changed in place, only replaced. None when it has none.
    """

    kind: ClassVar[str]
    __parent__: Any = None
    __name__: str = ""

    def __init__(self, uid: str, data: Mapping[str, Any] | None = None) -> None:
        self.uid = uid
        self.data = None if data is None else dict(data)

    @property
    def title(self) -> Any:
        """What its document calls it: text, if it is as it should be; empty when it says nothing."""
        return (self.data or {}).get("title", "")

    @property
    def path(self) -> str:
        """Its names from the series down, with slashes between."""
        above = self.__parent__
        return f"{above.path}/{self.__name__}" if isinstance(above, Entry) else self.__name__

    @property
    def source(self) -> str | None:
        """The file of the history that holds its document; None when it has none."""
        return None

    @property
    def series(self) -> str:
        """The name of the series it belongs to."""
        above = self.__parent__
        return above.series if isinstance(above, Entry) else self.__name__

    @property
    def is_private(self) -> bool:
        """Whether it is private by itself, wherever it lies."""
        return is_private(self.kind, self.data)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.__name__!r} {self.uid}>"


class Container(Entry):
    """An entry with others in it, by name.

    Attributes:
        is_placeholder: It is there only because something lies in it, and has not been asked for itself.
    """

    is_placeholder = False

    def __init__(self, uid: str, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(uid, data)
        self._inside = OOBTree()

    def __getitem__(self, name: str) -> Any:
        return self._inside[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._inside)

    def get(self, name: str) -> Any | None:
        """Return what has this name, or None."""
        return self._inside.get(name)

    def items(self, first: str | None = None) -> Iterator[tuple[str, Any]]:
        """Yield names and what they name, by name, from ``first`` on."""
        return iter(self._inside.items(min=first))

    def values(self) -> Iterator[Any]:
        """Yield what is directly inside, by name."""
        return iter(self._inside.values())

    def is_empty(self) -> bool:
        """Tell whether nothing is inside."""
        return not self._inside


class Series(Container):
    """Conferences that belong together."""

    kind = "series"

    @property
    def title(self) -> str:
        """Its name: a series has no document of its own."""
        return self.__name__


class Conference(Container):
    """A conference: its talks, and a document once somebody has written one."""

    kind = "conference"

    @property
    def folder(self) -> str:
        """Its folder in the history."""
        return conference_folder(self.__name__)

    @property
    def source(self) -> str | None:
        """The file of the history that holds its document; None while there is none."""
        return None if self.data is None else Place(self.folder).file


class Talk(Entry):
    """A talk at a conference."""

    kind = "talk"

    @property
    def source(self) -> str | None:
        """The file of the history that holds its document."""
        return Place(self.__parent__.folder, self.__name__).file


class Catalogue(Persistent):
    """The root: series by name, everything by id, and which lines of histories have been replayed.

    Attributes:
        by_uid: id -> entry, everything in the catalogue.
        replayed: The digests of the lines that have been replayed.
    """

    __parent__ = None
    __name__ = None

    def __init__(self) -> None:
        self._series = OOBTree()
        self.by_uid = OOBTree()
        self.replayed = OOTreeSet()

    def get(self, name: str) -> Series | None:
        """Return the series of this name, or None."""
        found: Series | None = self._series.get(name)
        return found

    def items(self, first: str | None = None) -> Iterator[tuple[str, Series]]:
        """Yield names and series, by name, from ``first`` on."""
        return iter(self._series.items(min=first))

    def conference(self, folder: str) -> Conference | None:
        """Return the conference of this folder, or None."""
        series = self.get(series_name(folder))
        return None if series is None else series.get(conference_name(folder))

    def find(self, place: Place) -> Conference | Talk | None:
        """Return what lies at ``place``, or None; a conference without a document too."""
        conference = self.conference(place.folder)
        if conference is None or place.talk is None:
            return conference
        found: Talk | None = conference.get(place.talk)
        return found

    def at_path(self, path: str) -> Any | None:
        """Return what has this path (:attr:`Entry.path`), or None."""
        name, *below = path.split("/")
        found: Any = self.get(name)
        for name in below:
            found = found.get(name) if isinstance(found, Container) else None
        return found


def is_private(kind: str, data: Mapping[str, Any] | None) -> bool:
    """Tell whether an entry with this document is private by itself.

    A talk is a draft, and private, until it has a speaker, a recording and something to read about it.
    A conference is private until its document announces it by a title. A series is public.
    """
    data = data or {}
    if kind == Talk.kind:
        has_text = data.get("summary") or data.get("description")
        return not (data.get("speakers") and data.get("videos") and has_text)
    return kind == Conference.kind and not data.get("title")


def get_catalogue(root: Mapping[str, Any]) -> Catalogue | None:
    """Return the catalogue of a database by its root mapping; None when it has none.

    Raises:
        TypeError: Another application keeps something else under the catalogue's key.
    """
    found = root.get(ROOT_KEY)
    if found is not None and not isinstance(found, Catalogue):
        raise TypeError(f"the database's root holds something else as {ROOT_KEY!r}: {type(found).__name__}")
    return found


def everything_below(entry: Entry) -> Iterator[Entry]:
    """Yield what lies below ``entry``, parents before their children, without ``entry`` itself."""
    if isinstance(entry, Container):
        for inside in entry.values():
            yield inside
            yield from everything_below(inside)
