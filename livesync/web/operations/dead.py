"""Dead letters: looking at them, and throwing them away. Sending them again is a job (``work.py``)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import msgspec

from ...errors import UsageError
from ...upkeep import dead
from .. import schemas
from ..context import WebContext
from ..errors import BadRequest
from .paging import PAGE, checked_limit, offset_of

#: Letters that can be paged through; beyond them it takes a narrower question.
_DEEPEST: Final = 20_000


def list_dead(
    ctx: WebContext, agent_id: str | None = None, cursor: str | None = None, limit: int = PAGE
) -> schemas.DeadLetterPage:
    """Return dead letters, the newest first and without their documents, of one agent or of all.

    Raises:
        UnknownAgent: There is none of this id.
        BadRequest: The cursor or the limit is none.
    """
    begin = offset_of(cursor)
    end = begin + checked_limit(limit)
    if end > _DEEPEST:
        raise BadRequest(f"only the newest {_DEEPEST:,} dead letters can be paged through: name an agent")
    with ctx.reading() as manager:
        letters, total = dead.list_dead(manager, agent_id, end)
    return schemas.DeadLetterPage(
        dead_letters=[_shown(letter) for letter in letters[begin:end]],
        total=total,
        next=str(end) if end < min(total, _DEEPEST) else None,
    )


def show_dead(ctx: WebContext, agent_id: str, object_id: str) -> schemas.DeadLetterDetail:
    """Return one dead letter with the document as it was refused.

    Raises:
        UnknownAgent, NotFound: There is no such agent, or it has no dead letter of this object.
    """
    with ctx.reading() as manager:
        letter = dead.find_dead(manager, agent_id, object_id)
    document = None if letter.body is None else msgspec.json.decode(letter.body)
    return schemas.DeadLetterDetail(dead_letter=_shown(letter), document=document)


def discard_dead(ctx: WebContext, agent_id: str, what: schemas.Discard) -> schemas.Discarded:
    """Throw dead letters away; nothing is sent.

    Raises:
        UnknownAgent, NotFound: There is no such agent, or it has no dead letter of one of the objects.
        UsageError: Objects and ``all`` are given, or neither.
    """
    chosen = chosen_ids(what.object_ids, what.all)
    return schemas.Discarded(
        discarded=ctx.change(lambda manager: dead.discard_dead(manager, agent_id, chosen))
    )


def chosen_ids(object_ids: Sequence[str], everything: bool) -> list[str] | None:
    """Return the objects that are named, each once; None for all.

    Raises:
        UsageError: Both are given, or neither.
    """
    if everything == bool(object_ids):
        raise UsageError("of which objects? name their ids, or say all; not both")
    return None if everything else list(dict.fromkeys(object_ids))


def _shown(letter: dead.DeadLetter) -> schemas.DeadLetter:
    values = dataclasses.asdict(letter)
    del values["body"]
    return schemas.DeadLetter(**values | {"actions": list(letter.actions)})
