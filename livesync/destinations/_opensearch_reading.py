"""What an index holds, read back page by page.

Each page is a search of its own that begins after the last id of the one before. An id never changes its
place in that order, so nothing need be held open in the service (a point in time, a scroll), and what
changes meanwhile is told as it is when its page is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from ..delivery.uploader import HeldRow
from ..errors import RetryLater
from ._opensearch_documents import FIELD, LIVING, row_of, service_id
from ._opensearch_rest import AnswerTooLong, RESTService, path_of

#: Rows read at once: at first, at most, and as many as make about so many bytes.
_FIRST_ROWS: Final = 100
_MOST_ROWS: Final = 5000
_BYTES_AT_ONCE: Final = 4 * 1024 * 1024

#: Documents looked up at once.
_LOOKED_UP: Final = 100

#: The longest answer that is read; one document may be so large.
_MOST_BYTES: Final = 128 * 1024 * 1024

_ID: Final = f"{FIELD}.object_id"
_POSITION: Final = f"{FIELD}.position"


class _Hit(msgspec.Struct):
    sort: list[str | None]
    source: msgspec.Raw = msgspec.field(name="_source", default=msgspec.Raw(b"{}"))
    fields: dict[str, list[int]] = {}


class _Hits(msgspec.Struct):
    hits: list[_Hit]


class _Shards(msgspec.Struct):
    failed: int = 0


class _Found(msgspec.Struct):
    hits: _Hits
    timed_out: bool = False
    shards: _Shards = msgspec.field(name="_shards", default_factory=_Shards)


class _Got(msgspec.Struct):
    found: bool = False
    source: msgspec.Raw = msgspec.field(name="_source", default=msgspec.Raw(b"{}"))
    error: Any = None


class _AllGot(msgspec.Struct):
    docs: list[_Got]


class Reader:
    """Reads the rows of an index.

    Args:
        service: The cluster.
        preference: A name by which it sends us to the same copies of the shards each time: two of them
            need not know of the same changes.
    """

    def __init__(self, service: RESTService, preference: str) -> None:
        self._service = service
        self._preference = preference

    def rows(self, index: str, after: str | None, quick: bool) -> Iterator[HeldRow]:
        """Yield the living objects by ascending ids (by code points), without digests if ``quick``.

        Raises:
            RetryLater, ServiceRefuses: They cannot be read.
        """
        # No filter_path: the service writes documents anew when it filters an answer.
        wanted = {"_source": False, "docvalue_fields": [_POSITION]} if quick else {"_source": True}
        size = _MOST_ROWS if quick else _FIRST_ROWS
        while True:
            try:
                hits = self._search(index, LIVING, after, size, wanted)
            except AnswerTooLong:
                if size == 1:
                    raise
                size = max(1, size // 8)
                continue
            if not hits:
                return
            for hit in hits:
                after = str(hit.sort[0])
                if quick:
                    yield HeldRow(after, next(iter(hit.fields.get(_POSITION, ())), None), None)
                elif (row := row_of(after, bytes(hit.source))) is not None:
                    yield row
            if not quick:
                mean = max(1, sum(len(bytes(hit.source)) for hit in hits) // len(hits))
                size = min(_MOST_ROWS, max(1, _BYTES_AT_ONCE // mean))

    def rows_of(self, index: str, object_ids: Sequence[str]) -> list[HeldRow]:
        """Return the living ones among these objects, as they are now: nothing need be refreshed.

        Raises:
            RetryLater, ServiceRefuses: They cannot be read.
        """
        rows: list[HeldRow] = []
        waiting = [list(object_ids[at : at + _LOOKED_UP]) for at in range(0, len(object_ids), _LOOKED_UP)]
        while waiting:
            some = waiting.pop()
            try:
                rows += self._looked_up(index, some)
            except AnswerTooLong:
                if len(some) == 1:
                    raise
                waiting += [some[: len(some) // 2], some[len(some) // 2 :]]
        return rows

    def _looked_up(self, index: str, object_ids: list[str]) -> Iterator[HeldRow]:
        ids = [service_id(object_id) for object_id in object_ids]
        reply = self._service.ask("POST", path_of(index, "_mget"), {"ids": ids}, limit=_MOST_BYTES)
        for object_id, got in zip(object_ids, reply.read(_AllGot).docs, strict=True):
            if got.error is not None:
                raise RetryLater(reason=f"{reply.said}, and {object_id!r} could not be read")
            if got.found and (row := row_of(object_id, bytes(got.source))) is not None:
                yield row

    def ids_before(self, index: str, position: int, after: str | None, most: int) -> list[str]:
        """Return the next ids of living objects whose position is lower; an empty list at the end.

        Raises:
            RetryLater, ServiceRefuses: They cannot be read.
        """
        query = {"bool": {"filter": [{"range": {_POSITION: {"lt": position}}}, LIVING]}}
        return [str(hit.sort[0]) for hit in self._search(index, query, after, most, {"_source": False})]

    def _search(
        self, index: str, query: Mapping[str, Any], after: str | None, size: int, wanted: dict[str, Any]
    ) -> list[_Hit]:
        """Return a page of what ``query`` finds, by ascending ids; nothing that has no id of ours."""
        body = {"query": query, "sort": [{_ID: "asc"}], "size": size, "track_total_hits": False, **wanted}
        if after is not None:
            body["search_after"] = [after]
        asked = f"allow_partial_search_results=false&preference={self._preference}"
        path = path_of(index, "_search")
        reply = self._service.ask("POST", path, body, query=asked, limit=_MOST_BYTES)
        found = reply.read(_Found)
        if found.timed_out or found.shards.failed:
            raise RetryLater(reason=f"{reply.said} with a part of what there is")
        # what has no id comes last
        return [hit for hit in found.hits.hits if hit.sort[0] is not None]
