"""Documents taken back: an entry made, moved, changed or removed until it is what its document says.

Documents come one by one and in any order, and each speaks for its own entry only: what lies in a
conference that moves or goes stays where it is until its own document comes. What is missing above an
entry meanwhile is made as a placeholder, which gives way to the entry that belongs there and goes once it
is empty.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .editor import Editor
from .model import Catalogue, Conference, Container, Entry, Series, Talk
from .places import Place, conference_name, parse_path, series_name

#: Fields of a document that the entry itself tells.
_OWN_FIELDS = frozenset({"kind", "path", "series", "source"})

_KINDS: Mapping[str, type[Entry]] = {kind.kind: kind for kind in (Series, Conference, Talk)}


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a document says of its entry. ``place`` is None for a series, whose name is ``name``."""

    kind: type[Entry]
    place: Place | None
    name: str
    data: dict[str, Any] | None


def remove(catalogue: Catalogue, entry: Entry, with_contents: bool) -> None:
    """Remove ``entry``, in the transaction of the catalogue's connection.

    Args:
        catalogue: The catalogue.
        entry: What is removed.
        with_contents: Whether everything in it is removed with it. Where ids survive moves that would be
            too much: what is in it now may have been restored there a moment ago, in advance of the entry
            that is to come in its place.
    """
    editor = _editor(catalogue)
    parent, name = entry.__parent__, entry.__name__
    left = None if with_contents else _leave_contents(editor, entry)
    editor.remove(entry)
    if left is not None:
        editor.add(left, parent, name)
    else:
        _clear_placeholders(editor, parent)


def restore(catalogue: Catalogue, entry: Entry | None, uid: str, document: Mapping[str, Any]) -> None:
    """Make ``entry`` what ``document`` says, in the transaction of the catalogue's connection.

    Args:
        catalogue: The catalogue.
        entry: The entry as it is now; None when there is none.
        uid: The id of an entry that is made.
        document: What :meth:`livesync.demo.host.DemoHost.document` returned once.

    Raises:
        ValueError: The document does not say what it is and where it lies.
    """
    editor = _editor(catalogue)
    wanted = _parse(document)
    if entry is not None and type(entry) is not wanted.kind:
        raise ValueError(f"a {entry.kind} cannot become a {wanted.kind.kind}")
    entry = _put(editor, entry, uid, wanted)
    if isinstance(entry, Container) and entry.is_placeholder:
        entry.is_placeholder = False
    editor.change(entry, wanted.data)


def _editor(catalogue: Catalogue) -> Editor:
    return Editor(catalogue, lambda path: str(uuid.uuid4()))


def _parse(document: Mapping[str, Any]) -> _Wanted:
    kind, path = _KINDS.get(str(document.get("kind"))), document.get("path")
    if kind is None or not isinstance(path, str):
        raise ValueError("a document of the catalogue says its kind (series, conference, talk) and its path")
    where = parse_path(path)
    place = where if isinstance(where, Place) else None
    if kind is not (Series if place is None else Conference if place.talk is None else Talk):
        raise ValueError(f"{path!r} is no path of a {kind.kind}")
    # What lies nowhere in a history has no document of its own.
    has_data = kind is Talk or document.get("source") is not None
    data = {name: value for name, value in document.items() if name not in _OWN_FIELDS} if has_data else None
    if data is not None and data.get("title") == "":
        del data["title"]
    return _Wanted(kind, place, path.rpartition("/")[2], data)


def _put(editor: Editor, entry: Entry | None, uid: str, wanted: _Wanted) -> Entry:
    """Return the entry at the place where it is wanted, made or moved there if need be."""
    parent = _parent(editor, wanted.place)
    occupant = parent.get(wanted.name)
    if entry is not None and occupant is entry:
        return entry
    old_parent: Any = None if entry is None else entry.__parent__
    old_name = "" if entry is None else entry.__name__
    left = None if entry is None else _leave_contents(editor, entry)
    new = entry or _unattached(wanted.kind, uid, parent, wanted.name, wanted.data)
    if occupant is not None:
        _pour(editor, occupant, new)
        editor.remove(occupant)
    if entry is None:
        return editor.add(new, parent, wanted.name)
    editor.move(entry, parent, wanted.name)
    if left is not None:
        editor.add(left, old_parent, old_name)
    else:
        _clear_placeholders(editor, old_parent)
    return entry


def _parent(editor: Editor, place: Place | None) -> Any:
    """Return what lies above ``place``; what is missing is made as a placeholder."""
    catalogue = editor.catalogue
    if place is None:
        return catalogue
    name = series_name(place.folder)
    series = catalogue.get(name) or _add_placeholder(editor, Series, catalogue, name)
    if place.talk is None:
        return series
    return catalogue.conference(place.folder) or _add_placeholder(
        editor, Conference, series, conference_name(place.folder)
    )


def _add_placeholder(editor: Editor, kind: type[Entry], parent: Any, name: str) -> Entry:
    return editor.add(_unattached(kind, str(uuid.uuid4()), parent, name), parent, name)


def _unattached(
    kind: type[Entry], uid: str, parent: Any, name: str, data: Mapping[str, Any] | None = None
) -> Entry:
    """Return a new entry that knows its place already, so that what is moved into it does too."""
    entry = kind(uid, data)
    entry.__parent__, entry.__name__ = parent, name
    if isinstance(entry, Container):
        entry.is_placeholder = data is None
    return entry


def _leave_contents(editor: Editor, entry: Entry) -> Entry | None:
    """Move what lies in ``entry`` into a placeholder that can take its place; None where nothing does."""
    if not isinstance(entry, Container) or entry.is_empty():
        return None
    left = _unattached(type(entry), str(uuid.uuid4()), entry.__parent__, entry.__name__)
    _pour(editor, entry, left)
    return left


def _pour(editor: Editor, source: Entry, target: Entry) -> None:
    """Move everything that is directly in ``source`` into ``target``."""
    if isinstance(source, Container) and isinstance(target, Container):
        for name, child in list(source.items()):
            editor.move(child, target, name)


def _clear_placeholders(editor: Editor, container: Any) -> None:
    """Remove ``container`` and what is above it as far as they are empty placeholders."""
    while isinstance(container, Container) and container.is_placeholder:
        if not container.is_empty() or container.data is not None:
            return
        editor.remove(container)
        container = container.__parent__
