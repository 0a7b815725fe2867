"""Options: what is given becomes values of their types, or one clear error."""

import os
from pathlib import Path

import pytest

from livesync.errors import OptionError
from livesync.options import OPTION_TYPES, Option, load_function, parse_options, read_secret

GOOD = [
    ("str", "", ""),
    ("str", "text", "text"),
    ("int", "7", 7),
    ("int", -3, -3),
    ("float", "2.5", 2.5),
    ("float", 2, 2.0),
    ("bool", "yes", True),
    ("bool", " OFF ", False),
    ("bool", True, True),
    ("bool", 0, False),
    ("url", "http://localhost:8080/x?y=z", "http://localhost:8080/x?y=z"),
    ("url", "https://[::1]/", "https://[::1]/"),
    ("secret", "env:NAME", "env:NAME"),
    ("secret", "file:/run/secret", "file:/run/secret"),
    ("function", "a.b:c", "a.b:c"),
]
BAD = [
    ("str", 3),
    ("int", "x"),
    ("int", ""),
    ("int", 1.5),
    ("int", True),
    ("float", "nan"),
    ("float", "inf"),
    ("float", float("-inf")),
    ("float", None),
    ("float", True),
    ("bool", "maybe"),
    ("bool", ""),
    ("bool", 7),
    ("url", "example.org"),
    ("url", "ftp://example.org"),
    ("url", "http://"),
    ("url", "http://host:port/"),
    ("url", "http://[::1"),
    ("url", "http://a b/"),
    ("url", 3),
    ("url", "http://user:hush@example.org/"),
    ("path", ""),
    ("path", "a\0b"),
    ("path", 3),
    ("secret", "hush"),
    ("secret", "env:"),
    ("secret", "hush:hush"),
    ("secret", 3),
    ("function", "a.b"),
    ("function", ":c"),
    ("function", "a:"),
    ("function", 3),
]


@pytest.mark.parametrize(("kind", "given", "value"), GOOD)
def test_text_becomes_a_value(kind, given, value):
    parsed = Option("o", kind).parse(given)

    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(("kind", "given"), BAD)
def test_a_value_of_another_form_is_refused(kind, given):
    with pytest.raises(OptionError, match="option o") as caught:
        Option("o", kind).parse(given)
    assert "\n" not in str(caught.value)
    assert "hush" not in str(caught.value)


def test_every_type_is_tried_here():
    assert {kind for kind, *_ in GOOD} | {"path"} == {kind for kind, *_ in BAD} == set(OPTION_TYPES)


def test_a_path_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(os.environ, "HOME", "/home/ada")

    assert Option("o", "path").parse("x/../y") == str(tmp_path / "y")
    assert Option("o", "path").parse(Path("z")) == str(tmp_path / "z")
    assert Option("o", "path").parse("~/f") == "/home/ada/f"


def test_an_unknown_type_is_the_declarers_mistake():
    with pytest.raises(ValueError, match="none of"):
        Option("o", "number")


def test_choices_and_minimum_hold():
    option = Option("o", "int", choices=(1, 2))
    assert option.parse("2") == 2
    with pytest.raises(OptionError, match="none of 1, 2"):
        option.parse("3")
    with pytest.raises(OptionError, match="below 1"):
        Option("o", "int", minimum=1).parse("0")
    assert Option("o", "float", minimum=0.5).parse("0.5") == 0.5


DECLARED = (Option("a", default="x"), Option("b", "int", "a number", required=True))


def test_options_are_parsed_and_completed():
    assert parse_options(DECLARED, {"b": "3"}) == {"a": "x", "b": 3}
    assert parse_options(DECLARED, {"a": None, "b": 3}) == {"a": "x", "b": 3}


@pytest.mark.parametrize(
    ("given", "text"),
    [({}, "option b is needed"), ({"b": None}, "is needed"), ({"b": 1, "c": 2}, "no option 'c'")],
)
def test_missing_and_unknown_options_are_refused(given, text):
    with pytest.raises(OptionError, match=text):
        parse_options(DECLARED, given)


def test_a_secret_is_read_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "A_SECRET", "hush")
    (tmp_path / "secret").write_text("hush too\r\n")

    assert read_secret("env:A_SECRET") == "hush"
    assert read_secret(f"file:{tmp_path}/secret") == "hush too"


@pytest.mark.parametrize(
    "reference", ["env:NOT_SET_ANYWHERE", "file:/nowhere/at/all", "file:{empty}", "file:{binary}"]
)
def test_a_secret_that_is_not_there_is_an_error(tmp_path, reference):
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfehush")

    with pytest.raises(OptionError) as caught:
        read_secret(reference.format(empty=tmp_path / "empty", binary=tmp_path / "binary"))
    assert "hush" not in str(caught.value)


def test_a_function_is_imported_by_its_name():
    assert load_function("os.path:join") is os.path.join
    assert load_function("pathlib:Path.cwd") == Path.cwd


@pytest.mark.parametrize("reference", ["no.such:thing", "os:no_such", "os:sep", "os.path:"])
def test_what_cannot_be_imported_or_called_is_an_error(reference):
    with pytest.raises(OptionError, match=r"import|function"):
        load_function(reference)
