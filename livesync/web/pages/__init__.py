"""The pages that people use: server-rendered, and whole without a script.

``frame.py`` has the addresses and what is around every page; each other module has the views of one
subject. Views call :mod:`..operations` and hold no rules. :func:`includeme` is the table of who may do what.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pyramid.config import Configurator

from . import acting, agents, asking, assets, dead, door, history, jobs, lists, overview, pruning, tasks
from .frame import ADDRESSES, route

_GET: Final = ("GET", "HEAD")

#: Page, method, role, view. Who may only see gets no page that changes anything.
VIEWS: Final[tuple[tuple[str, str | tuple[str, ...], str, Callable[..., Any]], ...]] = (
    ("static", _GET, "public", assets.static),
    ("login", _GET, "public", door.login_page),
    ("login", "POST", "public", door.login),
    ("logout", "POST", "see", door.logout),
    ("status", _GET, "see", overview.status_page),
    ("agents", _GET, "see", agents.agents_page),
    ("agent", _GET, "see", agents.agent_page),
    ("agent-add", _GET, "operate", agents.add_page),
    ("agent-add", "POST", "operate", agents.add),
    ("agent-edit", _GET, "operate", agents.edit_page),
    ("agent-edit", "POST", "operate", agents.edit),
    ("agent-run", "POST", "operate", acting.run),
    ("agent-test", "POST", "operate", acting.test),
    ("agent-simulate", "POST", "operate", acting.simulate),
    ("agent-verify", "POST", "operate", acting.verify),
    ("agent-activate", "POST", "operate", acting.activate),
    ("agent-pause", "POST", "operate", acting.pause),
    ("agent-begin", (*_GET, "POST"), "operate", asking.begin),
    ("agent-export", (*_GET, "POST"), "operate", asking.export),
    ("agent-repair", (*_GET, "POST"), "operate", asking.repair),
    ("agent-enqueue", (*_GET, "POST"), "operate", asking.enqueue),
    ("agent-rewind", (*_GET, "POST"), "operate", asking.rewind),
    ("agent-remove", (*_GET, "POST"), "operate", asking.remove),
    ("agent-schedule", (*_GET, "POST"), "operate", tasks.schedule),
    ("jobs", _GET, "see", jobs.jobs_page),
    ("job", _GET, "see", jobs.job_page),
    ("job-cancel", "POST", "operate", jobs.cancel),
    ("runs", _GET, "see", lists.runs_page),
    ("dead", _GET, "see", dead.dead_page),
    ("dead-letter", _GET, "see", dead.letter_page),
    ("dead-retry", (*_GET, "POST"), "operate", dead.retry_page),
    ("dead-discard", (*_GET, "POST"), "operate", dead.discard_page),
    ("tasks", _GET, "see", tasks.tasks_page),
    ("task-add", _GET, "operate", tasks.add_page),
    ("task-add", "POST", "operate", tasks.add),
    ("task-run", "POST", "operate", tasks.run),
    ("task-remove", (*_GET, "POST"), "operate", tasks.remove),
    ("track", _GET, "see", lists.track_page),
    ("track-prune", (*_GET, "POST"), "operate", pruning.prune),
    ("peers", _GET, "see", lists.peers_page),
    ("history", _GET, "see", history.history_page),
    ("version", _GET, "see", history.version_page),
    ("document-history", _GET, "see", history.document_page),
)


def includeme(config: Configurator) -> None:
    """Add the pages below the prefix of the configuration."""
    for name, pattern in ADDRESSES.items():
        config.add_route(route(name), pattern)
    for name, methods, role, view in VIEWS:
        config.add_view(
            view, route_name=route(name), request_method=methods, livesync_role=role, require_csrf=False
        )
    config.registry["livesync.web"].problem_page = door.problem_page
