"""livesync within a Pyramid application that keeps its objects in ZODB.

``config.include("livesync.plugins.pyramid")``, or the same in ``pyramid.includes``; before or after
pyramid_zodbconn and pyramid_tm. What there is to wire is wired when the application is made: capture is
attached to the databases that pyramid_zodbconn has opened, events of the application are mapped to
actions, a thread runs the agents and takes commands, the web pages are mounted. Nothing else is done here.
"""

from __future__ import annotations

import atexit
import logging
import os
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

import zope.event
from pyramid.config import Configurator
from pyramid.events import ApplicationCreated, NewRequest
from pyramid.exceptions import ConfigurationError
from zope.lifecycleevent.interfaces import IObjectModifiedEvent, IObjectMovedEvent

from ..capture import Capture
from ..cli.hosting import HostRunner
from ..database import committed, connected
from ..errors import LiveSyncError
from ..manager import ROOT_KEY, SyncManager
from ..upkeep.notices import NoticeSettings
from ._pyramid_settings import MAIN, EventMapping, PluginSettings, plugin_settings

logger = logging.getLogger(__name__)

#: Under this key the registry has the :class:`Plugged` of its application.
REGISTRY_KEY: Final = "livesync.plugin"

#: How long a fork waits for what is at work; seconds.
_REST_S: Final = 10.0


def includeme(config: Configurator) -> None:
    """Plug livesync into an application; its settings are ``livesync.*``.

    Raises:
        ConfigurationError: A setting makes no sense.
    """
    try:
        settings = plugin_settings(config.registry.settings)
        notices = NoticeSettings.of(settings.notices)
    except LiveSyncError as exc:
        raise ConfigurationError(f"livesync: {exc}") from exc
    plugged = config.registry[REGISTRY_KEY] = Plugged(settings, notices)
    config.add_subscriber(plugged.capture.notify, IObjectModifiedEvent)
    config.add_subscriber(plugged.capture.notify, IObjectMovedEvent)
    for mapping in settings.events:
        config.add_subscriber(partial(plugged.hear, mapping), mapping.event)
    config.add_subscriber(plugged.application_created, ApplicationCreated)
    config.add_subscriber(plugged.new_request, NewRequest)
    if settings.web_prefix:
        plugged.mount_pages(config)


