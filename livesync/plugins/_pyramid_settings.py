"""The settings of the Pyramid plugin: what stands in an application's ``livesync.*``, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from zope.interface.interfaces import IInterface

from ..action import check_actions
from ..errors import LiveSyncError, UsageError
from ..host import Host, load_host
from ..imports import import_object
from ..settings import read_settings

PREFIX: Final = "livesync."

#: What can be set -> what it is, for messages.
KEYS: Final[Mapping[str, str]] = {
    "host": "the application: a name, or package.module:factory",
    "site": "the name of this site",
    "config": "the file with livesync's own settings",
    "databases": "names of databases, when not all are meant; main is the one without a name",
    "install": "true or false: install livesync in a database that has none",
    "events": "lines of EVENT WORD...: what events of the application's own mean",
    "runner": "thread or off: who runs the agents",
    "web_prefix": "where the web pages are mounted",
    "web_database": "the database that the web pages show",
    "web_users": "the file of those who may log in to the web pages",
    "web_see": "principals that may look at the web pages",
    "web_operate": "principals that may change things there",
    "web_metrics": "loopback, open or login: who may read /metrics",
}

#: What the database without a name is called in settings and messages.
MAIN: Final = "main"

_WORDS: Final = {"true": True, "yes": True, "on": True, "1": True}
_NO_WORDS: Final = {"false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True, slots=True)
class EventMapping:
    """What one kind of event means.

    Attributes:
        event: An interface that events provide, or a class that they are of.
        attribute: Where the event has the object.
        words: The actions.
    """

    event: Any
    attribute: str
    words: frozenset[str]

    def matches(self, event: Any) -> bool:
        """Tell whether an event is one of these."""
        if IInterface.providedBy(self.event):
            return bool(self.event.providedBy(event))
        return isinstance(event, self.event)


@dataclass(frozen=True, slots=True)
class PluginSettings:
    """What an application says of livesync; see :data:`KEYS`.

    ``databases`` is None for all; names in it are those of pyramid_zodbconn, "" for the one without.
    """

    host: Host
    site: str = ""
    notices: Mapping[str, Any] = field(default_factory=dict)
    databases: tuple[str, ...] | None = None
    install: bool = True
    events: tuple[EventMapping, ...] = ()
    runner: bool = True
    web_prefix: str = ""
    web_database: str | None = None
    web_users: str | None = None
    web_see: str = ""
    web_operate: str = ""
    web_metrics: str = "loopback"


def plugin_settings(
    settings: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> PluginSettings:
    """Return what the settings of an application say.

    What they leave out is looked for where the command line looks: ``LIVESYNC_HOST`` and
    ``LIVESYNC_SITE``, and the file of ``livesync.config`` or ``livesync.toml``.

    Args:
        settings: Those of the application.
        environment: Instead of ``os.environ``.

    Raises:
        UsageError: One is unknown or makes no sense, or no host is set.
    """
    given = {
        key[len(PREFIX) :]: str(value).strip() for key, value in settings.items() if key.startswith(PREFIX)
    }
    for key in given:
        if key not in KEYS:
            raise UsageError(f"there is no setting {PREFIX}{key}; there are: {', '.join(KEYS)}")
    try:
        own = read_settings({key: given.get(key) or None for key in ("host", "site", "config")}, environment)
    except LiveSyncError as exc:
        raise UsageError(f"{PREFIX}config: {exc}") from exc
    names = _names(given.get("databases", ""))
    web_prefix = given.get("web_prefix", "").strip("/")
    if not web_prefix:
        for key in given:
            if key.startswith("web_") and key != "web_prefix" and given[key]:
                raise UsageError(
                    f"{PREFIX}{key} is for the web pages: set {PREFIX}web_prefix too, such as /livesync"
                )
    return PluginSettings(
        host=_host(own.host),
        site=own.site,
        notices=own.notices,
        databases=names or None,
        install=_boolean(given, "install", default=True),
        events=tuple(_mapping(line) for line in given.get("events", "").splitlines() if line.strip()),
        runner=_choice(given, "runner", ("thread", "off")) == "thread",
        web_prefix=web_prefix,
        web_database=_names(given["web_database"])[0] if given.get("web_database") else None,
        web_users=given.get("web_users") or None,
        web_see=given.get("web_see", ""),
        web_operate=given.get("web_operate", ""),
        web_metrics=_choice(given, "web_metrics", ("loopback", "open", "login")),
    )


def _host(name: str) -> Host:
    if not name:
        raise UsageError(
            f"{PREFIX}host is not set: write {PREFIX}host = package.module:factory ({KEYS['host']})"
        )
    try:
        return load_host(name)
    except LiveSyncError as exc:
        raise UsageError(f"{PREFIX}host: {exc}") from exc


def _names(text: str) -> tuple[str, ...]:
    return tuple("" if name == MAIN else name for name in text.replace(",", " ").split())


def _choice(given: Mapping[str, str], key: str, choices: tuple[str, ...]) -> str:
    value = given.get(key) or choices[0]
    if value not in choices:
        raise UsageError(f"{PREFIX}{key} is {' or '.join(choices)}, not {value!r}")
    return value


def _boolean(given: Mapping[str, str], key: str, default: bool) -> bool:
    text = given.get(key, "").lower()
    known = _WORDS | _NO_WORDS
    if text and text not in known:
        raise UsageError(f"{PREFIX}{key} is true or false, not {given[key]!r}")
    return known.get(text, default)


def _mapping(line: str) -> EventMapping:
    """Return what a line of ``livesync.events`` says: ``package.module.Event[:attribute] word...``."""
    where, *words = line.split()
    name, _, attribute = where.partition(":")
    module, _, event_name = name.rpartition(".")
    try:
        found = import_object(f"{module}:{event_name}")
    except (ImportError, ValueError) as exc:
        raise UsageError(f"{PREFIX}events: {name!r} cannot be imported: {exc}") from exc
    if not isinstance(found, type) and not IInterface.providedBy(found):
        raise UsageError(f"{PREFIX}events: {name!r} is neither a class nor an interface")
    if attribute and not attribute.isidentifier():
        raise UsageError(f"{PREFIX}events: {where!r}: after the colon stands an attribute of the event")
    try:
        return EventMapping(found, attribute or "object", check_actions(words))
    except ValueError as exc:
        raise UsageError(f"{PREFIX}events: {line.strip()!r}: {exc}") from exc
