"""The server holds what its description says, whatever it is asked; and the description is one."""

from __future__ import annotations

import json
import uuid

from openapi_spec_validator import validate
from webob import Request

from livesync.peering import wire
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
