"""Asking a receiver of the ``http`` destination what it holds, for ``verify``.

The URL of the option ``rows_url`` answers two questions with JSON Lines, one living object a line:
``{"id":…,"position":…,"digest":…}``. ``digest`` is the BLAKE2b-128, in hexadecimal, of the document
byte for byte as it came in its line.

- ``GET <rows_url>?after=<id>&limit=<n>``: the next objects by ascending ids (by code points, which
  is the order of their UTF-8 bytes), those after ``after`` (without it: from the first), at most
  ``limit``. An empty answer is the end. With ``digests=no`` the digests may be left out.
- ``POST <rows_url>`` with ``{"ids":[…]}``, a thousand at most: those among them that live, in any order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from ..delivery.uploader import HeldRow
from ..errors import ServiceRefuses
from ._answers import Answer, refuse_unless_answered, without_secrets
from ._http_session import ANSWER_BYTES, HTTPService
from ._lines import MEDIA_TYPE

#: Rows of one answer.
PAGE: Final = 1000

#: The most that is read of a row: its id has up to 512 characters.
_ROW_BYTES: Final = 8 * 1024


class _Row(msgspec.Struct, gc=False):
    id: str
    position: int | None
    digest: str | None = None


class _Question(msgspec.Struct):
    ids: list[str]


_decoder = msgspec.json.Decoder(_Row)


class HeldRows:
    """What a receiver holds, read from a URL.

    Args:
        service: How it is asked.
        url: Where; its query stays and is added to.
        clock: Returns epoch seconds; for a ``Retry-After`` that names a time.
    """

    def __init__(self, service: HTTPService, url: str, clock: Callable[[], float] = time.time) -> None:
        self._service = service
        self._url = url
        self._shown = without_secrets(url)
        self._clock = clock

    def after(self, after: str | None, quick: bool) -> Iterator[HeldRow]:
        """Yield the rows after an id, page by page.

        Raises:
            RetryLater, ServiceRefuses: There is no answer that can be used.
        """
        while page := self.page(after, quick):
            for row in page:
                if after is not None and row.object_id <= after:
                    raise ServiceRefuses(
                        f"{self._shown} tells of {row.object_id!r} after {after!r}: rows must come by"
                        " ascending ids, by code points"
                    )
                after = row.object_id
                yield row

    def page(self, after: str | None, quick: bool, limit: int = PAGE) -> list[HeldRow]:
        """Return the next rows after an id, none at the end."""
        query = {"limit": str(limit)}
        if after is not None:
            query["after"] = after
        if quick:
            query["digests"] = "no"
        before = urlsplit(self._url).query
        more = urlencode(query, quote_via=quote)
        url = urlsplit(self._url)._replace(query=f"{before}&{more}" if before else more).geturl()
        answer = self._service.request("GET", url, None, {"Accept": MEDIA_TYPE}, _limit(limit))
        rows = self._read(answer, "GET")
        return [HeldRow(row.id, row.position, None if quick else self._digest(row)) for row in rows]

    def of(self, object_ids: Sequence[str]) -> list[HeldRow]:
        """Return the rows of these objects.

        Raises:
            RetryLater, ServiceRefuses: There is no answer that can be used.
        """
        if not object_ids:
            return []
        body = msgspec.json.encode(_Question(list(object_ids)))
        headers = {"Accept": MEDIA_TYPE, "Content-Type": "application/json"}
        answer = self._service.request("POST", self._url, body, headers, _limit(len(object_ids)))
        asked = set(object_ids)
        return [
            HeldRow(row.id, row.position, self._digest(row))
            for row in self._read(answer, "POST")
            if row.id in asked
        ]

    def _read(self, answer: Answer, method: str) -> list[_Row]:
        refuse_unless_answered(answer, self._shown, method, self._clock())
        if not answer.whole:
            raise ServiceRefuses(f"{self._shown} answered with more than was asked for: check the URL")
        try:
            return _decoder.decode_lines(answer.body)
        except msgspec.ValidationError as exc:
            raise ServiceRefuses(f"{self._shown} answered with rows of another form: {exc}") from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            kind = answer.content_type or "a body without a type"
            raise ServiceRefuses(
                f"{self._shown} answered with {kind}, not JSON Lines: is it a login page?"
                " check the URL and the token"
            ) from None

    def _digest(self, row: _Row) -> str:
        if row.digest is None:
            raise ServiceRefuses(
                f"{self._shown} tells no digest of {row.id!r}: it can be verified quickly only"
            )
        return row.digest


def _limit(rows: int) -> int:
    return ANSWER_BYTES + _ROW_BYTES * rows
