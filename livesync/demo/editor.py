"""Changes to the catalogue, each announced as zope applications do: by lifecycle events.

The editor works within the transaction of its catalogue's connection and commits nothing. An
entry that is about to be removed is announced while everything is still in place; every other
change is announced once it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from zope.event import notify
from zope.lifecycleevent import (
    Attributes,
    ObjectAddedEvent,
    ObjectModifiedEvent,
    ObjectMovedEvent,
    ObjectRemovedEvent,
)

from .model import Catalogue, Conference, Container, Entry, IEntry, Series, Talk, everything_below
from .places import Place, conference_name, series_name
from .visibility import VisibilityChangedEvent


class Editor:
    """Makes and announces changes.

    Args:
        catalogue: What is changed.
        new_uid: Returns the id for a new entry, given its path; never the same one twice.
    """

    def __init__(self, catalogue: Catalogue, new_uid: Callable[[str], str]) -> None:
        self.catalogue = catalogue
        self._new_uid = new_uid

    def write(self, place: Place, data: Mapping[str, Any]) -> Entry:
        """Make ``data`` the document of what lies at ``place``, which is made if it is not there."""
        found = self.catalogue.find(place)
        if found is None and place.talk is not None:
            conference = self.ensure_conference(place.folder)
            return self.add(Talk(self._new_uid(place.path), data), conference, place.talk)
        entry = found or self.ensure_conference(place.folder, data)
        self.change(entry, data)
        return entry

    def ensure_conference(self, folder: str, data: Mapping[str, Any] | None = None) -> Conference:
        """Return the conference of ``folder``; make it, with ``data`` for a document, if it is not there."""
        found = self.catalogue.conference(folder)
        if found is not None:
            return found
        series, place = self.ensure_series(series_name(folder)), Place(folder)
        conference = Conference(self._new_uid(place.path), data)
        self.add(conference, series, conference_name(folder))
        return conference

    def ensure_series(self, name: str) -> Series:
        """Return the series of this name; make it if it is not there."""
        found = self.catalogue.get(name)
        if found is not None:
            return found
        series = Series(self._new_uid(name))
        self.add(series, self.catalogue, name)
        return series

    def add(self, entry: Entry, parent: Catalogue | Container, name: str) -> Entry:
        """Put a new entry with nothing in it into ``parent``, where no other has this name."""
        self._attach(entry, parent, name)
        self.catalogue.by_uid[entry.uid] = entry
        notify(ObjectAddedEvent(entry, parent, name))
        return entry

    def change(self, entry: Entry, data: Mapping[str, Any] | None) -> None:
        """Make ``data`` the document of ``entry``; what is the same already is no change."""
        new = None if data is None else dict(data)
        changed = _differing_fields(entry.data, new)
        if not changed and (new is None) == (entry.data is None):
            return
        was_private = entry.is_private
        entry.data = new
        notify(ObjectModifiedEvent(entry, Attributes(IEntry, *(changed or ["data"]))))
        if entry.is_private != was_private:
            notify(VisibilityChangedEvent(entry, entry.is_private))

    def move(self, entry: Entry, parent: Container, name: str) -> None:
        """Move ``entry``, with everything in it, into ``parent``, where no other has this name."""
        old_parent, old_name = entry.__parent__, entry.__name__
        _children(old_parent).pop(old_name)
        self._attach(entry, parent, name)
        notify(ObjectMovedEvent(entry, old_parent, old_name, parent, name))

    def move_conference(self, conference: Conference, folder: str) -> None:
        """Move ``conference``, with its talks, to another folder, which no conference has."""
        old_series = conference.__parent__
        self.move(conference, self.ensure_series(series_name(folder)), conference_name(folder))
        self._tidy_series(old_series)

    def move_talk(self, talk: Talk, place: Place) -> None:
        """Move ``talk`` to ``place``, where no other lies; its conference is made if it is not there."""
        assert place.talk is not None
        old_conference = talk.__parent__
        self.move(talk, self.ensure_conference(place.folder), place.talk)
        self.tidy(old_conference)

    def remove(self, entry: Entry) -> None:
        """Remove ``entry`` and everything in it."""
        notify(ObjectRemovedEvent(entry, entry.__parent__, entry.__name__))
        for inside in everything_below(entry):
            del self.catalogue.by_uid[inside.uid]
        del self.catalogue.by_uid[entry.uid]
        # The entry keeps its parent and name, so that whoever looks at it later can tell what it was.
        _children(entry.__parent__).pop(entry.__name__)

    def erase(self, entry: Conference | Talk) -> None:
        """Take the document of ``entry`` away: a talk goes, a conference only once it has no talk."""
        if isinstance(entry, Talk):
            conference = entry.__parent__
            self.remove(entry)
            self.tidy(conference)
        else:
            if not entry.is_empty():
                self.change(entry, None)
            else:
                self._remove_conference(entry)

    def tidy(self, conference: Conference) -> None:
        """Remove ``conference`` if it has neither talks nor a document."""
        if conference.data is None and conference.is_empty():
            self._remove_conference(conference)

    def _remove_conference(self, conference: Conference) -> None:
        series = conference.__parent__
        self.remove(conference)
        self._tidy_series(series)

    def _tidy_series(self, series: Series) -> None:
        if series.is_empty():
            self.remove(series)

    @staticmethod
    def _attach(entry: Entry, parent: Catalogue | Container, name: str) -> None:
        children = _children(parent)
        assert name not in children, f"{name!r} is taken"
        entry.__parent__, entry.__name__ = parent, name
        children[name] = entry


def _children(parent: Catalogue | Container) -> Any:
    return parent._series if isinstance(parent, Catalogue) else parent._inside


def _differing_fields(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[str]:
    """Return the names of the fields that are not the same in both, sorted."""
    old, new = old or {}, new or {}
    one_sided = old.keys() ^ new.keys()
    differing = {name for name in old.keys() & new.keys() if not _is_same(old[name], new[name])}
    return sorted(one_sided | differing)


def _is_same(old: Any, new: Any) -> bool:
    # 1, 1.0 and True are equal in Python and three things in JSON
    return bool(old == new) and _encoder.encode(old) == _encoder.encode(new)


_encoder = msgspec.json.Encoder(order="deterministic")
