"""What descriptions of HTTP services have in common: OpenAPI 3.1, made from tables of operations. Pure."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from . import __version__

_REFS: Final = "#/components/schemas/{name}"


class Parameter(Protocol):
    """A part of an address or of its query; ``schema`` as JSON Schema has it."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def where(self) -> str:
        """``path`` or ``query``."""

    @property
    def help(self) -> str:
        """What it is, for people."""

    @property
    def schema(self) -> Mapping[str, Any]:
        """Of which form it is."""

    @property
    def required(self) -> bool:
        """Whether it has to be given."""


def document(
    title: str, summary: str, about: str, base: str, paths: Mapping[str, Any], components: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a description.

    Args:
        title, summary: What it describes.
        about: More of that; Markdown, indented as in the source.
        base: Where the service is mounted.
        paths, components: As OpenAPI has them.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": __version__,
            "summary": summary,
            "description": inspect.cleandoc(about),
            "license": {"name": "BSD-3-Clause", "identifier": "BSD-3-Clause"},
        },
        "servers": [{"url": base}],
        "paths": paths,
        "components": components,
    }


def parameter(found: Parameter) -> dict[str, Any]:
    """Return a parameter as it is described."""
    return {
        "name": found.name,
        "in": found.where,
        "required": found.required,
        "description": found.help,
        "schema": dict(found.schema),
    }


def ref(kind: type) -> dict[str, Any]:
    """Return what refers to a type of :func:`schemas`."""
    return {"$ref": _REFS.format(name=kind.__name__)}


def json_of(kind: type) -> dict[str, Any]:
    """Return the content of a body that is JSON of a type."""
    return {"application/json": {"schema": ref(kind)}}


def answer(description: str, kind: type | None) -> dict[str, Any]:
    """Return an answer as it is described; None: it has no body."""
    return {"description": description} | ({} if kind is None else {"content": json_of(kind)})


def schemas(kinds: Sequence[type | None]) -> dict[str, Any]:
    """Return the schemas of types and of what they are made of, by name."""
    named = dict.fromkeys(kind for kind in kinds if kind is not None)
    _, components = msgspec.json.schema_components(list(named), ref_template=_REFS)
    return dict(sorted(components.items()))
