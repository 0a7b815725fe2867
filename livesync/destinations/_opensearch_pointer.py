"""What the service remembers of an agent: one document in the index ``livesync-pointers``.

It holds the agent's pointer and which index that pointer speaks of: one that was removed and made anew
has another UUID. It is only ever written over the version of it that was read or written last (sequence
number and primary term): whoever finds another one there has been replaced by another runner.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ..errors import LeaseLost, ServiceRefuses
from ..forms import decode_json
from ._opensearch_rest import RESTService, path_of

POINTERS: Final = "livesync-pointers"


class Position(msgspec.Struct, frozen=True):
    """Where an agent stands; ``position`` None: before everything."""

    position: int | None
    track_id: str
    generation: int


class Rebuild(msgspec.Struct, frozen=True):
    """A rebuild that is under way, and the index that it fills."""

    name: str
    index: str
    uuid: str


class Note(msgspec.Struct, frozen=True):
    """What is remembered of an agent.

    Attributes:
        agent: Its id.
        alias: Its option ``index``.
        index: The index behind the alias.
        uuid: Its UUID.
        generation: The agent's, when it last wrote there.
        holds_rows: Whether something was accepted there.
        pointer: Where the agent stands; None: it has never acknowledged there.
        rebuild: What an export is filling meanwhile.
    """

    agent: str
    alias: str
    index: str = ""
    uuid: str = ""
    generation: int = 0
    holds_rows: bool = False
    pointer: Position | None = None
    rebuild: Rebuild | None = None


class _Stored(msgspec.Struct):
    found: bool = False
    seq_no: int = msgspec.field(name="_seq_no", default=-1)
    primary_term: int = msgspec.field(name="_primary_term", default=0)
    source: msgspec.Raw = msgspec.field(name="_source", default=msgspec.Raw(b""))


class _Written(msgspec.Struct):
    seq_no: int = msgspec.field(name="_seq_no")
    primary_term: int = msgspec.field(name="_primary_term")


class Notebook:
    """The note of one agent, and the version of it that this runner knows.

    Args:
        service: The cluster.
        alias: The agent's alias.
        agent_id: The agent.
    """

    def __init__(self, service: RESTService, alias: str, agent_id: str) -> None:
        self._service = service
        self._id = f"{alias}:{agent_id}"  # no alias has a colon
        self._empty = Note(agent_id, alias)
        self._known: tuple[int, int] | None = None
        self._has_index = False
        self.note = self._empty
        #: Whether the note has been read at all.
        self.is_read = False

    def read(self) -> Note:
        """Read the note, an empty one where there is none; from now on that version is known.

        Raises:
            RetryLater, ServiceRefuses: It cannot be read.
        """
        self._known, self.note = self._look()
        self.is_read = True
        return self.note

    def check(self) -> None:
        """Make sure that the note is still the one that is known.

        Raises:
            LeaseLost: It is not.
            RetryLater, ServiceRefuses: It cannot be read.
        """
        if self._look()[0] != self._known:
            raise self._lost()

    def _look(self) -> tuple[tuple[int, int] | None, Note]:
        reply = self._service.ask("GET", path_of(POINTERS, "_doc", self._id), want={404})
        self._has_index = reply.cause.type != "index_not_found_exception"
        stored = reply.read(_Stored) if reply.status != 404 else _Stored()
        if not stored.found:
            return None, self._empty
        try:
            note = decode_json(stored.source, Note)
        except msgspec.DecodeError as exc:
            raise ServiceRefuses(
                f"the document {self._id} in the index {POINTERS} is none of livesync's ({exc}): remove it"
            ) from None
        return (stored.seq_no, stored.primary_term), note

    def write(self, note: Note) -> None:
        """Write the note over the version that is known.

        Raises:
            LeaseLost: There is another version now.
            RetryLater, ServiceRefuses: It cannot be written.
        """
        if not self._has_index:
            self._make_index()
        if self._known is None:
            path, query = path_of(POINTERS, "_create", self._id), ""
        else:
            path = path_of(POINTERS, "_doc", self._id)
            query = "if_seq_no={}&if_primary_term={}".format(*self._known)
        reply = self._service.ask("PUT", path, note, query=query, want={409})
        if reply.status == 409:
            raise self._lost()
        written = reply.read(_Written)
        self._known, self.note = (written.seq_no, written.primary_term), note

    def _make_index(self) -> None:
        # nothing in it is searched for
        self._service.ask("PUT", path_of(POINTERS), {"mappings": {"dynamic": False}}, want={400})
        self._has_index = True

    def _lost(self) -> LeaseLost:
        return LeaseLost(
            f"the pointer of agent {self._empty.agent!r} in the index {POINTERS} was moved by somebody else:"
            " another runner has taken the agent over"
        )
