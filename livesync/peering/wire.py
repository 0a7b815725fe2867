"""What two peers say to each other over HTTP: addresses, headers, bodies, limits. Values only.

Both ends, and the server's OpenAPI description, are made from what stands here.

**Before a session** nothing is signed by a session's key; what travels is public, signed on its own, or
sent with a password: ``GET info``, ``GET publickey``, ``GET certificates``, ``POST certificates`` (a signing
request, with HTTP Basic), ``POST certificatechains`` (a signed chain is pushed for the server's public key),
``POST nonces``, ``GET revocations``. Whoever says with ``GET info`` of which profile a session is to begin,
and with which certificates (:data:`PROFILE`, :data:`CLIENTS`), is told the rest with it (:class:`Meeting`).

**A session** begins with ``POST syncsessions``, under an id that the client makes. That request and every one
after it carries :data:`SESSION` and :data:`SEQUENCE` and is signed (RFC 9421) with the key of the client's
certificate; every answer, errors too, once the session is known, with that of the server's. A number only
rises. A number that comes twice with the same request has the same answer; with another request it is refused
(``sequence``, 409). A server that was started again no longer knows which numbers came last: it answers
``sequence`` with the number to go on with (:attr:`ErrorBody.next_sequence`), and the client sends the same
request again under that one, which does no harm, since every operation is idempotent.

**A push** (the client sends)::

    POST  syncsessions           NewSyncSession          -> SyncSession      both meet, revocations first
    POST  transfersessions       NewTransfer(push)       -> Transfer         claims of the receiver
    PATCH transfersessions/ID    Drive(offer=...)        -> Transfer         the receiver begins
    POST  buffers                Buffer 0, 1, 2 ...      -> Confirmed        each one is confirmed
    PATCH transfersessions/ID    Drive(stage=cleanup)    -> Transfer         everything is applied and claimed
    DELETE syncsessions/ID

**A pull** (the server sends)::

    POST  syncsessions           NewSyncSession          -> SyncSession
    POST  transfersessions       NewTransfer(pull, claims of the client) -> Transfer   with the server's offer
    GET   buffers?transfer_session_id=ID&number=N&cursor=C -> Buffer         C: ``next`` of buffer N - 1
    PATCH transfersessions/ID    Drive(stage=cleanup)    -> Transfer         the offer still holds: claim it
    DELETE syncsessions/ID

Before it claims what it pulled, the client waits for the answer to the last ``PATCH``: only then does the
sender vouch that what it had pinned is still so.

**What fits into one buffer** goes as a whole, where both ends can (``whole``): a push takes two requests, a
pull one, and the answer vouches for the offer that it comes with::

    POST  transfersessions       NewTransfer(push)       -> Transfer         claims of the receiver
    PATCH transfersessions/ID    Drive(stage=cleanup, offer=..., buffer=...) -> Transfer   all or nothing
    POST  transfersessions       NewTransfer(pull, whole) -> Transfer(offer=..., buffer=...)

**A session that was cut** goes on with ``GET transfersessions/ID`` in the same sync session, or in a new one
between the same certificates: ``confirmed`` is the number of buffers that the receiver has for good, and
``cursor`` where the next one begins. A transfer that is to end for good is ended by ``DELETE``; the receiver
cleans up after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

#: The version of this protocol. Another one means that the two cannot talk.
PROTOCOL: Final = 1

#: Where all addresses begin, below the prefix that the server is mounted at.
BASE: Final = "/peer/v1"

#: Headers. The first two are signed, of requests and answers alike.
SESSION: Final = "Livesync-Session"
SEQUENCE: Final = "Livesync-Sequence"
#: Of ``GET info``: the profile of the session that is to begin, percent-encoded, and the ids of the
#: certificates that it may begin with, separated by commas. Whoever does not know them passes them over.
PROFILE: Final = "Livesync-Profile"
CLIENTS: Final = "Livesync-Clients"
#: So many of these.
MAX_CLIENTS: Final = 8
#: What the sender of a message can do, words separated by commas; both use what both can.
CAPABILITIES_HEADER: Final = "Livesync-Capabilities"

#: What this livesync can do. ``zstd`` and ``gzip``: bodies may be compressed so, both ways; ``whole``: a
#: transfer of one buffer goes in one request with its offer and its end. ``parts``: a push may follow upon
#: another of its session.
CAPABILITIES: Final = frozenset(
    {
        "zstd",
        "gzip",
        "push",
        "pull",
        "history",
        "signing-requests",
        "certificate-pushing",
        "revocations",
        "whole",
        "parts",
    }
)

#: What RFC 9421 signs of a request in a session; ``keyid`` is the id of the client's certificate.
SIGNED_OF_REQUEST: Final = (
    "@method",
    "@path",
    "@query",
    "content-type",
    "content-encoding",
    "content-digest",
    "livesync-session",
    "livesync-sequence",
)

#: What it signs of an answer; ``keyid`` is the id of the server's certificate.
SIGNED_OF_ANSWER: Final = (
    "@status",
    "content-type",
    "content-encoding",
    "content-digest",
    "livesync-session",
    "livesync-sequence",
)

#: Items in a buffer, at most and unless something else is asked for.
CHUNK_SIZE: Final = 500

#: Characters of payload after which a buffer is closed, even if it holds fewer items.
CHUNK_CHARACTERS: Final = 2_000_000

#: Bytes of a buffer's body: as it travels, and unpacked. Other bodies: the two below.
MAX_BUFFER_BYTES: Final = 16_000_000
MAX_BUFFER_UNPACKED: Final = 64_000_000
MAX_BODY_BYTES: Final = 1_000_000
MAX_BODY_UNPACKED: Final = 4_000_000

#: How far the clocks of two peers may be apart for a signature's time, in seconds.
SIGNATURE_AGE_S: Final = 300

#: The highest number of a request in a session.
MAX_SEQUENCE: Final = 2**53

Id = Annotated[
    str, Meta(pattern=r"^[0-9a-f]{32}$", max_length=32, description="32 hexadecimal digits")
]  # the length, since $ matches before a line end, too
Name = Annotated[str, Meta(min_length=1, max_length=512)]
Text = Annotated[str, Meta(max_length=120_000)]
Prefix = Annotated[str, Meta(max_length=512, description="a partition prefix; empty: everything")]
#: The newest timestamp that there can be: the end of the year 9999.
MAX_STAMP: Final = 315_537_897_599_999_999
Stamp = Annotated[int, Meta(ge=1, le=MAX_STAMP, description="microseconds since the year 1")]
Number = Annotated[int, Meta(ge=0, le=2**31)]
Count = Annotated[int, Meta(ge=0, le=2**62)]

Dot = tuple[Name, Stamp]
#: provider -> newest stamp.
Clock = Annotated[dict[str, Stamp], Meta(max_length=100_000)]
#: See :mod:`livesync.replication.metadata.lives`.
Life = Annotated[int, Meta(ge=0, lt=2**62)]
#: (life, stamp).
Deed = tuple[Life, Stamp]
#: Where a life begins: (life, parent, until).
Birth = tuple[Annotated[int, Meta(ge=1, lt=2**62)], Life, Annotated[int, Meta(ge=0, le=MAX_STAMP)]]
#: prefix -> clock.
Claims = Annotated[dict[str, Clock], Meta(max_length=100_000)]

#: See :mod:`livesync.replication.metadata.digests`: 32 hexadecimal digits, or 64 with tombstones.
Digest = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}([0-9a-f]{32})?$")]

Direction = Literal["push", "pull"]
Stage = Literal[
    "initializing", "serializing", "queuing", "transferring", "dequeuing", "deserializing", "cleanup"
]
Status = Literal["pending", "started", "completed", "errored"]


class Value(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of what a server answers: a client passes over keys that it does not know."""


