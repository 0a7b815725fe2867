"""What can be done with an agent, in the state that it is in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from .. import schemas
from .frame import Page


@dataclass(frozen=True, slots=True)
class Deed:
    """A button: what it is called and what it does, in a few words.

    Attributes:
        is_post: It is done at once; else the page behind it says what it does, and asks.
    """

    label: str
    url: str
    text: str
    icon: str = ""
    kind: str = ""
    is_post: bool = False


#: Name of the page, label, text, picture: what is done at once.
_RUN: Final = ("agent-run", "Run now", "Delivers what waits, at once", "play")
_PAUSE: Final = ("agent-pause", "Pause", "Nothing is lost: what it has to do is kept", "pause")
_ACTIVATE: Final = ("agent-activate", "Activate", "It runs again, from its pointer on", "play")
_SIMULATE: Final = ("agent-simulate", "Simulate", "Shows what a run would send, and sends nothing", "runs")
_TEST: Final = (
    "agent-test",
    "Test the connection",
    "Asks the service whether it would take anything",
    "check",
)
_VERIFY: Final = ("agent-verify", "Verify", "Compares what the service holds with what is here", "check")


def deeds_of(page: Page, detail: schemas.AgentDetail) -> list[tuple[str, list[Deed]]]:
    """Return the buttons of an agent's page in groups."""
    agent = detail.agent
    groups = (
        ("Running", list(_running(page, agent))),
        ("Looking", list(_looking(page, agent))),
        ("Sending", list(_sending(page, detail))),
        ("Settings", list(_settings(page, agent))),
    )
    return [(label, deeds) for label, deeds in groups if deeds]


def _at_once(page: Page, agent_id: str, deed: tuple[str, str, str, str], kind: str = "") -> Deed:
    name, label, text, icon = deed
    return Deed(label, page.url(name, agent=agent_id), text, icon, kind, is_post=True)


def _asking(
    page: Page, agent_id: str, name: str, label: str, text: str, icon: str = "", kind: str = ""
) -> Deed:
    return Deed(f"{label}…", page.url(name, agent=agent_id), text, icon, kind)


def _running(page: Page, agent: schemas.Agent) -> Iterator[Deed]:
    if agent.state == "new":
        text = "Give it a pointer: with an export, now, or at the oldest change that is kept"
        yield _asking(page, agent.id, "agent-begin", "Begin", text, "on", "main-action")
        return
    if agent.state == "active":
        yield _at_once(page, agent.id, _RUN, "main-action")
    if agent.state in ("paused", "stopped") and agent.reason != "needs_export":
        yield _at_once(page, agent.id, _ACTIVATE, "main-action")
    if agent.state in ("active", "recording"):
        yield _at_once(page, agent.id, _PAUSE)
    yield _asking(page, agent.id, "agent-schedule", "Schedule", "How often it runs by itself", "tasks")


def _looking(page: Page, agent: schemas.Agent) -> Iterator[Deed]:
    yield _at_once(page, agent.id, _TEST)
    if agent.state != "new":
        yield _at_once(page, agent.id, _SIMULATE)
        yield _at_once(page, agent.id, _VERIFY)


def _sending(page: Page, detail: schemas.AgentDetail) -> Iterator[Deed]:
    agent = detail.agent
    if agent.state == "new":
        return
    if detail.unfinished_export:
        label, text = "Go on exporting", "Its export has not come to its end"
    else:
        label, text = "Export", "Sends everything that exists, or a part of it"
    kind = "main-action" if detail.unfinished_export or agent.reason == "needs_export" else ""
    yield _asking(page, agent.id, "agent-export", label, text, "up", kind)
    yield _asking(page, agent.id, "agent-repair", "Repair", "Verifies, and mends what differs")
    yield _asking(page, agent.id, "agent-enqueue", "Enqueue", "Sends some objects with the next runs")
    if agent.state == "paused":
        yield _asking(page, agent.id, "agent-rewind", "Rewind", "Puts its pointer back, or forward", "back")


def _settings(page: Page, agent: schemas.Agent) -> Iterator[Deed]:
    yield Deed("Edit", page.url("agent-edit", agent=agent.id), "Its name and its options")
    text = "With its pointer and dead letters; what the service holds stays"
    yield _asking(page, agent.id, "agent-remove", "Remove", text, "", "danger")
