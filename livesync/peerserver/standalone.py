"""What only an application of its own needs: an answer for every address, and where there is no view."""

from __future__ import annotations

from typing import Any

from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response

from .problems import Refused
from .serving import plain_answer


def includeme(config: Configurator) -> None:
    """Add the views for whatever has none."""
    config.add_notfound_view(_unknown)
    config.add_exception_view(_failed, context=Exception)


def _unknown(request: Request) -> Response:
    return plain_answer(request, Refused("no_such_thing", "there is nothing at this address"))


def _failed(context: Any, request: Request) -> Response:
    """Answer for what went wrong outside of a view of ours, such as an address that is no text."""
    if isinstance(context, UnicodeError):
        return plain_answer(request, Refused("bad_request", "the address is not UTF-8"))
    return plain_answer(request, context)
