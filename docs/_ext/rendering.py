"""Pages that are made from the code: the command line, its exit codes, the agent types. Pure functions."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from livesync.agent import agent_types, load_agent_type
from livesync.cli.exitcodes import MEANINGS, ExitCode
from livesync.cli.parser import build_parser
from livesync.options import OPTION_TYPES, Option


def commands(parser: argparse.ArgumentParser | None = None) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield ``(what is typed, parser)`` for ``livesync`` and all commands below, groups before theirs."""
    parser = parser or build_parser()
    yield parser.prog, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from commands(child)


def command_reference() -> list[str]:
    """Return the reference of the command line as reStructuredText."""
    lines: list[str] = []
    for name, parser in commands():
        underline = ("~" if " " in name else "-") * len(name)
        lines += ["", f".. _{name.replace(' ', '-')}:", "", name, underline, ""]
        lines += [" ".join((parser.description or "").split()), ""]
        lines += ["::", "", *(f"   {line}" for line in parser.format_usage().splitlines()), ""]
        for action in parser._actions:
            if action.help == argparse.SUPPRESS or isinstance(
                action, (argparse._HelpAction, argparse._SubParsersAction)
            ):
                continue
            lines += [f"``{_shown(action)}``", f"   {_literal(action.help or '')}", ""]
    return lines


def _shown(action: argparse.Action) -> str:
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest
    if not action.option_strings:
        return metavar
    takes_value = action.nargs != 0
    return ", ".join(f"{name} {metavar}" if takes_value else name for name in action.option_strings)


def _literal(text: str) -> str:
    """Return help text, in which single backquotes mean what double ones mean here."""
    return text.replace("`", "``").replace("%%", "%").replace("*", "\\*")


def exit_code_reference() -> list[str]:
    """Return the table of exit codes as reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 8 22 70", ""]
    for row in (
        ("Code", "Name", "Meaning"),
        *((str(code.value), code.name, _literal(MEANINGS[code])) for code in ExitCode),
    ):
        lines += _row(row)
    return lines


def agent_reference() -> list[str]:
    """Return the agent types with their options as reStructuredText."""
    lines: list[str] = []
    for name in agent_types():
        agent_type = load_agent_type(name)
        if not agent_type.__module__.startswith("livesync."):
            continue  # another package's, installed here by chance
        summary = (agent_type.__doc__ or "").strip().splitlines()[0]
        lines += ["", name, "-" * len(name), "", summary, ""]
        lines += [".. list-table::", "   :header-rows: 1", "   :widths: 20 25 15 40", ""]
        lines += _row(("Option", "Form", "Default", "Meaning"))
        for option in agent_type.declared_options():
            lines += _row((f"``{option.name}``", OPTION_TYPES[option.type], _default(option), option.help))
        lines.append("")
    return lines


def _default(option: Option) -> str:
    if option.required:
        return "needed"
    return "" if option.default is None else f"``{option.default}``"


def _row(cells: tuple[str, ...]) -> list[str]:
    return [f"   {'*' if number == 0 else ' '} - {cell}" for number, cell in enumerate(cells)]
