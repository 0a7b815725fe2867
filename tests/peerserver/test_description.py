"""The server holds what its description says, whatever it is asked; and the description is one."""

from __future__ import annotations

import io
import json
import re
import uuid

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from openapi_spec_validator import validate
from support.peer_serving import Served
from support.waiting import LONG_S
from webob import Request

from livesync.peering import wire
from livesync.peering.signatures import sign_request
from livesync.peerserver.app import REGISTRY_KEY, make_app
from livesync.peerserver.description import description
from livesync.peerserver.serving import OPERATIONS


def served(app, path="/peer/v1/openapi.json"):
    return json.loads(b"".join(Request.blank(path).call_application(app)[2]))


def test_the_description_is_valid_and_says_what_is_served(world):
    found = served(world.app)

    validate(found)
    assert found == json.loads(json.dumps(description(OPERATIONS)))
    assert {(method.upper(), path) for path, methods in found["paths"].items() for method in methods} == {
        (operation.method, operation.path) for operation in OPERATIONS
    }


def test_the_description_of_a_mounted_server_has_its_prefix(world):
    app = make_app(world.peer_app, prefix="sync")

    assert served(app, "/sync/peer/v1/openapi.json")["servers"] == [{"url": "/sync/peer/v1"}]
    assert app.registry[REGISTRY_KEY] is world.peer_app


def test_a_mounted_server_serves_sessions_below_its_prefix(world):
    home = world.node("home")
    home.fill(3)
    world.app = make_app(world.peer_app, prefix="sync")
    caller = world.caller(home)
    caller.base = "/sync" + wire.BASE
    assert caller.begin(world.chain, home.introduction()).status == 201

    home.push(caller)

    assert world.contents() == home.contents()


def test_every_code_that_is_described_is_one_of_the_wire(world):
    for operation in OPERATIONS:
        assert set(operation.errors) <= set(wire.CODES), operation.name


CONFIG = schemathesis.Config.from_dict(
    {
        "checks": {
            # who asks without a password, a nonce or a right is refused, however well formed it is; 2.0 is
            # a whole number for JSON Schema, and not here
            "positive_data_acceptance": {
                "expected-statuses": ["2xx", "400", "401", "403", "404", "409", "422", "429"]
            },
            "negative_data_rejection": {
                "expected-statuses": ["400", "401", "403", "404", "405", "409", "413", "415", "422", "429"]
            },
            "not_a_server_error": {"expected-statuses": ["2xx", "4xx", "503"]},
        },
    }
)
#: The examples of each operation: enough to find what is there to be found within the time of a build.
EXAMPLES = 10

SCHEMA = schemathesis.openapi.from_dict(
    {
        **description(OPERATIONS),
        "paths": {
            path: {
                method: {key: value for key, value in operation.items() if key != "security"}
                for method, operation in methods.items()
            }
            for path, methods in description(OPERATIONS)["paths"].items()
        },
    },
    config=CONFIG,
)


class Signing:
    """Signs what schemathesis asks for within a session, so that it gets past the gate."""

    def __init__(self, world, node, caller):
        self.world, self.node, self.caller = world, node, caller
        self.push = node.begin_push(caller)
        self.pull = node.begin_pull(caller)

    def __call__(self, environ, start_response):
        environ["HTTP_ACCEPT_ENCODING"] = "identity"  # schemathesis unpacks nothing
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        request = Request(environ)
        well_formed = re.fullmatch("[0-9a-f]{32}", request.headers.get(wire.SESSION, "")) and re.fullmatch(
            "[1-9][0-9]{0,15}", request.headers.get(wire.SEQUENCE, "")
        )
        if well_formed and environ["PATH_INFO"] != "/peer/v1/syncsessions":
            self.sign(request, body)
        return self.world.app(request.environ, start_response)

    def sign(self, request, body):
        self.caller.sequence += 1
        request.headers[wire.SESSION] = self.caller.session_id
        request.headers[wire.SEQUENCE] = str(self.caller.sequence)
        headers = dict(request.headers)
        request.headers.update(
            sign_request(
                request.method,
                request.path_qs,
                headers,
                body,
                self.caller.key,
                self.caller.certificate_id,
                self.world.clock(),
            )
        )


@pytest.fixture
def fuzzed(world):
    home = world.node("home")
    home.fill(3)
    world.fill(3)
    signing = Signing(world, home, world.session(home))
    server = Served(signing)
    signing.url = server.url + wire.BASE
    yield signing
    server.close()


@pytest.mark.slow
@pytest.mark.server
@SCHEMA.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_answers_are_of_the_described_form(case, fuzzed):
    # where it can be, what is asked for is there
    if case.path_parameters.get("id") and len(str(case.path_parameters["id"])) == 32:
        case.path_parameters["id"] = fuzzed.push
    response = case.call(base_url=fuzzed.url, timeout=LONG_S)
    case.validate_response(response)
    if response.status_code >= 400:
        msgspec.convert(response.json(), wire.Error)


def test_a_request_of_the_described_form_gets_past_the_form(world):
    home = world.node("home")
    caller = world.session(home)
    answer = caller.signed(
        "POST",
        "/transfersessions",
        {"id": uuid.uuid4().hex, "direction": "pull", "filter": ["F1"], "claims": {}, "chunk_size": 2},
    )

    assert answer.status == 201
    assert answer.of(wire.Transfer).offer is not None
