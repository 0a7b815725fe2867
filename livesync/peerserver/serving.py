"""Routes and views: a request is read, verified, given its turn, answered, and the answer is signed."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response

from ..forms import decode_json
from ..peering import compression, wire
from ..peering.records import StoredSessions, SyncSessionView
from ..peering.rights import Rights
from . import histories, syncing, transferring, trusting
from .app import REGISTRY_KEY
from .description import description
from .operations import Call, Operation, Parameter
from .problems import Problem, Refused, problem_of
from .sequence import reserved

if TYPE_CHECKING:
    from .app import PeerApp

logger = logging.getLogger(__name__)

#: All that peers can ask for.
OPERATIONS: Final = (
    *trusting.OPERATIONS,
    *syncing.OPERATIONS,
    *transferring.OPERATIONS,
    *histories.OPERATIONS,
)

_encode = msgspec.json.Encoder().encode

_SESSION: Final = re.compile(r"[0-9a-f]{32}")
_SEQUENCE: Final = re.compile(r"[1-9][0-9]{0,15}")
_JSON: Final = re.compile(r"application/json\s*(;\s*charset=\"?utf-8\"?\s*)?", re.IGNORECASE)

#: What is refused with these is a warning in the log: who may not, and who asks too often.
_WARNED: Final = frozenset({401, 403, 429})

#: Seconds after which it is noted again that a session goes on.
_NOTED_S: Final = 60.0


def includeme(config: Configurator) -> None:
    """Add the routes and views."""
    prefix = f"/{config.route_prefix}" if config.route_prefix else ""
    paths: dict[str, list[Operation]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, []).append(operation)
    _add_description(config, prefix)
    for path, operations in paths.items():
        route = f"livesync.peer{path}"
        config.add_route(route, wire.BASE + path)
        for operation in operations:
            config.add_view(_view(operation), route_name=route, request_method=operation.method)
        config.add_view(_wrong_method([each.method for each in operations]), route_name=route)
    config.add_route("livesync.peer.unknown", f"{wire.BASE}/*rest")
    config.add_view(_unknown, route_name="livesync.peer.unknown")


def _add_description(config: Configurator, prefix: str) -> None:
    body = msgspec.json.format(msgspec.json.encode(description(OPERATIONS, prefix)), indent=1)
    config.add_route("livesync.peer.description", f"{wire.BASE}/openapi.json")
    config.add_view(
        lambda request: Response(body, content_type="application/json", charset=None),
        route_name="livesync.peer.description",
        request_method="GET",
    )


def _view(operation: Operation) -> Callable[[Request], Response]:
    def view(request: Request) -> Response:
        begun = time.perf_counter()
        exchange = Exchange(request.registry[REGISTRY_KEY], operation, request)
        try:
            answer = exchange.serve()
        except Exception as exc:  # noqa: BLE001 - problem_of logs what nobody foresaw
            answer = exchange.failed(exc)
        logger.debug(
            "%s %s: %d, %d bytes in, %d out, %.3f s",
            request.method,
            operation.path,
            answer.status_int,
            request.content_length or 0,
            len(answer.body),
            time.perf_counter() - begun,
        )
        return answer

    return view


def _wrong_method(methods: list[str]) -> Callable[[Request], Response]:
    allowed = ", ".join(sorted(methods))

    def view(request: Request) -> Response:
        refused = Refused("method", f"this address takes {allowed}", headers=(("Allow", allowed),))
        return plain_answer(request, refused)

    return view


def _unknown(request: Request) -> Response:
    return plain_answer(request, Refused("no_such_thing", "there is nothing at this address"))


def plain_answer(request: Request, error: BaseException) -> Response:
    """Return an error as an answer that nobody signs."""
    problem = problem_of(error)
    _note(request.method, "an address that is none", problem)
    return _error_response(problem)


def _note(method: str, path: str, problem: Problem) -> None:
    """Note in the log what was refused; its message says nothing secret."""
    level = logging.WARNING if problem.status in _WARNED else logging.INFO
    body = problem.error.error
    word = method if method.isalpha() else "(no method)"
    logger.log(level, "%s %s: %s: %s", word, path, body.code, body.message)


def _error_response(problem: Problem) -> Response:
    response = _response(_encode(problem.error), problem.status)
    for name, value in problem.headers:
        response.headers[name] = value
    return response


def _response(body: bytes, status: int) -> Response:
    if status == 204:
        return Response(status=204)
    response = Response(body, status=status, content_type="application/json", charset=None)
    response.headers["Cache-Control"] = "no-store"
    return response


class Exchange:
    """One request and its answer.

    Args:
        app: Who serves.
        operation: What is asked for.
        request: As it came.
    """

    def __init__(self, app: PeerApp, operation: Operation, request: Request) -> None:
        self.app = app
        self.operation = operation
        self.request = request
        #: The certificate that signs the answer; "" for none: nobody has said yet who talks to whom.
        self._signer = ""

    def serve(self) -> Response:
        """Serve the request.

        Raises:
            Exception: It is refused, or something went wrong.
        """
        packed = self._read_body()
        if self.operation.signed:
            return self._serve_in_session(packed)
        body = self._understood(packed)
        if self.operation.begins:
            return self._serve_first(packed, body)
        value = self.operation.call(self._call(body))
        return self._pack(self._response(value))

    def failed(self, error: BaseException) -> Response:
        """Return the answer to a request that failed."""
        problem = problem_of(error)
        _note(self.request.method, self.operation.path, problem)
        return self._signed(self._pack(_error_response(problem)))

    # -- what came in ------------------------------------------------------------------------------

    def _read_body(self) -> bytes:
        operation, request = self.operation, self.request
        length = request.content_length
        if length is not None and length > operation.max_bytes:
            raise Refused("too_large", f"the body has {length:,} bytes; {operation.max_bytes:,} are taken")
        packed: bytes = request.body_file_raw.read(operation.max_bytes + 1) if length else b""
        if len(packed) > operation.max_bytes:
            raise Refused("too_large", f"the body has more than {operation.max_bytes:,} bytes")
        if packed and operation.body is None:
            raise Refused("bad_request", "there is nothing to be sent with this request")
        return packed

    def _understood(self, packed: bytes) -> Any:
        """Return the body as a value of the operation's type."""
        form = self.operation.body
        if form is None:
            return None
        if not _JSON.fullmatch(self.request.headers.get("Content-Type", "")):
            raise Refused("media_type", "the body is of a kind that is not taken here: send application/json")
        encoding = self.request.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in ("", "identity", *self.app.encodings):
            raise Refused(
                "media_type",
                "the body is packed in a way that is not known here",
                headers=(("Accept-Encoding", ", ".join((*self.app.encodings, "identity"))),),
            )
        unpacked = compression.unpack(packed, encoding, self.operation.max_unpacked)
        try:
            return decode_json(unpacked, form)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as exc:
            raise Refused("bad_request", f"the body cannot be understood: {_about(exc)}") from exc

    def _query(self) -> dict[str, str]:
        try:
            given = list(self.request.GET.items())
        except UnicodeError as exc:
            raise Refused("bad_request", "the query is not UTF-8") from exc
        known = {each.name: each for each in self.operation.parameters if each.where == "query"}
        found: dict[str, str] = {}
        for name, value in given:
            if name not in known or name in found:
                raise Refused("bad_request", f"the query has {', '.join(known) or 'nothing'}, each once")
            _check_parameter(known[name], value)
            found[name] = value
        missing = [each.name for each in known.values() if each.required and each.name not in found]
        if missing:
            raise Refused("bad_request", f"the query needs {', '.join(missing)}")
        return found

    def _headers(self) -> dict[str, str]:
        found = {}
        for each in self.operation.parameters:
            value = self.request.headers.get(each.name) if each.where == "header" else None
            if value is not None:
                _check_parameter(each, value)
                found[each.name] = value
        return found

    def _path(self) -> Mapping[str, str]:
        for each in self.operation.parameters:
            if each.where == "path":
                try:
                    _check_parameter(each, self.request.matchdict[each.name])
                except Refused:
                    raise Refused("no_such_thing", "there is nothing at this address") from None
        matched: Mapping[str, str] = self.request.matchdict
        return matched

    def _call(
        self,
        body: Any,
        session: SyncSessionView | None = None,
        rights: Rights | None = None,
        digest: str = "",
        packed: bytes = b"",
    ) -> Call:
        path, query, headers = self._path(), self._query(), self._headers()
        return Call(self.app, self.request, path, query, headers, body, session, rights, digest, packed)

    # -- within a session --------------------------------------------------------------------------

    def _names(self) -> tuple[str, int]:
        """Return the session's id and the request's number, as its headers say."""
        session_id = self.request.headers.get(wire.SESSION, "")
        number = self.request.headers.get(wire.SEQUENCE, "")
        if not _SESSION.fullmatch(session_id) or not _SEQUENCE.fullmatch(number):
            raise Refused("signature", f"a request of a session has {wire.SESSION} and {wire.SEQUENCE}")
        return session_id, int(number)

    def _serve_in_session(self, packed: bytes) -> Response:
        session_id, number = self._names()
        store, gate = self.app.store, self.app.gate
        session, rights = store.read(lambda: self._session(session_id))
        gate.verify(self.request, packed, rights)
        self._signer = session.server_certificate_id
        # after the signature: only the client itself is told how its certificates stand
        store.read(lambda: gate.check_session(session, rights))
        asked = self._asked(packed)
        with self.app.sequences.turn(session_id, number, asked, self._reserve(session_id)) as turn:
            if turn.answer is not None:
                return turn.answer
            try:
                if not session.active:
                    raise Refused("ended", "the session has ended: begin another one")
                self._note(session)
                call = self._call(self._understood(packed), session, rights, packed=packed)
                value = self.operation.call(call)
                answer = self._signed(self._pack(self._response(value)))
            except Exception as exc:  # noqa: BLE001 - problem_of logs what nobody foresaw
                answer = self.failed(exc)
            if answer.status_int < 500:
                turn.keep(answer)
            return answer

    def _serve_first(self, packed: bytes, body: wire.NewSyncSession) -> Response:
        session_id, number = self._names()
        if session_id != body.id:
            raise Refused("signature", "the request is signed for another session than it speaks of")
        rights = self.app.gate.admit(self.request, packed, body)
        self._signer = body.server_certificate_id
        asked = self._asked(packed)
        digest = hashlib.sha256(_encode(body)).hexdigest()
        with self.app.sequences.turn(session_id, number, asked, self._reserve(session_id)) as turn:
            if turn.answer is not None:
                return turn.answer
            try:
                value = self.operation.call(self._call(body, None, rights, digest))
                answer = self._signed(self._pack(self._response(value)))
            except Exception as exc:  # noqa: BLE001 - problem_of logs what nobody foresaw
                answer = self.failed(exc)
            if answer.status_int < 500:
                turn.keep(answer)
            return answer

    def _asked(self, packed: bytes) -> bytes:
        request = self.request
        parts = (
            request.method,
            request.path_qs,
            request.headers.get("Content-Encoding", ""),
            request.headers.get("Accept-Encoding", ""),
        )
        return hashlib.sha256("\n".join(parts).encode() + b"\n" + packed).digest()

    def _stored(self) -> StoredSessions:
        connection = self.app.store.connection
        assert connection is not None
        return StoredSessions.get(connection.root())

    def _session(self, session_id: str) -> tuple[SyncSessionView, Rights]:
        record = self._stored().sync.get(session_id)
        if record is None or not record.is_server:
            raise Refused("no_such_thing", "there is no such session")
        return record.view(), self.app.gate.client_rights(record)

    def _reserve(self, session_id: str) -> Callable[[int | None, int], int]:
        def work(known: int | None, number: int) -> int:
            record = self._stored().sync.get(session_id)
            highest = reserved(0 if record is None else record.sequence, known, number)
            if record is not None:
                record.sequence = highest
                record.last_active = self.app.clock()
            return highest

        return lambda known, number: self.app.store.run(lambda: work(known, number))

    def _note(self, session: SyncSessionView) -> None:
        """Note now and then that the session goes on."""
        now = self.app.clock()
        if now - session.last_active > _NOTED_S:
            self.app.store.run(lambda: setattr(self._stored().sync[session.id], "last_active", now))

    # -- what goes out -----------------------------------------------------------------------------

    def _response(self, value: Any) -> Response:
        return _response(b"" if value is None else _encode(value), self.operation.status)

    def _pack(self, response: Response) -> Response:
        """Pack the body as the client accepts."""
        if len(response.body) >= compression.MIN_BYTES:
            encoding = compression.choose(self.request.headers.get("Accept-Encoding"), self.app.encodings)
            if encoding:
                response.body = compression.pack(response.body, encoding)
                response.headers["Content-Encoding"] = encoding
                response.headers["Vary"] = "Accept-Encoding"
        response.headers[wire.CAPABILITIES_HEADER] = ", ".join(sorted(self.app.capabilities))
        return response

    def _signed(self, response: Response) -> Response:
        if self._signer:
            for name in (wire.SESSION, wire.SEQUENCE):
                response.headers[name] = self.request.headers[name]
            self.app.gate.sign(response, self._signer)
        return response


def _about(error: BaseException) -> str:
    return (
        "it is nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:300]
    )


def _check_parameter(parameter: Parameter, value: str) -> None:
    schema = parameter.schema
    pattern = schema.get("pattern")
    if (
        (pattern is not None and not re.search(pattern, value))
        or ("\n" in value)
        or len(value) < schema.get("minLength", 0)
        or len(value) > schema.get("maxLength", 10_000)
    ):
        raise Refused("bad_request", f"{parameter.name} has another form: {parameter.help}")
