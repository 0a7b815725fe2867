"""Documents and their edits, generated and real: what a history is measured with."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from livesync.demo.history import DIRECTORY_VARIABLE, find_history, read_history

from .rows import check

Document = dict[str, Any]
_LETTERS = "aeioubcdfglmnprstv"


@dataclass(frozen=True)
class Edits:
    """Documents as they are first, and what each version makes of some of them; None: it deletes one."""

    name: str
    first: dict[str, Document]
    versions: list[dict[str, Document | None]]


@cache
def _words() -> list[str]:
    dice = random.Random(7)
    return ["".join(dice.choices(_LETTERS, k=dice.randint(2, 10))) for _ in range(3_000)]


def document_id(number: int) -> str:
    """Return the id of a generated document."""
    return f"talk-{number:07d}"


def document(number: int) -> Document:
    """Return a generated document: about 1 KB of JSON, the same for the same number."""
    dice = random.Random(number)
    words = dice.choices(_words(), k=125)
    return {
        "title": " ".join(words[:5]),
        "abstract": " ".join(words[5:]),
        "speakers": [words[6].title(), words[7].title()],
        "tags": words[8:12],
        "conference": {"name": words[1], "year": 2000 + number % 25},
        "minutes": number % 60,
        "recorded": f"20{number % 25:02d}-05-0{number % 9 + 1}",
    }


def edited(old: Document, dice: random.Random) -> Document:
    """Return a document after an edit that a person might make."""
    new = dict(old)
    kind = dice.randrange(4)
    if kind == 0:
        new["minutes"] = dice.randrange(1_000)
    elif kind == 1:
        new["tags"] = [*old["tags"], dice.choice(_words())]
    elif kind == 2:
        text = old["abstract"].split(" ")
        text[dice.randrange(len(text))] = dice.choice(_words())
        new["abstract"] = " ".join(text)
    else:
        new["conference"] = {**old["conference"], "year": dice.randrange(1_990, 2_030)}
    return new


def generated(documents: int, versions: int, changes: int) -> Edits:
    """Return generated documents with versions of so many edits, the same at each call."""
    dice = random.Random(20261127)
    first = {document_id(number): document(number) for number in range(documents)}
    now = dict(first)
    made: list[dict[str, Document | None]] = []
    for _ in range(versions):
        version: dict[str, Document | None] = {}
        for one in dice.sample(sorted(now), min(changes, len(now))):
            new = edited(now[one], dice)
            if new != now[one]:
                version[one] = now[one] = new
        made.append(version)
    return Edits("generated", first, made)


def real(versions: int, changes: int) -> Edits:
    """Return what people did: the recorded history, its older half as first documents.

    It is the largest history in the directory that ``LIVESYNC_HISTORY`` names, else the one that comes with
    the package. Where it is short there are fewer versions.
    """
    directory = os.environ.get(DIRECTORY_VARIABLE)
    path = find_history("history-small.jsonl.gz")
    if directory:
        found = [one for one in path.__class__(directory).glob("*.jsonl*") if one.is_file()]
        path = max(found, key=lambda one: one.stat().st_size, default=path)
    lines = [line.changes for line in read_history(path)]
    steps = [change for line in lines for change in line]
    later = min(len(steps) // 2, versions * changes)
    now: dict[str, Document] = {}
    for _ in _applied(now, steps[: len(steps) - later]):
        pass
    first = dict(now)
    made = []
    for start in range(len(steps) - later, len(steps), changes):
        before = dict(now)
        touched = set().union(*_applied(now, steps[start : start + changes]))
        version = {one: now.get(one) for one in sorted(touched) if now.get(one) != before.get(one)}
        if version:
            made.append(version)
    check(bool(first and made), f"{path} is too short")
    return Edits(f"real ({path.name.partition('.')[0]})", first, made)


def _applied(now: dict[str, Document], steps: list[Any]) -> Iterator[set[str]]:
    """Make the changes of a history, and yield the ids that each touches."""
    for change in steps:
        here, former = change.place.file, None if change.former is None else change.former.file
        data = change.data
        if former is not None:
            data = now.get(former) if data is None else data
            now.pop(former, None)
        if change.action == "deleted" or data is None:
            now.pop(here, None)
        else:
            now[here] = dict(data)
        yield {here} if former is None else {here, former}
