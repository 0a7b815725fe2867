"""Zope: when its databases are open, capture is attached to each, and a runner started where one is wanted.

``zope.zcml`` registers :func:`databases_opened` for ``zope.processlifetime.IDatabaseOpenedWithRoot``.
From then on capture hears ``zope.event``: each event once, with the object that it is about. What Zope
dispatches to everything inside that object (``OFS.subscribers``) does not come by there, so nothing is
recorded twice; what lies inside is named by the host's ``contents``, so nothing is lost.

Whatever is wrong with livesync's settings or data is logged, and Zope starts all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from ..capture import Capture
from ..database import committed, connected
from ..errors import NotInstalled, SiteDiffers, UpgradeNeeded
from ..manager import SyncManager
from ._zope_settings import ZopeSettings, zope_settings

logger = logging.getLogger(__name__)


def databases_opened(event: Any) -> None:
    """Attach capture to the databases of a Zope that has just started.

    Called for ``IDatabaseOpenedWithRoot``; ``event.database`` is the one of the root. Raises nothing: a
    fault of livesync's does not keep Zope from starting.
    """
    try:
        settings = zope_settings()
        if not settings.settings.host:
            logger.warning(
                "nothing is recorded: no host is set; write host into <product-config livesync> of zope.conf"
            )
            return
        attach(event.database, settings)
    except Exception:
        logger.exception("livesync could not be started; nothing is recorded")


def attach(database: Any, settings: ZopeSettings) -> Capture:
    """Attach one capture to all databases that are to be recorded, and start runners where wanted.

    Args:
        database: The ``ZODB.DB`` of Zope's root; the others are those of its multi-database.
        settings: What to do.

    Raises:
        HostNotFound: The host cannot be imported.
        ValueError: Another capture is attached to one of the databases.
    """
    capture = Capture(settings.settings.load_host())
    for name, found in kept_databases(database, settings.databases):
        capture.install(found)
        if _is_ready(name, found, settings) and settings.runner:
            _start_runner(name, found, capture, settings)
    return capture


def kept_databases(database: Any, names: frozenset[str]) -> Iterator[tuple[str, Any]]:
    """Yield ``(name, database)`` of all that belong to ``database`` and are kept: not temporary ones.

    Args:
        database: One of a multi-database.
        names: Only these; empty: all.
    """
    for name, found in sorted((database.databases or {database.database_name: database}).items()):
        is_temporary = type(found.storage).__name__ in ("TemporaryStorage", "MappingStorage")
        if (name in names) if names else not is_temporary:
            yield name, found
    for name in sorted(names - set(database.databases)):
        logger.warning(
            "there is no database %s to record; zope.conf names %s", name, sorted(database.databases)
        )


def _is_ready(name: str, database: Any, settings: ZopeSettings) -> bool:
    """Make sure that a database has a manager of today's schema; tell whether agents may run on it."""
    if database.storage.isReadOnly():
        logger.info("database %s is open for reading only: nothing is recorded, nothing runs", name)
        return False
    site = settings.settings.site
    try:
        with connected(database) as root:
            SyncManager.get(root).check_site(site)
    except NotInstalled:
        if not settings.install:
            logger.warning("livesync is not installed in database %s: nothing is recorded", name)
            return False
        committed(database, lambda root: _install(root, site))
        logger.info("livesync is installed in database %s now, for site %r", name, site)
    except UpgradeNeeded as exc:
        logger.error("database %s: changes are recorded, but agents do not run: %s", name, exc)
        return False
    except SiteDiffers as exc:
        logger.warning("database %s: changes are recorded, but agents do not run here: %s", name, exc)
        return False
    return True


def _install(root: Any, site: str) -> None:
    """Install, unless another process that starts at the same time has."""
    try:
        SyncManager.get(root)
    except NotInstalled:
        SyncManager.install(root, site=site)


def _start_runner(name: str, database: Any, capture: Capture, settings: ZopeSettings) -> None:
    from ..cli.hosting import HostRunner

    # where the database is a file of this process', the command line finds the way here, too
    own = settings.settings
    HostRunner(database, capture.host, own.site, own.notices).start()  # it ends with the process
    logger.info("a runner is at work on database %s", name)
