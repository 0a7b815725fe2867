"""``livesync agent``: what there is, what it is made with, and whether it may run."""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from ..errors import NotInstalled, StateForbids, UsageError
from ..words import plural
from .exitcodes import ExitCode
from .output import printable
from .running import RUN_COUNTS
from .session import Session, as_usage, given_options
from .tables import duration, moment, print_table, utc
from .tasking import check_schedule, describe_next, describe_schedule

if TYPE_CHECKING:
    from ..manager import SyncManager
    from ..options import Option
    from ..status import AgentStatus
    from ..upkeep.dead import DeadLetter


#: Dead letters that ``agent show`` names; ``dead list`` names them all.
_DEAD_SHOWN: Final = 10

#: What ``agent show`` tells of each.
_LETTER_KEYS: Final = (
    "reason", "op", "position", "actions", "time", "first_time", "attempts", "size", "digest"
)  # fmt: skip

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
    from ..delivery.push import PushSyncAgent
    from ..manager import SyncManager

    args = session.args
    agent_type = load_agent_type(args.type)
    options = given_options(agent_type.declared_options(), args.options, session.directory)
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
    if isinstance(agent, PushSyncAgent):
        session.out.line(f"agent {agent.id} is added; it is new: send it everything that exists with")
        session.out.line(f"  livesync agent export {agent.id}")
        session.out.line(f"or let it begin now with: livesync agent activate {agent.id} --from-now")
    else:
        session.out.line(f"agent {agent.id} is added; let it begin with:")
        session.out.line(f"  livesync agent activate {agent.id} --from-now")
    session.out.json({"agent": agent.id, "state": "new", "installed": installed})
    return ExitCode.OK


def _for_site(site: str) -> str:
    return f", for site {site!r}" if site else ""


def show(session: Session) -> int:
    """Print all about one agent; of secrets only their references."""
    from ..delivery import ledger
    from ..upkeep.dead import list_dead

    agent_id = session.args.agent
    with session.reading() as manager:
        stored = manager.stored(agent_id)
        agent = manager.get_agent(agent_id)
        status = next(found for found in manager.status().agents if found.id == agent_id)
        options = {**stored.options, **agent.values}
        letters, dead = list_dead(manager, agent_id)
        runs = [{**entry, "balance": ledger.balance(entry)} for entry in ledger.entries(stored)]
        granularity = manager.granularity
    runs = runs[: session.args.runs]
    kept = {letter.object_id: _letter(letter) for letter in letters}
    more = {"options": options, "dead_letters": kept, "runs": runs}
    session.out.json({"agent": dataclasses.asdict(status) | more})
    for name, value in _facts(status, granularity):
        session.out.line(printable(f"{name + ':':<14}{value}"))
    session.out.line("options:")
    for name, value in sorted(options.items()):
        session.out.line(printable(f"  {name} = {'(not set)' if value is None else value}"))
    if runs:
        session.out.line("last runs:")
    for entry in runs:
        session.out.line(printable(f"  {_describe_entry(entry)}"))
    for letter in letters[:_DEAD_SHOWN]:
        session.out.line(printable(f"dead letter: {letter.object_id}: {letter.reason}"))
    if dead > _DEAD_SHOWN:
        session.out.line(f"and {dead - _DEAD_SHOWN:,} more: livesync dead list {agent_id}")
    return ExitCode.OK


def _letter(letter: DeadLetter) -> dict[str, Any]:
    values = dataclasses.asdict(letter)
    return {name: values[name] for name in _LETTER_KEYS}


def _facts(status: AgentStatus, granularity: int) -> list[tuple[str, str]]:
    facts = [
        ("agent", status.id),
        ("name", status.name),
        ("description", status.description),
        ("type", status.type_name),
        ("state", shown_state(status)),
        ("detail", status.detail),
        ("held", status.holder),
        ("pointer", "none" if status.state == "new" else moment(status.position, granularity)),
        ("lag", f"{plural(status.lag_actions, 'action')}, {duration(status.lag_seconds)}"),
        ("slow queue", plural(status.queued, "object") if status.queued else ""),
        ("schedule", describe_schedule(status.interval_s, status.cron, status.zone)),
        ("next run", "" if status.next_at is None else describe_next(status, time.time())),
        ("held back", held_back(status)),
        ("dead letters", str(status.dead)),
        ("last error", status.last_error),
        ("last run", _describe_run(status.last_run)),
        ("totals", _describe_totals(status.totals)),
    ]
    return [(name, text) for name, text in facts if text]


