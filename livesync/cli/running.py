"""``livesync run`` and ``livesync agent run``: deliver what has changed, once."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from .exitcodes import ExitCode, gravest
from .failures import Failure
from .output import Output, printable
from .session import Session
from .signals import stopping
from .tasking import report_task, task_as_json, task_code

if TYPE_CHECKING:
    from ..delivery.record import RunResult
    from ..tasks import AgentOutcome


#: The counts of a run that people are told, in this order.
RUN_COUNTS: Final = (
    "read", "accepted", "stale", "coalesced", "cancelled", "excluded", "cascaded", "dead", "retried"
)  # fmt: skip

#: Records set aside that are named one by one.
_DEAD_LINES: Final = 100


def run(session: Session) -> int:
    """Run every active agent once, or those that are named."""
    return _run(session, session.args.agents, session.args.due)


def run_agent(session: Session) -> int:
    """Run one agent once, whether it is due or not."""
    return _run(session, [session.args.agent], only_due=False)


def _run(session: Session, agents: Sequence[str], only_due: bool) -> int:
    from ..periodic.running import DueTasks
    from ..tasks import LiveSyncUpdateTask
    from ..upkeep.notices import NoticeSettings

    host = session.settings.load_host()
    notices = NoticeSettings.of(session.settings.notices)
    site = session.settings.site
    with session.database() as db, stopping() as stop:
        outcomes = LiveSyncUpdateTask(db, host, site, agents, only_due, notices).run(time.time(), stop)
        with_tasks = only_due and not agents and not stop()
        done = DueTasks(db, host, site).run(time.time(), stop) if with_tasks else []
        interrupted = stop()
    failures = [_report(session, outcome) for outcome in outcomes]
    if not outcomes:
        session.out.line("no agent is due" if only_due else "no agent is active")
    task_failures = [report_task(session, outcome) for outcome in done]
    told = {"agents": [_as_json(*pair) for pair in zip(outcomes, failures, strict=True)]}
    if with_tasks:
        told["tasks"] = [task_as_json(*pair) for pair in zip(done, task_failures, strict=True)]
    session.out.json(told)
    codes = [_code(*pair) for pair in zip(outcomes, failures, strict=True)]
    codes += [task_code(*pair, named=False) for pair in zip(done, task_failures, strict=True)]
    return gravest([*codes, ExitCode.INTERRUPTED] if interrupted else codes)


def _report(session: Session, outcome: AgentOutcome) -> Failure | None:
    """Say what an agent's run came to; return its failure, if it failed."""
    if outcome.error is not None:
        failure = Failure.of(outcome.error, session.settings.db)
        session.out.note(f"livesync: agent {outcome.agent_id}: {failure.message}")
        return failure
    if outcome.result is None:
        session.out.line(printable(f"{outcome.agent_id}: left alone, a runner is at it: {outcome.held}"))
        return None
    session.out.line(f"{outcome.agent_id}: {describe_result(outcome.result)}")
    report_dead(session.out, outcome.agent_id, outcome.result)
    return None


def report_dead(out: Output, agent_id: str, result: RunResult) -> None:
    """Say which records were set aside, and why, on standard error: the first hundred of them."""
    for dead in result.dead_records[:_DEAD_LINES]:
        out.note(f"livesync: agent {agent_id}: set aside {dead.object_id}: {dead.reason}")
    left = result.dead - _DEAD_LINES
    if left > 0:
        out.note(f"livesync: agent {agent_id}: and {left:,} more: livesync dead list {agent_id}")


def _code(outcome: AgentOutcome, failure: Failure | None) -> ExitCode:
    if failure is not None:
        return failure.code
    return ExitCode.DEAD_LETTERS if outcome.result is not None and outcome.result.dead else ExitCode.OK


def _as_json(outcome: AgentOutcome, failure: Failure | None) -> dict[str, Any]:
    return {
        "id": outcome.agent_id,
        "result": None if outcome.result is None else result_as_json(outcome.result),
        "error": None if failure is None else failure.as_json(),
        "held": outcome.held,
    }


def result_as_json(result: RunResult) -> dict[str, Any]:
    """Return what a run came to, for ``--json``."""
    dead = [
        {"id": record.object_id, "op": record.op.value, "position": record.position, "reason": record.reason}
        for record in result.dead_records
    ]
    return dataclasses.asdict(dataclasses.replace(result, dead_records=[])) | {"dead_records": dead}


def describe_result(result: RunResult) -> str:
    """Return what a run came to, in one line: what was read and accepted, what else is not 0, the pointer."""
    till = "before everything" if result.till is None else f"at {result.till}"
    return printable(f"{_counts_of(result)}; pointer {till}; {result.seconds:.2f} s")


def describe_counts(result: RunResult) -> str:
    """Return what sending some objects came to, in one line; the pointer has nothing to do with it."""
    return f"{_counts_of(result)}; {result.seconds:.2f} s"


def _counts_of(result: RunResult) -> str:
    counts = ((name, getattr(result, name)) for name in RUN_COUNTS)
    told = [
        f"{number:,} {'set aside' if name == 'dead' else name}"
        for name, number in counts
        if number or name in ("read", "accepted")
    ]
    return ", ".join(told)
