"""The ``http`` destination: batches as JSON Lines, posted to a URL.

A request is a ``POST`` of ``application/x-ndjson``, a line a record, with the headers
``Livesync-Agent``, ``Livesync-Track``, ``Livesync-Till`` (the position of the slice's records) and
``Idempotency-Key``, which is the same whenever the same batch of the same slice is sent again. What
the answer means is in :mod:`livesync.destinations._answers`. Redirects are not followed, TLS is
always verified, and all retries are the uploader's.
"""

from __future__ import annotations

import gzip
import hashlib
import time
from collections.abc import Callable
from typing import Any, Final

from ..agent import SyncAgent
from ..delivery.push import PushSyncAgent
from ..delivery.record import Batch, Verdict
from ..delivery.uploader import DELIVERY_OPTIONS, Delivery, RecordUploader
from ..options import Option
from ._answers import judge, without_secrets
from ._http_session import ANSWER_BYTES, HTTP_OPTIONS, HTTPService, bearer
from ._lines import MEDIA_TYPE, encode_lines

#: What is read of an answer: enough for a verdict on each record (an id has up to 512 characters).
_ANSWER_BYTES_PER_RECORD: Final = 8 * 1024

#: The fastest: on JSON Lines the better levels cost several times more and save little.
_GZIP_LEVEL: Final = 1


class HTTPUploader(RecordUploader):
    """Posts records to a URL.

    Args:
        agent: Its options say where to and how.
        clock: Returns epoch seconds; for a ``Retry-After`` that names a time.
    """

    def __init__(
        self, agent: SyncAgent, *args: Any, clock: Callable[[], float] = time.time, **kwargs: Any
    ) -> None:
        super().__init__(agent, *args, **kwargs)
        values = agent.values
        self.url: str = values["url"]
        self.gzip: bool = values["gzip"]
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

    def _upload_batch(self, batch: Batch) -> list[Verdict] | None:
        if self._service is None:
            raise RuntimeError("open() comes before anything else")
        body = encode_lines(batch)
        headers = self._headers(body)
        if self.gzip:
            body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
        limit = ANSWER_BYTES + _ANSWER_BYTES_PER_RECORD * len(batch)
        answer = self._service.request("POST", self.url, body, headers, limit)
        return judge(answer, batch, self.shown_url, self._clock())

    def _headers(self, body: bytes) -> dict[str, str]:
        who = self.delivery
        digest = hashlib.blake2b(digest_size=16)
        for part in (who.agent_id, who.track_id, str(who.generation), str(self.till)):
            digest.update(part.encode() + b"\0")
        digest.update(body)
        headers = {
            "Content-Type": MEDIA_TYPE,
            "Accept": "application/json",
            "Livesync-Agent": who.agent_id,
            "Livesync-Track": who.track_id,
            "Livesync-Till": str(self.till),
            "Idempotency-Key": digest.hexdigest(),
        }
        if self.gzip:
            headers["Content-Encoding"] = "gzip"
        return headers


class HTTPAgent(PushSyncAgent):
    """Posts batches of JSON Lines to a URL."""

    options = (
        Option("url", "url", help="where batches are posted", required=True, identifies=True),
        Option("gzip", "bool", help="compress what is sent", default=False),
        Option("token", "secret", help="sent as Authorization: Bearer"),
        *HTTP_OPTIONS,
        *DELIVERY_OPTIONS,
    )
    uploader = HTTPUploader
