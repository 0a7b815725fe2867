"""HTTP to a peer: one request, one answer, as they travel, and what it means that there was none.

TLS is always verified, redirects are not followed, and nothing is retried or believed here. Bodies are
handed on packed, as they came: what is signed is what travels.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from ..errors import PeerUnreachable, UsageError
from ..httpcalls import NoAuth, system_error
from .plainsignatures import derived_of_request

_READ_BYTES: Final = 256 * 1024

#: Seconds to wait for a connection, TLS included, at most: a host that is there takes a moment.
CONNECT_S: Final = 15.0

#: What OpenSSL says where somebody answers who speaks no TLS.
_NO_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG"}
)


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer as it came.

    Attributes:
        status: Of HTTP.
        headers: Names in lower case.
        body: As it travelled, packed where it was packed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class NoAnswer(PeerUnreachable):
    """Raised when there was no answer, or a broken one: the same request may be sent again."""


class PeerHTTP:
    """A peer behind a URL. One thread at a time.

    Args:
        base_url: Where its server is mounted: ``https://sync.example.org/prefix``.
        timeout_s: Seconds to wait for each part of an answer; for a connection, 15 at most.
        ca_file: Certificates that are trusted in place of the system's.
        insecure_http: Take a URL that begins with ``http://``, too: whoever is in between may read
            everything, though not change it.

    Raises:
        UsageError: The URL is none that can be used.
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout_s: float = 60.0,
        ca_file: str | None = None,
        insecure_http: bool = False,
    ) -> None:
        self.base_url = check_url(base_url, insecure_http)
        self.timeout_s = timeout_s
        #: Bytes of bodies, as they travelled.
        self.bytes_sent = self.bytes_received = 0
        self._ca_file = ca_file
        self._session: requests.Session | None = None
        self._settings: Mapping[str, Any] | None = None
        self._prepared: requests.PreparedRequest | None = None
        self._lock = threading.Lock()

    def prepare(self, method: str, path: str, body: bytes) -> requests.PreparedRequest:
        """Return a request; its ``path_url`` is what is signed of the address."""
        if derived_of_request(method, path) and not self._opened().cookies:
            # written as it travels: what comes before it is prepared once, as requests does it
            request = self._base().copy()
            request.method, request.url = method, f"{request.url}{path}"
            if body or method != "GET":
                request.body = body or None
                request.headers["Content-Length"] = str(len(body))
            return request
        made = requests.Request(method, self.base_url + path, data=body or None, auth=NoAuth())
        return self._opened().prepare_request(made)

    def _base(self) -> requests.PreparedRequest:
        """Return a request of the server's address, and nothing below it."""
        session = self._opened()
        with self._lock:
            if self._prepared is None:
                made = requests.Request("GET", self.base_url + "/", auth=NoAuth())
                self._prepared = session.prepare_request(made)
                self._prepared.url = (self._prepared.url or "").removesuffix("/")
            return self._prepared

    def send(self, request: requests.PreparedRequest, headers: Mapping[str, str], limit: int) -> RawAnswer:
        """Send a request and return the answer.

        Args:
            request: Of :meth:`prepare`.
            headers: To be added.
            limit: Bytes that the answer's body may have.

        Raises:
            NoAnswer: There was none, it was broken off, or is larger than that.
            PeerUnreachable: There will not be one: TLS fails, or the answer leads elsewhere.
        """
        request.headers.update(headers)
        session = self._opened()
        try:
            timeouts = (min(self.timeout_s, CONNECT_S), self.timeout_s)
            settings = self._from_environment(session)
            with session.send(request, timeout=timeouts, allow_redirects=False, **settings) as response:
                self.bytes_sent += len(request.body or b"")
                answer = RawAnswer(
                    response.status_code,
                    {name.lower(): value for name, value in response.headers.items()},
                    self._body(response, limit),
                )
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as exc:
            raise self._failure(exc) from None
        except OSError as exc:  # how requests says that the CA bundle is not there
            raise PeerUnreachable(f"{self.base_url}: {exc}") from exc
        if 300 <= answer.status < 400:
            raise PeerUnreachable(
                f"{self.base_url} leads elsewhere ({answer.status}): give the address that it leads to"
            )
        return answer

    def _body(self, response: requests.Response, limit: int) -> bytes:
        found = bytearray()
        while part := response.raw.read(_READ_BYTES, decode_content=False):
            found += part
            if len(found) > limit:
                response.close()
                raise NoAnswer(f"{self.base_url} answers more than {limit:,} bytes")
        self.bytes_received += len(found)
        return bytes(found)

    def _opened(self) -> requests.Session:
        with self._lock:
            if self._session is None:
                session = requests.Session()
                session.headers["User-Agent"] = "zodb-livesync"
                session.headers["Accept-Encoding"] = "identity"
                if self._ca_file is not None:
                    session.verify = self._ca_file
                    session.trust_env = False  # else REQUESTS_CA_BUNDLE would go before it
                for scheme in ("http://", "https://"):
                    session.mount(scheme, HTTPAdapter(max_retries=0))
                self._session = session
            return self._session

    def _from_environment(self, session: requests.Session) -> Mapping[str, Any]:
        """Return what the environment says of proxies and trust: read once, as connections are."""
        with self._lock:
            if self._settings is None:
                self._settings = session.merge_environment_settings(self.base_url, {}, True, None, None)
            return self._settings

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        with self._lock:
            session, self._session = self._session, None
            self._settings = self._prepared = None
        if session is not None:
            session.close()

    def _failure(self, exc: Exception) -> PeerUnreachable:
        """Return what it means that there was no answer."""
        cause = system_error(exc)
        if isinstance(exc, requests.exceptions.SSLError) and isinstance(cause, ssl.SSLCertVerificationError):
            return PeerUnreachable(
                f"{self.base_url} cannot be trusted: {cause.verify_message}; check its TLS certificate, and"
                " the file of those that are trusted"
            )
        if isinstance(exc, requests.exceptions.SSLError) and isinstance(cause, ssl.SSLError):
            if cause.reason in _NO_TLS:
                return PeerUnreachable(f"{self.base_url} speaks no TLS: is its address one of http:// ?")
            return NoAnswer(f"{self.base_url} did not answer: TLS failed ({cause.reason or 'cut off'})")
        if isinstance(exc, requests.exceptions.ConnectTimeout):
            return NoAnswer(
                f"{self.base_url} did not answer: no connection within {min(self.timeout_s, CONNECT_S):g} s"
            )
        if _timed_out_in_handshake(exc):
            return NoAnswer(
                f"{self.base_url} did not answer: no TLS within {min(self.timeout_s, CONNECT_S):g} s; is its"
                " address one of http:// ?"
            )
        if isinstance(exc, (requests.exceptions.Timeout, urllib3.exceptions.TimeoutError)):
            return NoAnswer(f"{self.base_url} did not answer within {self.timeout_s:g} s")
        if isinstance(exc, ValueError):  # among them InvalidURL, InvalidHeader, LocationParseError
            return PeerUnreachable(f"{self.base_url} is no URL that a request can be sent to: check it")
        why = cause.strerror if cause is not None and cause.strerror else "the connection broke off"
        return NoAnswer(f"{self.base_url} did not answer: {why}")