def held_back(status: AgentStatus) -> str:
    """Return why an agent does not run at its time, for people; "" where it does."""
    if status.schedule_problem:
        return status.schedule_problem
    if not status.held_until:
        return ""
    runs = plural(status.failures, "run has", "runs in a row have")
    return f"until {utc(status.held_until)}, since {runs} failed"


def _describe_run(run: Mapping[str, Any] | None) -> str:
    if not run:
        return "never"
    ended = f"; ended {utc(run['time'])}" if "time" in run else ""
    return f"{_describe_counts(run) or 'nothing delivered'}{ended}"


def _describe_counts(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{counts[name]:,} {name}" for name in RUN_COUNTS if counts.get(name))


def _describe_totals(totals: Mapping[str, Any]) -> str:
    """Return what all runs came to, and how long nineteen of twenty requests took at most."""
    from ..delivery.ledger import totals_histogram

    if not totals:
        return ""
    requests = totals.get("batches", 0)
    bound = totals_histogram(totals).quantile(0.95)
    pace = "" if bound is None else f"; {plural(requests, 'request')}"
    if bound is not None and bound < math.inf:
        pace += f", 95 % of them within {bound:g} s"
    return f"{_describe_counts(totals) or 'nothing delivered'}{pace}"


def _describe_entry(entry: Mapping[str, Any]) -> str:
    """Return one line of the ledger: when, what, how long, the counts, and what is wrong with it."""
    ended = entry["ended"]
    length = "not ended" if ended is None else f"{entry.get('seconds', 0.0):.2f} s"
    parts = [f"{utc(entry['began'])} {entry['kind']}, {length}: {_describe_counts(entry) or 'nothing'}"]
    if entry["balance"]:
        parts.append(f"does not balance: {entry['balance']:,}")
    if entry["error"]:
        parts.append(f"failed: {entry['error']}")
    return "; ".join(parts)


def edit(session: Session) -> int:
    """Change an agent's name, description or options."""
    from ..agent import load_agent_type

    args = session.args
    if args.name is None and args.description is None and not args.options:
        raise UsageError("nothing to change: give --name, --description or -o KEY=VALUE")

    def change(manager: SyncManager) -> bool:
        agent_type = load_agent_type(manager.stored(args.agent).type_name)
        given = given_options(agent_type.declared_options(), args.options, session.directory)
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

    def change(manager: SyncManager) -> tuple[str, bool]:
        stored = manager.stored(args.agent)
        if stored.state == "new" and not (args.from_start or args.from_now):
            raise StateForbids(
                f"agent {args.agent!r} is new: say where it begins, with --from-now or --from-start, or send"
                f" it everything that exists: livesync agent export {args.agent}",
                agent_id=args.agent,
                state=stored.state,
            )
        manager.activate(args.agent, from_start=args.from_start, from_now=args.from_now)
        return str(stored.state), stored.export is not None

    state, unfinished = session.change_manager(change)
    _done(session, f"is {state}", state=state, unfinished_export=unfinished)
    if unfinished:
        session.out.note(f"its export is not finished; to go on with it: livesync agent export {args.agent}")
    return ExitCode.OK


def pause(session: Session) -> int:
    """Keep an agent from running until it is activated."""
    from .. import leases

    agent_id = session.args.agent

    def change(manager: SyncManager) -> str:
        manager.pause(agent_id)
        return leases.holder(manager.stored(agent_id).lease, time.time())

    holder = session.change_manager(change)
    under_way = f"; what is under way ({holder}) ends after its slice" if holder else ""
    return _done(session, f"is paused; its pointer stays{under_way}", state="paused", holder=holder)


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
    """Set when an agent is due."""
    args = session.args
    check_schedule(args)
    cron = args.cron or ""
    session.change_manager(
        lambda manager: manager.set_schedule(args.agent, None if args.off else args.interval, cron, args.zone)
    )
    if args.off:
        text = "is not due by itself any more"
    else:
        text = f"is due {describe_schedule(args.interval, cron, args.zone)}"
    return _done(session, text, interval_s=args.interval, cron=cron, zone=args.zone)


def _done(session: Session, text: str, **values: Any) -> int:
    session.out.line(f"agent {session.args.agent} {text}")
    session.out.json({"agent": session.args.agent, **values})
    return ExitCode.OK
