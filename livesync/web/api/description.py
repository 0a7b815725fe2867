"""The API's description: OpenAPI 3.1, made from the table of operations and the types of ``schemas``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from ... import openapi
from .. import schemas
from .calls import OPERATIONS, Operation

#: Where the API is, below the prefix.
BASE: Final = "/api/v1"

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
    components: dict[str, Any] = {"schemas": _schemas()}
    if with_security:
        components["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer"},
            "session": {"type": "apiKey", "in": "cookie", "name": "livesync"},
        }
    described = openapi.document(
        "livesync",
        "What the pages of livesync do, for programs.",
        _ABOUT,
        prefix + BASE,
        _paths(with_security),
        components,
    )
    described["tags"] = [{"name": name} for name in dict.fromkeys(each.group for each in OPERATIONS)]
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
        described["parameters"] = [openapi.parameter(each) for each in operation.parameters]
    if operation.body is not None:
        described["requestBody"] = {
            "required": _is_required(operation.body),
            "content": openapi.json_of(operation.body),
        }
    if with_security:
        described["security"] = [] if operation.role == "public" else [{"token": []}, {"session": []}]
        described["x-livesync-role"] = operation.role
    return described


def _is_required(body: type) -> bool:
    """Tell whether an empty body leaves something out."""
    return any(field.required for field in msgspec.structs.fields(body))


def _responses(operation: Operation) -> dict[str, Any]:
    done = "Begun: ask for the job by its id." if operation.status == 202 else "Done."
    responses = {str(operation.status): openapi.answer(done, operation.answer)}
    for status in sorted(set(_statuses(operation))):
        responses[str(status)] = openapi.answer(_MEANINGS[status], schemas.Error)
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


def _schemas() -> dict[str, Any]:
    return openapi.schemas(
        [schemas.Error, *(kind for each in OPERATIONS for kind in (each.body, each.answer))]
    )
