"""A peer that talks to a server by hand, so that it can say what a real client never would."""

from __future__ import annotations

import uuid
from urllib.parse import urlencode

import msgspec
from webob import Request

from livesync.forms import decode_json
from livesync.peering import compression, wire
from livesync.peering.signatures import sign_request, verify_answer

_encode = msgspec.json.Encoder().encode


class Answer:
    """What came back."""

    def __init__(self, status, headers, packed):
        self.status, self.headers, self.packed = status, headers, packed
        self.body = compression.unpack(self.packed, self.headers.get("Content-Encoding", ""), 10**8)

    def of(self, form):
        return decode_json(self.body, form)

    @property
    def code(self):
        """The code of an error; None: it is none."""
        return self.of(wire.Error).error.code if self.status >= 400 else None

    def __repr__(self):
        return f"<Answer {self.status} {self.body[:300]!r}>"


class Caller:
    """Asks a WSGI application, signed with a key.

    Args:
        app: Returns the application.
        key: Of the certificate.
        chain: The certificate, last, with those above it.
        clock: Epoch seconds.
        prefix: Where the server is mounted.
    """

    def __init__(self, app, key, chain, clock, prefix=""):
        self.app, self.key, self.chain, self.clock = app, key, chain, clock
        self.base = prefix + wire.BASE
        self.session_id = ""
        self.sequence = 0
        self.server_key = None

    @property
    def certificate_id(self):
        return self.chain[-1].id

    # -- plain requests --------------------------------------------------------------------------

    def ask(self, method, path, body=None, headers=None, query=None):
        """Ask without a signature; ``body`` is bytes, or a value that is made JSON."""
        target = self._target(path, query)
        data = b"" if body is None else body if isinstance(body, bytes) else _encode(body)
        return self._send(method, target, data, {**self._type(data), **(headers or {})})

    def _target(self, path, query):
        return self.base + path + ("?" + urlencode(query) if query else "")

    @staticmethod
    def _type(data):
        return {"Content-Type": "application/json"} if data else {}

    def _send(self, method, target, data, headers):
        request = Request.blank(target, method=method, body=data, headers=headers)
        request.environ["REQUEST_URI"] = target
        status, got, parts = request.call_application(self.app())
        return Answer(int(status[:3]), dict(got), b"".join(parts))

    # -- signed ones -----------------------------------------------------------------------------

    def signed(self, method, path, body=None, query=None, *, packed="zstd", number=None, change=None, **more):
        """Ask within the session.

        Args:
            packed: How the body is packed; "" for not.
            number: Of the request; None: the next.
            change: Called with the headers and the body after they were signed; returns those to send.
            more: ``headers`` before the signature, ``key``, ``key_id``, ``session_id``, ``now``.
        """
        if number is None:
            self.sequence += 1
            number = self.sequence
        target = self._target(path, query)
        data = b"" if body is None else body if isinstance(body, bytes) else _encode(body)
        headers = {**self._type(data)}
        if packed and data:
            data = compression.pack(data, packed)
            headers["Content-Encoding"] = packed
        headers[wire.SESSION] = more.get("session_id", self.session_id)
        headers[wire.SEQUENCE] = str(number)
        headers["Accept-Encoding"] = "zstd, gzip"
        headers |= more.get("headers", {})
        headers |= sign_request(
            method,
            target,
            headers,
            data,
            more.get("key", self.key),
            more.get("key_id", self.certificate_id),
            more.get("now", self.clock()),
        )
        if change is not None:
            headers, data = change(headers, data)
        answer = self._send(method, target, data, headers)
        # who is not known yet, or not believed, is told so by nobody
        if answer.status < 400 or "Signature" in answer.headers:
            self.check(answer, headers)
        return answer

    def check(self, answer, headers):
        """Make sure that an answer is the server's, to this request."""
        assert verify_answer(
            answer.status, answer.headers, answer.packed, lambda key_id: self.server_key, self.clock()
        )
        assert answer.headers[wire.SESSION] == headers[wire.SESSION]
        assert answer.headers[wire.SEQUENCE] == headers[wire.SEQUENCE]

    # -- a session -------------------------------------------------------------------------------

    def nonce(self, client=None):
        answer = self.ask("POST", "/nonces", wire.NewNonce(client=client or self.certificate_id))
        assert answer.status == 201, answer
        return answer.of(wire.Nonce).nonce

    def new_session(self, server_chain, introduction, **changes):
        """Return the body that begins a session."""
        body = wire.NewSyncSession(
            id=uuid.uuid4().hex,
            nonce=changes.pop("nonce", None) or self.nonce(),
            profile=self.chain[-1].profile,
            client_chain=[certificate.signed for certificate in self.chain],
            server_certificate_id=server_chain[-1].id,
            introduction=introduction,
            client_name="a caller",
        )
        return msgspec.structs.replace(body, **changes)

    def begin(self, server_chain, introduction, **changes):
        """Begin a session; return the answer."""
        body = self.new_session(server_chain, introduction, **changes)
        self.session_id, self.sequence = body.id, 0
        self.server_key = server_chain[-1].public_key
        return self.signed("POST", "/syncsessions", body)