class Plugged:
    """livesync in one application: what is attached, and who runs. ``registry["livesync.plugin"]``.

    Args:
        settings: Those of the application.
        notices: Who is told when an agent stops or lags.

    Attributes:
        capture: Records what the application does.
        databases: Those that it is attached to, by their names in pyramid_zodbconn.
        runners: Who runs the agents, by database.
    """

    def __init__(self, settings: PluginSettings, notices: NoticeSettings) -> None:
        self.settings = settings
        self.capture = Capture(settings.host)
        self.databases: dict[str, Any] = {}
        self.runners: dict[str, HostRunner] = {}
        self._resting: list[HostRunner] = []
        self._notices = notices
        self._web: Any = None
        self._pid = os.getpid()
        self._closing = ExitStack()

    # -- when the application is made ------------------------------------------------------------

    def application_created(self, event: Any) -> None:
        """Attach to the databases, and let the agents run.

        Raises:
            ConfigurationError: There is no database, or livesync cannot be installed in one.
        """
        self._closing.callback(self.capture.uninstall)
        try:
            self.databases = self._chosen(event.app.registry)
            for name, db in self.databases.items():
                self._prepare(name, db)
                self.capture.install(db)
        except (LiveSyncError, ValueError) as exc:
            self.close()
            raise ConfigurationError(f"livesync: {exc}") from exc
        self._listen()
        self._start_runners()
        if self._web is not None:
            self._show_pages()
        atexit.register(self.close)
        self._closing.callback(atexit.unregister, self.close)

    def _chosen(self, registry: Any) -> dict[str, Any]:
        opened = getattr(registry, "_zodb_databases", None)
        if not opened:
            raise ConfigurationError(
                "livesync: there is no database: include pyramid_zodbconn and set zodbconn.uri"
            )
        # a storage that is mounted by its configuration is in the map as well
        names = tuple(opened) if self.settings.databases is None else self.settings.databases
        pages = () if self.settings.web_database is None else (self.settings.web_database,)
        for name in (*names, *pages):
            if name not in opened:
                known = ", ".join(each or MAIN for each in opened)
                raise ConfigurationError(
                    f"livesync: there is no database {name or MAIN!r}; there are: {known}"
                )
        return {name: opened[name] for name in names}

    def _prepare(self, name: str, db: Any) -> None:
        """Install livesync where that is wanted; say what keeps agents from running."""
        site = self.settings.site
        with connected(db) as root:
            is_installed = ROOT_KEY in root
        if not is_installed and self.settings.install and not db.storage.isReadOnly():
            committed(db, lambda root: ROOT_KEY in root or SyncManager.install(root, site=site))
            logger.info("livesync is installed in the database %s", name or MAIN)

    def _listen(self) -> None:
        for mapping in self.settings.events:
            subscriber = partial(self.hear_any, mapping)
            zope.event.subscribers.append(subscriber)
            self._closing.callback(zope.event.subscribers.remove, subscriber)

    def hear_any(self, mapping: EventMapping, event: Any) -> None:
        """Record an event of :mod:`zope.event` if it is one of a mapping."""
        if mapping.matches(event):
            self.hear(mapping, event)

    def hear(self, mapping: EventMapping, event: Any) -> None:
        """Record what an event of a mapping means."""
        self.capture.heard(getattr(event, mapping.attribute), *mapping.words)

    # -- who runs the agents ---------------------------------------------------------------------

    def new_request(self, event: Any) -> None:
        """Run the agents in this process too, if it was forked from the one that made the application."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            for runner in self.runners.values():
                runner.start()

    def _start_runners(self) -> None:
        """Let agents run; the runner itself looks whether the database is there and of this site."""
        if not self.settings.runner:
            return
        for name, db in self.databases.items():
            if db.storage.isReadOnly():
                logger.warning("database %s is open for reading only: nobody runs its agents", name or MAIN)
                continue
            settings = self.settings
            runner = self.runners[name] = HostRunner(db, settings.host, settings.site, settings.notices)
            runner.start()
            self._closing.callback(runner.stop)
        if self.runners:
            # nobody can take this back, so it must not keep an application alive that is closed
            os.register_at_fork(
                before=partial(_called, weakref.WeakMethod(self.before_fork)),
                after_in_parent=partial(_called, weakref.WeakMethod(self.after_fork)),
            )

    def before_fork(self) -> None:
        """Let the agents rest: a process must not be forked while a thread holds a lock of the database."""
        self._resting = [runner for runner in self.runners.values() if runner.is_alive()]
        for runner in self._resting:
            runner.stop(_REST_S)

    def after_fork(self) -> None:
        """Let the agents run again, in the process that has forked another one."""
        for runner in self._resting:
            runner.start()
        self._resting = []

    # -- the web pages ---------------------------------------------------------------------------

    def mount_pages(self, config: Configurator) -> None:
        """Mount the web pages; the database that they show is known later."""
        from ..web import app as web
        from ..web.context import WebContext
        from ..web.security import principals
        from ..web.users import Users

        settings = self.settings
        self._web = config.registry[web.REGISTRY_KEY] = web.WebApp(
            WebContext(None, settings.host, settings.site),
            Users(settings.web_users),
            metrics=settings.web_metrics,
            see=principals(settings.web_see),
            operate=principals(settings.web_operate),
        )
        config.include(web.includeme, route_prefix=settings.web_prefix)

    def _show_pages(self) -> None:
        from ..web.context import WebContext

        name = self.settings.web_database
        if name is None:
            name = next(iter(self.databases))
        self._web.context = WebContext(
            self.databases[name],
            self.settings.host,
            self.settings.site,
            self.runners.get(name),
            self._notices,
        )
        self._closing.callback(self._web.close)

    # -- the end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop running and recording; the databases stay open. Called at the end of the process."""
        self._closing.close()


def plugged(registry: Any) -> Plugged:
    """Return the :class:`Plugged` of an application, by its registry.

    Raises:
        KeyError: livesync is not included there.
    """
    found: Plugged = registry[REGISTRY_KEY]
    return found


def _called(method: Callable[[], Callable[[], None] | None]) -> None:
    """Call a method whose object is still there."""
    found = method()
    if found is not None:
        found()
