"""What an entry of the catalogue is in MARC 21: a ready mapping for the ``marcxml`` destination.

.. code-block:: console

   $ livesync agent add library --type marcxml -o url=… -o fields=livesync.demo.marc:marc_fields
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from pymarc import Field, Indicators, Subfield

#: The collection that an entry belongs to in the library, by its kind.
_COLLECTIONS: Final = {"series": "SERIES", "conference": "CONFERENCE", "talk": "TALK"}


def marc_fields(object_id: str, document: dict[str, Any]) -> list[Field]:
    """Return the MARC fields of an entry; the ids are left to livesync.

    245 title, 100 and 700 speakers, 490 series, 518 when it was recorded or begins, 520 summary
    and description, 540 terms of use, 546 language, 653 tags, 856 addresses, 980 the collection.

    Args:
        object_id: The entry's id.
        document: As :class:`livesync.demo.host.DemoHost` makes it.
    """
    speakers = list(_texts(document.get("speakers")))
    title = next(_texts(document.get("title")), "") or str(document.get("path") or object_id)
    return [
        *(_field("100", "1_", a=name) for name in speakers[:1]),
        _field("245", "00", a=title),
        *(_field("490", "0_", a=name) for name in _texts(document.get("series"))),
        *(_field("518", "__", d=day) for day in _texts(document.get("recorded"), document.get("start_date"))),
        *(_field("520", "__", a=text) for text in _texts(document.get("summary"))),
        *(_field("520", "3_", a=text) for text in _texts(document.get("description"))),
        *(_field("540", "__", a=terms) for terms in _texts(document.get("copyright_text"))),
        *(_field("546", "__", a=language) for language in _texts(document.get("language"))),
        *(_field("653", "__", a=tag) for tag in _texts(document.get("tags"))),
        *(_field("700", "1_", a=name) for name in speakers[1:]),
        *_addresses(document),
        *(_field("980", "__", a=_COLLECTIONS.get(kind, "OTHER")) for kind in _texts(document.get("kind"))),
    ]


def _field(tag: str, indicators: str, **subfields: str) -> Field:
    blank = indicators.replace("_", " ")
    return Field(
        tag, Indicators(blank[0], blank[1]), [Subfield(code, text) for code, text in subfields.items()]
    )


def _texts(*values: Any) -> Iterator[str]:
    """Yield the text in ``values`` that is not blank: that of lists too. Anything else is passed over."""
    for value in values:
        if isinstance(value, str) and value.strip():
            yield value.strip()
        elif isinstance(value, list):
            yield from _texts(*value)


def _addresses(document: dict[str, Any]) -> Iterator[Field]:
    """Yield where the entry itself, its recordings, and what belongs to it can be found."""
    for url in _texts(document.get("url")):
        yield _field("856", "40", u=url)
    for relation, name in (("41", "videos"), ("42", "related_urls")):
        links = document.get(name)
        for link in links if isinstance(links, list) else ():
            link = link if isinstance(link, dict) else {"url": link}
            for url in _texts(link.get("url")):
                note = next(_texts(link.get("description")), "")
                yield _field("856", relation, u=url, **({"y": note} if note else {}))
