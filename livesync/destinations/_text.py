"""The text of a document, as an index for searching has it."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, Final

import msgspec

#: What values that are no text look like in JSON: in a document's text, and not in the index.
_NO_TEXT: Final = re.compile(
    r"\d{4}-\d\d-\d\d(T[\d:.]+Z)?"  # a date, a datetime
    r"|[-+]?(\d+\.?\d*|\.\d+)(E[-+]?\d+)?|-?s?NaN\d*|-?Infinity"  # a Decimal
    r"|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"  # a UUID
    r"|([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"  # bytes
)


def document_text(document: Any) -> str:
    """Return all text values of a document, of nested lists and dicts too, a line each; no keys.

    They come in the order of their keys, so that the same document gives the same text when it was
    read back from its JSON (but for bytes, times, Decimals and UUIDs, which are text only there).
    """
    texts: list[str] = []
    containers = [document]
    for container in containers:  # which grows as it is gone through
        if type(container) is dict:
            container = [container[key] for key in sorted(container)]
        for value in container:
            kind = type(value)
            if kind is str:
                texts.append(value)
            elif kind is dict or kind is list:
                containers.append(value)
    return "\n".join(texts)


def is_in_step(body: bytes, text: bytes) -> bool:
    """Tell whether ``text`` of the index is that of the document whose JSON is ``body``."""
    try:
        expected = document_text(msgspec.json.decode(body))
        indexed = text.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, TypeError):
        return False
    if expected == indexed:
        return True
    # in another order, as earlier versions wrote it, or without what is text in JSON only
    found = Counter(indexed.split("\n") if indexed else ())
    lines = Counter(expected.split("\n"))
    return found <= lines and all(_NO_TEXT.fullmatch(line) for line in lines - found)
