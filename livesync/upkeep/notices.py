"""Telling people that an agent has stopped or lags: by mail, web hook or command.

What there is to tell is a pure function of the status and of what was told before; each trouble is
told once, again after :attr:`NoticeSettings.repeat_s`, and once more when it is over.
"""

from __future__ import annotations

import json
import logging
import shlex
import smtplib
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any, Final

import requests

from ..agent import State
from ..database import committed, connected
from ..errors import LiveSyncError, OptionError, UsageError
from ..manager import SyncManager
from ..options import Option, read_secret
from ..status import AgentStatus
from ..words import plural

logger = logging.getLogger(__name__)

#: What the table ``[notices]`` of the settings' file may hold.
NOTICE_OPTIONS: Final = (
    Option("max_lag_s", "float", help="an agent lags when it is so many seconds behind", default=3600.0,
           minimum=0.0),
    Option("repeat_s", "float", help="tell again of what lasts after so many seconds", default=86_400.0,
           minimum=60.0),
    Option("mail_to", help="addresses, separated by commas"),
    Option("mail_from", help="the sender's address", default="livesync@localhost"),
    Option("smtp_host", help="the mail server", default="localhost"),
    Option("smtp_port", "int", help="its port", default=25, minimum=1),
    Option("smtp_tls", help="how the connection is encrypted", default="none",
           choices=("none", "starttls", "tls")),
    Option("smtp_user", help="who sends"),
    Option("smtp_password", "secret", help="the sender's password"),
    Option("webhook", "url", help="a JSON object is posted there"),
    Option("webhook_token", "secret", help="sent to the web hook as Authorization: Bearer"),
    Option("command", help="run with the text on standard input; words are split as a shell does"),
)  # fmt: skip

_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class NoticeSettings:
    """Whom to tell, and when; the names are those of :data:`NOTICE_OPTIONS`."""

    values: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> NoticeSettings:
        """Return the settings of a table of the settings' file.

        Raises:
            UsageError: A key is unknown, or a value has another form.
        """
        known = {option.name: option for option in NOTICE_OPTIONS}
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise UsageError(f"notices: there is no key {unknown[0]!r}; there are {', '.join(known)}")
        try:
            return cls(
                {
                    name: option.parse(given[name]) if name in given else option.default
                    for name, option in known.items()
                }
            )
        except OptionError as exc:
            raise UsageError(f"notices: {exc}") from exc

    @property
    def wanted(self) -> bool:
        """Whether anybody is to be told."""
        return any(self.values.get(name) for name in ("mail_to", "webhook", "command"))


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that people should know.

    Attributes:
        agent_id: The agent.
        trouble: ``stopped``, ``lagging``, or "" when all is well again.
        text: One line.
    """

    agent_id: str
    trouble: str
    text: str


def trouble_of(status: AgentStatus, max_lag_s: float) -> Notice:
    """Return what an agent's status comes to; its trouble is "" when there is none."""
    ident = status.id
    if status.state == State.STOPPED.value:
        return Notice(ident, "stopped", f"agent {ident} is stopped ({status.reason}): {status.detail}")
    if status.state not in (State.ACTIVE.value, State.RECORDING.value):
        return Notice(ident, "", f"agent {ident} is {status.state}")
    if status.lag_actions and status.lag_seconds > max_lag_s:
        return Notice(
            ident, "lagging",
            f"agent {ident} is {status.lag_seconds:.0f} s behind:"
            f" {plural(status.lag_actions, 'action')} to deliver"
            + (f"; its last run failed: {status.last_error}" if status.last_error else ""),
        )  # fmt: skip
    return Notice(ident, "", f"agent {ident} is well")


def due_notices(
    agents: Iterable[AgentStatus],
    told: Mapping[str, Mapping[str, Any] | None],
    max_lag_s: float,
    repeat_s: float,
    now: float,
) -> list[Notice]:
    """Return what is to be told now.

    Args:
        agents: As they stand.
        told: Agent id -> ``{"trouble", "time"}`` of what was told last; None: nothing yet.
        max_lag_s: An agent that is further behind lags.
        repeat_s: After so many seconds, what lasts is told again.
        now: Epoch seconds.
    """
    due = []
    for status in agents:
        notice, before = trouble_of(status, max_lag_s), told.get(status.id)
        last = "" if before is None else before["trouble"]
        again = bool(notice.trouble) and before is not None and now - before["time"] >= repeat_s
        if notice.trouble != last or again:
            due.append(notice)
    return due


