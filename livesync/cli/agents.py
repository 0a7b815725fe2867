"""``livesync agent``: what there is, what it is made with, and whether it may run."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from ..errors import NotInstalled, OptionError, StateForbids, UsageError
from .exitcodes import ExitCode
from .output import printable
from .running import RUN_COUNTS
from .session import Session, as_usage
from .tables import duration, moment, print_table, utc

if TYPE_CHECKING:
    from ..agent import SyncAgent
    from ..manager import SyncManager
    from ..options import Option
    from ..status import AgentStatus


#: Markup of Sphinx in the first line of a docstring.
_ROLE: Final = re.compile(r":\w+:`~?([^`]+)`")


def list_agents(session: Session) -> int:
    """Print the agents, a line each."""
    with session.reading() as manager:
        agents = manager.status().agents
    session.out.json({"agents": [dataclasses.asdict(agent) for agent in agents]})
    if not agents:
        session.out.line("there is no agent yet; add one: livesync agent add ID --type TYPE")
        return ExitCode.OK
    rows = [(agent.id, agent.type_name, shown_state(agent), agent.name) for agent in agents]
    print_table(session.out, ("AGENT", "TYPE", "STATE", "NAME"), rows)
    return ExitCode.OK


def shown_state(agent: AgentStatus) -> str:
    """Return an agent's state, with the reason where it is stopped."""
    return f"{agent.state}: {agent.reason}" if agent.reason else agent.state


def types(session: Session) -> int:
    """Print the agent types that are installed, with their options."""
    from ..agent import agent_types, load_agent_type
    from ..errors import UnknownAgentType

    listed: list[dict[str, Any]] = []
    for name in agent_types():
        try:
            agent_type = load_agent_type(name)
        except UnknownAgentType as exc:
            session.out.line(printable(f"{name}: {exc}"))
            listed.append({"name": name, "help": "", "error": str(exc), "options": []})
            continue
        summary = _ROLE.sub(r"\1", ((agent_type.__doc__ or "").strip().splitlines() or [""])[0])
        session.out.line(printable(f"{name}: {summary}"))
        for option in agent_type.declared_options():
            session.out.line(printable(f"  {_describe_option(option)}"))
        options = [dataclasses.asdict(option) for option in agent_type.declared_options()]
        listed.append({"name": name, "help": summary, "error": None, "options": options})
    session.out.json({"types": listed})
    return ExitCode.OK


def _describe_option(option: Option) -> str:
    from ..options import OPTION_TYPES

    form = "|".join(map(str, option.choices)) if option.choices else OPTION_TYPES[option.type]
    facts = [form]
    if option.required:
        facts.append("needed")
    elif option.default is not None:
        facts.append(f"default {option.default}")
    return f"-o {option.name}=…  {option.help} ({'; '.join(facts)})"


def add(session: Session) -> int:
    """Add an agent, and install livesync where it is not yet."""
    from ..agent import load_agent_type
    from ..manager import SyncManager

    args = session.args
    agent_type = load_agent_type(args.type)
    options = _given_options(agent_type, args.options)
    agent = as_usage(lambda: agent_type(args.agent, args.name, args.description or "", **options))

    def change(root: MutableMapping[str, Any]) -> bool:
        try:
            manager, installed = SyncManager.get(root), False
        except NotInstalled:
            manager, installed = SyncManager.install(root, site=session.settings.site), True
        as_usage(lambda: manager.register_agent(agent))
        return installed

    installed = session.write(change)
    if installed:
        session.out.line(f"livesync is installed now{_for_site(session.settings.site)}")
    session.out.line(f"agent {agent.id} is added; it is new: send it everything that exists with")
    session.out.line(f"  livesync agent export {agent.id}")
    session.out.line(f"or let it begin now with: livesync agent activate {agent.id} --from-now")
    session.out.json({"agent": agent.id, "state": "new", "installed": installed})
    return ExitCode.OK


def _for_site(site: str) -> str:
    return f", for site {site!r}" if site else ""


