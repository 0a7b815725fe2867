"""``livesync peer scope``: of which parts of a profile there are certificates."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from ..errors import UnknownScope, UsageError
from .exitcodes import ExitCode
from .output import printable
from .peer_trust import given_params, read_file, trust_of
from .session import Session, as_usage
from .tables import print_table

if TYPE_CHECKING:
    from ..peering.scopes import Filter, ScopeDefinition


def list_scopes(session: Session) -> int:
    """Print the scope definitions."""
    profile, out = session.args.profile, session.out
    with trust_of(session, read_only=True) as store:
        found = store.read(lambda trust: trust.definitions(profile))
    out.json({"scopes": [asdict(definition) for definition in found]})
    rows = [
        (each.profile, each.id, str(each.version), " ".join(sorted(each.parameters)) or "-", each.description)
        for each in found
    ]
    if rows:
        print_table(out, ("PROFILE", "SCOPE", "VERSION", "PARAMETERS", "DESCRIPTION"), rows, {"VERSION"})
    else:
        out.line("there are no scopes yet: livesync peer scope add FILE")
    return ExitCode.OK


def add(session: Session) -> int:
    """Keep the scope definitions of a file."""
    path, out = session.args.from_file, session.out
    contents = read_file(path)
    listed = contents if isinstance(contents, list) else [contents]
    definitions = [as_usage(lambda each=each: _definition(each)) for each in listed]  # type: ignore[misc]
    with trust_of(session) as store:
        new = store.run(lambda trust: [trust.add_definition(definition) for definition in definitions])
    for definition, is_new in zip(definitions, new):
        state = "added" if is_new else "is there already"
        out.line(printable(f"scope {definition.id} {definition.version} of {definition.profile} {state}"))
    out.json({"scopes": [asdict(definition) for definition in definitions], "new": new})
    return ExitCode.OK


def _definition(given: Any) -> ScopeDefinition:
    """Return the scope definition of an object, ours or of a fixture of morango's.

    Raises:
        UsageError, ValueError: It is none.
    """
    from ..peering.scopes import ScopeDefinition

    types = {field.name: int if field.name == "version" else str for field in fields(ScopeDefinition)}
    if isinstance(given, dict) and isinstance(given.get("fields"), dict):
        given = {"id": given.get("pk"), **given["fields"]}
    if not isinstance(given, dict):
        raise UsageError("a scope definition is a JSON object")
    for name, value in given.items():
        if name not in types:
            raise UsageError(f"a scope definition has no key {name!r}; there are: {', '.join(types)}")
        if type(value) is not types[name]:
            what = "a whole number" if types[name] is int else "text"
            raise UsageError(f"{name} of a scope definition is {what}")
    missing = sorted({"id", "profile"} - given.keys())
    if missing:
        raise UsageError(f"a scope definition needs the key {missing[0]!r}")
    return ScopeDefinition(**given)


def show(session: Session) -> int:
    """Print what a scope definition allows."""
    args, out = session.args, session.out
    params = given_params(session)
    with trust_of(session, read_only=True) as store:
        found = [
            each
            for each in store.read(lambda trust: trust.definitions(args.profile))
            if each.id == args.scope and args.version in (None, each.version)
        ]
    if not found:
        raise UnknownScope(
            f"there is no scope {args.scope!r}; `livesync peer scope list` shows those there are"
        )
    profiles = sorted({each.profile for each in found})
    if len(profiles) > 1:
        raise UsageError(f"there is a scope {args.scope} in several profiles: give --profile {profiles[0]}")
    definition = found[-1]
    scope = as_usage(lambda: definition.get_scope(params)) if params or not definition.parameters else None
    out.json(
        {
            "scope": asdict(definition),
            "parameters": sorted(definition.parameters),
            "reads": None if scope is None else list(scope.read_filter),
            "writes": None if scope is None else list(scope.write_filter),
        }
    )
    facts = [
        ("scope", f"{definition.id} {definition.version}"),
        ("profile", definition.profile),
        ("description", definition.get_description(params) or "-"),
        ("parameters", " ".join(sorted(definition.parameters)) or "-"),
    ]
    if definition.primary_scope_param_key:
        facts.append(("primary", definition.primary_scope_param_key))
    if scope is None:
        facts += [
            ("reads only", _one_line(definition.read_filter_template)),
            ("writes only", _one_line(definition.write_filter_template)),
            ("both", _one_line(definition.read_write_filter_template)),
        ]
    else:
        facts += [("reads", shown(scope.read_filter)), ("writes", shown(scope.write_filter))]
    for name, value in facts:
        out.line(printable(f"{name + ':':<13}{value}"))
    return ExitCode.OK


def _one_line(template: str) -> str:
    return " ".join("everything" if word == ":" else word for word in template.split()) or "nothing"


def shown(found: Filter) -> str:
    """Return a filter in one line."""
    return _one_line(str(found))
