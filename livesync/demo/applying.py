"""One line of a history applied to the catalogue.

What lies at a path changes exactly as if the line's changes were made to a table of documents by path,
one after the other. What a table does not know is which objects these are:

- A document that is made where one lies already is a change of it.
- A talk that moves stays what it is. One that is moved onto another replaces it.
- A conference is its document: where ``category.json`` moves to a folder that has no conference, the
  conference moves there with its talks. Those that the line does not move along stay behind, in a
  conference without a document. Where the folder has a conference already, only the document moves.
- What is said to move from a talk to a conference, or the other way round, is removed and made anew.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from .editor import Editor
from .history import Change, Line
from .model import Catalogue, Conference, Talk
from .places import Place

_UID_NAMESPACE: Final = uuid.UUID("2c7b1a52-6d5f-4b0e-9a57-0f6b6f1f9d3c")


def apply_line(catalogue: Catalogue, line: Line) -> None:
    """Make the changes of ``line`` to the catalogue, in its connection's transaction.

    Ids depend on the line alone, so the same lines give the same ids in every database.

    Raises:
        HistoryError: Something that is changed, moved or deleted is not there. The transaction is to
            be aborted then: what came before it in the line has been changed.
    """
    _Application(catalogue, line).run()


class _Application:
    """The way through one line."""

    def __init__(self, catalogue: Catalogue, line: Line) -> None:
        self.catalogue = catalogue
        self.line = line
        self.changes = line.changes
        self.editor = Editor(catalogue, self._new_uid)
        self._made = 0
        #: place -> the numbers of the changes that name it
        self.naming: dict[Place, list[int]] = defaultdict(list)
        for number, change in enumerate(self.changes):
            for place in {change.place, change.former or change.place}:
                self.naming[place].append(number)
        #: Talks that came along with their conference: where the line says they were -> where they are
        self.brought: dict[Place, Place] = {}

    def run(self) -> None:
        """Make all changes."""
        # A conference moves first, so that its talks come with it instead of one by one. That changes
        # nothing for a table of documents, as no earlier change names either place.
        first = [number for number in range(len(self.changes)) if self._can_go_first(number)]
        rest = sorted(set(range(len(self.changes))).difference(first))
        for number in (*first, *rest):
            change = self.changes[number]
            try:
                self._MAKE[change.action](self, change)
            except LookupError:
                missing = (change.former or change.place).file
                raise self.line.error(
                    f"change {number + 1} ({change.action}) needs {missing}, and that is not there"
                ) from None

    def _can_go_first(self, number: int) -> bool:
        change = self.changes[number]
        if change.former is None or change.place.talk is not None or change.former.talk is not None:
            return False
        return self.naming[change.place][0] == self.naming[change.former][0] == number

    def _create(self, change: Change) -> None:
        self.editor.write(change.place, change.data or {})

    def _change(self, change: Change) -> None:
        self._existing(change.place)
        self.editor.write(change.place, change.data or {})

    def _delete(self, change: Change) -> None:
        self.editor.erase(self._existing(change.place))

    def _move(self, change: Change) -> None:
        assert change.former is not None
        here = self.brought.pop(change.former, change.former)
        entry = self._existing(here)
        data = entry.data if change.data is None else change.data
        if here == change.place:
            self.editor.change(entry, data)
        elif isinstance(entry, Talk) and change.place.talk is not None:
            self._move_talk(entry, change.place, data)
        elif isinstance(entry, Conference) and self._is_free_for_conference(change.place):
            self._move_conference(entry, change.place.folder)
            self.editor.change(entry, data)
        else:
            self.editor.write(change.place, data or {})
            self.editor.erase(entry)

    _MAKE: Final[Mapping[str, Callable[[_Application, Change], None]]] = {
        "created": _create,
        "data_changed": _change,
        "moved": _move,
        "deleted": _delete,
    }

    def _move_talk(self, talk: Talk, place: Place, data: Mapping[str, Any] | None) -> None:
        other = self.catalogue.find(place)
        if other is not None:
            self.editor.remove(other)
        self.editor.move_talk(talk, place)
        self.editor.change(talk, data)

    def _move_conference(self, conference: Conference, folder: str) -> None:
        """Move ``conference`` to ``folder``; leave behind the talks that the line does not move along."""
        old_folder = conference.folder
        names = list(conference)
        along = {name for name in names if self._comes_along(Place(old_folder, name), folder)}
        self.editor.move_conference(conference, folder)
        for name in names:
            if name in along:
                self.brought[Place(old_folder, name)] = Place(folder, name)
            else:
                self.editor.move_talk(conference[name], Place(old_folder, name))

    def _comes_along(self, place: Place, folder: str) -> bool:
        """Tell whether the line moves the talk at ``place`` to ``folder`` and says nothing else of it."""
        moves = self.naming.get(place, [])
        if len(moves) != 1:
            return False
        change, landing = self.changes[moves[0]], Place(folder, place.talk)
        if change.former != place or change.place.folder != folder or change.place.talk is None:
            return False
        others: Iterable[Place] = {landing, change.place}
        return all(self.naming.get(other, moves) == moves for other in others)

    def _is_free_for_conference(self, place: Place) -> bool:
        return place.talk is None and self.catalogue.conference(place.folder) is None

    def _existing(self, place: Place) -> Conference | Talk:
        """Return what has its document at ``place``.

        Raises:
            LookupError: Nothing has.
        """
        entry = self.catalogue.find(place)
        if entry is None or (isinstance(entry, Conference) and entry.data is None):
            raise LookupError(place.file)
        return entry

    def _new_uid(self, path: str) -> str:
        self._made += 1
        return str(uuid.uuid5(_UID_NAMESPACE, f"{self.line.digest.hex()} {self._made} {path}"))
