"""Styles, script and picture: a few small files, under an address that changes whenever one of them does."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Final

from pyramid.request import Request
from pyramid.response import Response

from ..errors import UnknownPage

_TYPES: Final[Mapping[str, str]] = {
    "livesync.css": "text/css",
    "livesync.js": "text/javascript",
    "mark.svg": "image/svg+xml",
}

#: A browser need not ask again within a year: another content has another address.
_MAX_AGE_S: Final = 365 * 86400


@cache
def contents() -> Mapping[str, bytes]:
    """Return the files by name."""
    directory = resources.files("livesync.web") / "static"
    return {name: (directory / name).read_bytes() for name in _TYPES}


@cache
def digest() -> str:
    """Return what stands for the present content of all files."""
    made = hashlib.blake2b(digest_size=8)
    for name, content in sorted(contents().items()):
        made.update(name.encode() + b"\0" + content + b"\0")
    return made.hexdigest()


def static(request: Request) -> Response:
    """Return one of the files.

    Raises:
        UnknownPage: There is none of this name.
    """
    name = request.matchdict["file"]
    if name not in _TYPES:
        raise UnknownPage("there is nothing at this address")
    response = Response(body=contents()[name], content_type=_TYPES[name], charset="utf-8")
    if request.matchdict["digest"] == digest():
        response.cache_control.max_age = _MAX_AGE_S
        response.cache_control.public = True
    return response
