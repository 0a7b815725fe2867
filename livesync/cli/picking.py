"""Which objects a command is about: by id, from a file, below another one, or those that failed."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..action import check_object_id
from ..errors import UsageError
from .session import as_usage

if TYPE_CHECKING:
    from ..delivery.render import Spool
    from ..host import Host
    from ..manager import SyncManager


def picks_some(args: argparse.Namespace) -> bool:
    """Tell whether the arguments of ``agent export`` name a part of the objects."""
    return bool(args.under is not None or args.ids is not None or args.id or args.failed)


@contextmanager
def picked(args: argparse.Namespace, manager: SyncManager, host: Host) -> Iterator[Spool]:
    """Give the ids of the objects that ``agent export`` is asked for; memory does not grow with their number.

    Raises:
        UsageError: The file cannot be read, an id has a wrong form, or there is no object of it.
        HostFailed: The host raised.
    """
    from ..upkeep.dead import spool_dead
    from ..upkeep.sending import ids_under

    if args.under is not None:
        spool = ids_under(manager, host, args.under)
    elif args.failed:
        spool = spool_dead(manager, args.agent)
    else:
        spool = spooled(args.id or (), args.ids)
    try:
        yield spool
    finally:
        spool.close()


def spooled(object_ids: Iterable[str], path: str | None) -> Spool:
    """Return object ids as given, then those in the file at ``path``, all checked; close it when done.

    Raises:
        UsageError: The file cannot be read, or an id has a wrong form; or there is none at all.
    """
    from ..delivery.render import Spool
    from ..upkeep.sending import ids_of_file

    spool = Spool()
    try:
        for source in (object_ids, () if path is None else ids_of_file(path)):
            for object_id in source:
                spool.put(as_usage(lambda one=object_id: check_object_id(one)))  # type: ignore[misc]
        if not spool.count:
            raise UsageError("there are no objects: name their ids, or a file with ids, one a line")
    except BaseException:
        spool.close()
        raise
    return spool