def tell(
    db: Any,
    settings: NoticeSettings,
    now: float,
    send: Callable[[Notice, NoticeSettings], None] | None = None,
) -> list[Notice]:
    """Tell people what they should know, and note what they were told; for the end of a task.

    A notice that cannot be sent is logged and tried again next time. Commits a transaction of its own
    where anything was told.

    Args:
        db: An open ``ZODB.DB``.
        settings: Whom to tell.
        now: Epoch seconds.
        send: In place of :func:`send_notice`.

    Returns:
        What was told.
    """
    if not settings.wanted:
        return []
    with connected(db) as root:
        manager = SyncManager.get(root)
        agents = manager.status(now=now).agents
        told = {agent.id: manager.stored(agent.id).told for agent in agents}
    values = settings.values
    done = []
    for notice in due_notices(agents, told, values["max_lag_s"], values["repeat_s"], now):
        try:
            (send or send_notice)(notice, settings)
        except Exception as exc:  # noqa: BLE001 - who cannot be told must not keep agents from running
            logger.warning("the notice %r could not be sent: %s", notice.text, _shown(exc))
            continue
        done.append(notice)
    if done:
        committed(db, lambda root: _note(SyncManager.get(root), done, now))
    return done


def _note(manager: SyncManager, notices: Iterable[Notice], now: float) -> None:
    for notice in notices:
        if notice.agent_id in manager.agent_ids():
            manager.stored(notice.agent_id).told = {"trouble": notice.trouble, "time": now}


def send_notice(notice: Notice, settings: NoticeSettings) -> None:
    """Send one notice every way that is set.

    Raises:
        LiveSyncError, OSError, smtplib.SMTPException, requests.RequestException: One way failed.
    """
    values = settings.values
    if values.get("mail_to"):
        _mail(notice, values)
    if values.get("webhook"):
        _post(notice, values)
    if values.get("command"):
        _run(notice, values["command"])


def _mail(notice: Notice, values: Mapping[str, Any]) -> None:
    message = EmailMessage()
    message["Subject"] = f"livesync: agent {notice.agent_id}: {notice.trouble or 'well again'}"
    message["From"] = values["mail_from"]
    message["To"] = values["mail_to"]
    message.set_content(notice.text + "\n")
    connect = smtplib.SMTP_SSL if values["smtp_tls"] == "tls" else smtplib.SMTP
    with connect(values["smtp_host"], values["smtp_port"], timeout=_TIMEOUT_S) as server:
        if values["smtp_tls"] == "starttls":
            server.starttls()
        if values["smtp_user"]:
            server.login(values["smtp_user"], read_secret(values["smtp_password"] or "env:"))
        server.send_message(message)


def _post(notice: Notice, values: Mapping[str, Any]) -> None:
    headers = {"Content-Type": "application/json"}
    if values["webhook_token"]:
        headers["Authorization"] = f"Bearer {read_secret(values['webhook_token'])}"
    body = {"agent": notice.agent_id, "trouble": notice.trouble, "text": notice.text}
    answer = requests.post(
        values["webhook"], data=json.dumps(body), headers=headers, timeout=_TIMEOUT_S, allow_redirects=False
    )
    if not 200 <= answer.status_code < 300:
        raise LiveSyncError(f"the web hook answered {answer.status_code}")


def _run(notice: Notice, command: str) -> None:
    done = subprocess.run(  # noqa: S603 - the command is the administrator's own
        shlex.split(command), input=notice.text + "\n", text=True, capture_output=True, timeout=_TIMEOUT_S,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise LiveSyncError(f"the command ended with {done.returncode}: {done.stderr.strip()[:200]}")


def _shown(exc: Exception) -> str:
    """Return the text of an exception, unless it may hold a URL with a secret."""
    return type(exc).__name__ if isinstance(exc, requests.RequestException) else str(exc)
