"""What the API answers: JSON, and errors in one form."""

from __future__ import annotations

from typing import Any

import msgspec
from pyramid.response import Response

from .. import schemas
from ..problems import Problem

_encode = msgspec.json.Encoder().encode


def as_json(value: Any, status: int = 200) -> Response:
    """Return a value of ``schemas`` as an answer; None has no body."""
    if value is None:
        return Response(status=204)
    return Response(_encode(value), status=status, content_type="application/json", charset=None)


def problem_as_json(problem: Problem) -> Response:
    """Return a problem as an answer."""
    body = schemas.ErrorBody(
        code=problem.code, message=problem.message, details=list(problem.details), incident=problem.incident
    )
    response = as_json(schemas.Error(error=body), problem.status)
    for name, value in problem.headers:
        response.headers[name] = value
    return response
