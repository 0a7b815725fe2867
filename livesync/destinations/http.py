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
import ssl
import time
from collections.abc import Callable
from typing import Any, Final

import requests
import urllib3
from requests.adapters import HTTPAdapter

from ..agent import SyncAgent
from ..delivery.push import PushSyncAgent
from ..delivery.record import Batch, Verdict
from ..delivery.uploader import DELIVERY_OPTIONS, Delivery, RecordUploader
from ..errors import OptionError, RetryLater, ServiceRefuses
from ..options import Option
from ._answers import Answer, judge, without_secrets
from ._lines import MEDIA_TYPE, encode_lines

#: What is read of an answer: enough for a verdict on each record (an id has up to 512 characters).
_ANSWER_BYTES: Final = 64 * 1024
_ANSWER_BYTES_PER_RECORD: Final = 8 * 1024

_CHUNK_BYTES: Final = 64 * 1024

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
        self.timeout_s: float = values["timeout_s"]
        #: The URL as logs and messages show it: its query may hold a key.
        self.shown_url = without_secrets(self.url)
        self._clock = clock
        self._session: requests.Session | None = None

    def open(self, delivery: Delivery) -> None:
        """Read the token and get a session ready; nothing is sent yet.

        Raises:
            OptionError: The token is not there, or cannot be sent in a header.
        """
        super().open(delivery)
        self.close()
        self._session = _session(_token(self.agent))

    def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _upload_batch(self, batch: Batch) -> list[Verdict] | None:
        body = encode_lines(batch)
        limit = _ANSWER_BYTES + _ANSWER_BYTES_PER_RECORD * len(batch)
        return judge(self._post(body, self._headers(body), limit), batch, self.shown_url, self._clock())

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

    def _post(self, body: bytes, headers: dict[str, str], limit: int) -> Answer:
        """Send one request and return the answer, at most ``limit`` bytes of it.

        Raises:
            RetryLater: No answer.
            ServiceRefuses: TLS failed, or the request cannot be made.
        """
        if self._session is None:
            raise RuntimeError("open() comes before anything else")
        if self.gzip:
            body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
        try:
            with self._session.post(
                self.url,
                data=body,
                headers=headers,
                timeout=self.timeout_s,
                allow_redirects=False,
                stream=True,
            ) as response:
                return _read(response, limit)
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as exc:
            # Their texts hold the whole URL, so neither they nor the chain go any further.
            raise _failure(exc, self.shown_url, self.timeout_s) from None
        except OSError as exc:  # how requests says that the CA bundle is not there
            raise ServiceRefuses(f"{self.shown_url}: {exc}") from exc


class _BearerAuth(requests.auth.AuthBase):
    """Sends the token; without one it keeps requests from looking for a password in ~/.netrc."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _session(token: str | None) -> requests.Session:
    session = requests.Session()
    session.auth = _BearerAuth(token)
    session.headers["User-Agent"] = "zodb-livesync"
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=0))
    return session


def _token(agent: SyncAgent) -> str | None:
    token = agent.secret("token")
    if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
        raise OptionError("option token: the secret holds characters that a header cannot carry")
    return token


def _read(response: requests.Response, limit: int) -> Answer:
    """Return the answer, reading at most ``limit`` bytes of its body."""
    body = bytearray()
    whole = True
    for chunk in response.iter_content(_CHUNK_BYTES):
        body += chunk
        if len(body) > limit:
            del body[limit:]
            whole = False
            break
    return Answer(
        response.status_code,
        bytes(body),
        whole,
        response.headers.get("Content-Type", ""),
        response.headers.get("Location", ""),
        response.headers.get("Retry-After", ""),
    )


def _failure(exc: Exception, url: str, timeout_s: float) -> RetryLater | ServiceRefuses:
    """Return what it means that there was no answer."""
    cause = _system_error(exc)
    if isinstance(exc, requests.exceptions.SSLError):
        why = getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or "TLS failed"
        return ServiceRefuses(f"{url} cannot be trusted: {why}; check its certificate and the CA bundle")
    if isinstance(exc, requests.exceptions.Timeout):
        return RetryLater(reason=f"{url} did not answer within {timeout_s:g} s")
    if isinstance(exc, ValueError):  # among them InvalidURL, InvalidHeader, LocationParseError
        return ServiceRefuses(f"{url} is no URL that a request can be sent to: check the URL")
    why = cause.strerror if cause is not None and cause.strerror else type(exc).__name__
    return RetryLater(reason=f"{url} did not answer: {why}")


def _system_error(exc: BaseException) -> OSError | None:
    """Return the error of the system or of TLS that lies below ``exc``, None if there is none."""
    seen: list[BaseException] = [exc]
    for error in seen:
        if isinstance(error, ssl.SSLError) or (isinstance(error, OSError) and error.errno is not None):
            return error
        below = (error.__cause__, error.__context__, getattr(error, "reason", None), *error.args)
        seen += (other for other in below if isinstance(other, BaseException) and other not in seen)
    return None


class HTTPAgent(PushSyncAgent):
    """Posts batches of JSON Lines to a URL."""

    options = (
        Option("url", "url", help="where batches are posted", required=True, identifies=True),
        Option("gzip", "bool", help="compress what is sent", default=False),
        Option("timeout_s", "float", help="seconds to wait for an answer", default=30.0, minimum=0.001),
        Option("token", "secret", help="sent as Authorization: Bearer"),
        *DELIVERY_OPTIONS,
    )
    uploader = HTTPUploader
