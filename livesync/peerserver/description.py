"""The server's description: OpenAPI 3.1, made from the table of operations and the types of the wire."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from .. import openapi
from ..peering import wire
from .operations import Operation

#: Codes that every operation may answer.
_ALWAYS: Final = ("bad_request", "no_such_thing", "internal", "conflict", "database")

_ABOUT: Final = """
    What livesync's peers say to each other. Operations that are part of a session are signed as RFC 9421
    says, with the key of the client's certificate, and have a number each; their answers are signed with the
    server's. Bodies are JSON, and may be packed with zstd or gzip. Errors have one form,
    `{"error": {"code": …, "message": …}}`.
"""


def description(operations: tuple[Operation, ...], prefix: str = "") -> dict[str, Any]:
    """Return the description.

    Args:
        operations: What is served.
        prefix: Where it is mounted.
    """
    paths: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return openapi.document(
        "livesync peers",
        "What livesync's peers say to each other.",
        _ABOUT,
        prefix + wire.BASE,
        paths,
        {
            "schemas": _schemas(operations),
            "securitySchemes": {
                "signature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Signature",
                    "description": "RFC 9421, over " + ", ".join(wire.SIGNED_OF_REQUEST),
                },
                "password": {"type": "http", "scheme": "basic"},
            },
        },
    )


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.help,
        "responses": _responses(operation),
        "security": [{"signature": []}] if operation.in_session else [],
    }
    if operation.takes_password:
        described["security"] = [{"password": []}]
    parameters = [openapi.parameter(each) for each in operation.parameters]
    if operation.in_session:
        parameters += [_HEADERS[wire.SESSION], _HEADERS[wire.SEQUENCE]]
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": openapi.json_of(operation.body),
        }
    return described


_HEADERS: Final = {
    wire.SESSION: {
        "name": wire.SESSION,
        "in": "header",
        "required": True,
        "description": "The sync session.",
        "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    },
    wire.SEQUENCE: {
        "name": wire.SEQUENCE,
        "in": "header",
        "required": True,
        "description": "The number of the request in its session; they only rise.",
        "schema": {"type": "string", "pattern": "^[1-9][0-9]{0,15}$"},
    },
}


def _responses(operation: Operation) -> dict[str, Any]:
    responses = {str(operation.status): openapi.answer("Done.", operation.answer)}
    meanings: dict[int, list[str]] = {}
    for code in dict.fromkeys(_codes(operation)):
        meanings.setdefault(wire.CODES[code][0], []).append(f"`{code}`: {wire.CODES[code][1]}")
    for status, texts in sorted(meanings.items()):
        responses[str(status)] = openapi.answer("\n".join(texts), wire.Error)
    return responses


def _codes(operation: Operation) -> Iterator[str]:
    yield from _ALWAYS
    yield from operation.errors
    if operation.body is not None:
        yield from ("too_large", "media_type", "bad_encoding")
    if operation.in_session:
        yield from ("signature", "digest", "certificate", "expired", "revoked", "sequence", "ended")
    if operation.takes_password:
        yield from ("not_logged_in", "too_often")


def _schemas(operations: tuple[Operation, ...]) -> dict[str, Any]:
    return openapi.schemas([wire.Error, *(kind for each in operations for kind in (each.body, each.answer))])
