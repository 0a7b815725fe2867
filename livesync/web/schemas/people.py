"""Who asks, and what is answered to a request that is refused."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from .base import Input, Value


class Me(Value, frozen=True):
    """Who makes the request; ``via``: ``session``, ``token`` or ``host``. The token is for pages' scripts."""

    name: str
    role: str
    via: str
    csrf_token: str | None


class Login(Input, frozen=True):
    """A name and a password."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    password: Annotated[str, Meta(min_length=1, max_length=1024)]


class ErrorDetail(Value, frozen=True):
    """Where in a request something is wrong, and what."""

    where: str
    message: str


class ErrorBody(Value, frozen=True):
    """What went wrong: ``code`` for programs, ``message`` for people; ``incident`` finds it in the log."""

    code: str
    message: str
    details: list[ErrorDetail] = field(default_factory=list)
    incident: str = ""


class Error(Value, frozen=True):
    """The one form of all errors."""

    error: ErrorBody
