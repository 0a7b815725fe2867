"""All that the web application can do: functions of a :class:`~livesync.web.context.WebContext`.

Pages and API call these and nothing else. Each is one or a few short transactions; what takes longer,
or uses the network, is a job (``work.py``). They raise livesync's own errors, which ``problems.py``
turns into answers.
"""

from .agents import (
    activate,
    add_agent,
    agent_types,
    edit_agent,
    enqueue,
    list_agents,
    pause,
    remove_agent,
    rewind,
    show_agent,
)
from .connection import try_connection, try_options
from .dead import discard_dead, list_dead, show_dead
from .history import list_collections, list_versions, show_document, show_version
from .peers import get_peers
from .runs import list_runs
from .status import get_samples, get_status, runner_state
from .tasks import add_task, list_tasks, remove_task, run_task, set_schedule, task_kinds
from .track import list_track, list_waiting, prune
from .work import (
    cancel_job,
    export_agent,
    get_job,
    list_jobs,
    repair_agent,
    retry_dead,
    run_agent,
    simulate_agent,
    verify_agent,
)

__all__ = [
    "activate",
    "add_agent",
    "add_task",
    "agent_types",
    "cancel_job",
    "discard_dead",
    "edit_agent",
    "enqueue",
    "export_agent",
    "get_job",
    "get_peers",
    "get_samples",
    "get_status",
    "list_agents",
    "list_collections",
    "list_dead",
    "list_jobs",
    "list_runs",
    "list_tasks",
    "list_track",
    "list_versions",
    "list_waiting",
    "pause",
    "prune",
    "remove_agent",
    "remove_task",
    "repair_agent",
    "retry_dead",
    "rewind",
    "run_agent",
    "run_task",
    "runner_state",
    "set_schedule",
    "show_agent",
    "show_dead",
    "show_document",
    "show_version",
    "simulate_agent",
    "task_kinds",
    "try_connection",
    "try_options",
    "verify_agent",
]
