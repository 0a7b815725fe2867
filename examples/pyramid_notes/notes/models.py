"""The notebook: folders and notes, each with a place, and the changes that can be made to them.

Every change is announced by an event, as many applications do it for their own indexes.
"""

import re
import uuid

from BTrees.OOBTree import OOBTree
from persistent import Persistent
from zope.event import notify
from zope.lifecycleevent import (
    Attributes,
    ObjectAddedEvent,
    ObjectModifiedEvent,
    ObjectMovedEvent,
    ObjectRemovedEvent,
)

from .events import Hidden, Published


class Entry(Persistent):
    """A folder or a note. ``uid`` never changes, whatever becomes of its name and place."""

    __parent__ = None
    __name__ = None
    is_draft = False

    def __init__(self, title):
        self.uid = uuid.uuid4().hex
        self.title = title

    def edit(self, **values):
        """Change attributes, and say which."""
        changed = {name: value for name, value in values.items() if getattr(self, name) != value}
        for name, value in changed.items():
            setattr(self, name, value)
        if changed:
            notify(ObjectModifiedEvent(self, Attributes(None, *changed)))

    def set_draft(self, is_draft):
        """Hide this and everything inside from readers, or show it."""
        if is_draft != self.is_draft:
            self.is_draft = is_draft
            notify(Hidden(self) if is_draft else Published(self))


class Note(Entry):
    """A text with a title."""

    text = ""


class Folder(Entry):
    """Notes and folders by name; they lie in a tree that is stored apart from the folder itself."""

    def __init__(self, title):
        super().__init__(title)
        self._entries = OOBTree()

    def __getitem__(self, name):
        return self._entries[name]

    def values(self):
        return self._entries.values()

    def everything_inside(self):
        """Yield what lies below, each folder before what is in it."""
        for entry in self.values():
            yield entry
            if isinstance(entry, Folder):
                yield from entry.everything_inside()

    def add(self, entry):
        """Put in a new entry, under a name made of its title."""
        self._put(entry)
        for each in _with_inside(entry):
            _notebook(self).by_uid[each.uid] = each
        notify(ObjectAddedEvent(entry, self, entry.__name__))
        return entry

    def remove(self, name):
        """Take out an entry for good, with everything inside."""
        entry = self._entries[name]
        for each in _with_inside(entry):
            del _notebook(self).by_uid[each.uid]
        del self._entries[name]
        notify(ObjectRemovedEvent(entry, self, name))

    def move_here(self, entry):
        """Move an entry, with everything inside, from where it lies to this folder."""
        above = self
        while above is not None:
            if above is entry:
                raise ValueError("a folder cannot be moved into itself")
            above = above.__parent__
        old_parent, old_name = entry.__parent__, entry.__name__
        del old_parent._entries[old_name]
        self._put(entry)
        notify(ObjectMovedEvent(entry, old_parent, old_name, self, entry.__name__))

    def _put(self, entry):
        stem = re.sub("[^a-z0-9]+", "-", entry.title.lower()).strip("-") or "untitled"
        name, number = stem, 1
        while name in self._entries:
            number += 1
            name = f"{stem}-{number}"
        entry.__parent__, entry.__name__ = self, name
        self._entries[name] = entry


class Notebook(Folder):
    """The root: a folder that knows all entries by their ids."""

    __name__ = ""

    def __init__(self):
        super().__init__("Notebook")
        self.by_uid = OOBTree()


def notebook_of(root):
    """Return the notebook of a database by its root mapping; a new one where there is none yet."""
    if "notebook" not in root:
        root["notebook"] = Notebook()
    return root["notebook"]


def _with_inside(entry):
    yield entry
    if isinstance(entry, Folder):
        yield from entry.everything_inside()


def _notebook(entry):
    while entry.__parent__ is not None:
        entry = entry.__parent__
    return entry
