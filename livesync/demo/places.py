"""Where things lie: paths of a history, and the names that follow from them.

A history names files: ``pycon-us-2013/category.json`` is a conference, and
``pycon-us-2013/videos/keynote.json`` a talk in it; ``pycon-us-2013`` is the conference's folder, which
may itself lie in another one (``data/pycon-us-2013``). The catalogue names objects: series, conference
and talk, each within the one before: ``pycon-us/pycon-us-2013/keynote``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_CONFERENCE_FILE = "category.json"
_TALKS_FOLDER = "videos"
_TALK_SUFFIX = ".json"

_YEAR_AT_THE_END = re.compile(r"[-_. ]?(?:19|20)\d\d$")

#: The longest path in the catalogue: an object's id has no more characters.
MAX_PATH_LENGTH = 512


@dataclass(frozen=True, slots=True)
class Place:
    """Where a conference (``talk`` is None) or a talk lies.

    Attributes:
        folder: The conference's folder in the history.
        talk: The talk's name in its conference.
    """

    folder: str
    talk: str | None = None

    @property
    def file(self) -> str:
        """The file of the history that holds its document."""
        if self.talk is None:
            return f"{self.folder}/{_CONFERENCE_FILE}"
        return f"{self.folder}/{_TALKS_FOLDER}/{self.talk}{_TALK_SUFFIX}"

    @property
    def path(self) -> str:
        """Its path in the catalogue: names from the series down, with slashes between."""
        path = f"{series_name(self.folder)}/{conference_name(self.folder)}"
        return path if self.talk is None else f"{path}/{self.talk}"


def parse_file(file: str) -> Place:
    """Return the place that a history calls ``file``.

    Raises:
        ValueError: It has neither of the two forms, or its path in the catalogue would be too long.
    """
    parts = file.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{file!r} is no path of a conference or talk: a part is empty, or a dot")
    place = None
    stem = parts[-1].removesuffix(_TALK_SUFFIX)
    if len(parts) >= 3 and parts[-2] == _TALKS_FOLDER and stem != parts[-1] and stem:
        place = Place("/".join(parts[:-2]), stem)
    elif len(parts) >= 2 and parts[-1] == _CONFERENCE_FILE:
        place = Place("/".join(parts[:-1]))
    if place is None:
        raise ValueError(
            f"{file!r} is no path of a conference or talk: FOLDER/{_CONFERENCE_FILE}"
            f" or FOLDER/{_TALKS_FOLDER}/TALK{_TALK_SUFFIX}"
        )
    if len(place.path) > MAX_PATH_LENGTH:
        raise ValueError(f"{file[:60]!r}… is too long: its path would have over {MAX_PATH_LENGTH} characters")
    return place


def series_name(folder: str) -> str:
    """Return the series that the conference of ``folder`` belongs to: its name without the year.

    ``pycon-us-2013`` is one of ``pycon-us``; a conference without a year is a series of its own.
    """
    name = folder.rpartition("/")[2]
    return _YEAR_AT_THE_END.sub("", name) or name


def conference_name(folder: str) -> str:
    """Return the name of the conference of ``folder`` in its series: no slash is in it."""
    return folder.replace("%", "%25").replace("/", "%2F")


def conference_folder(name: str) -> str:
    """Return the folder of the conference of this name; the inverse of :func:`conference_name`."""
    return name.replace("%2F", "/").replace("%25", "%")


def parse_path(path: str) -> Place | str:
    """Return the place of a conference or talk by its path in the catalogue, or the name of a series.

    Raises:
        ValueError: Nothing in the catalogue can have this path.
    """
    parts = path.split("/")
    if len(parts) > 3 or not all(parts) or len(path) > MAX_PATH_LENGTH:
        raise ValueError(f"{path!r} is no path in the catalogue: SERIES[/CONFERENCE[/TALK]]")
    if len(parts) == 1:
        return path
    place = Place(conference_folder(parts[1]), *parts[2:])
    if place.path != path:
        raise ValueError(f"{path!r} is no path in the catalogue: {parts[1]!r} is not of {parts[0]!r}")
    return place
