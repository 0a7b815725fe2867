"""Typed options of an agent type: what the command line and the web forms are made from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .errors import OptionError
from .imports import import_object

#: The types an option may have, and what a value of it looks like.
OPTION_TYPES: Mapping[str, str] = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "yes or no",
    "url": "http:// or https:// with a host",
    "path": "a file or directory",
    "secret": "env:NAME or file:PATH, where the secret itself is",
    "function": "package.module:function",
}

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Option:
    """One option of an agent type.

    Attributes:
        name: As in ``-o NAME=VALUE``; a Python identifier.
        type: One of :data:`OPTION_TYPES`.
        help: One sentence for people.
        default: Used when it is not given.
        required: It must be given.
        choices: The only values allowed, if any.
        minimum: The least value of a number.
        identifies: Another value means another destination: editing it makes an export necessary.
    """

    name: str
    type: str = "str"
    help: str = ""
    default: Any = None
    required: bool = False
    choices: tuple[Any, ...] = ()
    minimum: float | None = None
    identifies: bool = False

    def __post_init__(self) -> None:
        if self.type not in OPTION_TYPES:
            raise ValueError(f"option {self.name!r}: {self.type!r} is none of {', '.join(OPTION_TYPES)}")

    def parse(self, value: Any) -> Any:
        """Return ``value`` (often text from a command line) as this option's type.

        Raises:
            OptionError: It has another form.
        """
        parsed = _PARSERS[self.type](self, value)
        if self.choices and parsed not in self.choices:
            raise OptionError(f"option {self.name}: {value!r} is none of {', '.join(map(str, self.choices))}")
        if self.minimum is not None and parsed < self.minimum:
            raise OptionError(f"option {self.name}: {value!r} is below {self.minimum:g}")
        return parsed

    def _wrong(self, value: Any) -> OptionError:
        return OptionError(f"option {self.name}: {value!r} is not {OPTION_TYPES[self.type]}")

    def _parse_str(self, value: Any) -> str:
        if not isinstance(value, str):
            raise self._wrong(value)
        return value

    def _parse_int(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise self._wrong(value)
        try:
            return int(value)
        except ValueError:
            raise self._wrong(value) from None

    def _parse_float(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise self._wrong(value)
        try:
            number = float(value)
        except ValueError:
            raise self._wrong(value) from None
        if number != number or number in (float("inf"), float("-inf")):
            raise self._wrong(value)
        return number

    def _parse_bool(self, value: Any) -> bool:
        if isinstance(value, bool):
            return value
        text = str(value).strip().lower()
        if text not in _TRUE | _FALSE:
            raise self._wrong(value)
        return text in _TRUE

    def _parse_url(self, value: Any) -> str:
        try:
            parts = urlsplit(value) if isinstance(value, str) else None
            usable = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname)
            if parts is not None:
                _ = parts.port  # raises ValueError when it is no number
        except ValueError:
            usable = False
        if not usable or any(char.isspace() for char in value):
            raise self._wrong(value)
        assert parts is not None
        if parts.password or parts.username:
            raise OptionError(f"option {self.name}: no user or password in a URL; use a secret option")
        return str(value)

    def _parse_path(self, value: Any) -> str:
        if not isinstance(value, (str, os.PathLike)) or not os.fspath(value) or "\0" in str(value):
            raise self._wrong(value)
        return os.path.abspath(os.path.expanduser(os.fspath(value)))

    def _parse_secret(self, value: Any) -> str:
        kind, _, rest = value.partition(":") if isinstance(value, str) else ("", "", "")
        if kind not in ("env", "file") or not rest:
            # never repeat the value: it may be the secret itself
            raise OptionError(f"option {self.name}: give {OPTION_TYPES['secret']}, not the secret itself")
        return str(value)

    def _parse_function(self, value: Any) -> str:
        module, _, name = value.partition(":") if isinstance(value, str) else ("", "", "")
        if not module or not name:
            raise self._wrong(value)
        return str(value)


_PARSERS = {kind: getattr(Option, f"_parse_{kind}") for kind in OPTION_TYPES}


def parse_options(declared: tuple[Option, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of all ``declared`` options: those ``given``, parsed, and defaults.

    Raises:
        OptionError: An option is unknown, missing, or has a value of a wrong form.
    """
    names = {option.name for option in declared}
    unknown = sorted(set(given) - names)
    if unknown:
        raise OptionError(f"there is no option {unknown[0]!r}; there are: {', '.join(sorted(names))}")
    values: dict[str, Any] = {}
    for option in declared:
        value = given.get(option.name)
        if value is None:
            if option.required:
                raise OptionError(f"option {option.name} is needed: -o {option.name}=VALUE ({option.help})")
            values[option.name] = option.default
        else:
            values[option.name] = option.parse(value)
    return values


def read_secret(reference: str) -> str:
    """Return the secret that ``env:NAME`` or ``file:PATH`` points at.

    Raises:
        OptionError: It is not there, or empty. The text never holds the secret.
    """
    kind, _, where = reference.partition(":")
    if kind == "env":
        secret = os.environ.get(where, "")
    else:
        try:
            secret = Path(where).read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as exc:
            raise OptionError(f"the secret file {where} cannot be read: {exc}") from exc
    if not secret:
        raise OptionError(f"the secret {reference} is empty or not there")
    return secret


def load_function(reference: str) -> Any:
    """Return what ``package.module:function`` names.

    Raises:
        OptionError: It cannot be imported or called.
    """
    try:
        found = import_object(reference)
    except ImportError as exc:
        raise OptionError(f"{reference} cannot be imported: {exc}") from exc
    if not callable(found):
        raise OptionError(f"{reference} is no function")
    return found
