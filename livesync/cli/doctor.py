"""``livesync doctor``: one check after another, and what to do about what is wrong."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..database import shown_uri
from ..errors import LiveSyncError, OptionError
from ..process import is_dead
from ..words import plural
from .exitcodes import ExitCode, code_of, gravest
from .findings import Finding
from .output import printable
from .peer_findings import look_at_trust, look_at_untaken
from .services import ask, service_of
from .session import Session
from .tables import duration, utc

if TYPE_CHECKING:
    from ..agent import SyncAgent
    from ..host import Host
    from ..manager import SyncManager
    from ..status import AgentStatus
    from ..upkeep.probing import Asked

#: The packages whose versions matter when somebody asks for help.
PACKAGES: Final = (
    "zodb-livesync", "ZODB", "BTrees", "persistent", "transaction", "zodburi", "msgspec", "ormsgpack",
    "requests", "rich",
)  # fmt: skip

#: Those of extras and storages, told where they are installed.
EXTRAS: Final = ("ZEO", "RelStorage", "psycopg", "confluent-kafka", "pymarc")

#: Seconds that a transaction may be ahead of this machine's clock.
MAX_AHEAD_S: Final = 30.0


def doctor(session: Session) -> int:
    """Check everything, a line each; the exit code is that of the gravest problem."""
    codes = []
    with session.out.json_list("findings", {}) as add:
        for finding in _findings(session):
            codes.append(finding.code)
            mark = "ok     " if finding.code is ExitCode.OK else "PROBLEM"
            session.out.line(printable(f"{mark}  {finding.subject}: {finding.text}"))
            add(
                {
                    "subject": finding.subject,
                    "text": finding.text,
                    "code": int(finding.code),
                    "name": finding.code.name,
                }
            )
    return gravest(codes)


def _findings(session: Session) -> Iterator[Finding]:
    yield from _installation()
    settings = session.settings
    for key in ("db", "host", "site"):
        if key in settings.sources:
            value = shown_uri(getattr(settings, key))
            yield Finding(f"setting {key}", f"{value} (from {settings.sources[key]})")
    yield from _notices(settings.notices)
    host = None
    try:
        host = settings.load_host()
        yield Finding("host", f"{type(host).__module__}.{type(host).__qualname__} is loaded")
    except LiveSyncError as exc:
        yield Finding.problem("host", exc)
    services: list[Asked] = []
    try:
        with session.reading() as manager:
            yield Finding("database", f"{shown_uri(settings.db)} opens, and livesync is installed")
            yield from _manager(session, manager)
            yield from look_at_trust(session, manager._p_jar.root(), time.time())
            yield from look_at_untaken(manager._p_jar.root())
            if host is not None:
                yield _host_reads(host, manager)
            for status in manager.status().agents:
                yield from _agent(session, manager, status, services)
    except Exception as exc:  # noqa: BLE001 - whatever is wrong is what a doctor is to tell
        yield Finding.problem("database", exc, settings.db)
    for asked in services:
        yield ask(asked)


def _installation() -> Iterator[Finding]:
    yield Finding("python", f"{platform.python_version()} at {sys.executable}")
    versions = []
    for package in (*PACKAGES, *EXTRAS):
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            if package in PACKAGES:
                yield Finding(
                    "packages", f"{package} is not installed: pip install zodb-livesync", ExitCode.DIFFERENT
                )
    yield Finding("packages", ", ".join(versions))


def _notices(table: Mapping[str, Any]) -> Iterator[Finding]:
    """Look at the table ``[notices]`` of the settings' file, where there is one."""
    from ..options import read_secret
    from ..upkeep.notices import NOTICE_OPTIONS, NoticeSettings

    if not table:
        return
    try:
        notices = NoticeSettings.of(table)
        for option in NOTICE_OPTIONS:
            if option.type == "secret" and notices.values[option.name]:
                read_secret(notices.values[option.name])
    except LiveSyncError as exc:
        yield Finding.problem("notices", exc)
        return
    ways = [way for way in ("mail_to", "webhook", "command") if notices.values[way]]
    yield Finding("notices", f"are sent by: {', '.join(ways)}" if ways else "there is no way to send them")


