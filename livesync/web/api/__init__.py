"""The JSON API below ``/api/v1``: everything that the pages do, for programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import msgspec
from jsonschema_path import SchemaPath
from openapi_core import V31ResponseValidator
from openapi_core.unmarshalling.request import V31RequestUnmarshaller
from pyramid.config import Configurator
from pyramid.request import Request
from pyramid.response import Response

from ...forms import converted
from ..errors import BadRequest, UnknownPage, WrongMethod
from .answers import as_json
from .calls import OPERATIONS, Call, Operation
from .checking import checked
from .description import BASE, description

#: How this API is called among those of an application that livesync is mounted in.
API_NAME: Final = "livesync_openapi"


def includeme(config: Configurator) -> None:
    """Add the API's routes and views, and what checks their requests."""
    prefix = f"/{config.route_prefix}" if config.route_prefix else ""
    config.add_view_deriver(
        checked, name="livesync_checked", under="livesync_guard", over=("openapi_view", "rendered_view")
    )
    _add_description(config, prefix)
    paths: dict[str, list[Operation]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, []).append(operation)
    for path, operations in paths.items():
        route = f"livesync.api{path}"
        config.add_route(route, BASE + path)
        for operation in operations:
            config.add_view(
                _view(operation),
                route_name=route,
                request_method=operation.method,
                openapi=True,
                livesync_role=operation.role,
                livesync_csrf=operation.checks_token,
            )
        methods = sorted({operation.method for operation in operations})
        config.add_view(_wrong_method(methods), route_name=route, livesync_role="public", livesync_csrf=False)
    config.add_route("livesync.api.unknown", f"{BASE}/*rest")
    config.add_view(_unknown, route_name="livesync.api.unknown", livesync_role="public", livesync_csrf=False)


def _add_description(config: Configurator, prefix: str) -> None:
    # As its directive pyramid_openapi3_spec does, but for two things: that takes a file, and ours depends on
    # where we are mounted; and it checks the description itself, which takes seconds: a test of ours does.
    settings = config.registry.settings
    settings[API_NAME] = dict(_checkers(prefix))
    settings.setdefault("pyramid_openapi3_apinames", []).append(API_NAME)
    settings.setdefault("pyramid_openapi3.enable_response_validation", False)
    config.add_route("livesync.api.description", f"{BASE}/openapi.json")
    body = _served(prefix)
    config.add_view(
        lambda request: Response(body, content_type="application/json", charset=None),
        route_name="livesync.api.description",
        request_method="GET",
        livesync_role="public",
    )


@lru_cache(maxsize=4)
def _checkers(prefix: str) -> Mapping[str, Any]:
    spec = SchemaPath.from_dict(description(prefix, with_security=False))
    return {
        "filepath": "openapi.json",
        "spec_route_name": "livesync.api.description",
        "spec": spec,
        "request_validator": V31RequestUnmarshaller(spec),
        "response_validator": V31ResponseValidator(spec),
    }


@lru_cache(maxsize=4)
def _served(prefix: str) -> bytes:
    return msgspec.json.format(msgspec.json.encode(description(prefix)), indent=1)


def _view(operation: Operation) -> Callable[[Request], Response]:
    def view(request: Request) -> Response:
        parameters = request.openapi_validated.parameters
        call = Call(request.livesync, request, parameters.path, parameters.query, _body(operation, request))
        return as_json(operation.call(call), operation.status)

    return view


def _body(operation: Operation, request: Request) -> Any:
    if operation.body is None:
        return None
    try:
        return converted(_whole(msgspec.json.decode(request.body or b"{}")), operation.body)
    except (msgspec.ValidationError, msgspec.DecodeError) as exc:
        # the description says less than the types where JSON Schema has no word for it
        message = str(exc)
        raise BadRequest(f"the request cannot be understood: {message}", (("body", message),)) from exc


def _whole(value: Any) -> Any:
    """Return ``value`` with whole numbers as such: for JSON Schema 2.0 is one, for Python it is none."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list):
        return [_whole(each) for each in value]
    if isinstance(value, dict):
        return {key: _whole(each) for key, each in value.items()}
    return value


def _wrong_method(methods: list[str]) -> Callable[[Request], Response]:
    allowed = (*methods, *(("HEAD",) if "GET" in methods else ()))

    def view(request: Request) -> Response:
        raise WrongMethod(f"this address takes {', '.join(allowed)}", allowed)

    return view


def _unknown(request: Request) -> Response:
    raise UnknownPage("there is nothing at this address of the API; /api/v1/openapi.json says what there is")
