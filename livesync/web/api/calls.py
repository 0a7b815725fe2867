"""The operations of the API as a table, from which its routes and its description are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pyramid.request import Request

from .. import operations as ops
from .. import schemas, security
from ..context import WebContext
from ..operations.paging import LARGEST_PAGE, PAGE


@dataclass(frozen=True, slots=True)
class Call:
    """One request, checked.

    Attributes:
        ctx: What operations are given.
        request: The request.
        path, query: Its parameters, of the declared types.
        body: Its body, of the declared type.
    """

    ctx: WebContext
    request: Request
    path: Mapping[str, Any]
    query: Mapping[str, Any]
    body: Any

    @property
    def agent(self) -> str:
        """The agent that the path names."""
        return str(self.path["agent"])

    @property
    def who(self) -> str:
        """Who makes the request, for people."""
        found = self.request.livesync_identity
        return "" if found is None else str(found.name)

    @property
    def page(self) -> dict[str, Any]:
        """The part of a list that is asked for."""
        return {"cursor": self.query.get("cursor"), "limit": self.query.get("limit", PAGE)}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a path or query; ``schema`` as JSON Schema has it."""

    name: str
    schema: Mapping[str, Any]
    help: str
    where: str = "query"
    required: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the API.

    Attributes:
        method, path: Of HTTP; the path below ``/api/v1``.
        name: ``operationId``.
        role: Who may: ``public``, ``see`` or ``operate``.
        group: Of which chapter.
        help: One line.
        call: Does it.
        answer: The type of what is answered; None: nothing.
        body: The type of what comes in; None: nothing does.
        status: Of the answer.
        parameters: Of path and query.
        errors: Statuses of errors besides those of every operation.
        checks_token: Whether a request by cookie needs the token of forms.
    """

    method: str
    path: str
    name: str
    role: str
    group: str
    help: str
    call: Callable[[Call], Any]
    answer: type | None
    body: type | None = None
    status: int = 200
    parameters: tuple[Parameter, ...] = ()
    errors: tuple[int, ...] = ()
    checks_token: bool = True


_CURSOR: Final = Parameter(
    "cursor", {"type": "string", "pattern": "^[0-9]{1,9}$"}, "What the page before gave as `next`."
)
_TRACK_CURSOR: Final = Parameter(
    "cursor", {"type": "string", "pattern": r"^[0-9]{1,18}\.[0-9]{1,18}$"}, _CURSOR.help
)
_LIMIT: Final = Parameter(
    "limit",
    {"type": "integer", "minimum": 1, "maximum": LARGEST_PAGE, "default": PAGE},
    "Most items of the page.",
)
_PAGED: Final = (_CURSOR, _LIMIT)
_POSITION: Final = {"type": "integer", "minimum": 0, "maximum": 2**62}
_OBJECT_ID: Final = Parameter(
    "object_id", {"type": "string", "minLength": 1, "maxLength": 512}, "The object.", required=True
)
_AGENT_ID: Final = {"type": "string", "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$"}
_AGENT: Final = Parameter("agent", _AGENT_ID, "The agent.", "path", True)
_OF_AGENT: Final = Parameter("agent", _AGENT_ID, "Of this agent only.")
_TASK: Final = Parameter("task", _AGENT_ID, "The task.", "path", True)
_JOB: Final = Parameter("job", {"type": "string", "pattern": "^[0-9a-f]{16}$"}, "The job.", "path", True)

_COLLECTION: Final = Parameter(
    "collection", {"type": "string", "minLength": 1, "maxLength": 200}, "The collection.", "path", True
)
_VERSION: Final = Parameter(
    "version", {"type": "string", "pattern": "^[0-9a-f]{64}$"}, "The version's id.", "path", True
)
_DOCUMENT_ID: Final = Parameter("document_id", _OBJECT_ID.schema, "The document.", required=True)


def _me(call: Call) -> schemas.Me:
    who = call.request.livesync_identity
    token = None if who.via == "token" else call.request.livesync_csrf_token
    return schemas.Me(name=who.name, role=who.role.value, via=who.via, csrf_token=token)


def _log_in(call: Call) -> schemas.Me:
    user = security.log_in(call.request, call.body.name, call.body.password)
    token = call.request.livesync_app.sessions.csrf_token(
        call.request.livesync_session, f"session:{user.name}"
    )
    return schemas.Me(name=user.name, role=user.role.value, via="session", csrf_token=token)


def _log_out(call: Call) -> None:
    security.log_out(call.request)


def _job(
    name: str, path: str, help_: str, call: Callable[[Call], Any], body: type | None = None
) -> Operation:
    return Operation(
        "POST", f"/agents/{{agent}}/{path}", name, "operate", "work", help_, call, schemas.Job, body,
        status=202, parameters=(_AGENT,), errors=(404, 409, 422),
    )  # fmt: skip


#: Every operation, in the order of the description.
OPERATIONS: Final = (
    Operation(
        "GET", "/session", "getSession", "see", "session",
        "Who makes the request, and the token that scripts of pages send as X-CSRF-Token.", _me, schemas.Me,
    ),
    Operation(
        "POST", "/session", "logIn", "public", "session",
        "Log in by name and password; the answer sets a cookie.", _log_in, schemas.Me, schemas.Login,
        errors=(429,), checks_token=False,
    ),
    Operation(
        "DELETE", "/session", "logOut", "see", "session", "Log out: the cookie is worth nothing any more.",
        _log_out, None, status=204,
    ),
    Operation(
        "GET", "/status", "getStatus", "see", "status", "Where the track and all agents stand.",
        lambda call: ops.get_status(call.ctx), schemas.Status,
    ),
    Operation(
        "GET", "/samples", "getSamples", "see", "status",
        "How far the agents were behind in the last hour, as far as somebody has looked.",
        lambda call: ops.get_samples(call.ctx), schemas.Samples,
    ),
    Operation(
        "GET", "/track", "listTrack", "see", "track", "What lies on the track, the newest first.",
        lambda call: ops.list_track(
            call.ctx, **call.page, after=call.query.get("after"), till=call.query.get("till")
        ),
        schemas.TrackPage,
        parameters=(
            _TRACK_CURSOR,
            _LIMIT,
            Parameter("after", _POSITION, "Only what lies after this position."),
            Parameter("till", _POSITION, "Only what lies at or before this position."),
        ),
    ),
    Operation(
        "GET", "/waiting", "listWaiting", "see", "track", "What waits in the inbox, the oldest first.",
        lambda call: ops.list_waiting(call.ctx, call.query.get("limit", PAGE)), schemas.WaitingPage,
        parameters=(_LIMIT,),
    ),
    Operation(
        "POST", "/track/prune", "prune", "operate", "track",
        "Drop from the track what every agent has delivered and nobody looks back at any more.",
        lambda call: ops.prune(call.ctx, call.body), schemas.Pruned, schemas.Prune, errors=(422,),
    ),
    Operation(
        "GET", "/agent-types", "listAgentTypes", "see", "agents",
        "The agent types that are installed, with their options.",
        lambda call: ops.agent_types(call.ctx), schemas.AgentTypes,
    ),
    Operation(
        "POST", "/connection-tests", "testConnection", "operate", "agents",
        "Ask the service that an agent of this type and these options would have.",
        lambda call: ops.try_options(call.ctx, call.body, call.who), schemas.Job, schemas.Connection,
        status=202, errors=(409, 422),
    ),
    Operation(
        "GET", "/agents", "listAgents", "see", "agents", "The agents, by id.",
        lambda call: ops.list_agents(call.ctx, **call.page), schemas.AgentPage, parameters=_PAGED,
    ),
    Operation(
        "POST", "/agents", "addAgent", "operate", "agents", "Add an agent; it is new and does not run yet.",
        lambda call: ops.add_agent(call.ctx, call.body), schemas.Agent, schemas.NewAgent, status=201,
        errors=(422,),
    ),
    Operation(
        "GET", "/agents/{agent}", "showAgent", "see", "agents",
        "All about one agent; of secrets only their references.",
        lambda call: ops.show_agent(call.ctx, call.agent), schemas.AgentDetail, parameters=(_AGENT,),
        errors=(404,),
    ),
    Operation(
        "PATCH", "/agents/{agent}", "editAgent", "operate", "agents",
        "Change what is given and leave the rest.",
        lambda call: ops.edit_agent(call.ctx, call.agent, call.body), schemas.Edited, schemas.AgentEdit,
        parameters=(_AGENT,), errors=(404, 422),
    ),
    Operation(
        "DELETE", "/agents/{agent}", "removeAgent", "operate", "agents",
        "Remove an agent with its pointer and its dead letters; what its service holds stays there.",
        lambda call: ops.remove_agent(call.ctx, call.agent), None, status=204, parameters=(_AGENT,),
        errors=(404,),
    ),
    Operation(
        "POST", "/agents/{agent}/activate", "activateAgent", "operate", "agents",
        "Let an agent run; a new one has to be told where it begins.",
        lambda call: ops.activate(call.ctx, call.agent, call.body), schemas.Activated, schemas.Activate,
        parameters=(_AGENT,), errors=(404, 409),
    ),
    Operation(
        "POST", "/agents/{agent}/pause", "pauseAgent", "operate", "agents",
        "Keep an agent from running until it is activated; a run under way ends after its slice.",
        lambda call: ops.pause(call.ctx, call.agent), schemas.Paused, parameters=(_AGENT,),
        errors=(404, 409),
    ),
    Operation(
        "POST", "/agents/{agent}/rewind", "rewindAgent", "operate", "agents",
        "Put a paused agent's pointer back, or forward.",
        lambda call: ops.rewind(call.ctx, call.agent, call.body), schemas.Agent, schemas.Rewind,
        parameters=(_AGENT,), errors=(404, 409, 422),
    ),
    Operation(
        "POST", "/agents/{agent}/enqueue", "enqueueObjects", "operate", "agents",
        "Have an agent send objects with its next runs.",
        lambda call: ops.enqueue(call.ctx, call.agent, call.body), schemas.Enqueued, schemas.Enqueue,
        parameters=(_AGENT,), errors=(404, 409, 422),
    ),
    _job(
        "testAgent", "test", "Ask an agent's service whether it would take what the agent sends.",
        lambda call: ops.try_connection(call.ctx, call.agent, call.who),
    ),
    _job(
        "runAgent", "run", "Run an agent once, now.",
        lambda call: ops.run_agent(call.ctx, call.agent, call.who),
    ),
    _job(
        "simulateAgent", "simulate", "Find out what a run would send; nothing is sent and nothing changes.",
        lambda call: ops.simulate_agent(call.ctx, call.agent, call.body, call.who), schemas.Simulate,
    ),
    _job(
        "exportAgent", "export", "Send everything that exists and go live, or send some objects.",
        lambda call: ops.export_agent(call.ctx, call.agent, call.body, call.who), schemas.Export,
    ),
    _job(
        "verifyAgent", "verify", "Compare what a service holds with what the application has.",
        lambda call: ops.verify_agent(call.ctx, call.agent, call.body, call.who), schemas.Verify,
    ),
    _job(
        "repairAgent", "repair", "Verify, and mend what differs.",
        lambda call: ops.repair_agent(call.ctx, call.agent, call.body, call.who), schemas.Verify,
    ),
    Operation(
        "GET", "/jobs", "listJobs", "see", "work", "Jobs, the newest first, without their results.",
        lambda call: ops.list_jobs(call.ctx, **call.page), schemas.JobPage, parameters=_PAGED,
    ),
    Operation(
        "GET", "/jobs/{job}", "getJob", "see", "work", "A job, with its result once there is one.",
        lambda call: ops.get_job(call.ctx, call.path["job"]), schemas.Job, parameters=(_JOB,), errors=(404,),
    ),
    Operation(
        "POST", "/jobs/{job}/cancel", "cancelJob", "operate", "work",
        "Ask a job to end; what it has done stays done.",
        lambda call: ops.cancel_job(call.ctx, call.path["job"]), schemas.Job, parameters=(_JOB,),
        errors=(404,),
    ),
    Operation(
        "PUT", "/agents/{agent}/schedule", "setSchedule", "operate", "tasks",
        "Let an agent run every so many seconds, or when a cron expression says; neither: not by itself.",
        lambda call: ops.set_schedule(call.ctx, call.agent, call.body), schemas.Agent, schemas.Schedule,
        parameters=(_AGENT,), errors=(404, 422),
    ),
    Operation(
        "GET", "/task-kinds", "listTaskKinds", "see", "tasks",
        "The kinds of periodic tasks that are installed, with their options.",
        lambda call: ops.task_kinds(call.ctx), schemas.TaskKinds,
    ),
    Operation(
        "GET", "/peers", "getPeers", "see", "peers", "Two-way sync: peers, the last sessions, conflicts.",
        lambda call: ops.get_peers(call.ctx), schemas.Peers,
    ),
    Operation(
        "GET", "/tasks", "listTasks", "see", "tasks", "The periodic tasks, by id.",
        lambda call: ops.list_tasks(call.ctx, **call.page), schemas.TaskPage, parameters=_PAGED,
    ),
    Operation(
        "POST", "/tasks", "addTask", "operate", "tasks", "Add a periodic task with its schedule.",
        lambda call: ops.add_task(call.ctx, call.body), schemas.Task, schemas.NewTask, status=201,
        errors=(404, 422),
    ),
    Operation(
        "DELETE", "/tasks/{task}", "removeTask", "operate", "tasks", "Remove a periodic task.",
        lambda call: ops.remove_task(call.ctx, call.path["task"]), None, status=204, parameters=(_TASK,),
        errors=(404,),
    ),
    Operation(
        "POST", "/tasks/{task}/run", "runTask", "operate", "tasks", "Run a periodic task once, now.",
        lambda call: ops.run_task(call.ctx, call.path["task"], call.who), schemas.Job, status=202,
        parameters=(_TASK,), errors=(404, 409),
    ),
    Operation(
        "GET", "/runs", "listRuns", "see", "runs", "The ledger: the last runs of all agents, or of one.",
        lambda call: ops.list_runs(call.ctx, call.query.get("agent"), **call.page), schemas.RunPage,
        parameters=(_OF_AGENT, *_PAGED), errors=(404,),
    ),
    Operation(
        "GET", "/collections", "listCollections", "see", "history",
        "The collections whose versions are kept, by name.",
        lambda call: ops.list_collections(call.ctx), schemas.Collections,
    ),
    Operation(
        "GET", "/collections/{collection}/versions", "listVersions", "see", "history",
        "Versions of all branches, the newest first, with the graph that they make.",
        lambda call: ops.list_versions(call.ctx, call.path["collection"], **call.page), schemas.VersionPage,
        parameters=(_COLLECTION, *_PAGED), errors=(404,),
    ),
    Operation(
        "GET", "/collections/{collection}/versions/{version}", "showVersion", "see", "history",
        "One version, and what it changed.",
        lambda call: ops.show_version(call.ctx, call.path["collection"], call.path["version"]),
        schemas.VersionDetail, parameters=(_COLLECTION, _VERSION), errors=(404,),
    ),
    Operation(
        "GET", "/collections/{collection}/document", "showDocumentHistory", "see", "history",
        "The versions that changed a document, with what each changed.",
        lambda call: ops.show_document(
            call.ctx, call.path["collection"], call.query["document_id"], **call.page
        ),
        schemas.DocumentHistory, parameters=(_COLLECTION, _DOCUMENT_ID, *_PAGED), errors=(404,),
    ),
    Operation(
        "GET", "/dead-letters", "listDeadLetters", "see", "dead letters",
        "What could not be delivered, the newest first.",
        lambda call: ops.list_dead(call.ctx, call.query.get("agent"), **call.page), schemas.DeadLetterPage,
        parameters=(_OF_AGENT, *_PAGED), errors=(404,),
    ),
    Operation(
        "GET", "/agents/{agent}/dead-letter", "showDeadLetter", "see", "dead letters",
        "One dead letter with the document as it was refused.",
        lambda call: ops.show_dead(call.ctx, call.agent, call.query["object_id"]), schemas.DeadLetterDetail,
        parameters=(_AGENT, _OBJECT_ID), errors=(404,),
    ),
    Operation(
        "POST", "/agents/{agent}/dead-letters/retry", "retryDeadLetters", "operate", "dead letters",
        "Send the objects of dead letters as they are now.",
        lambda call: ops.retry_dead(call.ctx, call.agent, call.body, call.who), schemas.Job, schemas.Retry,
        status=202, parameters=(_AGENT,), errors=(404, 409, 422),
    ),
    Operation(
        "POST", "/agents/{agent}/dead-letters/discard", "discardDeadLetters", "operate", "dead letters",
        "Throw dead letters away; nothing is sent.",
        lambda call: ops.discard_dead(call.ctx, call.agent, call.body), schemas.Discarded, schemas.Discard,
        parameters=(_AGENT,), errors=(404, 422),
    ),
)  # fmt: skip
