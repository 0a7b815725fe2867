"""HTTP for the destinations: one request, one answer, and what it means that there was none.

TLS is always verified, redirects are not followed, nothing is retried here (all retries are the
uploader's), and nothing that is secret gets into a message.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final

import requests
import urllib3
from requests.adapters import HTTPAdapter

from ..agent import SyncAgent
from ..errors import OptionError, RetryLater, ServiceRefuses
from ..httpcalls import NoAuth, system_error
from ..options import Option
from ._answers import Answer, without_secrets

_CHUNK_BYTES: Final = 64 * 1024

#: What is read of an answer unless a caller says otherwise.
ANSWER_BYTES: Final = 64 * 1024

#: The options of every agent that talks HTTP.
HTTP_OPTIONS: Final = (
    Option("timeout_s", "float", help="seconds to wait for an answer", default=30.0, minimum=0.001),
    Option(
        "ca_file", "path", help="certificates (PEM) that are trusted in place of the system's", default=None
    ),
)


class HTTPService:
    """A service behind URLs. Threads may share it: each gets connections of its own.

    Args:
        timeout_s: Seconds to wait for a connection, and for each part of an answer.
        auth: Adds what proves who we are to a request; None: nothing.
        ca_file: Certificates that are trusted in place of the system's.
    """

    def __init__(
        self, timeout_s: float, auth: requests.auth.AuthBase | None = None, ca_file: str | None = None
    ) -> None:
        self.timeout_s = timeout_s
        self._auth = auth or NoAuth()
        self._ca_file = ca_file
        self._local = threading.local()
        self._sessions: list[requests.Session] = []
        self._lock = threading.Lock()

    @classmethod
    def of(cls, agent: SyncAgent, auth: requests.auth.AuthBase | None = None) -> HTTPService:
        """Return the service as the options of ``agent`` say (:data:`HTTP_OPTIONS`)."""
        return cls(agent.values["timeout_s"], auth, agent.values["ca_file"])

    def request(
        self,
        method: str,
        url: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        limit: int = ANSWER_BYTES,
    ) -> Answer:
        """Send one request and return the answer, at most ``limit`` bytes of it.

        Args:
            method: The HTTP method.
            url: Where to; its user, query and fragment never get into a message.
            body: bytes, or a binary stream, which is read to its end.
            headers: Besides those that every request has.
            limit: Bytes of the answer's body that are read.

        Raises:
            RetryLater: No answer.
            ServiceRefuses: TLS failed, or the request cannot be made.
        """
        shown = shown_url(url)
        try:
            with self._session().request(
                method,
                url,
                data=body,
                headers=dict(headers or {}),
                timeout=self.timeout_s,
                allow_redirects=False,
                stream=True,
            ) as response:
                return _read(response, limit)
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as exc:
            # Their texts hold the whole URL, so neither they nor the chain go any further.
            raise _failure(exc, shown, self.timeout_s) from None
        except OSError as exc:  # how requests says that the CA bundle is not there
            raise ServiceRefuses(f"{shown}: {exc}") from exc

    def close(self) -> None:
        """Close all connections; the next request opens new ones."""
        with self._lock:
            sessions, self._sessions = self._sessions, []
            self._local = threading.local()
        for session in sessions:
            session.close()

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.auth = self._auth
            session.headers["User-Agent"] = "zodb-livesync"
            if self._ca_file is not None:
                session.verify = self._ca_file
                session.trust_env = False  # else REQUESTS_CA_BUNDLE would go before it
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(max_retries=0))
            self._local.session = session
            with self._lock:
                self._sessions.append(session)
        return session


class HeaderAuth(requests.auth.AuthBase):
    """Sends one value in the header ``Authorization``."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._value
        return request


def bearer(agent: SyncAgent, option: str = "token") -> requests.auth.AuthBase:
    """Return what sends the secret of ``option`` as a bearer token, or nothing where it is not set.

    Raises:
        OptionError: The secret is not there, or cannot be sent in a header.
    """
    token = agent.secret(option)
    if token is None:
        return NoAuth()
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise OptionError(f"option {option}: the secret holds characters that a header cannot carry")
    return HeaderAuth(f"Bearer {token}")


def shown_url(url: str) -> str:
    """Return ``url`` as people may see it: no user, no query, no fragment."""
    try:
        return without_secrets(url)
    except ValueError:
        return "the URL"


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
    cause = system_error(exc)
    if isinstance(exc, requests.exceptions.SSLError):
        why = getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or "TLS failed"
        return ServiceRefuses(f"{url} cannot be trusted: {why}; check its certificate and the CA bundle")
    if isinstance(exc, requests.exceptions.Timeout):
        return RetryLater(reason=f"{url} did not answer within {timeout_s:g} s")
    if isinstance(exc, ValueError):  # among them InvalidURL, InvalidHeader, LocationParseError
        return ServiceRefuses(f"{url} is no URL that a request can be sent to: check the URL")
    why = cause.strerror if cause is not None and cause.strerror else type(exc).__name__
    return RetryLater(reason=f"{url} did not answer: {why}")
