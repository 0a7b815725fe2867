"""What a document is in the metadata of InvenioRDM, where the host says nothing of it.

Pure functions of values. Four fields are required there: a title of three characters, a creator, a
resource type and a publication date; the last is filled in by the uploader where the document has
none.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

#: The keys of a document that are looked at, the first that says something counts.
_TITLES: Final = ("title", "name", "label")
_DESCRIPTIONS: Final = ("description", "summary", "abstract", "text")
_CREATORS: Final = ("creators", "creator", "authors", "author", "speakers")
_DATES: Final = ("publication_date", "published", "issued", "date", "recorded", "start_date", "created")
_SUBJECTS: Final = ("subjects", "keywords", "tags")

#: Shorter titles and descriptions are refused.
_LEAST: Final = 3

_UNWANTED: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_DATE: Final = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?")

_UNKNOWN: Final = {"person_or_org": {"type": "organizational", "name": "Unknown"}}


def default_metadata(document: dict[str, Any], object_id: str) -> dict[str, Any]:
    """Return the metadata of a document whose keys have common names.

    ``title``, ``description`` (or summary, abstract, text), ``creators`` (or authors, speakers:
    names, or creators as InvenioRDM has them), ``publication_date`` (or published, issued, date,
    recorded, start_date, created), ``subjects`` (or keywords, tags), ``publisher`` and
    ``resource_type`` (an id, else ``other``). A host that wants more writes a mapping of its own,
    and may begin with this one.

    Args:
        document: As the host made it.
        object_id: For a title, where there is none.
    """
    metadata: dict[str, Any] = {
        "title": _title(document, object_id),
        "resource_type": {"id": next(_texts(document.get("resource_type")), "other")},
        "creators": list(_creators(document)) or [_UNKNOWN],
    }
    for name, value in (
        ("description", next((text for text in _all(document, _DESCRIPTIONS) if len(text) >= _LEAST), "")),
        ("publisher", next(_texts(document.get("publisher")), "")),
        ("publication_date", next(_dates(document), "")),
        ("subjects", [{"subject": text} for text in dict.fromkeys(_first(document, _SUBJECTS))]),
    ):
        if value:
            metadata[name] = value
    return metadata


def gone_metadata(object_id: str) -> dict[str, Any]:
    """Return metadata that says nothing of an object but that it is deleted."""
    return {
        "title": f"Deleted: {_clean(object_id)}",
        "resource_type": {"id": "other"},
        "creators": [_UNKNOWN],
    }


def _title(document: dict[str, Any], object_id: str) -> str:
    title = next(_all(document, _TITLES), "")
    name = _clean(object_id)
    if len(title) < _LEAST:
        title = f"{title} ({name})" if title else name
    return title if len(title) >= _LEAST else f"Object {name}"


def _creators(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for key in _CREATORS:
        value = document.get(key)
        found = [_creator(item) for item in (value if isinstance(value, list) else [value])]
        creators = [creator for creator in found if creator is not None]
        if creators:
            yield from creators
            return


def _creator(value: Any) -> dict[str, Any] | None:
    """Return what is known of one creator, in InvenioRDM's form already or from a name; None: nothing."""
    if isinstance(value, dict):
        if isinstance(value.get("person_or_org"), dict):
            return value
        value = value.get("name")
    name = next(_texts(value), "")
    if not name:
        return None
    family, comma, given = name.partition(",")
    if not comma:
        given, _, family = name.rpartition(" ")
    person = {"type": "personal", "family_name": family.strip(), "given_name": given.strip()}
    return {"person_or_org": {key: text for key, text in person.items() if text}}


def _dates(document: dict[str, Any]) -> Iterator[str]:
    for key in _DATES:
        value = document.get(key)
        if isinstance(value, datetime.datetime):
            value = value.astimezone(datetime.timezone.utc).date()
        text = value.isoformat() if isinstance(value, datetime.date) else value
        if isinstance(text, str):
            found = _DATE.match(text.strip())
            if found is not None and _is_date(found):
                yield found[0]


def _is_date(found: re.Match[str]) -> bool:
    try:
        datetime.date(int(found[1]), int(found[2] or 1), int(found[3] or 1))
    except ValueError:
        return False
    return True


def _first(document: dict[str, Any], keys: Iterable[str]) -> list[str]:
    """Return the texts under the first of ``keys`` that has any."""
    return next((texts for key in keys if (texts := list(_texts(document.get(key))))), [])


def _all(document: dict[str, Any], keys: Iterable[str]) -> Iterator[str]:
    for key in keys:
        yield from _texts(document.get(key))


def _texts(value: Any) -> Iterator[str]:
    """Yield the text in ``value`` that is not blank, that of a list too."""
    for item in value if isinstance(value, list) else (value,):
        if isinstance(item, str) and (text := _clean(item)):
            yield text


def _clean(text: str) -> str:
    return _UNWANTED.sub("", text).strip()
