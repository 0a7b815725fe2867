"""Erasing an object from what livesync keeps of contents: for people who ask that data be forgotten.

Contents lie in dead letters (the document that was refused) and, as pieces of texts, in what services
and hosts said when something failed. The slow queue holds ids. The track holds ids too, and stays:
without it no agent would know that the object is to be deleted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ..action import check_object_id
from ..manager import SyncManager
from ..track import queue
from ..track.stored import StoredAgent

#: What stands where a text named the object.
ERASED: Final = "(erased: it named an object that was forgotten)"

_Names = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was erased.

    Attributes:
        object_id: Of which object.
        dead_letters: Its dead letters.
        queued: How often it was in slow queues.
        texts: Reasons and errors that named it, of runs, agents and other objects' dead letters.
        agents: The agents of which something was erased.
    """

    object_id: str
    dead_letters: int
    queued: int
    texts: int
    agents: tuple[str, ...]


def forget(manager: SyncManager, object_id: str) -> Forgotten:
    """Erase an object from dead letters, slow queues and the texts of errors, of all agents.

    Within the caller's transaction. What services hold is not touched, and neither is the track. A
    storage keeps earlier revisions until the database is packed.

    Raises:
        ValueError: It is no object id.
    """
    check_object_id(object_id)
    # as a word of its own; where that hits an id by chance, an old error is lost and nothing else
    word = re.compile(rf"(?<![\w/-]){re.escape(object_id)}(?![\w/-])")
    dead_letters = queued = texts = 0
    agents = []
    for agent_id in manager.agent_ids():
        stored = manager.stored(agent_id)
        letter = stored.dead.pop(object_id, None)
        found = queue.forget(stored, object_id)
        erased = _erase_texts(stored, lambda text: word.search(text) is not None)
        if letter is not None or found or erased:
            agents.append(agent_id)
        dead_letters += letter is not None
        queued += found
        texts += erased
    return Forgotten(object_id, dead_letters, queued, texts, tuple(agents))


def _erase_texts(stored: StoredAgent, names: _Names) -> int:
    """Replace the texts that name the object; return how many there were."""
    count = 0
    if names(stored.detail):
        stored.detail = ERASED
        count += 1
    if stored.last_run and names(stored.last_run.get("error", "")):
        stored.last_run = {**stored.last_run, "error": ERASED}
        count += 1
    for line in stored.runs.values():
        if line.entry is not None and names(line.entry["error"]):
            line.entry = {**line.entry, "error": ERASED}
            count += 1
    others = [other_id for other_id, letter in stored.dead.items() if names(letter["reason"])]
    for other_id in others:
        stored.dead[other_id] = {**stored.dead[other_id], "reason": ERASED}
    return count + len(others)