def check_ca_file(path: str) -> str:
    """Return the path of a file of certificates that are to be trusted.

    Raises:
        UsageError: It cannot be read, or holds none.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        raise UsageError(f"{path} holds no certificates of TLS (PEM)") from None
    except OSError as exc:
        raise UsageError(f"{path}, the TLS certificates that are trusted: {exc.strerror or exc}") from exc
    return path


def check_url(url: str, insecure_http: bool = False) -> str:
    """Return the address of a peer without a ``/`` at its end.

    Raises:
        UsageError: It is none, holds a password or a query, or is plain HTTP without leave.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError("this is no address of a peer: write https://HOST[:PORT][/PREFIX]") from None
    if parts.username is not None or parts.password is not None:
        raise UsageError("the address of a peer holds no user name and no password")
    is_url = parts.scheme in ("http", "https") and parts.hostname and port != 0
    if not is_url or parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise UsageError(f"{url!r} is no address of a peer: write https://HOST[:PORT][/PREFIX]")
    if parts.scheme == "http" and not insecure_http:
        raise UsageError(
            f"{url} is not encrypted: whoever is in between could read everything; use https, or say"
            " --insecure-http"
        )
    return url.rstrip("/")


def _timed_out_in_handshake(exc: BaseException) -> bool:
    """Tell whether a connection was made and TLS was not agreed on in time; it has no class of its own."""
    error: BaseException | None = exc
    while error is not None:
        if isinstance(error, TimeoutError) and "handshake" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
