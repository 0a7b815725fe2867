"""The API holds what its description says, whatever it is asked; and the description is one."""

from __future__ import annotations

import json
import re

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from openapi_spec_validator import validate
from support.desk import Desk
from ZODB.DB import DB
from ZODB.DemoStorage import DemoStorage

from livesync.web.api.calls import OPERATIONS
from livesync.web.api.description import description
from livesync.web.users import Role

#: The examples of each operation: enough to find what is there to be found within the time of a build.
EXAMPLES = 12


def test_the_description_is_valid_and_says_what_is_served(desk):
    served = desk.browser().get("/api/v1/openapi.json").json

    validate(served)
    assert served == json.loads(json.dumps(description()))
    assert served["servers"] == [{"url": "/api/v1"}]


def test_the_description_of_a_mounted_application_has_its_prefix(make_desk):
    desk = make_desk(prefix="ops")

    assert desk.browser().get("/ops/api/v1/openapi.json").json["servers"] == [{"url": "/ops/api/v1"}]


CONFIG = schemathesis.Config.from_dict(
    {
        "checks": {
            # an agent type that is not installed, or an option that it does not have, is no mistake of form
            "positive_data_acceptance": {
                "expected-statuses": ["2xx", "401", "403", "404", "409", "422", "429", "503"]
            },
            # too much may be at work already
            "not_a_server_error": {"expected-statuses": ["2xx", "4xx", "503"]},
        },
    }
)
# without logins, which are tested elsewhere, so that every request is one of who may do everything
SCHEMA = schemathesis.openapi.from_dict(description(with_security=False), config=CONFIG)
APPLICATION = []


def served(environ, start_response):
    """The application that the tests below have made, for what is collected before there is one."""
    return APPLICATION[-1](environ, start_response)


SCHEMA.app = served


#: What stands in paths where it is of no consequence.
NAMES = {"agent": "index", "job": "0" * 16, "task": "x", "collection": "talks", "version": "0" * 64}


@SCHEMA.hook("map_path_parameters")
def of_what_there_is(context, path_parameters):
    """Let most of what is asked for be there, where its name is one."""
    agent = str((path_parameters or {}).get("agent", ""))
    if re.fullmatch("[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", agent) and len(agent) % 3:
        return {**path_parameters, "agent": "index"}
    return path_parameters


def test_nobody_gets_anything_without_a_login(desk):
    for operation in OPERATIONS:
        path = operation.path.format(**NAMES)
        answer = desk.ask(operation.method, path, {} if operation.body else None, role=None)

        if operation.role == "public":
            assert operation.name == "logIn"
        else:
            assert (answer.status_int, answer.json["error"]["code"]) == (401, "not_logged_in"), operation.name


def test_whoever_may_look_may_not_operate(desk):
    for operation in OPERATIONS:
        path = operation.path.format(**NAMES)
        answer = desk.ask(operation.method, path, {} if operation.body else None, role=Role.SEE)

        assert (answer.status_int == 403) is (operation.role == "operate"), operation.name


@pytest.fixture(scope="module")
def token(tmp_path_factory):
    """An application with agents, things and dead letters; and a token by which it may be operated."""
    db = DB(DemoStorage())
    desk = Desk(db, tmp_path_factory.mktemp("description"))
    desk.add_agent()
    desk.add_agent("other", begin=None)
    desk.put("a", "b", "broken")
    desk.put("broken", broken="no document")
    desk.collect()
    desk.finished(desk.ask("POST", "/agents/index/run"))
    APPLICATION.append(desk.wsgi)
    yield desk.tokens[Role.OPERATE]
    desk.close()
    db.close()


@pytest.mark.slow
@SCHEMA.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    database=None,
)
def test_every_operation_does_what_the_description_says(token, case):
    case.call_and_validate(headers={"Authorization": f"Bearer {token}"})
