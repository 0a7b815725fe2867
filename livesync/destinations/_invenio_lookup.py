"""Which record of an Invenio repository is an object's, and whether a new one may be made.

The repository's search shows what was written only after a while. So what this uploader has written
lately is read by its id, from the database, and something new is made only when everything that
others can have made before must show.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from ._invenio_api import InvenioAPI, RepositoryRecord
from ._invenio_mark import Mark, key_of

#: Words that one search asks for: they all have to fit into a URL.
_WORDS: Final = 50


class TooSoon(Exception):
    """Raised when something new may be made only after ``after_s`` more seconds."""

    def __init__(self, after_s: float) -> None:
        super().__init__(
            f"the repository's search may not show yet what was made before, for {after_s:.1f} s"
        )
        self.after_s = after_s


@dataclass(slots=True)
class Held:
    """What the repository has of an object.

    Attributes:
        id: Its record there.
        mark: What is noted in it.
        published: Whether it is published, and nobody edits it.
        removed: Whether only a tombstone is left.
        by_others: Whether it was not livesync that removed it.
        index: Which version it is.
        others: Further records of the same object, which should not be.
    """

    id: str
    mark: Mark | None
    published: bool
    removed: bool = False
    by_others: bool = False
    index: int = 1
    others: list[Held] = field(default_factory=list)

    @classmethod
    def of(cls, record: RepositoryRecord) -> Held:
        """Return what one record says."""
        return cls(
            record.id,
            record.mark,
            published=not record.is_draft and not record.removed,
            removed=record.removed,
            by_others=record.removed and record.noted is None,
            index=record.versions.index,
        )


class Lookup:
    """Finds the records of a track's objects. Threads may share it.

    Args:
        api: The repository.
        track_id: Whose objects.
        tombstones: Whether removed records are looked for too.
        settle_s: Seconds until the search shows what was written.
        clock: Returns epoch seconds.
    """

    def __init__(
        self,
        api: InvenioAPI,
        track_id: str,
        tombstones: bool,
        settle_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._api = api
        self._track_id = track_id
        self._tombstones = tombstones
        self._settle_s = settle_s
        self._clock = clock
        self._lock = threading.Lock()
        self._began = clock()
        #: What was written lately, the latest last: key -> the record's id, and when.
        self._written: dict[str, tuple[str, float]] = {}
        #: When the making of something was asked for, and not answered: by key.
        self._unanswered: dict[str, float] = {}

    def find(self, object_ids: Sequence[str]) -> dict[str, Held]:
        """Return what the repository has of these objects; those of which it has nothing are left out."""
        held: dict[str, Held] = {}
        searched: dict[str, str] = {}
        for object_id in object_ids:
            key = key_of(self._track_id, object_id)
            with self._lock:
                written = self._written.get(key)
            if written is None:
                searched[key] = object_id
            elif (found := self.read(written[0])) is not None:
                held[object_id] = found
        for words in chunks(list(searched)):
            for object_id, records in _by_object(self._api.own(words), searched).items():
                held[object_id] = _the_one(records)
            missing = [word for word in words if searched[word] not in held]
            if missing and self._tombstones:
                for object_id, records in _by_object(self._api.tombstones(missing), searched).items():
                    held[object_id] = Held.of(max(records, key=_newness))
        return held

    def read(self, record_id: str) -> Held | None:
        """Return what the repository's database has under an id: what is published, else the draft."""
        record = self._api.record(record_id) or self._api.draft(record_id)
        return None if record is None else Held.of(record)

    def check_time(self, key: str) -> None:
        """Make sure that a search that found nothing can be believed.

        Raises:
            TooSoon: It cannot, yet.
        """
        with self._lock:
            since = max(self._began, self._unanswered.get(key, self._began))
        left = since + self._settle_s - self._clock()
        if left > 0:
            raise TooSoon(min(left, self._settle_s))

    def note_unanswered(self, key: str) -> None:
        """Note that a record of an object may have been made just now."""
        with self._lock:
            self._unanswered[key] = self._clock()

    def note_written(self, key: str, record_id: str) -> None:
        """Note what the search may not show yet; forget what it must show by now."""
        now = self._clock()
        with self._lock:
            while self._written:
                oldest = next(iter(self._written))
                if self._written[oldest][1] >= now - self._settle_s:
                    break
                del self._written[oldest]
            self._written.pop(key, None)  # so that it becomes the latest
            self._written[key] = (record_id, now)
            self._unanswered.pop(key, None)


def chunks(words: Sequence[str]) -> Iterable[Sequence[str]]:
    """Yield ``words`` in parts that one search can ask for."""
    return (words[start : start + _WORDS] for start in range(0, len(words), _WORDS))


def _by_object(
    records: Iterable[RepositoryRecord], searched: dict[str, str]
) -> dict[str, list[RepositoryRecord]]:
    """Return the records of the objects that were searched for, by object; a search may find others."""
    found: dict[str, list[RepositoryRecord]] = {}
    for record in records:
        mark = record.mark
        if mark is not None and searched.get(mark.key) == mark.object_id:
            found.setdefault(mark.object_id, []).append(record)
    return found


def _the_one(records: list[RepositoryRecord]) -> Held:
    """Return which of an object's records counts, with the others.

    Of each record that is its newest version; of several records the one that is not emptied, is
    published, and was made first.
    """
    newest: dict[str, RepositoryRecord] = {}
    for record in records:
        known = newest.get(record.parent.id)
        if known is None or known.versions.index < record.versions.index:
            newest[record.parent.id] = record
    held, *others = map(Held.of, sorted(newest.values(), key=_rank))
    held.others = [other for other in others if other.mark is None or not other.mark.deleted]
    return held


def _rank(record: RepositoryRecord) -> tuple[bool, bool, str, str]:
    mark = record.mark
    return (mark is not None and mark.deleted, record.is_draft, record.created, record.id)


def _newness(record: RepositoryRecord) -> tuple[int, int]:
    mark = record.mark
    return (-1 if mark is None else mark.position, record.versions.index)
