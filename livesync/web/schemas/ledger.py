"""The ledger of runs, and dead letters."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, field

from .base import Input, ObjectId, Value
from .standing import Counts


class Run(Value, frozen=True):
    """A line of the ledger; ``ended`` is None of a run that is at work, or was killed.

    ``balance`` is what was taken less what became of it: 0, or something is missing.
    """

    agent_id: str
    number: int
    kind: str
    began: float
    ended: float | None
    seconds: float
    till: int | None
    error: str
    balance: int
    counts: Counts


class RunPage(Value, frozen=True):
    """Lines of the ledger, the newest first; ``next`` is the cursor of what is older."""

    runs: list[Run]
    next: str | None


class DeadLetter(Value, frozen=True):
    """A record that could not be delivered; the attributes are those of ``upkeep.dead.DeadLetter``."""

    agent_id: str
    object_id: str
    op: str
    position: int
    actions: list[str]
    reason: str
    attempts: int
    first_time: float
    time: float
    size: int
    digest: str


class DeadLetterPage(Value, frozen=True):
    """Dead letters, the newest first; ``total`` is how many there are, ``next`` the cursor of the rest."""

    dead_letters: list[DeadLetter]
    total: int
    next: str | None


class DeadLetterDetail(Value, frozen=True):
    """One dead letter with the document as it was refused; None where none was sent or it is too long."""

    dead_letter: DeadLetter
    document: Any


class Discard(Input, frozen=True):
    """Dead letters that are to be thrown away: of these objects; ``all``: all that there are."""

    object_ids: Annotated[list[ObjectId], Meta(max_length=10_000)] = field(default_factory=list)
    all: bool = False


class Discarded(Value, frozen=True):
    """How many dead letters are gone."""

    discarded: int
