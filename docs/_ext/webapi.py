"""The references of the JSON API and of the peers' server, made from their descriptions. Pure functions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any


def load() -> dict[str, Any]:
    """Return the description that the application serves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pyramid imports what setuptools calls deprecated
        from livesync.web.api.description import description

        return description()


def load_peers() -> dict[str, Any]:
    """Return the description that the peers' server serves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pyramid imports what setuptools calls deprecated
        from livesync.peerserver.description import description
        from livesync.peerserver.serving import OPERATIONS

        return description(OPERATIONS)


def peer_reference() -> list[str]:
    """Return the reference of the peers' server as lines of reStructuredText."""
    described = load_peers()
    base = described["servers"][0]["url"]
    lines = ["", "Operations", "----------", ""]
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            lines += _operation(method.upper(), base + path, operation)
    lines += ["", "Types", "-----", ""]
    for name, schema in described["components"]["schemas"].items():
        lines += _type(name, schema)
    return lines


def reference() -> list[str]:
    """Return the reference as lines of reStructuredText."""
    described = load()
    base = described["servers"][0]["url"]
    operations = [
        (method.upper(), path, operation)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    ]
    lines: list[str] = []
    for tag in (each["name"] for each in described["tags"]):
        lines += ["", tag[0].upper() + tag[1:], "-" * len(tag), ""]
        for method, path, operation in operations:
            if tag in operation["tags"]:
                lines += _operation(method, base + path, operation)
    lines += ["", "Types", "-----", ""]
    for name, schema in described["components"]["schemas"].items():
        lines += _type(name, schema)
    return lines


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"``{method} {path}``"
    yield f"    {operation['summary']}"
    yield ""
    if "x-livesync-role" in operation:
        yield f"    :Role: ``{operation['x-livesync-role']}``"
    else:
        kinds = [kind for each in operation["security"] for kind in each]
        yield f"    :Proof: {', '.join(kinds) or 'none'}"
    for parameter in operation.get("parameters", ()):
        needed = ", needed" if parameter["required"] else ""
        yield f"    :{parameter['name']}: {parameter['description']} ({parameter['in']}{needed})"
    body = operation.get("requestBody")
    if body is not None:
        yield f"    :Body: {_shown(body['content']['application/json']['schema'])}"
    for status, answer in operation["responses"].items():
        content = answer.get("content")
        kind = "" if content is None else _shown(content["application/json"]["schema"])
        if kind != "``Error``":
            yield f"    :{status}: {kind or answer['description']}"
    errors = [status for status in operation["responses"] if status >= "4"]
    yield f"    :Errors: {', '.join(errors)}"
    yield ""


def _type(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"``{name}``"
    yield f"    {' '.join(schema.get('description', '').split('Attributes:')[0].split())}"
    yield ""
    required = set(schema.get("required", ()))
    for field, of in schema.get("properties", {}).items():
        given = "" if field in required else " (may be left out)"
        yield f"    - ``{field}``: {_shown(of)}{given}"
    yield ""


def _shown(schema: dict[str, Any]) -> str:
    """Return what a value is, in a few words."""
    if "$ref" in schema:
        return f"``{schema['$ref'].rpartition('/')[2]}``"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_shown, schema["anyOf"])))
    if "enum" in schema:
        return " or ".join("null" if value is None else f"``{value}``" for value in schema["enum"])
    kind = schema.get("type", "any value")
    if kind == "array":
        if "prefixItems" in schema:
            return f"list of {', then '.join(map(_shown, schema['prefixItems']))}"
        return f"list of {_shown(schema['items'])}"
    return str(kind)
