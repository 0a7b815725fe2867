"""What a Zope instance knows of livesync: ``<product-config livesync>``, else ``LIVESYNC_*`` and the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

from ..errors import UsageError
from ..settings import Settings, read_settings

#: What ``<product-config livesync>`` in zope.conf may hold: key -> what it is, for messages and docs.
KEYS: Final[Mapping[str, str]] = {
    "host": "the application: a name, or package.module:factory (default: plone, where Plone is installed)",
    "site": "the name of this site",
    "config": "the settings' file (default: livesync.toml in the working directory, /etc/livesync.toml)",
    "runner": "thread: run the agents in this process; off: do not (the default)",
    "install": "on: install livesync into a database that lacks it (the default); off: do not",
    "databases": "names of the databases to record, as zope.conf calls them (default: all that are kept)",
    "pages-url": "where livesync's own pages are, for the link in Plone's control panel",
}

_ENVIRONMENT: Final[Mapping[str, str]] = {
    "runner": "LIVESYNC_RUNNER",
    "install": "LIVESYNC_INSTALL",
    "databases": "LIVESYNC_DATABASES",
    "pages-url": "LIVESYNC_PAGES_URL",
}

_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {"runner": ("off", "thread"), "install": ("on", "off")}


@dataclass(frozen=True, slots=True)
class ZopeSettings:
    """What this process does for livesync.

    Attributes:
        settings: Host, site and notices, as for every other command.
        runner: Whether the agents run in a thread of this process.
        install: Whether livesync is installed into a database that lacks it.
        databases: Names of the databases to record; empty: all that are kept.
        pages_url: Where livesync's own pages are; empty: nowhere.
    """

    settings: Settings
    runner: bool = False
    install: bool = True
    databases: frozenset[str] = frozenset()
    pages_url: str = ""


def read_zope_settings(product_config: Mapping[str, str], environment: Mapping[str, str]) -> ZopeSettings:
    """Return the settings.

    Args:
        product_config: What stands in ``<product-config livesync>``; it goes before the environment.
        environment: For ``LIVESYNC_*``.

    Raises:
        UsageError: An unknown key, a value that is none of its choices, or a wrong settings' file.
    """
    for key in product_config:
        if key not in KEYS:
            raise UsageError(
                f"zope.conf: <product-config livesync> has no key {key!r}; it has {', '.join(KEYS)}"
            )
    given: dict[str, str | None] = {key: product_config.get(key) for key in ("host", "site", "config")}
    settings = read_settings(given, environment)
    if not settings.host and find_spec("Products") and find_spec("Products.CMFPlone"):
        settings = read_settings(given | {"host": "plone"}, environment)
    values = {
        key: product_config.get(key) or environment.get(variable, "")
        for key, variable in _ENVIRONMENT.items()
    }
    for key, choices in _CHOICES.items():
        value = (values[key] or choices[0]).lower()
        if value not in choices:
            raise UsageError(f"zope.conf: livesync's {key} is {' or '.join(choices)}, not {values[key]!r}")
        values[key] = value
    pages_url = values["pages-url"]
    if pages_url and not pages_url.startswith(("http://", "https://", "/")):
        raise UsageError(
            f"zope.conf: livesync's pages-url begins with http://, https:// or /, not {pages_url!r}"
        )
    return ZopeSettings(
        settings,
        values["runner"] == "thread",
        values["install"] == "on",
        frozenset(values["databases"].split()),
        pages_url,
    )


def zope_settings() -> ZopeSettings:
    """Return the settings of the Zope that this process is.

    Raises:
        UsageError: They are wrong.
    """
    import os

    from App.config import getConfiguration

    config: Any = getattr(getConfiguration(), "product_config", None) or {}
    return read_zope_settings(config.get("livesync") or {}, os.environ)
