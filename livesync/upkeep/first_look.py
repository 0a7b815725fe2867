"""The first look of a verification: everything is compared once, and what differs is suspicious."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import repeat
from operator import le
from typing import Final

from ..delivery.access import ManagerAccess
from ..delivery.uploader import HeldRow
from ..manager import SyncManager
from .expected import Expected, Fate, Told
from .findings import Findings
from .reading import Reader
from .recheck import newest_position
from .sending import Counted
from .side_by_side import first, side_by_side

#: Stands for a row that is not there.
_NOTHING: Final = HeldRow("", None, None)


@dataclass(slots=True)
class Seen:
    """What a first look has seen.

    Attributes:
        checked: How many ids, of objects and of rows together.
        expected: Objects that the service ought to hold; of a quick look, all objects.
        held: Rows.
        kept_back: Objects that the agent's transform sends nothing of.
        complete: Whether it came to its end.
    """

    checked: int = 0
    expected: int = 0
    held: int = 0
    kept_back: int = 0
    complete: bool = False


class FirstLook:
    """Compares everything, and notes what is suspicious.

    Args:
        access: To the manager.
        agent_id: The agent.
        expected: What the service ought to hold.
        reader: What it holds.
        findings: Takes the suspects.
    """

    def __init__(
        self, access: ManagerAccess, agent_id: str, expected: Expected, reader: Reader, findings: Findings
    ) -> None:
        self._access = access
        self._agent_id = agent_id
        self._expected = expected
        self._reader = reader
        self._findings = findings
        self._seen = Seen()

    def run(self, quick: bool, progress: Counted | None, stop: Callable[[], bool]) -> Seen:
        """Compare everything, or what comes before ``stop`` says True.

        Args:
            quick: Compare ids and positions only.
            progress: Told now and then how many ids were compared.
            stop: Asked as often.

        Raises:
            HostFailed, ServiceRefuses, RetryLater: One side cannot be read.
        """
        with self._access.snapshot() as manager:
            limit = newest_position(manager)
            if quick:
                self._findings.keep_positions(_delivered(manager, self._agent_id))
        with closing(self._reader.rows(quick)) as held:
            for suspects in self._by_position(held, limit) if quick else self._by_digest(held, limit):
                self._findings.suspect(suspects)
                if progress is not None:
                    progress(self._seen.checked)
                if stop():
                    return self._seen
        self._seen.complete = True
        return self._seen

    def _by_digest(self, held: Iterable[list[HeldRow]], limit: int) -> Iterator[list[str]]:
        for objects, rows in side_by_side(self._expected.all(), held, id_of=first):
            yield self._suspects_by_digest(objects, rows, limit)

    def _by_position(self, held: Iterable[list[HeldRow]], limit: int) -> Iterator[list[str]]:
        for ids, rows in side_by_side(self._expected.ids(), held, id_of=str):
            yield self._suspects_by_position(ids, rows, limit)

    def _suspects_by_digest(self, objects: list[Told], rows: list[HeldRow], limit: int) -> list[str]:
        """Return the objects and rows of a range that differ."""
        seen = self._seen
        seen.held += len(rows)
        if objects == [(row[0], row[2]) for row in rows]:  # which is what most ranges are like
            seen.expected += len(objects)
            seen.checked += len(objects)
            return [row[0] for row in rows if row[1] is not None and row[1] > limit]
        held = {row[0]: row for row in rows}
        suspects = []
        for object_id, expectation in objects:
            row = held.pop(object_id, None)
            if expectation is Fate.KEPT_BACK:
                seen.kept_back += 1
            elif expectation is Fate.ABSENT:
                if row is not None:
                    suspects.append(object_id)
            else:
                seen.expected += expectation is not Fate.NO_DOCUMENT
                _, position, digest = row or _NOTHING
                if digest != expectation or (position is not None and position > limit):
                    suspects.append(object_id)
        seen.checked += len(objects) + len(held)
        return suspects + list(held)

    def _suspects_by_position(self, ids: list[str], rows: list[HeldRow], limit: int) -> list[str]:
        """Return what may differ in a range: what only one side has, and what has a strange position.

        A row is not to be older than what was delivered of its object, or newer than everything.
        """
        seen = self._seen
        held = list(map(first, rows))
        on_one_side: set[str] = set() if ids == held else set(ids).symmetric_difference(held)
        seen.held += len(held)
        seen.expected += len(ids)
        seen.checked += (len(ids) + len(held) + len(on_one_side)) // 2
        if not rows:
            return list(on_one_side)
        least = self._findings.positions(held[0], held[-1]).get
        positions = [row[1] for row in rows if row[1] is not None]
        lowest = map(least, held, repeat(-1))
        # most ranges hold nothing strange, which is seen without a line of Python for each row
        if len(positions) == len(rows) and max(positions) <= limit and all(map(le, lowest, positions)):
            return list(on_one_side)
        strange = [
            object_id
            for object_id, position, _ in rows
            if position is not None and not least(object_id, -1) <= position <= limit
        ]
        return [*on_one_side, *strange]


def _delivered(manager: SyncManager, agent_id: str) -> Iterator[tuple[list[str], list[int]]]:
    """Yield ids and positions, some hundred at a time, of the actions that an agent has passed and the
    track still keeps."""
    pointer = manager.track.get_pointer_timestamp(agent_id)
    if pointer is not None:
        for part in manager.track.parts(None, pointer):
            yield part.columns()[1], part.positions
