"""The templates, in an environment of their own: nothing of a host's templates or filters gets in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from ... import words

if TYPE_CHECKING:
    from ..schemas import Agent, Counts, Task

#: Why livesync stopped an agent (``agent.StopReason``), for people.
_REASONS: Final[Mapping[str, str]] = {
    "failing": "its runs fail",
    "service_refuses": "the service refuses",
    "needs_export": "needs an export",
    "destination_differs": "another destination",
    "type_missing": "type missing",
}

#: What a job does, as a heading.
_DEEDS: Final[Mapping[str, str]] = {
    "run": "Run",
    "export": "Export",
    "verify": "Verify",
    "repair": "Repair",
    "simulate": "Simulate",
    "retry": "Retry dead letters of",
    "test": "Test the connection",
    "task": "Task",
}

#: What became of an item here and at the other end, in a conflict's kind.
_CLASH: Final[Mapping[str, str]] = {"insert": "created", "update": "changed", "delete": "deleted"}

#: Counts that are told of a run in this order, where they are not 0.
_COUNTS: Final = (
    "read", "accepted", "stale", "coalesced", "cancelled", "excluded", "cascaded", "dead", "retried"
)  # fmt: skip


def render(template: str, **values: Any) -> str:
    """Return a template of ``livesync/web/templates``, filled in; text is escaped, whatever it is."""
    return environment().get_template(template).render(**values)


@cache
def environment() -> Environment:
    """Return the environment of the templates; a name that is not given is an error."""
    made = Environment(
        loader=PackageLoader("livesync.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=False
    )
    made.filters.update(
        ago=words.ago,
        clash=told_clash,
        counts=told_counts,
        deed=lambda kind: _DEEDS.get(kind, kind),
        duration=words.duration,
        iso=words.iso,
        json=pretty_json,
        number=words.number,
        option=told_option,
        percent=percent,
        plain=told_value,
        plural=words.plural,
        reason=lambda reason: _REASONS.get(reason, reason),
        rest=lambda counts: told_counts(counts, leaving_out=("read", "accepted", "dead")),
        schedule=shown_schedule,
        size=words.size,
        utc=words.utc,
    )
    return made


def percent(part: float) -> str:
    """Return a part of the width or height as SVG takes it: ``12.5%``."""
    return f"{part * 100:.3f}".rstrip("0").rstrip(".") + "%"


def told_counts(counts: Counts, leaving_out: tuple[str, ...] = ()) -> str:
    """Return what a run came to, as one line; only what is not 0."""
    told = [
        f"{value:,} {name}"
        for name in _COUNTS
        if name not in leaving_out and (value := getattr(counts, name))
    ]
    return ", ".join(told) or ("" if leaving_out else "nothing delivered")


def told_clash(kind: str) -> str:
    """Return what met what in a conflict, for people: ``changed here, deleted there``."""
    words_of = kind.split("_")
    if len(words_of) != 4 or words_of[0] != "local":
        return "could not be applied"
    here, there = (_CLASH.get(word, word) for word in (words_of[1], words_of[3]))
    return f"{here} here and there" if here == there else f"{here} here, {there} there"


def shown_schedule(timed: Agent | Task) -> str:
    """Return a schedule for people: ``every 5 min``, ``at */15 * * * * UTC``, ``by hand``."""
    if timed.cron:
        return f"at {timed.cron} {timed.zone or 'UTC'}"
    return "by hand" if timed.interval_s is None else f"every {words.duration(timed.interval_s)}"


def told_option(value: Any) -> str:
    """Return an option's value for people."""
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def told_value(value: Any) -> str:
    """Return a plain value in one line for people."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return words.number(value)
    return told_option(value) if isinstance(value, (bool, str)) else json.dumps(value, ensure_ascii=False)


def pretty_json(value: Any) -> str:
    """Return plain values as JSON, indented."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
