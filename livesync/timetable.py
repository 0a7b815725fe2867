"""When something is to run: an interval or a cron expression, and how long to wait after failures.

All of it is a function of what is stored and of the time that is passed in, so every process that
looks at a database, and one that has just been started, comes to the same answer.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from .errors import UsageError

if TYPE_CHECKING:
    from .track.stored import StoredAgent, StoredTask

#: A run may begin this part of its interval early (and at most :data:`EARLY_S`): a timer that ticks
#: as often as the interval is long is never quite exact, and would make every second run wait.
EARLY: Final = 0.05
EARLY_S: Final = 5.0

#: After the first failure in a row nothing runs for this long; the wait doubles with each further one
#: and is never longer than the second figure; seconds.
BACKOFF_S: Final = 10.0
BACKOFF_CAP_S: Final = 900.0

#: Clocks of several machines differ by less than this; a run further in the future was noted by a clock
#: that has been set back since; seconds.
_SKEW_S: Final = 3600.0

#: The fields of a cron expression: minute, hour, day of the month, month, day of the week.
_CRON_FIELDS: Final = 5

_MISSING: Final = (
    "cron expressions need the extra cron: pip install 'zodb-livesync[cron]' (an interval needs nothing)"
)


def check_cron(expression: str, zone: str = "") -> str:
    """Return a cron expression in its usual form: five fields, a space between them.

    Args:
        expression: Minute, hour, day of the month, month, day of the week, as cron(8) of Debian reads them.
        zone: A time zone of the IANA database; "" is UTC.

    Raises:
        UsageError: It is none, it never comes, there is no such zone, or the extra is missing.
    """
    fields = expression.split()
    text = " ".join(fields)
    if len(fields) != _CRON_FIELDS:
        raise UsageError(
            f"{expression!r} is no cron expression: five fields, minute, hour, day, month, day of the week,"
            ' such as "*/15 * * * *"'
        )
    next_time(text, zone, 0.0)
    return text


def check_zone(zone: str) -> str:
    """Return the name of a time zone.

    Raises:
        UsageError: There is none of this name.
    """
    _zone(zone)
    return zone


def next_time(expression: str, zone: str, after: float) -> float:
    """Return when a cron expression comes next after a time; epoch seconds.

    Where clocks are turned back, what names an hour comes once; where they are turned forward over
    it, it comes right after.

    Raises:
        UsageError: As :func:`check_cron` has it.
    """
    try:
        from cronsim import CronSim, CronSimError
    except ImportError as exc:
        raise UsageError(_MISSING) from exc
    begin = datetime.datetime.fromtimestamp(after, _zone(zone))
    try:
        return float(next(CronSim(expression, begin)).timestamp())
    except CronSimError as exc:
        detail = f": {exc}" if str(exc) else ""
        raise UsageError(f"{expression!r} is no cron expression{detail}") from exc
    except StopIteration as exc:
        raise UsageError(f"the cron expression {expression!r} names a day that never comes") from exc


def _zone(name: str) -> datetime.tzinfo:
    if not name:
        return datetime.timezone.utc
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as exc:
        raise UsageError(f"there is no time zone {name!r}: write one such as Europe/Rome") from exc


@dataclass(frozen=True, slots=True)
class Schedule:
    """When an agent, or a task, is to run.

    Attributes:
        agent_id: Whose schedule it is.
        interval_s: Seconds from the beginning of one run to the next; None: not by an interval.
        last_began: When its last run began, epoch seconds; None: it never ran.
        cron: A cron expression; "": not by one.
        zone: The time zone of ``cron``; "": UTC.
        since: When this schedule was set, epoch seconds: no earlier time of ``cron`` counts.
        failures: How many runs have failed in a row.
        failed_at: When the last of them ended.
    """

    agent_id: str
    interval_s: float | None
    last_began: float | None = None
    cron: str = ""
    zone: str = ""
    since: float = 0.0
    failures: int = 0
    failed_at: float = 0.0

    @property
    def is_set(self) -> bool:
        """Whether it ever is due by itself."""
        return self.interval_s is not None or bool(self.cron)

    def due_at(self, now: float) -> float | None:
        """Return when it is due next, epoch seconds, in the past where it is due; None: never.

        A last run far in the future means that a clock was set back: it is due then, since waiting
        for it might take for ever.

        Raises:
            UsageError: Its cron expression cannot be read here.
        """
        if self.cron:
            base = self.since if self.last_began is None else max(self.last_began, self.since)
            return now if base > now + _SKEW_S else next_time(self.cron, self.zone, base)
        if self.interval_s is None:
            return None
        if self.last_began is None:
            return 0.0
        if now - self.last_began < -self.interval_s:
            return now
        return self.last_began + self.interval_s - min(self.interval_s * EARLY, EARLY_S)

    def held_until(self, now: float) -> float:
        """Return until when it is kept from running since it has failed, epoch seconds; 0: it is not."""
        if not self.failures:
            return 0.0
        until = self.failed_at + backoff_s(self.failures)
        return until if now < until <= now + BACKOFF_CAP_S else 0.0

    def next_at(self, now: float) -> float | None:
        """Return when it runs next, failures considered; epoch seconds; None: never by itself.

        Raises:
            UsageError: Its cron expression cannot be read here.
        """
        due = self.due_at(now)
        return None if due is None else max(due, self.held_until(now))

    def overdue_s(self, now: float) -> float | None:
        """Return for how many seconds it has been due at ``now`` (epoch seconds); None when it is not."""
        try:
            due = self.next_at(now)
        except UsageError:
            return None  # ``problem`` says why; nothing else is to wait for it
        return now - due if due is not None and due <= now else None

    def problem(self) -> str:
        """Return why it can never be due here, for people; "" where it can."""
        try:
            self.due_at(self.since)
        except UsageError as exc:
            return str(exc)
        return ""


def backoff_s(failures: int) -> float:
    """Return how many seconds nothing runs after so many failures in a row: exponential, capped."""
    if failures < 1:
        return 0.0
    return min(BACKOFF_CAP_S, BACKOFF_S * 2.0 ** min(failures - 1, 60))


def due_agents(schedules: Iterable[Schedule], now: float) -> list[str]:
    """Return the ids of what is due at ``now`` (epoch seconds), the longest overdue first."""
    due = [
        (overdue, schedule.agent_id)
        for schedule in schedules
        if (overdue := schedule.overdue_s(now)) is not None
    ]
    return [agent_id for _, agent_id in sorted(due, key=lambda item: (-item[0], item[1]))]


def schedule_of(agent_id: str, stored: StoredAgent | StoredTask) -> Schedule:
    """Return the schedule of an agent or a task, from what is stored of it."""
    last_run: dict[str, Any] = stored.last_run or {}
    ended = last_run.get("time")
    began = None if ended is None else ended - last_run.get("seconds", 0.0)
    return Schedule(
        agent_id,
        stored.interval_s,
        began,
        stored.cron,
        stored.zone,
        stored.scheduled_at,
        stored.failures,
        stored.failed_at,
    )


def set_schedule(
    stored: StoredAgent | StoredTask, interval_s: float | None, cron: str, zone: str, now: float
) -> None:
    """Give an agent or a task another schedule, or none, within the caller's transaction.

    Raises:
        ValueError: An interval that is not longer than 0 seconds, or an interval and an expression.
        UsageError: The expression or the zone is none.
    """
    if interval_s is not None and not interval_s > 0:
        raise ValueError(f"an interval is longer than 0 seconds, not {interval_s!r}")
    if interval_s is not None and cron:
        raise ValueError("an interval and a cron expression exclude each other")
    stored.interval_s = interval_s
    stored.cron = check_cron(cron, zone) if cron else ""
    stored.zone = zone if cron else ""
    stored.scheduled_at = now


def note_failure(stored: StoredAgent | StoredTask, now: float) -> None:
    """Count one more failure in a row, within the caller's transaction."""
    stored.failures += 1
    stored.failed_at = now


def note_success(stored: StoredAgent | StoredTask) -> bool:
    """Forget the failures before; return whether there were any."""
    if not stored.failures:
        return False
    stored.failures, stored.failed_at = 0, 0.0
    return True
