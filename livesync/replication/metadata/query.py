"""Queries: what to sync, by what items say. Pure.

A query changes its answer when items change, so it is a subscription and no claim (``queries.py``).
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import msgspec

from .states import ItemState


class Comparator(Enum):
    """How a field is compared."""

    EQUALS = "=="
    NOT_EQUALS = "!="
    LESS_THAN = "<"
    LESS_THAN_OR_EQUALS = "<="
    GREATER_THAN = ">"
    GREATER_THAN_OR_EQUALS = ">="
    IN = "in"


_ORDERED: Final[Mapping[Comparator, Callable[[Any, Any], bool]]] = {
    Comparator.LESS_THAN: operator.lt,
    Comparator.LESS_THAN_OR_EQUALS: operator.le,
    Comparator.GREATER_THAN: operator.gt,
    Comparator.GREATER_THAN_OR_EQUALS: operator.ge,
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One field compared with a value.

    A field that is missing is None. What has no order, such as a number and a text, is not less nor greater.

    Args:
        field_name: The field; of nested ones the names with dots between.
        comparator: One of :class:`Comparator`, or its sign.
        value: A JSON value; of ``in`` a list.

    Raises:
        ValueError: There is no such comparator, or the value of ``in`` is no list.
    """

    field_name: str
    comparator: Comparator
    value: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "comparator", Comparator(self.comparator))
        if self.comparator is Comparator.IN and not isinstance(self.value, (list, tuple)):
            raise ValueError(f"what is {self.field_name!r} to be in? a list, not {self.value!r}")

    def matches(self, data: Mapping[str, Any]) -> bool:
        """Tell whether an item's data fit."""
        found = field_of(data, self.field_name)
        if self.comparator is Comparator.EQUALS:
            return _is_same(found, self.value)
        if self.comparator is Comparator.NOT_EQUALS:
            return not _is_same(found, self.value)
        if self.comparator is Comparator.IN:
            return any(_is_same(found, value) for value in self.value)
        if not _have_order(found, self.value):
            return False
        return bool(_ORDERED[self.comparator](found, self.value))

    def described(self) -> Any:
        """Return plain values that stand for it."""
        return [self.field_name, self.comparator.value, self.value]


class Connector(Enum):
    """How the parts of a filter are combined."""

    AND = "AND"
    OR = "OR"


@dataclass(frozen=True, slots=True)
class Filter:
    """A tree of comparisons; ``&`` and ``|`` combine filters, with Python's precedence.

    Args:
        children: Comparisons and filters; without any, an AND fits everything, an OR nothing.
        connector: How they are combined.
    """

    children: tuple[Comparison | Filter, ...] = ()
    connector: Connector = Connector.AND

    def matches(self, data: Mapping[str, Any]) -> bool:
        """Tell whether an item's data fit."""
        found = (child.matches(data) for child in self.children)
        return all(found) if self.connector is Connector.AND else any(found)

    def described(self) -> Any:
        """Return plain values that stand for it."""
        return {self.connector.value: [child.described() for child in self.children]}

    def _combined(self, other: Filter, connector: Connector) -> Filter:
        parts: list[Comparison | Filter] = []
        for part in (self, other):
            flat = part.connector is connector or len(part.children) == 1
            parts += part.children if flat else (part,)
        return Filter(tuple(parts), connector)

    def __and__(self, other: Filter) -> Filter:
        return self._combined(other, Connector.AND)

    def __or__(self, other: Filter) -> Filter:
        return self._combined(other, Connector.OR)


@dataclass(frozen=True, slots=True)
class SortOrder:
    """One field to sort by; what is missing comes first."""

    field_name: str
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """What to sync.

    Args:
        entity_name: The model.
        filter: Which of its items; None: all.
        ordering: By what they are sorted.
        limit: At most so many; None: no limit.
        offset: Without the first so many.

    Raises:
        ValueError: A limit or an offset without an ordering, or a negative one.
    """

    entity_name: str
    filter: Filter | None = None
    ordering: Sequence[SortOrder] = ()
    limit: int | None = None
    offset: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "ordering", tuple(self.ordering))
        if (self.limit is not None or self.offset) and not self.ordering:
            raise ValueError("a limit or an offset means nothing without an ordering")
        if self.offset < 0 or (self.limit is not None and self.limit < 0):
            raise ValueError("a limit and an offset are not negative")

    @property
    def id(self) -> str:
        """The same for equal queries, in every process."""
        described = {
            "entity": self.entity_name,
            "filter": None if self.filter is None else self.filter.described(),
            "order": [[order.field_name, order.descending] for order in self.ordering],
            "limit": self.limit,
            "offset": self.offset,
        }
        encoded = msgspec.json.encode(described, order="deterministic")
        return hashlib.blake2b(encoded, digest_size=16).hexdigest()


def select(query: Query, states: Iterable[ItemState]) -> list[ItemState]:
    """Return the live items that a query selects, in its order, then by item id."""
    found = []
    for state in states:
        if state.entity_name != query.entity_name or not state.is_live:
            continue
        data = msgspec.json.decode(state.payload)
        if isinstance(data, dict) and (query.filter is None or query.filter.matches(data)):
            found.append((data, state))
    found.sort(key=lambda pair: pair[1].item_id)
    for order in reversed(query.ordering):
        found.sort(key=lambda pair: _sort_key(field_of(pair[0], order.field_name)), reverse=order.descending)
    end = None if query.limit is None else query.offset + query.limit
    return [state for _, state in found[query.offset : end]]


def field_of(data: Mapping[str, Any], name: str) -> Any:
    """Return the value of a field, by its name with dots; None where there is none."""
    found: Any = data
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _is_same(one: Any, other: Any) -> bool:
    # True and 1 are two things in JSON
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _have_order(one: Any, other: Any) -> bool:
    for kinds in ((int, float), (str,)):
        if isinstance(one, kinds) and isinstance(other, kinds):
            return not isinstance(one, bool) and not isinstance(other, bool)
    return False


def _sort_key(value: Any) -> tuple[int, Any]:
    if value is None:
        return (0, 0)
    if isinstance(value, bool):
        return (1, value)
    if isinstance(value, (int, float)):
        return (2, value)
    if isinstance(value, str):
        return (3, value)
    return (4, msgspec.json.encode(value, order="deterministic"))
