"""Forms: fields for people, made from the options of an agent type; what was entered is kept, no secrets.

A secret is only ever a reference (``env:NAME``, ``file:PATH``). Whoever types the secret itself is told
so, and it is neither shown again nor kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from ...errors import LiveSyncError, OptionError
from ...options import OPTION_TYPES, Option

#: ``(value, label, what it means)`` of each thing to choose from.
Choices = tuple[tuple[str, str, str], ...]

#: Names of options' fields begin so: an option may be called like another field.
OPTION: Final = "o-"

_NAMED: Final = re.compile(r"option (?P<name>\w+)(?:: | is needed)")
_NO_LOGIN: Final = (
    "Give http:// or https:// with a host, and no user or password in it: those go into a secret option"
)
_KEYBOARDS: Final = {"int": "numeric", "float": "decimal", "url": "url"}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a form.

    Attributes:
        name: As it is sent.
        label: For people.
        value: What stands in it.
        kind: ``text``, ``password``, ``datetime-local``, ``area``, ``check``, ``select`` or ``choices``.
        help: A sentence for people.
        form_help: What a value looks like.
        required: It must be filled in.
        choices: Of a select or of choices.
        error: What is wrong with the value; "": nothing.
        keyboard: Which keyboard a phone shows.
    """

    name: str
    label: str
    value: str = ""
    kind: str = "text"
    help: str = ""
    form_help: str = ""
    required: bool = False
    choices: Choices = ()
    error: str = ""
    keyboard: str = ""
    autocomplete: str = "off"
    placeholder: str = ""

    @property
    def id(self) -> str:
        """Its id within the page."""
        return f"f-{self.name}"

    @property
    def target(self) -> str:
        """The id of what is to be looked at when it is wrong."""
        return f"{self.id}-1" if self.kind == "choices" else self.id

    def filled(self, sent: Mapping[str, str]) -> Field:
        """Return the field with what was sent for it; a reference to a secret only if it is one."""
        return replace(self, value=sent.get(self.name, "").strip())


@dataclass(frozen=True, slots=True)
class Group:
    """Fields that belong together; ``is_folded``: they are shown only to those who open them."""

    label: str
    fields: tuple[Field, ...]
    is_folded: bool = False

    @property
    def has_errors(self) -> bool:
        """Whether one of them is wrong."""
        return any(item.error for item in self.fields)


@dataclass(frozen=True, slots=True)
class Form:
    """Groups of fields, and what is wrong with the whole (``error``)."""

    groups: tuple[Group, ...] = ()
    error: str = ""

    @classmethod
    def of(cls, *fields: Field) -> Form:
        """Return the form of these fields, in one group."""
        return cls((Group("", fields),))

    @property
    def fields(self) -> Iterator[Field]:
        """All fields."""
        for group in self.groups:
            yield from group.fields

    @property
    def wrong(self) -> list[Field]:
        """The fields that are wrong."""
        return [item for item in self.fields if item.error]

    def filled(self, sent: Mapping[str, str]) -> Form:
        """Return the form with what was sent."""
        return self._with(lambda item: item.filled(sent))

    def with_errors(self, errors: Mapping[str, str], error: str = "") -> Form:
        """Return the form with what is wrong: by the fields' names, and with the whole."""
        known = {item.name for item in self.fields}
        rest = [text for name, text in errors.items() if name not in known]
        marked = self._with(
            lambda item: replace(item, error=errors.get(item.name, ""), value=_kept(item, errors))
        )
        return replace(marked, error=error or "; ".join(rest))

    def values(self) -> dict[str, str]:
        """Return what stands in the fields, by name."""
        return {item.name: item.value for item in self.fields}

    def _with(self, change: Any) -> Form:
        groups = tuple(
            replace(group, fields=tuple(change(item) for item in group.fields)) for group in self.groups
        )
        return replace(self, groups=groups)


def _kept(item: Field, errors: Mapping[str, str]) -> str:
    """Return the value that may be shown again: what is no reference to a secret may be the secret."""
    may_be_secret = (
        item.kind == "password"
        or item.form_help == OPTION_TYPES["secret"]
        or (item.form_help == OPTION_TYPES["url"] and "@" in item.value)
    )
    return "" if may_be_secret and item.name in errors else item.value


def option_groups(options: Iterable[Option], values: Mapping[str, Any] | None = None) -> tuple[Group, ...]:
    """Return the fields of an agent type's options: what must be given first, and the rest folded.

    Args:
        options: As the type declares them.
        values: What stands in them: an agent's; None: the defaults of a new one.
    """
    needed: list[Field] = []
    usual: list[Field] = []
    rest: list[Field] = []
    for option in options:
        made = option_field(option, option.default if values is None else values.get(option.name))
        group = needed if option.required else usual if option.identifies or option.type == "secret" else rest
        group.append(made)
    groups = [
        Group("Destination", (*needed, *usual)),
        Group("More options", tuple(rest), is_folded=True),
    ]
    return tuple(group for group in groups if group.fields)


def option_field(option: Option, value: Any) -> Field:
    """Return the field of one option."""
    kind, choices = "text", tuple((str(choice), str(choice), "") for choice in option.choices)
    if option.type == "bool":
        kind = "check"
    elif choices:
        kind = "select"
        if not option.required and option.default is None:
            choices = (("", "(not set)", ""), *choices)
    text = ("yes" if value else "") if option.type == "bool" else "" if value is None else str(value)
    shows_form = option.type in ("secret", "function", "url", "path") and not choices
    help_text = option.help[:1].upper() + option.help[1:]
    if option.minimum is not None:
        help_text = f"{help_text}{'; a' if help_text else 'A'}t least {option.minimum:g}"
    return Field(
        name=OPTION + option.name,
        label=option.name,
        value=text,
        kind=kind,
        help=help_text,
        form_help=OPTION_TYPES[option.type] if shows_form else "",
        required=option.required,
        choices=choices,
        keyboard=_KEYBOARDS.get(option.type, ""),
    )


def read_options(
    options: Iterable[Option], values: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what the fields of ``options`` say, and what is wrong by the fields' names.

    Args:
        options: As the type declares them.
        values: What stands in the fields, by their names.

    Returns:
        The options by name, None for a default; and the errors.
    """
    given: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for option in options:
        name = OPTION + option.name
        text = values.get(name, "")
        if option.type == "bool":
            given[option.name] = text == "yes"
        elif text == "":
            given[option.name] = None
            if option.required:
                errors[name] = "This is needed"
        else:
            try:
                given[option.name] = option.parse(text)
            except OptionError as exc:
                # what stands before an @ may be a password: it is not repeated
                is_login = option.type == "url" and "@" in text
                errors[name] = _NO_LOGIN if is_login else bare(exc)
    return given, errors


def bare(error: LiveSyncError) -> str:
    """Return what an error says of an option, without the option's name, as a sentence."""
    text = re.sub(r"^option \w+(?:: | )", "", " ".join(str(error).split()))
    return text[:1].upper() + text[1:]


def by_field(error: LiveSyncError) -> dict[str, str]:
    """Return what an error of an agent's type says, by the name of the field that it is about."""
    match = _NAMED.match(str(error))
    return {OPTION + match["name"]: bare(error)} if match else {}


def agent_picker(agents: Mapping[str, str], chosen: str | None, everything: str) -> Field:
    """Return the field that chooses one of the agents (id -> name), or all of them."""
    listed = tuple(
        (agent_id, name if name == agent_id else f"{name} ({agent_id})", "")
        for agent_id, name in agents.items()
    )
    return Field("agent", "Agent", chosen or "", "select", choices=(("", everything, ""), *listed))
