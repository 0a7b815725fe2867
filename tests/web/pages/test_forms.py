"""Forms made from the options of agent types."""

import pytest

from livesync.agent import agent_types, load_agent_type
from livesync.errors import OptionError
from livesync.options import Option
from livesync.web.pages.forms import Field, Form, by_field, option_field, option_groups, read_options

OPTIONS = (
    Option("url", "url", "where to", required=True, identifies=True),
    Option("key", "secret", "who we are"),
    Option("batch", "int", "how many", default=10, minimum=1),
    Option("files", "bool", "with files", default=True),
    Option("kind", "str", "which", default="a", choices=("a", "b")),
    Option("pick", "str", "which one", choices=("x", "y")),
)


@pytest.mark.parametrize("type_name", sorted(agent_types()))
def test_the_form_of_a_new_agent_of_every_type_gives_the_types_own_defaults(type_name):
    options = load_agent_type(type_name).declared_options()
    form = Form(option_groups(options))

    given, errors = read_options(options, form.values())

    assert set(given) == {option.name for option in options}
    assert set(errors) == {f"o-{option.name}" for option in options if option.required}
    for option in options:
        if option.name not in {name[2:] for name in errors}:
            assert (option.default if given[option.name] is None else given[option.name]) == (
                bool(option.default) if option.type == "bool" else option.default
            )


def test_what_must_be_given_comes_first_and_the_rest_is_folded():
    first, rest = option_groups(OPTIONS)

    assert [item.label for item in first.fields] == ["url", "key"]
    assert [item.label for item in rest.fields] == ["batch", "files", "kind", "pick"]
    assert (first.is_folded, rest.is_folded) == (False, True)


def test_each_kind_of_option_has_its_kind_of_field():
    fields = {option.name: option_field(option, option.default) for option in OPTIONS}

    assert {name: item.kind for name, item in fields.items()} == {
        "url": "text", "key": "text", "batch": "text", "files": "check", "kind": "select", "pick": "select"
    }  # fmt: skip
    assert fields["batch"].help == "How many; at least 1"
    assert fields["batch"].keyboard == "numeric"
    assert fields["key"].form_help.startswith("env:NAME or file:PATH")
    assert [value for value, _, _ in fields["pick"].choices] == ["", "x", "y"]
    assert [value for value, _, _ in fields["kind"].choices] == ["a", "b"]


def test_values_are_read_and_each_error_is_told_of_its_field():
    given, errors = read_options(
        OPTIONS,
        {"o-url": "ftp://x", "o-key": "hunter2", "o-batch": "0", "o-files": "", "o-kind": "c", "o-pick": "x"},
    )

    assert given == {"files": False, "pick": "x"}
    assert set(errors) == {"o-url", "o-key", "o-batch", "o-kind"}
    assert errors["o-batch"] == "'0' is below 1"
    assert errors["o-key"] == "Give env:NAME or file:PATH, where the secret itself is, not the secret itself"


def test_what_may_be_a_secret_is_not_shown_again():
    sent = {"o-url": "https://ada:hunter2@x.example/", "o-key": "hunter2", "o-batch": "none"}
    form = Form(option_groups(OPTIONS)).filled(sent)
    _, errors = read_options(OPTIONS, form.values())

    shown = form.with_errors(errors)

    assert "hunter2" not in repr(shown)
    assert {item.name: item.value for item in shown.fields}["o-batch"] == "none"


def test_a_reference_to_a_secret_is_kept_while_something_else_is_wrong():
    form = Form(option_groups(OPTIONS)).filled({"o-key": "env:KEY", "o-batch": "x"})
    _, errors = read_options(OPTIONS, form.values())

    assert {item.name: item.value for item in form.with_errors(errors).fields}["o-key"] == "env:KEY"


def test_errors_of_no_field_are_told_of_the_whole_form():
    form = Form.of(Field("a", "A")).with_errors({"a": "wrong", "z": "also wrong"})

    assert (form.error, [item.error for item in form.wrong]) == ("also wrong", ["wrong"])


def test_what_a_type_says_of_an_option_is_told_beside_its_field():
    assert by_field(OptionError("option path: it is a directory")) == {"o-path": "It is a directory"}
    assert by_field(OptionError("option url is needed: -o url=VALUE ()"))["o-url"].startswith("Is needed")
    assert by_field(OptionError("the service is picky")) == {}
