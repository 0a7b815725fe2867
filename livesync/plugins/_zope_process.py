"""A Zope without a server: what a process of the command line needs to read Zope's objects.

Inside Zope there is nothing to do. Elsewhere Zope's configuration (ZCML) is loaded once, without opening any
database: the command line has opened its own.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, Final

from ..errors import HostFailed

#: Names the instance's zope.conf; where it is not set, what is installed is loaded as it is.
ZOPE_CONF: Final = "LIVESYNC_ZOPE_CONF"

_lock = threading.Lock()


def set_up(database: Any) -> None:
    """Load Zope's configuration, unless this process is a Zope, or has done so before.

    Args:
        database: Objects whose classes are missing are read from it as Zope reads them.

    Raises:
        HostFailed: zope.conf is missing or wrong.
    """
    from Zope2.App import zcml

    with _lock:
        if not zcml._initialized:
            _load(os.environ.get(ZOPE_CONF, ""))
    if _is_foreign(database):
        from Zope2.App.ClassFactory import ClassFactory

        database.classFactory = ClassFactory


def _is_foreign(database: Any) -> bool:
    """Tell whether somebody else than Zope has opened a database."""
    import Zope2

    return getattr(Zope2, "DB", None) not in (database.databases or {}).values()


def _load(zope_conf: str) -> None:
    from OFS.Application import import_products
    from Zope2.App import startup

    if zope_conf:
        if not Path(zope_conf).is_file():
            raise HostFailed(f"{ZOPE_CONF} names {zope_conf}, which is no file")
        from Zope2.Startup.run import _set_wsgi_config

        try:
            _set_wsgi_config(zope_conf)
        except Exception as exc:
            raise HostFailed(f"{zope_conf} cannot be read: {type(exc).__name__}: {exc}") from exc
    from Zope2.App import patches

    patches.apply_patches()
    import_products()
    startup.load_zcml()