class Input(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Base of what a client sends: a key that is not known is a mistake."""


# -- errors ----------------------------------------------------------------------------------------


class ErrorBody(Value, frozen=True):
    """What went wrong.

    Attributes:
        code: For programs; one of :data:`CODES`.
        message: One line for people.
        incident: What finds it in the server's log; "" where it is not there.
        next_sequence: With ``sequence``: the number to go on with.
    """

    code: str
    message: str
    incident: str = ""
    next_sequence: int | UnsetType = UNSET


class Error(Value, frozen=True):
    """The one form of errors."""

    error: ErrorBody


#: code -> (status, what it means, whether the same request may be sent again later).
CODES: Final[Mapping[str, tuple[int, str, bool]]] = {
    "bad_request": (400, "The request has another form than the description says.", False),
    "bad_encoding": (400, "The body cannot be unpacked.", False),
    "digest": (400, "The body is not what its digest says.", True),
    "not_logged_in": (401, "A signing request needs a user name and a password.", False),
    "signature": (401, "The signature is missing, expired, or not this certificate's.", False),
    "certificate": (403, "The chain of certificates does not hold: see the message.", False),
    "expired": (403, "A certificate of the chain is not valid yet, or no longer.", False),
    "revoked": (403, "A certificate of the chain was revoked.", False),
    "profile": (403, "The certificates are of different profiles.", False),
    "nonce": (403, "The nonce is unknown, used, expired or another client's.", False),
    "scope": (403, "The certificate's scope does not allow it.", False),
    "forbidden": (403, "The server does not do that for this client.", False),
    "no_such_thing": (404, "There is nothing at this address, or not for this client.", False),
    "method": (405, "This address does not take such a request.", False),
    "sequence": (409, "The number of the request was used, or is not known: see next_sequence.", True),
    "copy": (
        409,
        "The client calls itself as the server does: it is a copy, and takes a new provider id.",
        False,
    ),
    "ended": (409, "The session has ended, or is not in a stage that allows it.", False),
    "gap": (409, "Buffers come in order: ask how many are confirmed.", False),
    "rejected": (409, "The history does not take that: see the message. Nothing was changed.", False),
    "changed": (409, "What the sender had pinned has changed: begin a new transfer.", False),
    "too_large": (413, "The body is larger than is taken here, as it travels or unpacked.", False),
    "media_type": (415, "The body is not JSON, or packed in a way that is not known here.", False),
    "refused": (422, "What was sent makes no sense: see the message. Nothing of it was applied.", False),
    "clock_ahead": (422, "A change lies too far in the future: set the clocks.", False),
    "too_often": (429, "Too many attempts: Retry-After says when to come back.", True),
    "internal": (500, "Something went wrong that nobody foresaw: the incident is in the log.", True),
    "conflict": (503, "Others changed the same thing at the same time: try again.", True),
    "database": (503, "The database does not answer as it should; nothing was changed.", True),
    "busy": (503, "The server has too much at work: Retry-After says when to come back.", True),
}


# -- trust -----------------------------------------------------------------------------------------


class Meeting(Value, frozen=True):
    """What a client asks for before a session, told at once.

    Attributes:
        profile: Of which profile.
        revocations: As ``GET revocations`` tells them.
        chains: As ``GET certificates`` tells them.
        nonces: Id of a client's certificate -> a nonce for it.
    """

    profile: str
    revocations: list[Signed]
    chains: list[list[Signed]]
    nonces: dict[str, str]


class Info(Value, frozen=True):
    """What a server says of itself to everybody.

    Attributes:
        name: For people.
        version: Of livesync.
        protocol: Of this page.
        capabilities: See :data:`CAPABILITIES`.
        provider_id: Its id in two-way sync; "" before there is any.
        profiles: Of which it has certificates with a key.
        time: Its clock, epoch seconds.
        chunk_size: Items that it takes in a buffer, at most.
        meeting: Where a session is to begin; None: that was not asked for.
    """

    name: str
    version: str
    protocol: int
    capabilities: list[str]
    provider_id: str
    profiles: list[str]
    time: float
    chunk_size: int = CHUNK_SIZE
    meeting: Meeting | None = None


class Signed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A certificate or a revocation: exactly the text that was signed, and its issuer's signature.

    Attributes:
        text: The signed text (:mod:`~livesync.peering.certificates` says of what form).
        signature: Base64.
    """

    text: Text
    signature: Annotated[str, Meta(max_length=200)]


#: The root first, each one the parent of the next.
Chain = Annotated[list[Signed], Meta(min_length=1, max_length=32)]
Revocations = Annotated[list[Signed], Meta(max_length=1_000)]


class PublicKey(Value, frozen=True):
    """The key that a certificate may be pushed for; base64 of the 32 bytes."""

    public_key: str


class Certificates(Value, frozen=True):
    """Chains of certificates that the server has a key for."""

    chains: list[list[Signed]]


class SigningRequest(Input, frozen=True):
    """Asks for a certificate; sent with HTTP Basic.

    Attributes:
        parent: Id of the certificate that is to sign.
        profile: Of the parent and the new one.
        scope_definition: Id of the definition; its version is the newest that the server has.
        scope_params: What stands for the names in its filters.
        public_key: Of the client; base64 of the 32 bytes.
        valid_s: For how long, at most, in seconds; 0: as the server says.
    """

    parent: Name
    profile: Name
    scope_definition: Name
    scope_params: Annotated[dict[str, str], Meta(max_length=100)]
    public_key: Annotated[str, Meta(max_length=100)]
    valid_s: Annotated[float, Meta(ge=0, le=3.2e9)] = 0


class NewCertificate(Value, frozen=True):
    """The chain that ends with the certificate that was asked for."""

    chain: list[Signed]


class PushedChain(Input, frozen=True):
    """A chain that ends with a certificate for the server's public key; its salt is the nonce."""

    chain: Chain


class NewNonce(Input, frozen=True):
    """Asks for a nonce, bound to who will use it.

    Attributes:
        client: Id of the certificate that will begin a session with it, or ``push`` for the salt of a
            certificate that is pushed.
    """

    client: Name


class Nonce(Value, frozen=True):
    """A nonce: to be used once, before ``expires`` (epoch seconds)."""

    nonce: str
    expires: float


class RevocationList(Value, frozen=True):
    """All revocations of a profile that the server knows."""

    revocations: list[Signed]


# -- sessions --------------------------------------------------------------------------------------


class Introduction(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a provider says of itself; see :class:`livesync.replication.sessions.steps.Introduction`.

    Attributes:
        known: The newest stamps that it claims of the other one's ids, and of no one else's.
        held: The newest ones of these ids in what it was sent, claimed or not.
    """

    provider_id: Name
    database_id: Name
    past: Annotated[list[Name], Meta(max_length=10_000)] = field(default_factory=list)
    newest: Annotated[int, Meta(ge=0, le=MAX_STAMP)] = 0
    known: Clock = field(default_factory=dict)
    held: Clock = field(default_factory=dict)


class NewSyncSession(Input, frozen=True):
    """Begins a session.

    Attributes:
        id: Made by the client, at random.
        nonce: Of ``POST nonces``, for the client's certificate.
        profile: Of both certificates.
        client_chain: The client's certificate, last, with those above it. Its key signs the request.
        server_certificate_id: With which the server is to answer.
        introduction: Of the client's provider; None: the session is for histories only
            (:mod:`~livesync.peering.historywire`).
        revocations: All that the client knows of this profile; the server takes them in first.
        client_name: For people.
    """

    id: Id
    nonce: Name
    profile: Name
    client_chain: Chain
    server_certificate_id: Name
    introduction: Introduction | None = None
    revocations: Revocations = field(default_factory=list)
    client_name: Annotated[str, Meta(max_length=200)] = ""


class SyncSession(Value, frozen=True):
    """A session as the server has it.

    Attributes:
        server_chain: The server's certificate, last, with those above it. Its key signs the answers.
        introduction: Of the server's provider, after both have met; None: the client has introduced none.
        revocations: All that the server knows of this profile; the client takes them in before it goes on.
        started, last_active: Epoch seconds.
        transfers: Ids of its transfers that have not ended.
    """

    id: Id
    profile: str
    client_certificate_id: str
    server_certificate_id: str
    server_chain: list[Signed]
    revocations: list[Signed]
    started: float
    last_active: float
    active: bool
    introduction: Introduction | None = None
    transfers: list[str] = field(default_factory=list)


class Offer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a sender is going to send; see :class:`livesync.replication.sessions.steps.Offer`.

    Its session id is the transfer's.

    Attributes:
        lives: By provider.
        total: How many items there are, for who shows how far it has come; 0: nobody knows.
    """

    source: Name
    prefixes: Annotated[list[Prefix], Meta(min_length=1, max_length=10_000)]
    claims: Claims
    receiver: Claims
    collected: Claims = field(default_factory=dict)
    snapshots: Annotated[list[Prefix], Meta(max_length=100_000)] = field(default_factory=list)
    digests: Annotated[dict[str, Digest], Meta(max_length=100_000)] = field(default_factory=dict)
    lives: Annotated[dict[Name, list[Birth]], Meta(max_length=100_000)] = field(default_factory=dict)
    total: Count = 0


class NewTransfer(Input, frozen=True):
    """Begins to send one way.

    Attributes:
        id: Made by the client, at random.
        direction: ``push``: the client sends; ``pull``: the server does.
        filter: Prefixes; what the client's certificate and the server's may both exchange contains them.
        claims: With ``pull``: what the client claims of the filter.
        chunk_size: With ``pull``: items in a buffer.
        whole: With ``pull``: where one buffer is all there is, answer with it, and end the transfer.
        follows: With ``push``: the one before it, of the same client, where both are parts of what it has:
            what the server's application has changed was taken when the first one began.
    """

    id: Id
    direction: Direction
    filter: Annotated[list[Prefix], Meta(min_length=1, max_length=10_000)]
    claims: Claims = field(default_factory=dict)
    chunk_size: Annotated[int, Meta(ge=1, le=CHUNK_SIZE)] = CHUNK_SIZE
    whole: bool = False
    follows: Id | None = None


class Transfer(Value, frozen=True):
    """A transfer as the server has it.

    Attributes:
        stage, status: How far it has come.
        provider_id: Of the server's provider.
        claims: With ``push``: what the server claims of the filter, for the client's offer.
        offer: With ``pull``: the server's.
        confirmed: How many buffers the receiver has for good; with ``pull`` the client knows that itself.
        cursor: With ``push``: ``next`` of the last confirmed buffer.
        complete: With ``push``: the last buffer is among those that were confirmed; there is nothing to send.
        items: Items in the buffers that were confirmed.
        refused: Of them, those that the certificate may not write.
        error: Why the status is ``errored``.
        buffer: With ``pull``, where ``whole`` was asked for: all there is. The sender vouches that it is what
            the offer says, and has ended the transfer; None: there is more, or it is too much for one answer.
    """

    id: Id
    direction: Direction
    filter: list[str]
    stage: Stage
    status: Status
    provider_id: str
    claims: dict[str, dict[str, int]] = field(default_factory=dict)
    offer: Offer | None = None
    confirmed: int = 0
    cursor: Cursor | None = None
    complete: bool = False
    items: int = 0
    refused: int = 0
    error: str = ""
    buffer: Buffer | None = None


class Drive(Input, frozen=True):
    """Drives a transfer on.

    Attributes:
        stage: Go on until this stage is completed: ``queuing`` (needs the offer, with ``push``), or
            ``cleanup``, when all buffers have arrived.
        offer: With ``push``: what will be sent.
        buffer: With ``push``, an offer and ``cleanup``: all that is sent. It is taken and claimed in one
            transaction, or nothing of it is.
    """

    stage: Literal["queuing", "cleanup"]
    offer: Offer | None = None
    buffer: Buffer | None = None


class Cursor(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where a buffer begins: after ``key`` in the sender's range of this number."""

    range_number: Number = 0
    key: tuple[str, Count, str] | None = None


class Item(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """An item in its newest state; see :class:`livesync.replication.metadata.states.ItemState`.

    Attributes:
        payload: JSON text, as the application serialized it.
        vector: Left out where it is just the dot.
        inserted: Left out where it is the dot.
        life: The life in which it was made.
        met: The newest writes that it has seen beside, by life.
    """

    id: Name
    entity: Name
    partition: Prefix
    payload: str = ""
    dot: Dot
    vector: Clock = field(default_factory=dict)
    length: Annotated[int, Meta(ge=1, le=2**62)] = 1
    hard: bool = False
    inserted: Dot | None = None
    life: Life = 0
    met: Annotated[tuple[Deed, ...], Meta(max_length=10_000)] = ()


class Buffer(Input, frozen=True):
    """Some items of a transfer.

    Attributes:
        number: From 0, one after the other.
        next: Where the following one begins.
        last: There is no following one.
    """

    transfer_session_id: Id
    number: Number
    items: Annotated[list[Item], Meta(max_length=CHUNK_SIZE)]
    next: Cursor
    last: bool = False


class Refusal(Value, frozen=True):
    """An item that the peer's certificate may not write: it was left out, the others were taken."""

    id: str
    partition: str


def is_little(*parts: Struct) -> bool:
    """Tell whether values may travel together in a body that is no buffer's."""
    return sum(len(msgspec.json.encode(part)) for part in parts) <= MAX_BODY_BYTES // 2


class Confirmed(Value, frozen=True):
    """A buffer has arrived for good.

    Attributes:
        confirmed: How many buffers have, so far: the number of the next one.
        refused: Items that were left out.
    """

    confirmed: int
    refused: list[Refusal] = field(default_factory=list)
