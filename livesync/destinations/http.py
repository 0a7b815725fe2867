"""The ``http`` destination: batches as JSON Lines, posted to a URL.

A request is a ``POST`` of ``application/x-ndjson``, a line a record, with the headers
``Livesync-Agent``, ``Livesync-Track``, ``Livesync-Till`` (the position of the slice's records) and
``Idempotency-Key``, which is the same whenever the same batch of the same slice is sent again. What
the answer means is in :mod:`livesync.destinations._answers`. Redirects are not followed, TLS is
always verified, and all retries are the uploader's. Several batches may be under way at once.

A receiver that can tell what it holds does so at another URL, the option ``rows_url``: see
:mod:`livesync.destinations._http_rows`. The objects' files are not sent.
"""

from __future__ import annotations

import gzip
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from ..agent import SyncAgent
from ..delivery.push import PushSyncAgent
from ..delivery.record import Batch, Verdict
from ..delivery.uploader import (
    DELIVERY_OPTIONS,
    IN_FLIGHT_OPTION,
    Delivery,
    HeldRow,
    RecordUploader,
)
from ..errors import ServiceRefuses
from ..options import Option
from ._answers import judge, refuse_not_now, refuse_redirect, without_secrets
from ._http_rows import HeldRows
from ._http_session import ANSWER_BYTES, HTTP_OPTIONS, HTTPService, bearer
from ._lines import MEDIA_TYPE, encode_lines

#: What is read of an answer: enough for a verdict on each record (an id has up to 512 characters).
_ANSWER_BYTES_PER_RECORD: Final = 8 * 1024

#: Answers to a HEAD that stop an agent, and what to do about them.
_NOT_LET_IN: Final = {401: "check the token", 403: "check the token and its rights", 407: "check the proxy"}

#: Not implemented: the server knows no HEAD, which says nothing of a POST.
_NO_SUCH_METHOD: Final = 501

#: The fastest: on JSON Lines the better levels cost several times more and save little.
_GZIP_LEVEL: Final = 1


class HTTPUploader(RecordUploader):
    """Posts records to a URL; ``readable`` where the option ``rows_url`` is set.

    Args:
        agent: Its options say where to and how.
        clock: Returns epoch seconds; for a ``Retry-After`` that names a time.
    """

    concurrent = True
    reads_documents = False

    def __init__(
        self, agent: SyncAgent, *args: Any, clock: Callable[[], float] = time.time, **kwargs: Any
    ) -> None:
        super().__init__(agent, *args, **kwargs)
        values = agent.values
        self.url: str = values["url"]
        self.gzip: bool = values["gzip"]
        self.rows_url: str | None = values["rows_url"]
        self.readable = self.rows_url is not None  # each receiver has it or not
        #: The URL as logs and messages show it: its query may hold a key.
        self.shown_url = without_secrets(self.url)
        self._clock = clock
        self._service: HTTPService | None = None

    def open(self, delivery: Delivery) -> None:
        """Read the token and get a session ready; nothing is sent yet.

        Raises:
            OptionError: The token is not there, or cannot be sent in a header.
        """
        super().open(delivery)
        self.close()
        self._service = HTTPService.of(self.agent, bearer(self.agent))

    def close(self) -> None:
        """Close the connections."""
        if self._service is not None:
            self._service.close()
            self._service = None

    def probe(self) -> str:
        """Ask with a HEAD, which changes nothing, and for one row where ``rows_url`` is set.

        That the URL knows no HEAD, or not this one, says nothing of a POST.

        Raises:
            RetryLater, ServiceRefuses: There is no answer, not now, or none to us.
        """
        answer = self._connected.request("HEAD", self.url)
        status = answer.status
        if status in _NOT_LET_IN:
            raise ServiceRefuses(f"{self.shown_url} answered {status}: {_NOT_LET_IN[status]}")
        refuse_redirect(answer, self.shown_url)
        if status != _NO_SUCH_METHOD:
            refuse_not_now(answer, self.shown_url, self._clock())
        line = f"{self.shown_url} can be reached (HEAD: {status})"
        if status in (404, 410):
            line += ": whether it takes a POST, only a POST can show"
        if self.readable:
            self._rows.page(None, quick=False, limit=1)
            line += "; what it holds can be read"
        return line

    def rows(self, after: str | None = None, quick: bool = False) -> Iterator[HeldRow]:
        """Yield what the receiver tells at ``rows_url``.

        Raises:
            RetryLater, ServiceRefuses: There is no answer that can be used.
        """
        return self._rows.after(after, quick)

    def rows_of(self, object_ids: Sequence[str]) -> list[HeldRow]:
        """Return what the receiver tells at ``rows_url`` of these objects."""
        return self._rows.of(object_ids)

    @property
    def _connected(self) -> HTTPService:
        if self._service is None:
            raise RuntimeError("open() comes before anything else")
        return self._service

    @property
    def _rows(self) -> HeldRows:
        if self.rows_url is None:
            raise NotImplementedError("this receiver cannot tell what it holds: it has no rows_url")
        return HeldRows(self._connected, self.rows_url, self._clock)

    def _upload_batch(self, batch: Batch) -> list[Verdict] | None:
        service = self._connected
        body = encode_lines(batch)
        headers = self._headers(body)
        if self.gzip:
            body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
        limit = ANSWER_BYTES + _ANSWER_BYTES_PER_RECORD * len(batch)
        answer = service.request("POST", self.url, body, headers, limit)
        return judge(answer, batch, self.shown_url, self._clock())

    def _headers(self, body: bytes) -> dict[str, str]:
        who = self.delivery
        digest = hashlib.sha256()  # which processors have instructions for
        for part in (who.agent_id, who.track_id, str(who.generation), str(self.till)):
            digest.update(part.encode() + b"\0")
        digest.update(body)
        headers = {
            "Content-Type": MEDIA_TYPE,
            "Accept": "application/json",
            "Livesync-Agent": who.agent_id,
            "Livesync-Track": who.track_id,
            "Livesync-Till": str(self.till),
            "Idempotency-Key": digest.hexdigest()[:32],
        }
        if self.gzip:
            headers["Content-Encoding"] = "gzip"
        return headers


class HTTPAgent(PushSyncAgent):
    """Posts batches of JSON Lines to a URL."""

    options = (
        Option("url", "url", help="where batches are posted", required=True, identifies=True),
        Option("rows_url", "url", help="where the receiver tells what it holds, for agent verify"),
        Option("gzip", "bool", help="compress what is sent", default=False),
        Option("token", "secret", help="sent as Authorization: Bearer"),
        *HTTP_OPTIONS,
        IN_FLIGHT_OPTION,
        *DELIVERY_OPTIONS,
    )
    uploader = HTTPUploader
