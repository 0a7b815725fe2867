"""The client's side of a session over HTTP: numbered, signed requests, and answers that are verified.

A request is sent until it is answered for good. Sent again, it has the same number, so that it is carried out
once: the server answers as it did. An answer is believed if it is signed by the server's certificate, for
this session and number. What is not signed says nothing but that something is in the way, so the request is
sent again, and given up in the end. What is signed and refuses is final, unless its code says that the same
request may be sent again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import msgspec

from ..errors import BodyTooLarge, BodyUnreadable, PeerRefused, PeerSaysNo, PeerUnreachable, StageWaits
from ..forms import decode_json
from . import compression, wire
from .http import NoAnswer, PeerHTTP, RawAnswer
from .keys import PrivateKey
from .retrying import Retries
from .rights import Rights
from .signatures import sign_request, verify_answer

logger = logging.getLogger(__name__)

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode

#: A body that is not signed and yet read: an error of whoever is in between has no more.
_MESSAGE_CHARACTERS: Final = 300

#: How often a request is sent again when it is refused, and the refusal is not signed.
_UNSIGNED: Final = 2


class _Unsigned(Exception):
    """Raised when a request is refused, and nobody has signed that."""

    def __init__(self, refusal: PeerSaysNo) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class Asking:
    """Sends requests to a peer until they are answered; outside of sessions nothing is signed.

    Args:
        http: To the peer.
        retries: How often, and with which waits.
        encodings: How bodies may be packed, the better one first; the answers' are taken whatever they are.
    """

    def __init__(self, http: PeerHTTP, retries: Retries, encodings: tuple[str, ...]) -> None:
        self.http = http
        self.retries = retries
        self.encodings = encodings

    def ask(
        self,
        method: str,
        path: str,
        form: type[T] | None,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        check: Callable[[T], object] = lambda found: None,
    ) -> T:
        """Ask for something that is not part of a session.

        Args:
            method, path: What; the path is below :data:`~livesync.peering.wire.BASE`.
            form: Of the answer; None: it has no body.
            body: A value of :mod:`~livesync.peering.wire`; None: nothing.
            query: Parameters.
            headers: Further ones.
            check: Raises :class:`~livesync.errors.PeerRefused` where the answer is not believed: it may have
                been changed on its way, so it is asked for again.

        Raises:
            PeerUnreachable: There was no usable answer.
            PeerSaysNo: It is refused.
        """
        given = dict(headers or {})

        def once() -> T:
            data = b"" if body is None else _encode(body)
            if data:
                given["Content-Type"] = "application/json"
            given["Accept-Encoding"] = ", ".join((*self.encodings, "identity"))
            request = self.http.prepare(method, self._target(path, query), data)
            answer = self.http.send(request, given, 4 * wire.MAX_BODY_BYTES)
            if answer.status >= 400:
                raise _Unsigned(self.refusal(answer))
            found = self.read(answer, form, 4 * wire.MAX_BODY_UNPACKED)
            try:
                check(found)
            except PeerRefused as exc:
                raise NoAnswer(f"what {self.http.base_url} answers is not believed: {exc}") from exc
            return found

        return self.until_answered(f"{method} {path}", once)

    def until_answered(self, what: str, once: Callable[[], T]) -> T:
        """Do ``once`` until it gives an answer or a refusal that is final.

        Raises:
            PeerUnreachable: There was none.
            PeerSaysNo: It refuses.
        """
        tries = unsigned = 0
        while True:
            tries += 1
            after_s = None
            try:
                return once()
            except NoAnswer as exc:
                if tries > self.retries.most:
                    raise PeerUnreachable(f"{exc} ({tries} tries)") from exc
                failure: Exception = exc
            except PeerSaysNo as exc:
                if not may_retry(exc.code) or tries > self.retries.most:
                    raise
                failure, after_s = exc, exc.retry_after_s
            except _Unsigned as exc:
                unsigned += not may_retry(exc.refusal.code)
                if exc.refusal.code == "not_logged_in" or unsigned > _UNSIGNED or tries > self.retries.most:
                    raise exc.refusal from None
                failure, after_s = exc, exc.refusal.retry_after_s
            logger.debug("%s, try %d: %s", what, tries, failure)
            self.retries.wait(tries, after_s)

    @staticmethod
    def _target(path: str, query: Mapping[str, str] | None) -> str:
        return wire.BASE + path + ("?" + urlencode(query) if query else "")

    def read(self, answer: RawAnswer, form: type[T] | None, limit: int) -> T:
        """Return the body of an answer as a value.

        Raises:
            NoAnswer: It cannot be understood.
        """
        if form is None:
            return None  # type: ignore[return-value]
        encoding = answer.headers.get("content-encoding", "").strip().lower()
        try:
            return decode_json(compression.unpack(answer.body, encoding, limit), form)
        except (BodyTooLarge, BodyUnreadable, msgspec.DecodeError, ValueError, RecursionError) as exc:
            shown = " ".join(str(exc).split())[:_MESSAGE_CHARACTERS]
            raise NoAnswer(f"what {self.http.base_url} answers cannot be understood: {shown}") from exc

    def refusal(self, answer: RawAnswer) -> PeerSaysNo:
        """Return what an answer that is an error says.

        Raises:
            NoAnswer: It is none of livesync's.
        """
        try:
            error = self.read(answer, wire.Error, wire.MAX_BODY_UNPACKED).error
        except NoAnswer:
            raise NoAnswer(
                f"{self.http.base_url} answers {answer.status}, and not as livesync does: is its peers'"
                " server mounted there?"
            ) from None
        message = " ".join(error.message.split())[:_MESSAGE_CHARACTERS]
        return PeerSaysNo(
            f"{self.http.base_url} refuses ({error.code}): {message}",
            code=error.code,
            status=answer.status,
            next_sequence=None if error.next_sequence is msgspec.UNSET else error.next_sequence,
            retry_after_s=_seconds(answer.headers.get("retry-after", "")),
        )


def may_retry(code: str) -> bool:
    """Tell whether the same request may be sent again after a refusal of this code."""
    return code in wire.CODES and wire.CODES[code][2] and code != "sequence"


def _seconds(text: str) -> float | None:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 8 else None


@dataclass(frozen=True, slots=True)
class Body:
    """A body of a request as it travels.

    Attributes:
        data: The bytes, packed.
        encoding: How; "" for not at all.
    """

    data: bytes
    encoding: str = ""


class Conversation:
    """One session, as the client has it. One thread at a time.

    Args:
        asking: Sends the requests.
        session_id: The session.
        key: The private key of the client's certificate.
        client: The client's rights.
        server: The server's: its key signs the answers.
        clock: Epoch seconds.
        sequence: The highest number that was used.
    """

    def __init__(
        self,
        asking: Asking,
        session_id: str,
        key: PrivateKey,
        client: Rights,
        server: Rights,
        clock: Callable[[], float] = time.time,
        sequence: int = 0,
    ) -> None:
        self._asking = asking
        self.session_id = session_id
        self.client = client
        self.server = server
        self.sequence = sequence
        self._key = key
        self._clock = clock

    # -- what can be asked ---------------------------------------------------------------------------

    def begin(self, body: wire.NewSyncSession) -> wire.SyncSession:
        """Begin the session."""
        return self._ask("POST", "/syncsessions", wire.SyncSession, body, limits=4)

    def standing(self) -> wire.SyncSession:
        """Ask how the session stands."""
        return self._ask("GET", f"/syncsessions/{self.session_id}", wire.SyncSession, limits=4)

    def end(self) -> None:
        """End the session."""
        self._ask("DELETE", f"/syncsessions/{self.session_id}", None)

    def new_transfer(self, body: wire.NewTransfer) -> wire.Transfer:
        """Begin to send one way."""
        return self._ask("POST", "/transfersessions", wire.Transfer, body, limits=4)

    def transfer(self, transfer_id: str) -> wire.Transfer:
        """Ask how a transfer stands."""
        return self._ask("GET", f"/transfersessions/{transfer_id}", wire.Transfer, limits=4)

    def drive(self, transfer_id: str, body: wire.Drive) -> wire.Transfer:
        """Run a transfer's stages on; where the server lets one wait, ask again for a while.

        Raises:
            StageWaits: It still waits.
        """
        path, tries, retries = f"/transfersessions/{transfer_id}", 0, self._asking.retries
        told = self._ask("PATCH", path, wire.Transfer, body, limits=4)
        while told.status == "pending":
            tries += 1
            if tries > retries.most:
                raise StageWaits(
                    f"the server lets the stage {told.stage} wait: sync again later, and it goes on"
                )
            retries.wait(tries)
            # what was sent along has been taken
            told = self._ask("PATCH", path, wire.Transfer, wire.Drive(stage=body.stage), limits=4)
        return told

    def drive_to_end(self, transfer_id: str, body: wire.Drive | None = None) -> wire.Transfer:
        """Run all stages that are left of a transfer.

        Args:
            transfer_id: The transfer.
            body: With the stage ``cleanup``; None: nothing but that.

        Raises:
            StageWaits: One of them waits.
            PeerUnreachable: The server does not say that it has ended.
        """
        told = self.drive(transfer_id, body or wire.Drive(stage="cleanup"))
        if (told.stage, told.status) != ("cleanup", "completed"):
            raise PeerUnreachable("the server has not ended a transfer that it was asked to end")
        return told

    def end_transfer(self, transfer_id: str) -> None:
        """End a transfer for good."""
        self._ask("DELETE", f"/transfersessions/{transfer_id}", None)

    def pack(self, value: Any) -> Body:
        """Return a value of the wire's as it travels; any thread may do so, ahead of what is asked."""
        data = b"" if value is None else _encode(value)
        if len(data) < compression.MIN_BYTES or not self._asking.encodings:
            return Body(data)
        encoding = self._asking.encodings[0]
        return Body(compression.pack(data, encoding), encoding)

    def send_buffer(self, buffer: wire.Buffer | Body) -> wire.Confirmed:
        """Send a buffer of a push, which may be packed: once this returns, the server has it for good."""
        return self._ask("POST", "/buffers", wire.Confirmed, buffer)

    def read_buffer(self, transfer_id: str, number: int, cursor: wire.Cursor | None) -> wire.Buffer:
        """Ask for a buffer of a pull."""
        query = {"transfer_session_id": transfer_id, "number": str(number)}
        if cursor is not None:
            query["cursor"] = _encode(cursor).decode()
        return self._ask("GET", "/buffers", wire.Buffer, query=query, is_buffer=True)

    def ask(
        self,
        method: str,
        path: str,
        form: type[T] | None,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        *,
        is_buffer: bool = False,
    ) -> T:
        """Ask for something else that is part of the session.

        Args:
            method, path: What; the path is below :data:`~livesync.peering.wire.BASE`.
            form: Of the answer; None: it has no body.
            body: A value of the wire's; None: nothing.
            query: Parameters.
            is_buffer: Whether the answer may be as large as a buffer.

        Raises:
            PeerUnreachable: There was no usable answer.
            PeerSaysNo: It is refused.
        """
        return self._ask(method, path, form, body, query, limits=4, is_buffer=is_buffer)

    # -- how it is asked -----------------------------------------------------------------------------

    def _ask(
        self,
        method: str,
        path: str,
        form: type[T] | None,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        limits: int = 1,
        is_buffer: bool = False,
    ) -> T:
        packed_body = body if isinstance(body, Body) else self.pack(body)
        data = packed_body.data
        headers: dict[str, str] = {}
        if data:
            headers["Content-Type"] = "application/json"
        if packed_body.encoding:
            headers["Content-Encoding"] = packed_body.encoding
        headers["Accept-Encoding"] = ", ".join((*self._asking.encodings, "identity"))
        target = Asking._target(path, query)
        packed = wire.MAX_BUFFER_BYTES if is_buffer else limits * wire.MAX_BODY_BYTES
        unpacked = wire.MAX_BUFFER_UNPACKED if is_buffer else limits * wire.MAX_BODY_UNPACKED
        self.sequence += 1

        def once() -> T:
            answer = self._exchange(method, target, headers, data, packed)
            if answer.status >= 400:
                refusal = self._asking.refusal(answer)
                refusal.is_signed = True
                raise refusal
            return self._asking.read(answer, form, unpacked)

        return self._numbered(f"{method} {path}", once)

    def _numbered(self, what: str, once: Callable[[], T]) -> T:
        """Ask; again with another number where the server asks for one."""
        for _ in range(self._asking.retries.most + 1):
            try:
                return self._asking.until_answered(what, once)
            except PeerSaysNo as exc:
                if exc.code != "sequence" or exc.next_sequence is None:
                    raise
                if not self.sequence < exc.next_sequence <= wire.MAX_SEQUENCE:
                    self.sequence += 1
                else:
                    self.sequence = exc.next_sequence
        raise PeerUnreachable(f"{self._asking.http.base_url} takes no number of this session")

    def _exchange(
        self, method: str, target: str, headers: Mapping[str, str], data: bytes, limit: int
    ) -> RawAnswer:
        """Send a request once, signed for now, and return its answer, which is verified."""
        http = self._asking.http
        request = http.prepare(method, target, data)
        named = {**headers, wire.SESSION: self.session_id, wire.SEQUENCE: str(self.sequence)}
        # requests has the last word on how the address is written
        signed = sign_request(
            method,
            request.path_url,
            named,
            data,
            self._key,
            self.client.certificate_id,
            self._clock(),
        )
        answer = http.send(request, {**named, **signed}, limit)
        self._verify(answer)
        return answer

    def _verify(self, answer: RawAnswer) -> None:
        """Make sure that an answer is the server's, to the request at hand.

        Raises:
            NoAnswer: It is not: something in between has changed it, or made it.
        """
        keys = {self.server.certificate_id: self.server.public_key}
        try:
            verify_answer(answer.status, answer.headers, answer.body, keys.get, self._clock())
        except PeerRefused as exc:
            if answer.status < 400:
                raise NoAnswer(f"the answer of {self._asking.http.base_url} is not believed: {exc}") from exc
            raise _Unsigned(self._asking.refusal(answer)) from exc
        said = answer.headers.get(wire.SESSION.lower()), answer.headers.get(wire.SEQUENCE.lower())
        if said != (self.session_id, str(self.sequence)):
            raise NoAnswer(f"{self._asking.http.base_url} gives the answer to another request")
