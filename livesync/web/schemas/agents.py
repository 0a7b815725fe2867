"""Agents: what they are, and what is done with them."""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

from msgspec import Meta, field

from .base import AgentId, Input, Line, ObjectId, OptionValue, Position, Value, Word
from .standing import Agent


class OptionForm(Value, frozen=True):
    """One option of an agent type, for a form: as ``livesync.options.Option``; ``form`` for people."""

    name: str
    type: str
    form: str
    help: str
    default: OptionValue
    required: bool
    choices: list[OptionValue]
    minimum: float | None
    identifies: bool


class AgentType(Value, frozen=True):
    """An agent type that is installed; ``error`` says why one cannot be used."""

    name: str
    help: str
    error: str | None
    options: list[OptionForm]


class AgentTypes(Value, frozen=True):
    """The agent types that are installed."""

    types: list[AgentType]


class AgentPage(Value, frozen=True):
    """Agents by id; ``next`` is the cursor of the rest."""

    agents: list[Agent]
    next: str | None


class AgentDetail(Value, frozen=True):
    """All about one agent; ``missing`` says why its type cannot be loaded, else it is ""."""

    agent: Agent
    options: dict[str, OptionValue]
    given: list[str]
    missing: str
    unfinished_export: bool


class NewAgent(Input, frozen=True):
    """An agent that is to be added."""

    id: AgentId
    type: Annotated[str, Meta(min_length=1, max_length=200)]
    name: Line | None = None
    description: Line = ""
    options: dict[str, OptionValue] = field(default_factory=dict)


class AgentEdit(Input, frozen=True):
    """What is to be changed of an agent; None leaves as it is, an option of None puts its default back."""

    name: Line | None = None
    description: Line | None = None
    options: dict[str, OptionValue] = field(default_factory=dict)


class Connection(Input, frozen=True):
    """A type and its options, whose service is to be asked before an agent is added."""

    type: Annotated[str, Meta(min_length=1, max_length=200)]
    options: dict[str, OptionValue] = field(default_factory=dict)


class Edited(Value, frozen=True):
    """What an edit came to; ``needs_export``: it names another destination now and is stopped."""

    agent: Agent
    needs_export: bool


class Activate(Input, frozen=True):
    """Where a new agent begins: with the oldest action kept, or now; one that has a pointer keeps it."""

    begin: Literal["start", "now"] | None = None


class Activated(Value, frozen=True):
    """An agent that is activated; ``unfinished_export``: its export has yet to be gone on with."""

    agent: Agent
    unfinished_export: bool


class Paused(Value, frozen=True):
    """An agent that is paused; ``holder``: who ends after the slice under way, "" when nobody."""

    agent: Agent
    holder: str


class Rewind(Input, frozen=True):
    """Where a paused agent's pointer goes: a position, or a time (RFC 3339) that comes to one."""

    position: Position | None = None
    time: Annotated[datetime.datetime, Meta(tz=True)] | None = None


class Enqueue(Input, frozen=True):
    """Objects that an agent is to send with its next runs, and the actions that the records carry."""

    object_ids: Annotated[list[ObjectId], Meta(min_length=1, max_length=10_000)]
    actions: Annotated[list[Word], Meta(min_length=1, max_length=16)] = field(
        default_factory=lambda: ["data_changed"]
    )


class Enqueued(Value, frozen=True):
    """How many objects were queued."""

    queued: int
