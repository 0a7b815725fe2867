"""Filters and scopes: of which partitions a certificate lets its holder read and write. Pure.

A **filter** is a set of partition prefixes; what lies at or below one of them is within. As text they are
separated by white space, and a lone ``:`` stands for the prefix that contains everything. An empty filter
contains nothing.

A **scope definition** has three filters as templates: ``$name`` and ``${name}`` stand for parameters. With
its parameters it is a **scope**: what may be read, and what may be written. A parameter's value is one level
of a partition, so that none can bring in another prefix.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from string import Template
from types import MappingProxyType
from typing import Final

from .partitions import EVERYTHING, check_partition, contains, lineage, minimal

#: How the prefix that contains everything is written in a filter's text.
EVERYTHING_TEXT: Final = ":"

#: The id of the definition that allows everything; see :func:`everything`.
EVERYTHING_ID: Final = "everything"

#: What a scope definition's texts may have, in characters.
MAX_TEMPLATE: Final = 1_000
MAX_PARAM: Final = 128

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_DEFINITION_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Filter:
    """A set of partition prefixes. A value: equal, hashable and iterable, its prefixes in order.

    Those that another one contains are left out.

    Args:
        template: Prefixes separated by white space, ``:`` for everything.
        params: What stands for ``$name`` in it.

    Raises:
        ValueError: A prefix is none; a parameter is missing, or its value is not one level of a partition.
    """

    __slots__ = ("_found", "prefixes")

    def __init__(self, template: str = "", params: Mapping[str, str] | None = None) -> None:
        text = template if params is None else _filled(template, params)
        self._set(EVERYTHING if word == EVERYTHING_TEXT else word for word in text.split())

    def _set(self, prefixes: Iterable[str]) -> None:
        #: The prefixes, as few as there need be, sorted.
        self.prefixes: tuple[str, ...] = minimal(map(check_partition, prefixes))
        self._found = frozenset(self.prefixes)

    @classmethod
    def of(cls, prefixes: Iterable[str]) -> Filter:
        """Return the filter of prefixes; ``""`` contains everything.

        Raises:
            ValueError: One is none.
        """
        made = cls()
        made._set(prefixes)
        return made

    def contains_partition(self, partition: str) -> bool:
        """Tell whether what lies in ``partition`` is within."""
        return any(prefix in self._found for prefix in lineage(partition))

    def is_subset_of(self, other: Filter) -> bool:
        """Tell whether ``other`` contains all that this one does."""
        return all(map(other.contains_partition, self.prefixes))

    def __add__(self, other: Filter) -> Filter:
        """Return what is in either."""
        return Filter.of(self.prefixes + other.prefixes)

    def __and__(self, other: Filter) -> Filter:
        """Return what is in both."""
        return Filter.of(
            [prefix for prefix in self.prefixes if other.contains_partition(prefix)]
            + [prefix for prefix in other.prefixes if self.contains_partition(prefix)]
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self.prefixes)

    def __bool__(self) -> bool:
        """Tell whether it contains anything."""
        return bool(self.prefixes)

    def __eq__(self, other: object) -> bool:
        return self.prefixes == other.prefixes if isinstance(other, Filter) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.prefixes)

    def __str__(self) -> str:
        return "\n".join(prefix or EVERYTHING_TEXT for prefix in self.prefixes)

    def __repr__(self) -> str:
        return f"Filter({str(self)!r})"


def _filled(template: str, params: Mapping[str, str]) -> str:
    check_params(params)
    try:
        return Template(template).substitute(params)
    except KeyError as exc:
        raise ValueError(f"the filter needs a value for {exc.args[0]}") from None
    except ValueError:
        raise ValueError(f"{template!r} is no template: a lone $ is written as $$") from None


def check_params(params: Mapping[str, str]) -> None:
    """Check parameters of a scope.

    Raises:
        ValueError: A name is none, or a value is not one level of a partition.
    """
    for name, value in params.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a parameter: letters, digits and _, no digit first")
        if not value or len(value) > MAX_PARAM or ":" in value:
            raise ValueError(
                f"the value of {name} is one level of a partition: 1 to {MAX_PARAM} characters, no colon"
            )
        try:
            check_partition(value)
        except ValueError:
            raise ValueError(f"the value of {name} holds white space or a control character") from None


@dataclass(frozen=True, slots=True)
class ScopeDefinition:
    """What kind of rights there are in a profile: filters with parameters.

    A definition is never changed: another one has another version.

    Attributes:
        id: Its name, of letters, digits, ``_``, ``.`` and ``-``.
        profile: In which it holds.
        version: From 1.
        primary_scope_param_key: The parameter that is a root certificate's own fingerprint, so that its key
            alone rules over what lies below; "" where there is none.
        description: For people; a template of the same parameters.
        read_filter_template, write_filter_template, read_write_filter_template: What may be read only,
            written only, and both.

    Raises:
        ValueError: One of them is malformed.
    """

    id: str
    profile: str
    version: int = 1
    primary_scope_param_key: str = ""
    description: str = ""
    read_filter_template: str = ""
    write_filter_template: str = ""
    read_write_filter_template: str = ""

    def __post_init__(self) -> None:
        if not _DEFINITION_ID.fullmatch(self.id):
            raise ValueError(f"{self.id!r} is no id of a scope definition: letters, digits, _ . and -")
        check_profile(self.profile)
        if self.version < 1:
            raise ValueError(f"the version of scope definition {self.id} is at least 1")
        for template in (self.description, *self.templates):
            if len(template) > MAX_TEMPLATE:
                raise ValueError(f"a text of scope definition {self.id} is over {MAX_TEMPLATE:,} characters")
            if not Template(template).is_valid():
                raise ValueError(f"{template!r} is no template: a lone $ is written as $$")
        if self.primary_scope_param_key and self.primary_scope_param_key not in self.parameters:
            raise ValueError(
                f"no filter of scope definition {self.id} has {self.primary_scope_param_key!r}, its primary"
                " parameter"
            )
        self.get_scope(dict.fromkeys(self.parameters, "x"))  # its prefixes are some

    @property
    def templates(self) -> tuple[str, str, str]:
        """The three filters, as templates."""
        return self.read_filter_template, self.write_filter_template, self.read_write_filter_template

    @property
    def parameters(self) -> frozenset[str]:
        """The names in its filters."""
        return frozenset(name for template in self.templates for name in Template(template).get_identifiers())

    def get_scope(self, params: Mapping[str, str]) -> Scope:
        """Return the scope with these parameters.

        Raises:
            ValueError: One is missing, is none of this definition's, or has no value of the right form.
        """
        return Scope(self, params)

    def get_description(self, params: Mapping[str, str]) -> str:
        """Return its description with these parameters; names without a value stay as they are."""
        return Template(self.description).safe_substitute(params)


def check_profile(profile: str) -> str:
    """Return ``profile``, the name of models that belong together.

    Raises:
        ValueError: It is no name.
    """
    if not _DEFINITION_ID.fullmatch(profile):
        raise ValueError(f"{profile!r} is no name of a profile: letters, digits, _ . and -, 64 at most")
    return profile


class Scope:
    """What may be read and written: a definition with parameters.

    Args:
        definition: The definition.
        params: A value for each of its parameters, and no others.

    Raises:
        ValueError: One is missing, is none of this definition's, or has no value of the right form.
    """

    __slots__ = ("definition", "params", "read_filter", "write_filter")

    def __init__(self, definition: ScopeDefinition, params: Mapping[str, str]) -> None:
        missing = sorted(definition.parameters - params.keys())
        strange = sorted(params.keys() - definition.parameters)
        if missing:
            raise ValueError(f"scope {definition.id} needs a value for {', '.join(missing)}")
        if strange:
            raise ValueError(f"scope {definition.id} has no parameter {', '.join(strange)}")
        check_params(params)
        both = Filter(definition.read_write_filter_template, params)
        #: The definition.
        self.definition = definition
        #: The values.
        self.params: Mapping[str, str] = MappingProxyType(dict(params))
        #: What may be read.
        self.read_filter = both + Filter(definition.read_filter_template, params)
        #: What may be written.
        self.write_filter = both + Filter(definition.write_filter_template, params)

    def is_subset_of(self, other: Scope) -> bool:
        """Tell whether ``other`` allows to read and to write all that this one does."""
        return self.read_filter.is_subset_of(other.read_filter) and self.write_filter.is_subset_of(
            other.write_filter
        )

    def lies_below(self, prefix: str) -> bool:
        """Tell whether all that it allows lies at or below ``prefix``."""
        return all(contains(prefix, found) for found in (*self.read_filter, *self.write_filter))

    def __repr__(self) -> str:
        params = " ".join(f"{name}={value}" for name, value in sorted(self.params.items()))
        return f"<Scope {self.definition.id} {self.definition.version} {params}>"


def everything(profile: str) -> ScopeDefinition:
    """Return the scope definition that allows to read and to write all of a profile.

    Raises:
        ValueError: That is no name of a profile.
    """
    return ScopeDefinition(
        EVERYTHING_ID,
        profile,
        description="Everything of the profile.",
        read_write_filter_template=EVERYTHING_TEXT,
    )
