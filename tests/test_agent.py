"""Agents as values, and how their types are found."""

import pytest

from livesync import SyncAgent
from livesync.agent import agent_type_name, agent_types, check_agent_id, load_agent_type
from livesync.errors import OptionError, UnknownAgentType
from livesync.options import Option


class Reader(SyncAgent):
    options = (Option("path", default="p"), Option("token", "secret"), Option("audience", default="staff"))


class Outer:
    class Inner(SyncAgent):
        pass


NOT_A_CLASS = SyncAgent("x")


@pytest.mark.parametrize("agent_id", ["a", "A-1_b.c", "x" * 64, "_x", "7"])
def test_usable_ids(agent_id):
    assert check_agent_id(agent_id) == agent_id
    assert SyncAgent(agent_id).name == agent_id


@pytest.mark.parametrize("agent_id", ["", "x" * 65, "a b", "-a", ".a", "é", "a/b", "a\n", "a:b"])
def test_ids_of_another_form_are_refused(agent_id):
    with pytest.raises(ValueError, match="agent id"):
        SyncAgent(agent_id)


def test_an_id_is_text():
    with pytest.raises(TypeError):
        SyncAgent(3)


def test_every_agent_has_an_audience_an_only_and_a_transform():
    agent = SyncAgent("a")

    assert dict(agent.values) == {"audience": "public", "only": None, "transform": None}
    assert agent.audience == "public"


def test_a_type_may_say_more_of_the_common_options():
    assert Reader("a").audience == "staff"
    assert [option.name for option in Reader.declared_options()] == [
        "path", "token", "audience", "only", "transform",
    ]  # fmt: skip


def test_only_what_differs_from_the_defaults_is_stored():
    agent = Reader("a", path="q", audience="staff")

    assert agent.given_options() == {"path": "q"}
    assert dict(Reader("a", **agent.given_options()).values) == dict(agent.values)


def test_values_cannot_be_changed():
    with pytest.raises(TypeError):
        SyncAgent("a").values["audience"] = "x"


def test_an_unknown_option_is_refused():
    with pytest.raises(OptionError, match="no option 'color'"):
        SyncAgent("a", color="red")


def test_a_secret_is_read_when_it_is_asked_for(monkeypatch):
    agent = Reader("a", token="env:LATER")
    with pytest.raises(OptionError):
        agent.secret("token")
    monkeypatch.setenv("LATER", "hush")

    assert agent.secret("token") == "hush"
    assert Reader("b").secret("token") is None
    assert "hush" not in repr(agent)


def test_installed_types_are_found_by_name():
    assert {"file", "http", "memory", "sqlite"} <= set(agent_types())
    found = load_agent_type("memory")
    assert issubclass(found, SyncAgent)
    assert agent_type_name(found) == "memory"


def test_a_type_is_found_by_module_and_class():
    assert load_agent_type("livesync.agent:SyncAgent") is SyncAgent
    assert agent_type_name(SyncAgent) == "livesync.agent:SyncAgent"
    for own in (Reader, Outer.Inner):
        assert load_agent_type(agent_type_name(own)) is own


@pytest.mark.parametrize(
    "name",
    [
        "nothing",
        "",
        "no.such:Agent",
        "livesync.agent:Missing",
        "os:sep",
        "livesync:Host",
        ":x",
        "livesync.agent:",
    ],
)
def test_what_is_no_agent_type_is_unknown(name):
    with pytest.raises(UnknownAgentType):
        load_agent_type(name)


def test_an_object_is_no_agent_type():
    with pytest.raises(UnknownAgentType, match="no agent type"):
        load_agent_type(f"{__name__}:NOT_A_CLASS")