def _given_options(agent_type: type[SyncAgent], pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Return the options of ``-o KEY=VALUE``.

    Raises:
        OptionError: One of them is none of the type's, or is given twice.
    """
    declared = {option.name for option in agent_type.declared_options()}
    given: dict[str, str] = {}
    for key, value in pairs:
        if key not in declared:
            raise OptionError(f"there is no option {key!r}; there are: {', '.join(sorted(declared))}")
        if key in given:
            raise OptionError(f"option {key} is given twice")
        given[key] = value
    return given


def show(session: Session) -> int:
    """Print all about one agent; of secrets only their references."""
    agent_id = session.args.agent
    with session.reading() as manager:
        manager.stored(agent_id)
        agent = manager.get_agent(agent_id)
        status = next(found for found in manager.status().agents if found.id == agent_id)
        options = {**manager.stored(agent_id).options, **agent.values}
        dead = {key: dict(letter) for key, letter in manager.dead_letters(agent_id).items()}
        granularity = manager.granularity
    session.out.json({"agent": dataclasses.asdict(status) | {"options": options, "dead_letters": dead}})
    for name, value in _facts(status, granularity):
        session.out.line(printable(f"{name + ':':<14}{value}"))
    session.out.line("options:")
    for name, value in sorted(options.items()):
        session.out.line(printable(f"  {name} = {'(not set)' if value is None else value}"))
    for object_id, letter in dead.items():
        session.out.line(printable(f"dead letter: {object_id}: {letter.get('reason', '')}"))
    return ExitCode.OK


def _facts(status: AgentStatus, granularity: int) -> list[tuple[str, str]]:
    facts = [
        ("agent", status.id),
        ("name", status.name),
        ("description", status.description),
        ("type", status.type_name),
        ("state", shown_state(status)),
        ("detail", status.detail),
        ("pointer", "none" if status.state == "new" else moment(status.position, granularity)),
        ("lag", f"{status.lag_actions:,} actions, {duration(status.lag_seconds)}"),
        ("interval", "none" if status.interval_s is None else duration(status.interval_s)),
        ("dead letters", str(status.dead)),
        ("last error", status.last_error),
        ("last run", _describe_run(status.last_run)),
    ]
    return [(name, text) for name, text in facts if text]


def _describe_run(run: Mapping[str, Any] | None) -> str:
    if not run:
        return "never"
    counts = ", ".join(f"{run[name]:,} {name}" for name in RUN_COUNTS if run.get(name))
    ended = f"; ended {utc(run['time'])}" if "time" in run else ""
    return f"{counts or 'nothing delivered'}{ended}"


def edit(session: Session) -> int:
    """Change an agent's name, description or options."""
    from ..agent import load_agent_type

    args = session.args
    if args.name is None and args.description is None and not args.options:
        raise UsageError("nothing to change: give --name, --description or -o KEY=VALUE")

    def change(manager: SyncManager) -> bool:
        agent_type = load_agent_type(manager.stored(args.agent).type_name)
        given = _given_options(agent_type, args.options)
        options = {key: value or None for key, value in given.items()}
        return as_usage(lambda: manager.edit_agent(args.agent, args.name, args.description, options))

    moved = session.change_manager(change)
    session.out.line(f"agent {args.agent} is changed")
    if moved:
        session.out.line(
            f"it names another destination now and is stopped; send it everything: livesync agent export"
            f" {args.agent}"
        )
    session.out.json({"agent": args.agent, "needs_export": moved})
    return ExitCode.OK


def remove(session: Session) -> int:
    """Remove an agent; its destination stays as it is."""
    session.change_manager(lambda manager: manager.remove_agent(session.args.agent))
    return _done(session, "is removed; what its service holds stays there", removed=True)


def activate(session: Session) -> int:
    """Let an agent run; a new one has to be told where it begins."""
    args = session.args

    def change(manager: SyncManager) -> None:
        stored = manager.stored(args.agent)
        if stored.state == "new" and not (args.from_start or args.from_now):
            raise StateForbids(
                f"agent {args.agent!r} is new: say where it begins, with --from-now or --from-start, or send"
                f" it everything that exists: livesync agent export {args.agent}",
                agent_id=args.agent,
                state=stored.state,
            )
        manager.activate(args.agent, from_start=args.from_start, from_now=args.from_now)

    session.change_manager(change)
    return _done(session, "is active", state="active")


def pause(session: Session) -> int:
    """Keep an agent from running until it is activated."""
    session.change_manager(lambda manager: manager.pause(session.args.agent))
    return _done(session, "is paused; its pointer stays", state="paused")


def rewind(session: Session) -> int:
    """Put a paused agent's pointer elsewhere."""
    args = session.args

    def change(manager: SyncManager) -> int:
        position: int = args.to.position(manager.granularity)
        as_usage(lambda: manager.rewind(args.agent, position))
        return position

    position = session.change_manager(change)
    return _done(session, f"goes on after position {position}, once it is activated", position=position)


def add_task(session: Session) -> int:
    """Set how often an agent is due."""
    seconds = None if session.args.off else session.args.interval
    session.change_manager(lambda manager: manager.set_interval(session.args.agent, seconds))
    text = "is not due by itself any more" if seconds is None else f"is due every {duration(seconds)}"
    return _done(session, text, interval_s=seconds)


def _done(session: Session, text: str, **values: Any) -> int:
    session.out.line(f"agent {session.args.agent} {text}")
    session.out.json({"agent": session.args.agent, **values})
    return ExitCode.OK