def _manager(session: Session, manager: SyncManager) -> Iterator[Finding]:
    from ..upkeep.retention import held_back

    yield Finding("schema", f"{manager.schema}, as this livesync expects")
    try:
        manager.check_site(session.settings.site)
        yield Finding("site", f"{manager.site or '(no name)'}, here and in the database")
    except LiveSyncError as exc:
        yield Finding.problem("site", exc)
    yield _clock(manager, time.time())
    yield _lanes(manager)
    for reader in held_back(manager, time.time()):
        yield Finding("track", str(reader), ExitCode.DIFFERENT)


def _clock(manager: SyncManager, now: float) -> Finding:
    """Compare this machine's clock with the time of the newest transaction, which some machine has made."""
    from persistent.timestamp import TimeStamp

    newest = TimeStamp(manager._p_jar._storage.lastTransaction()).timeTime()
    ahead = newest - now
    if ahead > MAX_AHEAD_S:
        text = (
            f"the database's newest transaction is {duration(ahead)} ahead of this machine's clock: set the"
            " clocks of all machines that write to it (NTP)"
        )
        return Finding("clock", text, ExitCode.DIFFERENT)
    return Finding("clock", f"{utc(now)}; the database's newest transaction is of {utc(newest)}")


def _lanes(manager: SyncManager) -> Finding:
    inbox = manager._inbox
    dead = sum(is_dead(owner[:3]) for owner in inbox.owners.values())
    text = f"{plural(len(inbox.blocks), 'block')}, {len(inbox.owners)} owned by connections"
    if dead:
        text += f", {dead} of them of processes of this machine that are gone; these are used again"
    return Finding("lanes", text)


def _host_reads(host: Host, manager: SyncManager) -> Finding:
    try:
        with host.at(manager._p_jar) as reader:
            first = next(iter(reader.iter_ids()), None)
    except Exception as exc:  # noqa: BLE001 - a host may raise anything
        text = f"it raised {type(exc).__name__}: {exc}"
        return Finding("host", text, ExitCode.HOST)
    return Finding(
        "host", "reads the database" if first is not None else "reads the database, which has no objects yet"
    )


def _agent(
    session: Session, manager: SyncManager, status: AgentStatus, services: list[Asked]
) -> Iterator[Finding]:
    """Yield what there is to say of an agent; put its service into ``services`` where it is to be asked."""
    from ..agent import MissingAgent

    subject = f"agent {status.id}"
    agent = manager.get_agent(status.id)
    if isinstance(agent, MissingAgent):
        yield Finding(subject, agent.missing, ExitCode.NOT_FOUND)
        return
    problems = list(_options(subject, agent))
    if status.state == "stopped":
        text = f"is stopped: {status.reason}{': ' + status.detail if status.detail else ''}"
        problems.append(Finding(subject, text, ExitCode.DIFFERENT))
    yield from problems or [Finding(subject, f"{status.type_name}, {status.state}; its options are in order")]
    # a copy of the database must not pretend to be the original, and without options nothing opens
    if session.args.offline or manager.site != session.settings.site or any(_options(subject, agent)):
        return
    asked = service_of(manager, status)
    if isinstance(asked, Finding):
        yield asked
    elif asked is not None:
        services.append(asked)


def _options(subject: str, agent: SyncAgent) -> Iterator[Finding]:
    """Yield what is wrong with an agent's options where they touch the world."""
    for option in agent.declared_options():
        value = agent.values[option.name]
        if value is None:
            continue
        try:
            _check_option(option.type, value)
        except OptionError as exc:
            yield Finding(f"{subject}, option {option.name}", str(exc), code_of(exc))


def _check_option(kind: str, value: Any) -> None:
    """Check that what an option's value names is there.

    Raises:
        OptionError: It is not.
    """
    from ..options import load_function, read_secret

    if kind == "secret":
        read_secret(value)
    elif kind == "function":
        load_function(value)
    elif kind == "path":
        _check_path(Path(value))


def _check_path(path: Path) -> None:
    place = path if path.exists() else next(parent for parent in path.parents if parent.exists())
    if place != path and not place.is_dir():
        raise OptionError(f"{path} cannot be made: {place} is a file")
    if not os.access(place, os.W_OK):
        raise OptionError(f"{place} cannot be written to by this user")
