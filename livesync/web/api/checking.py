"""Requests are checked against the description before an operation is carried out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from openapi_core.templating.media_types.exceptions import MediaTypeNotFound
from pyramid.request import Request
from pyramid.response import Response

from ..errors import BadRequest, WrongMediaType

View = Callable[[Any, Request], Response]

#: Mistakes that are told of one request.
_TOLD: Final = 10


def checked(view: View, info: Any) -> View:
    """Check what comes in for a view of the API, in place of what pyramid_openapi3 does around it.

    Its own check does not know that an application may lie below a script's name, and has its own form of
    errors; so it is asked here, and finds everything done when it comes to it.
    """
    if not (info.options.get("openapi") and info.options.get("livesync_role")):
        return view

    def check(context: Any, request: Request) -> Response:
        environ = request.environ
        environ["pyramid_openapi3.enabled"] = environ["pyramid_openapi3.validate_request"] = True
        name = environ.get("SCRIPT_NAME", "")
        environ["SCRIPT_NAME"] = ""
        try:
            errors = request.openapi_validated.errors
        except RecursionError:
            raise BadRequest("the request cannot be understood: it is nested too deeply") from None
        finally:
            environ["SCRIPT_NAME"] = name
        if errors:
            raise wrong_request(errors)
        return view(context, request)

    return check


def wrong_request(found: Iterable[Exception]) -> BadRequest | WrongMediaType:
    """Return the error for what a check has found."""
    found = list(found)
    for error in found:
        if isinstance(error.__cause__, MediaTypeNotFound) or isinstance(error, MediaTypeNotFound):
            return WrongMediaType("the body is of a kind that is not taken here: send application/json")
    details = list(dict.fromkeys(detail for error in found for detail in _details(error)))[:_TOLD]
    where, message = details[0]
    place = f"{where}: " if where else ""
    return BadRequest(f"the request cannot be understood: {place}{message}", tuple(details))


def _details(error: Exception) -> Iterator[tuple[str, str]]:
    """Yield where something is wrong, and what; values are not repeated: one may be a secret."""
    name = str(getattr(error, "name", "") or "")
    schema_errors = getattr(error.__cause__, "schema_errors", None)
    if schema_errors is None:
        yield name or "body", _plainly(error)
        return
    for each in schema_errors:
        path = ".".join(str(part) for part in (*((name,) if name else ("body",)), *each.absolute_path))
        yield path, _about(each)


def _plainly(error: Exception) -> str:
    kinds = {
        "MissingRequiredParameter": "it is needed",
        "MissingRequiredRequestBody": "a body is needed",
        "ParameterValidationError": "it has another form",
    }
    kind = type(error).__name__
    for name, text in kinds.items():
        if name in kind:
            return text
    return "it cannot be read as JSON" if "Body" in kind else "it has another form"


def _about(error: Any) -> str:
    """Return what a value should have been, without the value."""
    wanted = error.validator_value
    texts = {
        "type": f"it is not of type {wanted}",
        "enum": f"it is none of {wanted}",
        "pattern": f"it does not match {wanted}",
        "minLength": "it is too short",
        "maxLength": f"it is longer than {wanted}",
        "minItems": f"there are fewer than {wanted}",
        "maxItems": f"there are more than {wanted}",
        "minimum": f"it is below {wanted}",
        "maximum": f"it is above {wanted}",
        "format": f"it is no {wanted}",
    }
    if error.validator == "required":
        missing = [name for name in wanted if name not in error.instance]
        return f"{', '.join(missing)} is needed"
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        return f"there are only: {', '.join(known)}" if known else "there is nothing to be given"
    return texts.get(error.validator, "it has another form")
