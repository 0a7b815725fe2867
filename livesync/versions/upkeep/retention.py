"""Which versions keep their contents, and taking those of the others away.

A version that is *pruned* keeps its record: who, when, why, and its id, which still verifies. What it changed
is folded into the next version that keeps its contents (:mod:`~livesync.versions.upkeep.folding`).

These are never pruned, whatever a policy says: the first version, the newest of each branch, HEAD, what has a
tag, where branches part, what was merged (and what it was merged into), what a merge that waits begins at,
and the newest that a remote is known to have.
"""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ..names import Names
from ..store.contents import Contents
from ..store.records import Record
from ..store.tree import NO_VERSION, parent_of
from .cutting import known_elsewhere, note_pruned
from .folding import Fold, fold

_DAY_S: Final = 86_400

#: Units of spans of time, in seconds.
_UNITS: Final = {"h": 3_600, "d": _DAY_S, "w": 7 * _DAY_S, "y": 365 * _DAY_S}

#: Versions whose contents are taken away in one transaction, if nobody says otherwise.
SLICE: Final = 200


#: Period -> how a time is written so that all times of one are alike.
_PERIODS: Final = {
    "hourly": "%Y-%m-%d %H",
    "daily": "%Y-%m-%d",
    "weekly": "%G-%V",
    "monthly": "%Y-%m",
    "yearly": "%Y",
}

_WORD: Final = re.compile(r"(?:(\d{1,9})|(\d{1,9})([hdwy])|([a-z]+)(?::(\d{1,9}))?)\Z", re.ASCII)


class Dated(NamedTuple):
    """A version as a policy sees it."""

    key: int
    branch: str
    time_us: int
    generation: int


@dataclass(frozen=True)
class Policy:
    """What keeps its contents, on each branch for itself; what any of these keeps is kept.

    Attributes:
        newest: The newest so many.
        within_s: What is younger than so many seconds.
        periods: ``hourly``, ``daily``, ``weekly``, ``monthly``, ``yearly`` -> the newest one of each of the
            last so many (None: all) of these periods, in UTC, that have a version.
    """

    newest: int = 0
    within_s: float = 0.0
    periods: Mapping[str, int | None] = field(default_factory=dict)

    @classmethod
    def parsed(cls, texts: str | Iterable[str]) -> Policy:
        """Return the policy of texts: words between commas or spaces, as ``20, 30d, weekly:52, monthly``.

        A number is the newest so many; one with ``h``, ``d``, ``w`` or ``y`` what is younger than so many
        hours, days, weeks or years; the name of a period one for each of these, with ``:N`` for the last N.

        Raises:
            ValueError: A word makes no sense, or there is none.
        """
        given = texts if isinstance(texts, str) else ",".join(texts)
        words = given.replace(",", " ").split()
        newest, within_s, periods = 0, 0.0, dict[str, int | None]()
        for word in words:
            found = _WORD.match(word)
            number, age, unit, period, last = (None,) * 5 if found is None else found.groups()
            if found is None or (period and period not in _PERIODS):
                raise ValueError(
                    f"{word!r} says not what to keep: a number of versions, an age as 30d (h, d, w, y), or"
                    f" one of {', '.join(_PERIODS)}, with :N for the last N"
                )
            if number:
                newest = max(newest, int(number))
            elif age and unit:
                within_s = max(within_s, float(int(age) * _UNITS[unit]))
            elif period:
                periods[period] = int(last) if last else None
        if not words:
            raise ValueError("say what to keep, as: 20, 30d, weekly:52, monthly")
        return cls(newest, within_s, periods)

    def kept(self, versions: Iterable[Dated], now_us: int) -> set[int]:
        """Return the keys of the versions that the policy keeps. Pure.

        Which is newer than another one is told by their generations: clocks may go back.

        Args:
            versions: In any order.
            now_us: Microseconds of the epoch.
        """
        found = set()
        counted: Counter[str] = Counter()
        seen: dict[tuple[str, str], set[str]] = {}
        for version in sorted(versions, key=lambda one: (one.generation, one.key), reverse=True):
            counted[version.branch] += 1
            is_kept = counted[version.branch] <= self.newest
            if self.within_s:
                is_kept |= version.time_us > now_us - round(self.within_s * 1_000_000)
            when = datetime.datetime.fromtimestamp(version.time_us / 1_000_000, datetime.UTC)
            for period, most in self.periods.items():
                known = seen.setdefault((version.branch, period), set())
                name = when.strftime(_PERIODS[period])
                if name not in known and (most is None or len(known) < most):
                    known.add(name)
                    is_kept = True
            if is_kept:
                found.add(version.key)
        return found


def prunable(contents: Contents, policy: Policy, now_us: int, kept: Iterable[int] = ()) -> list[int]:
    """Return the versions that a policy takes the contents of, the newest first.

    Args:
        contents: Of the history.
        policy: What it keeps.
        now_us: Microseconds of the epoch.
        kept: Versions that are needed besides.
    """
    records = {key: Record.unpacked(packed) for key, packed in contents.stored.records.items()}
    places = Names(contents.stored.references).places()
    needed = {*_needed(contents, records), *kept}
    dated = [
        Dated(key, places[key][1], record.time_us, record.generation)
        for key, record in records.items()
        if not contents.is_pruned(key)
    ]
    needed |= policy.kept(dated, now_us)
    found = [one.key for one in dated if one.key not in needed]
    return sorted(found, key=lambda key: (records[key].generation, key), reverse=True)


def _needed(contents: Contents, records: Mapping[int, Record]) -> set[int]:
    """Return the versions that are never pruned, but for what a merge that waits needs."""
    references, keys = contents.stored.references, contents.stored.keys
    names = Names(references)
    found = {branch.tip for branch in names.branches().values()}
    found |= {*names.tags.values(), names.head[1]}
    found |= {branch.base for branch in names.opened().values()}
    found |= known_elsewhere(contents)
    after = Counter(parent_of(contents.forks, key) for key in records)
    found |= {key for key in records if after[key] != 1}
    for key, record in records.items():
        if not record.parents:
            found.add(key)
        elif len(record.parents) > 1:
            found.update(keys[one] for one in record.parents)
    return found - {NO_VERSION}


def prune_slice(contents: Contents, doomed: Iterable[int]) -> None:
    """Take the contents of some versions away, within the caller's transaction.

    Args:
        contents: Of the history.
        doomed: Of :func:`prunable`.

    Raises:
        InvalidCollectionState: What is stored is damaged; nothing was written.
    """
    chosen = set(doomed)
    if chosen:
        fold(contents, _folds(contents, chosen))
        note_pruned(contents, chosen)


def _folds(contents: Contents, chosen: set[int]) -> list[Fold]:
    """Return runs of versions with their heirs, those that lie further back first."""
    after: dict[int, int] = {}
    for key in contents.stored.records:
        after[parent_of(contents.forks, key)] = key
    found = []
    for key in sorted(chosen):
        if contents.base_of(key) in chosen:
            continue
        run = [key]
        while (following := after[run[-1]]) in chosen or contents.is_pruned(following):
            run.append(following)
        found.append(Fold(tuple(one for one in run if one in chosen), following))
    return found
