"""The indices behind the alias: found, made, and one put in the place of another.

Each index is named after the alias, ``<alias>-<generation>`` or ``<alias>-<rebuild>``, and has an alias of
its own, ``<index>-write``, through which alone it is written: a bulk request can insist on an alias and not
on an index that exists, and must not make anew, without its mapping, one that somebody removed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from ..errors import OptionError, RetryLater, ServiceRefuses
from ._opensearch_documents import FIELD, FIELD_MAPPING, LIVING, TEXT, TEXT_MAPPING
from ._opensearch_rest import RESTService, path_of

#: An index has 255 bytes at most, and its name is the alias's with something after it.
MAX_ALIAS_BYTES: Final = 180

#: What is told of an index holds its whole mapping.
_MOST_BYTES: Final = 32 * 1024 * 1024

_FORBIDDEN: Final = frozenset('\\/*?"<>| ,#:+')

#: Of fields nothing is guessed: a guess refuses each document that it doesn't fit.
_DEFAULT_MAPPINGS: Final[Mapping[str, Any]] = {
    "dynamic": "false",
    "properties": {
        FIELD: {**FIELD_MAPPING, "properties": {**FIELD_MAPPING["properties"], TEXT: TEXT_MAPPING}}
    },
}

#: What follows the alias and a hyphen in the name of an index: the generation in which it was made.
_MADE_IN: Final = re.compile(r"g?([0-9]+)")

#: Settings by which a service gives back another document than it got.
_CHANGES_SOURCE: Final = {"mapping.source.mode": "stored", "derived_source.enabled": "false"}


@dataclass(frozen=True, slots=True)
class Target:
    """An index.

    Attributes:
        index: Its name.
        uuid: What tells it from another that had the name before.
        takes_text: Whether it was made without a mapping file, so that a document's text is searched.
    """

    index: str
    uuid: str
    takes_text: bool

    @property
    def write_alias(self) -> str:
        """The alias through which it is written."""
        return write_alias(self.index)


class _IndexSettings(msgspec.Struct):
    uuid: str


class _Settings(msgspec.Struct):
    index: _IndexSettings


class _Mapping(msgspec.Struct):
    properties: dict[str, _Mapping] = {}


class _Found(msgspec.Struct):
    settings: _Settings
    aliases: dict[str, Any] = {}
    mappings: _Mapping = msgspec.field(default_factory=_Mapping)

    def as_target(self, index: str) -> Target:
        ours = self.mappings.properties.get(FIELD)
        return Target(index, self.settings.index.uuid, ours is not None and TEXT in ours.properties)


class _Aliases(msgspec.Struct):
    aliases: dict[str, Any] = {}


class _Count(msgspec.Struct):
    count: int


class _Acknowledged(msgspec.Struct):
    acknowledged: bool = False


class Indices:
    """What lies behind one alias.

    Args:
        service: The cluster.
        alias: The name that searches use.
        mapping_file: Of the option; None: the default.
    """

    def __init__(self, service: RESTService, alias: str, mapping_file: str | None) -> None:
        self._service = service
        self.alias = alias
        self._mapping_file = mapping_file

    def current(self) -> Target | None:
        """Return the index behind the alias, None if there is no such alias.

        Raises:
            ServiceRefuses: Something else has the name, or the alias is not ours.
        """
        found = self._find(self.alias)
        if self.alias in found:
            raise ServiceRefuses(
                f"{self._service.shown_url} has an index named {self.alias}, so no alias can have that name:"
                " give the option index another name, or remove that index"
            )
        if len(found) > 1:
            raise ServiceRefuses(
                f"the alias {self.alias} stands for several indices ({', '.join(sorted(found))}):"
                " leave it the one that is to be searched"
            )
        for index, about in found.items():
            target = about.as_target(index)
            if target.write_alias not in about.aliases:
                raise ServiceRefuses(
                    f"the alias {self.alias} stands for the index {index}, which livesync has not made:"
                    " give the option index another name, or remove that alias"
                )
            return target
        return None

    def named(self, index: str) -> Target | None:
        """Return the index of this name, None if there is none."""
        found = self._find(index).get(index)
        return None if found is None else found.as_target(index)

    def abandoned(self, generation: int) -> list[str]:
        """Return the indices that exports of earlier generations have left behind.

        They have our names and the alias through which we write, and no other: nobody searches them by
        an alias, and we have not let go of them.

        Raises:
            RetryLater, ServiceRefuses: Nobody can tell.
        """
        path = path_of(self.alias)
        reply = self._service.ask("GET", f"{path}-*", query="filter_path=error,*.aliases", want={404})
        found = {} if reply.status == 404 else reply.read(dict[str, _Aliases])
        return sorted(
            index
            for index, about in found.items()
            if self._made_before(index, generation) and about.aliases.keys() == {write_alias(index)}
        )

    def _made_before(self, index: str, generation: int) -> bool:
        before = f"{self.alias}-"
        made_in = _MADE_IN.fullmatch(index, len(before)) if index.startswith(before) else None
        return made_in is not None and int(made_in[1]) < generation

    def remove(self, index: str) -> None:
        """Remove an index, if it is there.

        Raises:
            RetryLater, ServiceRefuses: It cannot be removed.
        """
        self._service.ask("DELETE", path_of(index), want={404})

    def _find(self, name: str) -> dict[str, _Found]:
        reply = self._service.ask("GET", path_of(name), want={404}, limit=_MOST_BYTES)
        return {} if reply.status == 404 else reply.read(dict[str, _Found])

    def create(self, index: str, searched: bool) -> Target:
        """Make an index, which the alias stands for from the beginning if it is to be ``searched``.

        One that is there already is taken if it is ours and empty, as after a crash.

        Raises:
            ServiceRefuses: The service refuses the mapping, or the name is taken.
            OptionError: The mapping file cannot be used.
        """
        body = creation_body(self._mapping_file)
        aliases: dict[str, Any] = {write_alias(index): {}}
        if searched:
            aliases[self.alias] = {"filter": LIVING}
        body["aliases"] = aliases
        reply = self._service.ask("PUT", path_of(index), body, want={400})
        if reply.status == 400 and reply.cause.type != "resource_already_exists_exception":
            by = f" with the mapping file {self._mapping_file}" if self._mapping_file else ""
            raise ServiceRefuses(
                f"{self._service.shown_url} refuses to make the index {index}{by}: {reply.cause}"
            )
        made = self.named(index)
        if made is None:
            raise RetryLater(reason=f"{reply.said}, and the index {index} is not there yet")
        if reply.status == 400:
            self._refuse_unless_usable(made, searched)
        return made

    def _refuse_unless_usable(self, target: Target, searched: bool) -> None:
        if searched and self.current() == target:  # another runner was quicker
            return
        if searched or not self.is_empty(target):
            but = f"the alias {self.alias} does not stand for it" if searched else "it is not empty"
            raise ServiceRefuses(
                f"{self._service.shown_url} has an index {target.index} already, and {but}: remove that index"
            )

    def refresh(self, target: Target) -> None:
        """Let searches see everything that was written."""
        self._service.ask("POST", path_of(target.index, "_refresh"))

    def count(self, target: Target, query: Mapping[str, Any] | None = None) -> int:
        """Return how many documents there are, tombstones among them unless ``query`` says otherwise."""
        body = None if query is None else {"query": query}
        return self._service.ask("POST", path_of(target.index, "_count"), body).read(_Count).count

    def is_empty(self, target: Target) -> bool:
        """Tell whether there is nothing in an index, not even a tombstone."""
        if self.count(target):
            return False
        self.refresh(target)  # what was written a moment ago is not counted yet
        return self.count(target) == 0

    def swap(self, old: Target | None, new: Target, keep_old: bool) -> None:
        """Let the alias stand for ``new`` from one moment to the next, and remove ``old`` unless it is kept.

        One that is kept is let go of: it loses the alias through which we write, and is ours no more.

        Raises:
            RetryLater: Nobody knows yet whether it was done.
        """
        actions: list[dict[str, Any]] = [
            {"add": {"index": new.index, "alias": self.alias, "filter": LIVING}},
        ]
        if old is not None and keep_old:
            actions += [
                {"remove": {"index": old.index, "alias": alias}} for alias in (self.alias, old.write_alias)
            ]
        elif old is not None:
            actions.append({"remove_index": {"index": old.index}})
        reply = self._service.ask("POST", "/_aliases", {"actions": actions})
        if not reply.read(_Acknowledged).acknowledged:
            raise RetryLater(reason=f"{reply.said}, and has not yet done it")


def write_alias(index: str) -> str:
    """Return the alias through which an index is written."""
    return f"{index}-write"


def check_alias(alias: str) -> None:
    """Make sure that ``alias`` can name an alias, and indices with something after it.

    Raises:
        OptionError: It cannot.
    """
    wrong = (
        not alias
        or alias != alias.lower()
        or alias.startswith(("-", "_", "."))
        or not _FORBIDDEN.isdisjoint(alias)
        or any(char.isspace() or not char.isprintable() for char in alias)
        or len(alias.encode("utf-8", "replace")) > MAX_ALIAS_BYTES
    )
    if wrong:
        raise OptionError(
            f"option index: {alias!r} cannot name an index: lower case, at most {MAX_ALIAS_BYTES} bytes,"
            " not beginning with - _ or ., no blank and none of " + " ".join(sorted(_FORBIDDEN - {" "}))
        )


def creation_body(mapping_file: str | None) -> dict[str, Any]:
    """Return the body that makes an index: what the file says (``settings``, ``mappings``) and our field.

    Raises:
        OptionError: The file cannot be used; the text says why.
    """
    if mapping_file is None:
        return {"mappings": _DEFAULT_MAPPINGS}
    body = _read_mapping(mapping_file)
    mappings = _object(body, "mappings", mapping_file)
    properties = _object(mappings, "properties", mapping_file)
    if FIELD in properties:
        raise OptionError(f"option mapping: {mapping_file} maps the field {FIELD}, which is livesync's own")
    _refuse_changed_source(body, mappings, mapping_file)
    return {**body, "mappings": {**mappings, "properties": {**properties, FIELD: FIELD_MAPPING}}}


def _read_mapping(path: str) -> dict[str, Any]:
    try:
        body = json.loads(Path(path).read_text("utf-8"))
    except OSError as exc:
        raise OptionError(f"option mapping: {path} cannot be read: {exc.strerror}") from exc
    except (ValueError, RecursionError) as exc:
        raise OptionError(f"option mapping: {path} is no JSON: {exc}") from None
    if not isinstance(body, dict) or not body.keys() <= {"settings", "mappings"}:
        raise OptionError(f'option mapping: {path} must hold an object of "settings" and "mappings", no more')
    return body


def _object(holder: dict[str, Any], name: str, path: str) -> dict[str, Any]:
    value = holder.get(name, {})
    if not isinstance(value, dict):
        raise OptionError(f'option mapping: "{name}" in {path} is no object')
    return value


def _refuse_changed_source(body: dict[str, Any], mappings: dict[str, Any], path: str) -> None:
    """Refuse an index that would give back something else than the documents that were sent."""
    settings = dict(_flat(_object(body, "settings", path)))
    changed = [name for name, value in _CHANGES_SOURCE.items() if settings.get(name, value) != value]
    if mappings.get("_source", {"enabled": True}) not in ({}, {"enabled": True}):
        changed.append("_source")
    if changed:
        raise OptionError(
            f"option mapping: {path} sets {changed[0]}: documents must come back as they were sent,"
            " or nothing could be proved of them"
        )


def _flat(settings: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Return nested settings by their dotted names, without the ``index.`` that may be left out."""
    flat: list[tuple[str, str]] = []
    for name, value in settings.items():
        full = before + name
        if isinstance(value, dict):
            flat += _flat(value, f"{full}.")
        else:
            flat.append((full.removeprefix("index."), str(value).lower()))
    return flat
