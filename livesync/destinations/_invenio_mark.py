"""The mark by which livesync knows its records in an Invenio repository: one of their identifiers.

An instance takes no fields that are not configured there, but every one takes alternate identifiers.
So the mark is the value of one, in words that a full-text search finds one by one::

    livesync/<track>/<key>/<position>/<upsert|delete>/<digest>/<files>/<object id>

``key`` is the digest of track and object id, and what a record is looked up by. Everything that may
hold other characters is percent-encoded. ``files`` names each file with the digest of its content:
``<digest>=<name>``, or ``<digest>!<name>`` when the content was not sent, with ``;`` between.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

#: What stands where there is nothing.
_NOTHING: Final = "-"

_UPSERT: Final = "upsert"
_DELETE: Final = "delete"

_FILE: Final = re.compile("([^=!]*)([=!])(.*)")


@dataclass(frozen=True, slots=True)
class FileMark:
    """One file of an object: its name, its content's digest, and whether the repository holds it."""

    name: str
    digest: str
    held: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """What a record is, and as of when.

    Attributes:
        track_id: The track that the object belongs to.
        object_id: Which.
        position: Of the record that was sent.
        deleted: Whether it says that the object is gone.
        digest: Of the document that was sent; "" for a deletion.
        files: The object's files, by name; nothing when the agent sends none.
    """

    track_id: str
    object_id: str
    position: int
    deleted: bool = False
    digest: str = ""
    files: tuple[FileMark, ...] = ()

    @property
    def key(self) -> str:
        """What the record is looked up by."""
        return key_of(self.track_id, self.object_id)

    def __str__(self) -> str:
        return "/".join(
            (
                track_phrase(self.track_id),
                self.key,
                str(self.position),
                _DELETE if self.deleted else _UPSERT,
                self.digest or _NOTHING,
                ";".join(map(_file_text, self.files)) or _NOTHING,
                quote(self.object_id, safe=""),
            )
        )


def key_of(track_id: str, object_id: str) -> str:
    """Return what the record of an object is looked up by: 32 hexadecimal digits, one word to any search."""
    track, name = track_id.encode(), object_id.encode()
    return hashlib.blake2b(len(track).to_bytes(4, "big") + track + name, digest_size=16).hexdigest()


def track_phrase(track_id: str) -> str:
    """Return how the marks of all records of a track begin."""
    return f"livesync/{quote(track_id, safe='')}"


def parse_mark(text: str) -> Mark | None:
    """Return the mark that ``text`` is; None if it is none."""
    parts = text.split("/")
    if len(parts) != 8 or parts[0] != "livesync" or parts[4] not in (_UPSERT, _DELETE):
        return None
    _, track, key, position, op, digest, files, object_id = parts
    if not (position.isascii() and position.isdigit()):
        return None
    mark = Mark(
        unquote(track),
        unquote(object_id),
        int(position),
        op == _DELETE,
        "" if digest == _NOTHING else digest,
        () if files == _NOTHING else tuple(map(_file_mark, files.split(";"))),
    )
    return mark if mark.key == key else None  # one that people have changed is not ours any more


def _file_text(file: FileMark) -> str:
    return f"{quote(file.digest, safe='')}{'=' if file.held else '!'}{quote(file.name, safe='')}"


def _file_mark(text: str) -> FileMark:
    found = _FILE.fullmatch(text)
    if found is None:
        return FileMark(unquote(text), "", False)
    return FileMark(unquote(found[3]), unquote(found[1]), found[2] == "=")
