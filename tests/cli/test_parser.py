"""The grammar: everything has help, and every command has a function."""

import argparse
import shlex
from importlib import import_module

import pytest

from livesync.cli import manual
from livesync.cli.parser import build_parser, group_parsers

EXPECTED = {
    "livesync": {
        "install",
        "upgrade",
        "adopt",
        "destroy",
        "doctor",
        "list",
        "status",
        "run",
        "serve",
        "prune",
        "forget",
        "agent",
        "task",
        "dead",
        "user",
        "peer",
        "version",
    },
    "livesync agent": {
        *("list", "types", "add", "show", "edit", "remove", "activate", "pause"),
        *("run", "simulate", "enqueue", "export", "verify", "repair", "detect", "rewind", "add_task"),
    },
    "livesync task": {"list", "add", "remove", "run"},
    "livesync dead": {"list", "show", "retry", "discard"},
    "livesync user": {"add", "list", "password", "role", "remove", "add_token", "remove_token"},
    "livesync peer": {
        *("init", "cert", "scope", "conflict", "erase"),
        *("add", "list", "remove", "sync", "status", "sessions", "resume", "cleanup"),
    },
    "livesync peer cert": {"list", "show", "root", "request", "push", "sign", "import", "distrust", "revoke"},
    "livesync version": {
        *("init", "register", "close", "status", "stash", "discard", "log", "show", "diff", "history"),
        *(
            "checkout",
            "branch",
            "collections",
            "tag",
            "merge",
            "cherry-pick",
            "revert",
            "conflicts",
            "push",
            "pull",
        ),
        *("blame", "fsck", "gc", "squash", "prune", "export", "import"),
    },
    "livesync peer scope": {"list", "add", "show"},
    "livesync peer conflict": {"list", "show", "reinstate"},
}


def subparsers(parser):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def everything(parser):
    yield parser
    for child in subparsers(parser):
        yield from everything(child)


PARSERS = list(everything(build_parser()))
COMMANDS = [parser for parser in PARSERS if not list(subparsers(parser))]


def test_the_commands_are_those_that_are_promised():
    for parser in PARSERS:
        names = {child.prog.rpartition(" ")[2] for child in subparsers(parser)}
        assert names == EXPECTED.get(parser.prog, set())


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.prog)
def test_everything_has_help(parser):
    assert parser.description
    for action in parser._actions:
        assert action.help, action


@pytest.mark.parametrize("parser", COMMANDS, ids=lambda parser: parser.prog)
def test_every_command_has_a_function_that_is_documented(parser):
    module, _, function = parser.get_default("handler").partition(":")

    assert getattr(import_module(f"livesync.cli.{module}"), function).__doc__


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.prog)
def test_help_fits_a_terminal(parser, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    assert all(len(line) <= 110 for line in parser.format_help().splitlines())


def test_there_is_a_man_page_for_the_command_and_each_group():
    assert [name for name, _ in group_parsers()] == [
        "livesync", "livesync-agent", "livesync-task", "livesync-dead", "livesync-user", "livesync-peer",
        "livesync-version",
    ]  # fmt: skip
    assert set(manual.SUMMARIES) == {name for name, _ in group_parsers()}


def test_the_examples_of_the_man_pages_are_commands_that_exist():
    for examples in manual._EXAMPLES.values():
        for example in examples:
            words = shlex.split(example)
            assert words.pop(0) == "livesync"
            build_parser().parse_args(words)


@pytest.mark.parametrize("parser", [each for each in PARSERS if each.get_default("handler")],
                         ids=lambda parser: parser.prog)  # fmt: skip
def test_a_command_is_found_where_only_the_groups_that_are_named_are_filled(parser, capsys):
    words = [*parser.prog.split()[1:], "--help"]
    with pytest.raises(SystemExit):
        build_parser(words).parse_args(words)

    assert capsys.readouterr().out == parser.format_help()


def test_a_group_that_is_not_named_is_listed_and_nothing_more():
    parser = build_parser(["status", "--json"])

    assert parser.format_help() == build_parser().format_help()
    assert parser.parse_args(["status", "--json"]).handler == "status:status"


def test_what_roff_would_take_for_its_own_is_escaped():
    assert manual._roff("./a-b\\c") == "\\&./a\\-b\\ec"
