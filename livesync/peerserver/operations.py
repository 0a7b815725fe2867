"""What peers can ask for, as a table: the server's routes and the OpenAPI description are made from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pyramid.request import Request

from ..peering import wire

if TYPE_CHECKING:
    from ..peering.records import SyncSessionView
    from ..peering.rights import Rights
    from .app import PeerApp


@dataclass(frozen=True, slots=True)
class Parameter:
    """A part of the address, of the query, or a header."""

    name: str
    where: str
    help: str
    schema: Mapping[str, Any]
    required: bool = True


@dataclass(frozen=True, slots=True)
class Call:
    """One request, understood.

    Attributes:
        app: Who serves.
        request: As it came; its body is still packed.
        path, query, headers: Parameters, by name.
        body: Of the operation's type; None where it takes none.
        session: The sync session that the request is signed for; None outside of one.
        rights: Of the client whose session it is, or is to be.
        digest: Of the body that begins a session: tells such bodies apart.
        packed: The body as it came, within a session.
    """

    app: PeerApp
    request: Request
    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    session: SyncSessionView | None = None
    rights: Rights | None = None
    digest: str = ""
    packed: bytes = b""


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that peers can ask for.

    Attributes:
        name: Of the operation, in the description.
        method, path: Where.
        help: What it does.
        call: Does it.
        body, answer: Types; None: nothing.
        status: Where it is done.
        signed: It is part of a session: the request is signed and has a number.
        begins: It begins a session: signed with the key of a certificate that comes with it.
        parameters: Of the address and the query.
        errors: Codes that it may answer, besides those that every operation may.
        max_bytes, max_unpacked: Of the body.
        takes_password: HTTP Basic says who asks.
    """

    name: str
    method: str
    path: str
    help: str
    call: Callable[[Call], Any]
    answer: type | None = None
    body: type | None = None
    status: int = 200
    signed: bool = False
    begins: bool = False
    parameters: tuple[Parameter, ...] = ()
    errors: tuple[str, ...] = ()
    max_bytes: int = wire.MAX_BODY_BYTES
    max_unpacked: int = wire.MAX_BODY_UNPACKED
    takes_password: bool = False

    @property
    def in_session(self) -> bool:
        """Whether the request is signed, and has a number."""
        return self.signed or self.begins


_ID: Final = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
_NAME: Final = {"type": "string", "minLength": 1, "maxLength": 512}
_PREFIX: Final = {"type": "string", "maxLength": 512}
_NUMBER: Final = {"type": "string", "pattern": "^[0-9]{1,10}$"}

ID: Final = Parameter("id", "path", "The session or transfer.", _ID)
PROFILE: Final = Parameter("profile", "query", "Of which profile.", _NAME)
#: Every parameter that an operation has.
PARAMETERS: Final = {
    "session": (ID,),
    "profile": (PROFILE,),
    "history": (Parameter("collection", "query", "Whose history.", _NAME),),
    "chunk": (
        Parameter("transfer", "query", "The transfer; a pull.", _ID),
        Parameter("number", "query", "Of the chunk, from 0.", _NUMBER),
        Parameter(
            "cursor",
            "query",
            "Where it begins: ``next`` of the chunk before, as JSON; left out for the first.",
            {"type": "string", "maxLength": 10_000},
            required=False,
        ),
    ),
    "certificates": (
        PROFILE,
        Parameter(
            "primary_partition",
            "query",
            "Only chains whose primary partition (the first prefix of the root's scope) this is.",
            _PREFIX,
            required=False,
        ),
    ),
    "meeting": (
        Parameter(
            wire.PROFILE,
            "header",
            "The profile of a session that is to begin, percent-encoded: its meeting is told, too.",
            {"type": "string", "pattern": "^([A-Za-z0-9_.~-]|%[0-9A-Fa-f]{2}){1,1536}$"},
            required=False,
        ),
        Parameter(
            wire.CLIENTS,
            "header",
            "Ids of the certificates that it may begin with, separated by commas.",
            {"type": "string", "pattern": "^[0-9a-f]{32}(,[0-9a-f]{32}){0,7}$"},
            required=False,
        ),
    ),
    "buffer": (
        Parameter("transfer_session_id", "query", "The transfer; a pull.", _ID),
        Parameter("number", "query", "Of the buffer, from 0.", _NUMBER),
        Parameter(
            "cursor",
            "query",
            "Where it begins: ``next`` of the buffer before, as JSON; left out for the first.",
            {"type": "string", "maxLength": 4_000},
            required=False,
        ),
    ),
}
