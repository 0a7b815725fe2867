"""The API's description: OpenAPI 3.1, made from the table of operations and the types of ``schemas``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from ... import __version__
from .. import schemas
from .calls import OPERATIONS, Operation, Parameter

#: Where the API is, below the prefix.
BASE: Final = "/api/v1"

_REFS: Final = "#/components/schemas/{name}"

#: Statuses that every operation may answer, and what they mean.
_ALWAYS: Final = (400, 500, 503)
_MEANINGS: Final = {
    400: "The request has another form than this description says.",
    401: "Nobody is logged in, the login has expired, or the token is none.",
    403: "The role does not allow it, or the token of forms is missing.",
    404: "There is no such thing.",
    409: "The state of things does not allow it now.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "What was asked makes no sense: an option, or a combination.",
    429: "Too many logins have failed; Retry-After says when to come back.",
    500: "Something went wrong that nobody foresaw, or the host raised.",
    503: "The database does not answer, or too much is at work; Retry-After says when to come back.",
}


def description(prefix: str = "", with_security: bool = True) -> dict[str, Any]:
    """Return the description.

    Args:
        prefix: Where the web application is mounted.
        with_security: Say how to log in; left out for what checks requests, since the login of an
            application that livesync is mounted in has a form of its own.
    """
    components = _schemas()
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "livesync",
            "version": __version__,
            "summary": "What the pages of livesync do, for programs.",
            "description": inspect.cleandoc(_ABOUT),
            "license": {"name": "BSD-3-Clause", "identifier": "BSD-3-Clause"},
        },
        "servers": [{"url": prefix + BASE}],
        "tags": [{"name": name} for name in dict.fromkeys(each.group for each in OPERATIONS)],
        "paths": _paths(with_security),
        "components": {"schemas": components},
    }
    if with_security:
        described["components"]["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer"},
            "session": {"type": "apiKey", "in": "cookie", "name": "livesync"},
        }
    return described


_ABOUT: Final = """
    Times are epoch seconds, durations seconds, positions whole numbers (epoch seconds // granularity).
    Lists come in pages: `next` is the `cursor` of the following one. Work that takes longer than a request is
    a job: ask for it by its id. Errors have one form, `{"error": {"code": …, "message": …}}`.

    Programs send `Authorization: Bearer TOKEN`. Scripts of pages use the cookie of the login and send
    the token of forms, which `GET /session` tells, as `X-CSRF-Token` with whatever changes something.
"""


def _paths(with_security: bool) -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, with_security)
    return paths


def _operation(operation: Operation, with_security: bool) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.group],
        "summary": operation.help,
        "responses": _responses(operation),
    }
    if operation.parameters:
        described["parameters"] = [_parameter(each) for each in operation.parameters]
    if operation.body is not None:
        described["requestBody"] = {
            "required": _is_required(operation.body),
            "content": {"application/json": {"schema": _ref(operation.body)}},
        }
    if with_security:
        described["security"] = [] if operation.role == "public" else [{"token": []}, {"session": []}]
        described["x-livesync-role"] = operation.role
    return described


def _is_required(body: type) -> bool:
    """Tell whether an empty body leaves something out."""
    return any(field.required for field in msgspec.structs.fields(body))


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.required,
        "description": parameter.help,
        "schema": dict(parameter.schema),
    }


def _responses(operation: Operation) -> dict[str, Any]:
    done: dict[str, Any] = {"description": "Done."}
    if operation.status == 202:
        done["description"] = "Begun: ask for the job by its id."
    if operation.answer is not None:
        done["content"] = {"application/json": {"schema": _ref(operation.answer)}}
    responses = {str(operation.status): done}
    for status in sorted(set(_statuses(operation))):
        responses[str(status)] = {
            "description": _MEANINGS[status],
            "content": {"application/json": {"schema": _ref(schemas.Error)}},
        }
    return responses


def _statuses(operation: Operation) -> Iterator[int]:
    yield from _ALWAYS
    yield from operation.errors
    if operation.role != "public" or operation.name == "logIn":
        yield 401
    if operation.method not in ("GET", "HEAD"):
        yield 403
        yield 413
    if operation.body is not None:
        yield 415
    if operation.role == "operate":
        yield 409  # a copy of the database pushes nothing


def _ref(kind: type) -> dict[str, Any]:
    return {"$ref": _REFS.format(name=kind.__name__)}


def _schemas() -> dict[str, Any]:
    kinds: list[type] = [schemas.Error]
    for operation in OPERATIONS:
        kinds += [kind for kind in (operation.body, operation.answer) if kind is not None]
    _, components = msgspec.json.schema_components(_once(kinds), ref_template=_REFS)
    return dict(sorted(components.items()))


def _once(kinds: Sequence[type]) -> list[type]:
    return list(dict.fromkeys(kinds))
