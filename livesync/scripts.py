"""For scripts, and for functions that change objects without an event: a context manager and a decorator.

Neither commits or aborts anything: what is recorded is part of the transaction that makes the change,
and goes where that goes. What is heard by events and said by hand is gathered together, so an action
that both tell of is one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

from .action import DELETED, check_actions
from .capture import Capture, attached_capture, capture_of
from .errors import NoConnection
from .gathering import origin
from .host import Host, load_host

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

#: The ``argument`` of :func:`recorded` that stands for what the function returns.
RETURNED: Final = "return"


@contextmanager
def recording(host: Host | str, *databases: Any, user: str = "", note: str = "") -> Iterator[Capture]:
    """Record what is done to a host's objects for the time of a ``with`` block: for scripts and batch jobs.

    Commit within the block: afterwards nobody is attached. A database that a capture is attached to
    already, as in the application's own process, is left to that one. It is a decorator too, for
    functions that are such a block.

    Args:
        host: The application: a host, an entry-point name or ``package.module:factory``.
        databases: Where its objects lie, at least one: ``ZODB.DB``, or an open connection.
        user: Who makes the changes; for transactions of this thread that do not say so themselves.
        note: What for; likewise.

    Yields:
        The capture of the first database.

    Raises:
        HostNotFound: The host cannot be imported.
        ValueError: No database is named.
    """
    if not databases:
        raise ValueError("name at least one database: recording(host, db)")
    attached = [getattr(database, "db", lambda database=database: database)() for database in databases]
    capture = Capture(load_host(host) if isinstance(host, str) else host)
    with ExitStack() as stack:
        for database in attached:
            if attached_capture(database) is None:
                stack.enter_context(capture.attached(database))
        token = origin.set((user, note))
        stack.callback(origin.reset, token)
        yield attached_capture(attached[0]) or capture


def recorded(
    *actions: str, argument: str = "", optional: bool = False
) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Record actions on an object whenever a function has been called with it: for changes without an event.

    It is recorded once the function has returned, and not where it raised. ``deleted`` is recorded
    before, with everything inside, since nobody can name that afterwards; where the object is still
    there in the end, services are sent it as it is.

    Args:
        actions: Action words, at least one.
        argument: The name of the parameter that takes the object; the first one unless it is named
            (of a method: its object); ``"return"`` for what the function returns.
        optional: Record nothing where no capture is attached to the object's database, in place of
            raising :class:`~livesync.NoConnection` then.

    Raises:
        ValueError, TypeError: An action is none; the function has no such parameter, or does not do
            its work when it is called (a coroutine, a generator).
    """
    words = check_actions(actions)

    def decorate(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        _check_plain(function)
        takes = inspect.signature(function)
        name = argument or next(iter(takes.parameters), "")
        if name != RETURNED and name not in takes.parameters:
            raise TypeError(
                f"{function.__qualname__} has no parameter {name!r} whose object could be recorded"
            )
        if name == RETURNED and DELETED in words:
            raise ValueError("what is deleted is recorded before the function returns anything")

        @wraps(function)
        def recording_call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            given = None
            if name != RETURNED:
                bound = takes.bind(*args, **kwargs)
                bound.apply_defaults()
                given = bound.arguments[name]
            if DELETED in words:
                _record(given, words, optional, with_contents=True)
            result = function(*args, **kwargs)
            if DELETED not in words:
                _record(result if name == RETURNED else given, words, optional)
            return result

        return recording_call

    return decorate


def _check_plain(function: Callable[..., Any]) -> None:
    is_later = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    if any(test(function) for test in is_later):
        raise TypeError(
            f"{function.__qualname__} does not do its work when it is called: use record_action inside it"
        )


def _record(obj: Any, words: frozenset[str], optional: bool, with_contents: bool = False) -> None:
    try:
        capture, connection = capture_of(obj)
    except NoConnection:
        if optional:
            return
        raise
    capture.record(obj, *words, connection=connection)
    if with_contents:
        for inner in capture.host.contents(obj):
            capture.record(inner, *words, connection=connection)
