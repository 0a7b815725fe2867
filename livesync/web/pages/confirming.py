"""Pages that say what something does before it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pyramid.request import Request
from pyramid.response import Response

from ...errors import LiveSyncError
from .forms import Form
from .frame import Page
from .refusals import text_of


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and what happens when the answer is yes.

    Attributes:
        agent_id: Whom it is about; "" for nobody.
        name: The page that asks: its address takes the answer.
        heading: The question.
        effect: What happens, a line each.
        submit: What stands on the button.
        back: The page to go back to, with the values of its address.
        form: What there is to fill in.
        hidden: What is sent along.
        is_dangerous: It cannot be undone, or keeps people waiting.
        section: The entry of the navigation.
        in_path: The agent stands in the address.
        place: What else stands in the address.
    """

    agent_id: str
    name: str
    heading: str
    effect: tuple[str, ...]
    submit: str
    back: tuple[str, Mapping[str, Any]]
    form: Form = field(default_factory=Form)
    hidden: Mapping[str, str] = field(default_factory=dict)
    is_dangerous: bool = False
    section: str = "agents"
    in_path: bool = True
    place: Mapping[str, str] = field(default_factory=dict)

    def refused(self, refusal: LiveSyncError) -> Asked:
        """Return the question with what speaks against it."""
        return replace(self, form=replace(self.form, error=text_of(refusal)))


def is_confirmed(request: Request) -> bool:
    """Tell whether somebody has said yes on such a page."""
    return request.method == "POST" and bool(request.POST.get("confirmed") == "yes")


def answered(request: Request, asked: Asked, take: Callable[[Asked], Response]) -> Response:
    """Ask; where it was answered, let ``take`` have the question with what was filled in."""
    if request.method == "GET":
        return ask(request, asked)
    return take(replace(asked, form=asked.form.filled(request.POST)))


def wrong(request: Request, asked: Asked, errors: dict[str, str]) -> Response:
    """Return the page that asks again, with what is wrong beside the fields of these names."""
    return ask(request, replace(asked, form=asked.form.with_errors(errors)), 422)


def ask(request: Request, asked: Asked, status: int = 200) -> Response:
    """Return the page that asks."""
    page = Page(request, asked.heading, asked.section)
    inside = {"agent": asked.agent_id} if asked.in_path and asked.agent_id else {}
    name, values = asked.back
    if inside:
        page.crumbs = (("Agents", page.url("agents")), (asked.agent_id, page.url("agent", **inside)))
    return page.response(
        "confirm.html",
        status,
        heading=asked.heading,
        effect=asked.effect,
        is_dangerous=asked.is_dangerous,
        form=asked.form,
        hidden={key: value for key, value in asked.hidden.items() if value},
        action=page.url(asked.name, **inside, **asked.place),
        submit=asked.submit,
        back=page.url(name, **values),
    )
