"""The ledger: what each run has taken, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...delivery import ledger
from .. import schemas
from ..context import WebContext
from .paging import PAGE, page_of
from .status import shown_counts


def list_runs(
    ctx: WebContext, agent_id: str | None = None, cursor: str | None = None, limit: int = PAGE
) -> schemas.RunPage:
    """Return the lines of the ledger that are kept (50 an agent), the newest first.

    Raises:
        UnknownAgent: There is none of this id.
        BadRequest: The cursor or the limit is none.
    """
    with ctx.reading() as manager:
        ids = manager.agent_ids() if agent_id is None else [agent_id]
        lines = [(one, entry) for one in ids for entry in ledger.entries(manager.stored(one))]
    lines.sort(key=lambda line: (-line[1]["began"], line[0], -line[1]["number"]))
    page, following = page_of(lines, cursor, limit)
    return schemas.RunPage(runs=[_shown(*line) for line in page], next=following)


def _shown(agent_id: str, entry: Mapping[str, Any]) -> schemas.Run:
    return schemas.Run(
        agent_id=agent_id,
        number=entry["number"],
        kind=entry["kind"],
        began=entry["began"],
        ended=entry["ended"],
        seconds=entry.get("seconds", 0.0),
        till=entry.get("till"),
        error=entry["error"],
        balance=ledger.balance(entry),
        counts=shown_counts(entry),
    )
