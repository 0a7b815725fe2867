"""What takes longer than a request: jobs, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final

import msgspec

from ...database import connected
from ...delivery.record import Record, RunResult, encode_document
from ...delivery.render import Spool
from ...delivery.simulate import simulate
from ...errors import LiveSyncError, UsageError
from ...manager import SyncManager
from ...tasks import LiveSyncUpdateTask
from ...upkeep import dead, export, sending, verify
from .. import schemas
from ..context import WebContext
from ..jobs import JobControl, StartedJob
from .dead import chosen_ids
from .paging import PAGE, page_of
from .status import shown_counts

#: Differences of a verification that are remembered; the command line names them all.
_DIFFERENCES: Final = 100

#: Bytes of documents that a simulation remembers.
_DOCUMENT_BYTES: Final = 1_000_000


def run_agent(ctx: WebContext, agent_id: str, who: str = "") -> schemas.Job:
    """Begin to run an agent once, now.

    Raises:
        UnknownAgent: There is none of this id.
        SiteDiffers: The database is a copy: nothing is pushed.
        SameAtWork, TooBusy: No more is taken now.
    """
    _check(ctx, agent_id)

    def work(control: JobControl) -> schemas.RunOutcome:
        task = LiveSyncUpdateTask(ctx.db, ctx.host, ctx.site, [agent_id], only_due=False, notices=ctx.notices)
        (outcome,) = task.run(ctx.clock(), control.stop) or (None,)
        if outcome is None:
            return _outcome(ctx, agent_id, RunResult(), complete=False)
        if outcome.error is not None:
            raise outcome.error
        return _outcome(ctx, agent_id, outcome.result or RunResult(), not control.stop(), outcome.held)

    return started(ctx, "run", agent_id, who, work)


def export_agent(ctx: WebContext, agent_id: str, what: schemas.Export, who: str = "") -> schemas.Job:
    """Begin to send everything that exists to an agent's service and go live; or to send some objects.

    Raises:
        UnknownAgent: There is none of this id.
        UsageError: What is to be sent contradicts itself.
        SiteDiffers: The database is a copy: nothing is pushed.
        SameAtWork, TooBusy: No more is taken now.
    """
    parts = sum((what.under is not None, bool(what.object_ids), what.failed))
    if parts > 1:
        raise UsageError("one part at a time: what lies under an object, objects by id, or what failed")
    if parts and (what.mode != "initial" or what.rebuild or what.anew):
        raise UsageError("a mode, rebuild and anew are for exports of everything")
    _check(ctx, agent_id)

    def work(control: JobControl) -> schemas.RunOutcome:
        with _working(ctx) as manager:
            result = (
                _send_part(ctx, manager, agent_id, what, control)
                if parts
                else export.export(
                    manager,
                    agent_id,
                    ctx.host,
                    lambda progress: control.progress(progress.done, progress.total),
                    control.stop,
                    mode=export.Mode(what.mode),
                    rebuild=what.rebuild,
                    anew=what.anew,
                )
            )
        return _outcome(ctx, agent_id, result, not control.stop())

    return started(ctx, "export", agent_id, who, work)


def _send_part(
    ctx: WebContext, manager: SyncManager, agent_id: str, what: schemas.Export, control: JobControl
) -> RunResult:
    if what.under is not None:
        spool = sending.ids_under(manager, ctx.host, what.under)
    elif what.failed:
        spool = dead.spool_dead(manager, agent_id)
    else:
        spool = Spool()
        for object_id in dict.fromkeys(what.object_ids):
            spool.put(object_id)
    try:
        control.progress(0, spool.count)
        if not spool.count:
            return RunResult()
        return sending.send_some(
            manager, agent_id, ctx.host, spool, progress=control.progress, stop=control.stop
        )
    finally:
        spool.close()


def verify_agent(ctx: WebContext, agent_id: str, how: schemas.Verify, who: str = "") -> schemas.Job:
    """Begin to compare what an agent's service holds with what the application has.

    Raises:
        UnknownAgent: There is none of this id.
        SiteDiffers: The database is a copy.
        SameAtWork, TooBusy: No more is taken now.
    """
    return _compared(ctx, "verify", agent_id, how, who, lambda manager, found, control: None)


def repair_agent(ctx: WebContext, agent_id: str, how: schemas.Verify, who: str = "") -> schemas.Job:
    """Begin to verify an agent's service, and mend what differs.

    Raises:
        UnknownAgent: There is none of this id.
        SiteDiffers: The database is a copy.
        SameAtWork, TooBusy: No more is taken now.
    """

    def mend(manager: SyncManager, found: verify.Verification, control: JobControl) -> schemas.RunOutcome:
        result = RunResult()
        if found.complete and found.differs:
            control.progress(0, found.missing + found.stale + found.orphaned)
            result = verify.repair(manager, agent_id, ctx.host, found, control.progress, control.stop)
        return _outcome(ctx, agent_id, result, not control.stop())

    return _compared(ctx, "repair", agent_id, how, who, mend)


def _compared(
    ctx: WebContext,
    kind: str,
    agent_id: str,
    how: schemas.Verify,
    who: str,
    then: Callable[[SyncManager, verify.Verification, JobControl], schemas.RunOutcome | None],
) -> schemas.Job:
    """Begin a comparison, and do what is to be done with what it finds while that is at hand."""
    _check(ctx, agent_id)

    def work(control: JobControl) -> schemas.VerifyOutcome:
        with (
            _working(ctx) as manager,
            verify.verify(manager, agent_id, ctx.host, how.quick, control.progress, control.stop) as found,
        ):
            return _verified(found, then(manager, found, control))

    return started(ctx, kind, agent_id, who, work)


def simulate_agent(ctx: WebContext, agent_id: str, what: schemas.Simulate, who: str = "") -> schemas.Job:
    """Begin to find out what a run would send; nothing is sent and nothing changes.

    Raises:
        UnknownAgent: There is none of this id.
        SameAtWork, TooBusy: No more is taken now.
    """
    _check(ctx, agent_id, pushes=False)

    def work(control: JobControl) -> schemas.SimulateOutcome:
        with _working(ctx) as manager:
            records = simulate(manager, agent_id, ctx.host)
            try:
                return _simulated(records, what, control)
            finally:
                close = getattr(records, "close", None)
                if close is not None:
                    close()

    return started(ctx, "simulate", agent_id, who, work)


def _simulated(
    records: Iterator[Record], what: schemas.Simulate, control: JobControl
) -> schemas.SimulateOutcome:
    shown: list[schemas.SimulatedRecord] = []
    room = _DOCUMENT_BYTES
    for record in records:
        if len(shown) == what.limit or room < 0 or control.stop():
            return schemas.SimulateOutcome(records=shown, more=True)
        document: Any = None
        if what.documents and record.document is not None:
            body = encode_document(record.document)
            room -= len(body)
            document = msgspec.json.decode(body)
        shown.append(
            schemas.SimulatedRecord(
                op=record.op.value,
                object_id=record.object_id,
                position=record.position,
                actions=sorted(record.actions),
                document=document,
            )
        )
        control.progress(len(shown))
    return schemas.SimulateOutcome(records=shown, more=False)


def retry_dead(ctx: WebContext, agent_id: str, what: schemas.Retry, who: str = "") -> schemas.Job:
    """Begin to send the objects of dead letters as they are now.

    Raises:
        UnknownAgent: There is none of this id.
        UsageError: Objects and ``all`` are given, or neither.
        SiteDiffers: The database is a copy: nothing is pushed.
        SameAtWork, TooBusy: No more is taken now.
    """
    chosen = chosen_ids(what.object_ids, what.all)
    _check(ctx, agent_id)

    def work(control: JobControl) -> schemas.RunOutcome:
        with _working(ctx) as manager:
            control.progress(0, len(manager.stored(agent_id).dead if chosen is None else chosen))
            result = dead.retry_dead(manager, agent_id, ctx.host, chosen, control.progress, control.stop)
        return _outcome(ctx, agent_id, result, not control.stop())

    return started(ctx, "retry", agent_id, who, work)


# -- jobs ----------------------------------------------------------------------------------------


def list_jobs(ctx: WebContext, cursor: str | None = None, limit: int = PAGE) -> schemas.JobPage:
    """Return the jobs that are remembered, the newest first, without their results.

    Raises:
        BadRequest: The cursor or the limit is none.
    """
    page, following = page_of(ctx.jobs.all(), cursor, limit)
    return schemas.JobPage(jobs=[_shown(job, with_result=False) for job in page], next=following)


def get_job(ctx: WebContext, job_id: str) -> schemas.Job:
    """Return a job, with its result once there is one.

    Raises:
        UnknownJob: There is none of this id, or no longer.
    """
    return _shown(ctx.jobs.get(job_id))


def cancel_job(ctx: WebContext, job_id: str) -> schemas.Job:
    """Ask a job to end; it does after what is under way, and what it has done stays done.

    Raises:
        UnknownJob: There is none of this id, or no longer.
    """
    job = ctx.jobs.get(job_id)
    job.control.ask_to_stop()
    return _shown(job)


def started(
    ctx: WebContext, kind: str, agent_id: str, who: str, work: Callable[[JobControl], Any]
) -> schemas.Job:
    """Let ``work`` be done and return its job.

    Raises:
        SameAtWork, TooBusy: No more is taken now.
    """
    return _shown(ctx.jobs.start(kind, agent_id, who, work))


def _shown(job: StartedJob, with_result: bool = True) -> schemas.Job:
    return schemas.Job(
        id=job.id,
        kind=job.kind,
        agent_id=job.agent_id,
        state=job.state,
        who=job.who,
        created=job.created,
        began=job.began,
        ended=job.ended,
        done=job.control.done,
        total=job.control.total,
        result=job.result if with_result else None,
        error=None if job.error is None else _problem(job.error),
    )


def _problem(error: Exception) -> schemas.Problem:
    from ..problems import problem_of

    found = problem_of(error)
    return schemas.Problem(code=found.code, message=found.message)


def _check(ctx: WebContext, agent_id: str, pushes: bool = True) -> None:
    """Make sure that there is such an agent and, where something ``pushes``, that it may do so here."""
    with ctx.reading() as manager:
        if pushes:
            manager.check_site(ctx.site)
        manager.stored(agent_id)


@contextmanager
def _working(ctx: WebContext) -> Iterator[SyncManager]:
    """Give a manager to what opens transactions of its own; it is not read from but at once."""
    with connected(ctx.db) as root:
        yield SyncManager.get(root)


def _outcome(
    ctx: WebContext, agent_id: str, result: RunResult, complete: bool, left_alone: str = ""
) -> schemas.RunOutcome:
    try:
        with ctx.reading() as manager:
            state = str(manager.stored(agent_id).state)
    except LiveSyncError:
        state = ""  # it was removed meanwhile: what was delivered is delivered
    counts = {name: getattr(result, name, 0) for name in schemas.Counts.__struct_fields__}
    return schemas.RunOutcome(
        complete=complete,
        seconds=result.seconds,
        till=result.till,
        counts=shown_counts(counts),
        state=state,
        left_alone=left_alone,
    )


def _verified(found: verify.Verification, repaired: schemas.RunOutcome | None) -> schemas.VerifyOutcome:
    differences = [
        schemas.Difference(kind=kind, object_id=object_id, detail=detail)
        for kind, object_id, detail in islice(found, _DIFFERENCES)
    ]
    room = _DIFFERENCES - len(differences)
    differences += [
        schemas.Difference(kind="not_comparable", object_id=one.object_id, detail=one.reason)
        for one in islice(found.not_compared(), room)
    ]
    return schemas.VerifyOutcome(
        complete=found.complete,
        differs=found.differs,
        checked=found.checked,
        expected=found.expected,
        held=found.held,
        missing=found.missing,
        stale=found.stale,
        orphaned=found.orphaned,
        pending=found.pending,
        not_comparable=found.not_comparable,
        kept_back=found.kept_back,
        seconds=found.seconds,
        differences=differences,
        repaired=repaired,
    )
