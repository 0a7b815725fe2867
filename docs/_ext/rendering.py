"""Pages that are made from the code: the command line, its exit codes, the agent types. Pure functions."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from livesync.agent import agent_types, load_agent_type
from livesync.cli.exitcodes import MEANINGS, ExitCode
from livesync.cli.parser import build_parser
from livesync.options import OPTION_TYPES, Option
from livesync.plugins._zope_settings import KEYS
from livesync.plugins.plone import SAID

#: What means something in reStructuredText, wherever it stands: ``whsec_`` names a target, ``http://``
#: becomes a link.
_MARKUP = re.compile(r"[\\*_|]|:(?=//)")


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
        lines += [_text(" ".join((parser.description or "").split())), ""]
        lines += ["::", "", *(f"   {line}" for line in parser.format_usage().splitlines()), ""]
        for action in parser._actions:
            if action.help == argparse.SUPPRESS or isinstance(
                action, (argparse._HelpAction, argparse._SubParsersAction)
            ):
                continue
            # argparse fills in a help text by "%", in which a sign of its own stands twice
            lines += [f"``{_shown(action)}``", f"   {_text((action.help or '').replace('%%', '%'))}", ""]
    return lines


def _shown(action: argparse.Action) -> str:
    metavar = action.metavar if isinstance(action.metavar, str) else action.dest
    if not action.option_strings:
        return metavar
    takes_value = action.nargs != 0
    return ", ".join(f"{name} {metavar}" if takes_value else name for name in action.option_strings)


def _text(text: str) -> str:
    """Return plain text as reStructuredText that shows it; what stands in single backquotes is literal."""
    plain, *rest = text.split("`")
    made = [_MARKUP.sub(r"\\\g<0>", plain)]
    for literal, between in zip(rest[::2], rest[1::2], strict=True):
        made += [f"``{literal}``", _MARKUP.sub(r"\\\g<0>", between)]
    return "".join(made)


def exit_code_reference() -> list[str]:
    """Return the table of exit codes as reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 8 22 70", ""]
    for row in (
        ("Code", "Name", "Meaning"),
        *((str(code.value), code.name, _text(MEANINGS[code])) for code in ExitCode),
    ):
        lines += _row(row)
    return lines


def plone_events() -> list[str]:
    """Return the table of what happens in Plone and what is recorded as reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 40 25 35", ""]
    lines += _row(("What happens", "Recorded", "Of"))
    for what, (words, of) in SAID.items():
        lines += _row((what, ", ".join(f"``{word}``" for word in words.split(", ")), of))
    return [*lines, ""]


def zope_settings() -> list[str]:
    """Return the keys of ``<product-config livesync>`` as reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 20 80", ""]
    lines += _row(("Key", "Meaning"))
    for key, meaning in KEYS.items():
        lines += _row((f"``{key}``", _text(meaning)))
    return [*lines, ""]


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
            lines += _row((f"``{option.name}``", _form(option), _default(option), _text(option.help)))
        lines.append("")
    return lines


def _form(option: Option) -> str:
    if option.choices:
        return ", ".join(f"``{choice}``" for choice in option.choices)
    return _text(OPTION_TYPES[option.type])


def _default(option: Option) -> str:
    if option.required:
        return "needed"
    if option.default is None or option.default == "":
        return ""  # two backquotes, nothing, and two more would be a ruler
    if option.type == "bool":
        return "``yes``" if option.default else "``no``"
    return f"``{option.default}``"


def _row(cells: tuple[str, ...]) -> list[str]:
    return [f"   {'*' if number == 0 else ' '} - {cell}" for number, cell in enumerate(cells)]
