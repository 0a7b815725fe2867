"""SyncAgent: what the manager knows of a reader of the track, and how its type is found."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import Enum
from functools import lru_cache
from importlib import metadata
from types import MappingProxyType
from typing import Any, ClassVar, Final

from .errors import UnknownAgentType
from .host import PUBLIC
from .imports import import_object
from .options import Option, parse_options, read_secret

#: Entry-point group in which agent types are found by a short name.
AGENT_GROUP: Final = "livesync.agents"

#: The options that every agent has.
COMMON_OPTIONS: Final = (
    Option("audience", help="for whom the documents are made", default=PUBLIC, identifies=True),
    Option("only", "function", help="function(host, obj) -> bool; what it turns down is excluded"),
    Option("transform", "function", help="function(record) -> record or None; None: the record is not sent"),
)


class State(Enum):
    """Where an agent stands. Only an active one runs on a schedule."""

    NEW = "new"  #: no pointer yet
    RECORDING = "recording"  #: pointer placed, export under way or broken off
    ACTIVE = "active"
    PAUSED = "paused"  #: by a person
    STOPPED = "stopped"  #: by livesync, with a reason


class StopReason(Enum):
    """Why livesync stopped an agent."""

    FAILING = "failing"
    SERVICE_REFUSES = "service_refuses"
    NEEDS_EXPORT = "needs_export"
    DESTINATION_DIFFERS = "destination_differs"
    TYPE_MISSING = "type_missing"


class SyncAgent:
    """A reader of the track with a pointer of its own: its id, its name and its options.

    It is a value that says what the agent is; where it stands is kept by the manager. A type is a
    subclass that declares its options and, if it can run, a ``run`` method.

    Args:
        agent_id: Its name on the track: 1 to 64 letters, digits, ``-``, ``_`` or ``.``.
        name: What people call it; the id when None.
        description: One line for people.
        options: Values by the names of the declared options; text is parsed.

    Raises:
        ValueError: The id has another form.
        OptionError: An option is unknown, missing, or has a value of a wrong form.
    """

    #: What can be set, besides what every agent has. Overridden by types.
    options: ClassVar[tuple[Option, ...]] = ()

    def __init__(self, agent_id: str, name: str | None = None, description: str = "", **options: Any) -> None:
        self.id = check_agent_id(agent_id)
        self.name = name or agent_id
        self.description = description
        self._values = parse_options(self.declared_options(), options)

    @classmethod
    def declared_options(cls) -> tuple[Option, ...]:
        """Return all options of this type, its own and those that every agent has."""
        own = {option.name for option in cls.options}
        return (*cls.options, *(option for option in COMMON_OPTIONS if option.name not in own))

    @property
    def values(self) -> Mapping[str, Any]:
        """The options' values by name, defaults included; secrets by their reference only."""
        return MappingProxyType(self._values)

    def secret(self, option: str) -> str | None:
        """Return the secret that a ``secret`` option points at, read now; None when it is not set.

        Raises:
            OptionError: The variable or file it names is not there.
        """
        reference = self._values[option]
        return None if reference is None else read_secret(reference)

    @property
    def audience(self) -> str:
        """For whom its documents are made."""
        return str(self._values["audience"])

    def given_options(self) -> dict[str, Any]:
        """Return the values that differ from the defaults: what is stored."""
        return {
            option.name: self._values[option.name]
            for option in self.declared_options()
            if self._values[option.name] != option.default
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r}>"


class MissingAgent(SyncAgent):
    """Stands for an agent whose type cannot be loaded: it can be looked at and removed, not run.

    ``missing`` says why.
    """

    def __init__(self, agent_id: str, name: str, description: str, type_name: str, missing: str) -> None:
        super().__init__(agent_id, name, description)
        self.type_name = type_name
        self.missing = missing


def check_agent_id(agent_id: str) -> str:
    """Return ``agent_id``.

    Raises:
        ValueError: It is not 1 to 64 letters, digits, ``-``, ``_`` or ``.``.
    """
    if not isinstance(agent_id, str):
        raise TypeError(f"an agent id is a str, not {type(agent_id).__name__}")
    usable = 1 <= len(agent_id) <= 64 and all(
        char.isascii() and (char.isalnum() or char in "-_.") for char in agent_id
    )
    if not usable or agent_id.startswith(("-", ".")):
        raise ValueError(
            f"{agent_id!r} is no agent id: 1 to 64 letters, digits, - _ or . (not beginning with - or .)"
        )
    return agent_id


def agent_types() -> dict[str, metadata.EntryPoint]:
    """Return the agent types that are installed, by name, none of them loaded."""
    return dict(_installed_types(tuple(sys.path)))


@lru_cache(maxsize=4)
def _installed_types(path: tuple[str, ...]) -> dict[str, metadata.EntryPoint]:
    """Look up what is installed along ``path``: every package is looked at, so a status asks only once."""
    return {
        point.name: point for point in sorted(metadata.entry_points(group=AGENT_GROUP), key=lambda p: p.name)
    }


def load_agent_type(type_name: str) -> type[SyncAgent]:
    """Return the agent type of an entry-point name or ``package.module:Class``.

    Raises:
        UnknownAgentType: There is none, it cannot be imported (an extra may be missing), or it is
            no :class:`SyncAgent`.
    """
    if ":" in type_name:
        try:
            found = import_object(type_name)
        except ImportError as exc:
            raise UnknownAgentType(f"agent type {type_name!r} cannot be imported: {exc}") from exc
    else:
        points = agent_types()
        if type_name not in points:
            raise UnknownAgentType(
                f"there is no agent type {type_name!r} (there are: {', '.join(points) or 'none'};"
                " else package.module:Class)"
            )
        try:
            found = points[type_name].load()
        except ImportError as exc:
            raise UnknownAgentType(
                f"agent type {type_name!r} cannot be imported: {exc}; its extra may be missing:"
                f" pip install 'zodb-livesync[{type_name}]'"
            ) from exc
    if not (isinstance(found, type) and issubclass(found, SyncAgent)):
        raise UnknownAgentType(f"{type_name!r} is no agent type: not a subclass of livesync.SyncAgent")
    return found


def agent_type_name(agent_type: type[SyncAgent]) -> str:
    """Return the name under which ``agent_type`` is stored: its entry point's, else ``module:Class``."""
    reference = f"{agent_type.__module__}:{agent_type.__qualname__}"
    for name, point in agent_types().items():
        if point.value == reference:
            return name
    return reference
