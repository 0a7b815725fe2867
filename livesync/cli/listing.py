"""``livesync list``: the track, newest first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final

from ..errors import HostFailed, StateForbids, UsageError
from .exitcodes import ExitCode
from .output import printable
from .session import Session

if TYPE_CHECKING:
    from ..action import ActionWrapper
    from ..host import Host
    from ..manager import SyncManager

#: How many lines are printed between two looks at the cache of loaded objects.
_LINES_A_SWEEP: Final = 1000


def list_track(session: Session) -> int:
    """Print what lies on the track in ``]from, to]``, newest first, after what waits in the inbox."""
    host = session.optional_host()
    with session.reading() as manager:
        start, end = _interval(session, manager)
        connection = manager._p_jar
        with _labels(host, connection) as label, session.out.json_list("entries", {}) as add:
            for number, (position, action) in enumerate(_entries(manager, start, end), 1):
                text = label(action.object_id)
                shown = "-" if position is None else position
                session.out.line(printable(f"{shown} {action.describe(text)}"))
                add(_as_json(position, action, text))
                if number % _LINES_A_SWEEP == 0:
                    connection.cacheGC()
    return ExitCode.OK


def _interval(session: Session, manager: SyncManager) -> tuple[int | None, int | None]:
    """Return the interval ``]from, to]`` that was asked for, in positions."""
    args = session.args
    start = None if args.from_ is None else args.from_.position(manager.granularity)
    end = None if args.to is None else args.to.position(manager.granularity)
    if args.pointer is not None:
        start = _pointer(manager, args.pointer)
    if start is not None and end is not None and start > end:
        raise UsageError(f"the interval is empty: it begins after {start} and ends with {end}")
    return start, end


def _pointer(manager: SyncManager, agent_id: str) -> int | None:
    state = manager.stored(agent_id).state
    try:
        return manager.track.get_pointer_timestamp(agent_id)
    except KeyError:
        raise StateForbids(
            f"agent {agent_id!r} is {state} and has no pointer yet: activate it, or send it an export",
            agent_id=agent_id,
            state=state,
        ) from None


def _entries(
    manager: SyncManager, start: int | None, end: int | None
) -> Iterator[tuple[int | None, ActionWrapper]]:
    if end is None:
        # The inbox can only be walked forward; collect keeps it short.
        for action in reversed(list(manager.waiting())):
            yield None, action
    yield from manager.track.iterate(start, end, reverse=True)


def _labels(host: Host | None, connection: Any) -> AbstractContextManager[Callable[[str], str | None]]:
    """Return a context manager that gives the function from an object's id to its label."""
    if host is None:
        return nullcontext(lambda object_id: None)
    return _HostLabels(host, connection)


class _HostLabels(AbstractContextManager[Callable[[str], str | None]]):
    """Labels by the host; None for an object that is gone or that the host cannot load."""

    def __init__(self, host: Host, connection: Any) -> None:
        self._plugged_in = host
        self._connection = connection

    def __enter__(self) -> Callable[[str], str | None]:
        try:
            self._entered = self._plugged_in.at(self._connection)
            self._host = self._entered.__enter__()
        except Exception as exc:
            raise HostFailed(f"the host raised {type(exc).__name__}: {exc}") from exc
        return self._label

    def __exit__(self, *exc_info: Any) -> None:
        self._entered.__exit__(*exc_info)

    def _label(self, object_id: str) -> str | None:
        try:
            obj = self._host.get(object_id)
            return None if obj is None else self._host.label(obj)
        except Exception:  # noqa: BLE001 - a listing is also for finding out what is wrong with the host
            return None


def _as_json(position: int | None, action: ActionWrapper, label: str | None) -> dict[str, Any]:
    return {
        "position": position,
        "id": action.object_id,
        "label": label,
        "actions": sorted(action.actions),
        "timestamp": action.timestamp,
        "user": action.user,
        "note": action.note,
    }
