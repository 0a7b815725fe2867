"""The rooms of the house: which may import which, as a table."""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import livesync

PACKAGE = Path(livesync.__file__).parent

GROUND = {"attempts", "errors", "forms", "relcache", "relstorage", "zeoclient", "imports", "process"}
GROUND |= {"httpcalls", "keepers", "options", "database", "action", "host", "words"}
TRACK = GROUND | {"track", "timetable", "commits"}
AGENT = TRACK | {"agent"}
MANAGER = AGENT | {"conflicts", "leases", "status", "readers", "manager"}
DELIVERY = MANAGER | {"delivery"}
CORE = DELIVERY | {"gathering", "relundo", "capture", "upkeep", "destinations"}
#: What syncs both ways and what keeps history, on top of what carries them over a network.
ENGINES = {"peering", "replication", "versions"}

#: What each room may import, itself apart. A room is a module or a package directly in livesync.
MAY_IMPORT = {
    "errors": set(),
    "attempts": set(),
    "keepers": set(),
    "conflicts": set(),
    "words": set(),
    "process": set(),
    "imports": set(),
    "forms": set(),
    "openapi": {"__init__"},
    "httpcalls": set(),
    "options": {"errors", "imports"},
    "relstorage": {"errors"},
    "relcache": set(),
    "zeoclient": set(),
    "database": {"attempts", "errors", "relcache", "relstorage", "zeoclient"},
    "action": {"errors"},
    "timetable": {"errors"},
    "commits": set(),
    "host": {"errors", "imports"},
    "track": {"attempts", "errors", "action", "process"},
    "agent": TRACK - {"database", "forms", "process", "timetable", "commits"},
    "leases": {"errors", "process", "track"},
    "status": {"agent", "leases", "timetable", "track"},
    "readers": {"action", "agent", "errors", "leases", "timetable", "track"},
    "manager": (AGENT | {"leases", "readers", "status"}) - {"commits", "database", "forms", "process"},
    "gathering": MANAGER,
    "relundo": {"track"},
    "capture": MANAGER | {"gathering", "relundo"},
    "scripts": MANAGER | {"gathering", "capture"},
    "delivery": MANAGER,
    "upkeep": DELIVERY,
    "destinations": DELIVERY,
    "peering": MANAGER,
    # what a document holds is written alike by both that follow
    "values": {"errors"},
    # the peer agent is run, and its runs are noted, as any agent's
    "replication": DELIVERY | {"peering", "values"},
    "versions": MANAGER | {"peering", "values"},
    "settings": CORE,
    "periodic": CORE | {"peering", "replication", "versions"},  # what sessions and versions leave to be done
    "tasks": CORE | {"periodic", "settings"},
    "schedule": CORE | {"periodic", "settings", "tasks"},
    "web": CORE | ENGINES | {"openapi", "periodic", "settings", "tasks", "schedule", "__init__"},
    "peerserver": MANAGER | ENGINES | {"openapi", "settings", "tasks", "schedule", "__init__"},
    # `livesync serve` starts the pages and the peers' server
    "cli": CORE | ENGINES | {"periodic", "settings", "tasks", "schedule", "web", "peerserver", "__init__"},
    "plugins": CORE | ENGINES | {"periodic", "settings", "tasks", "schedule", "web", "peerserver", "cli"},
    "__main__": {"cli"},
    "__init__": set(),  # names are loaded at first use
    "demo": CORE | {"settings", "tasks", "cli", "peering", "replication", "versions"},
}


@cache
def modules():
    """Return ``[(parts of the name, tree)]`` of all modules."""
    return [
        (path.relative_to(PACKAGE).with_suffix("").parts, ast.parse(path.read_text("utf-8")))
        for path in sorted(PACKAGE.rglob("*.py"))
    ]


def is_for_types_only(node):
    return isinstance(node, ast.If) and ast.unparse(node.test).rpartition(".")[2] == "TYPE_CHECKING"


def walk(node):
    """Yield all nodes but those that only a type checker sees."""
    if is_for_types_only(node):
        children = node.orelse
    else:
        yield node
        children = ast.iter_child_nodes(node)
    for child in children:
        yield from walk(child)


def rooms_of(node, parts):
    """Yield the rooms that an import statement in the module of these parts enters."""
    if isinstance(node, ast.Import):
        targets = [alias.name.split(".") for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        module = node.module.split(".") if node.module else []
        if node.level:
            module = ["livesync", *parts[: len(parts) - node.level], *module]
        targets = [[*module, alias.name] for alias in node.names]
    else:
        return
    for target in targets:
        if target[0] == "livesync":
            yield room_named(target[1] if len(target) > 1 else "__init__")


def room_named(name):
    is_room = (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()
    return name if is_room else "__init__"


@cache
def edges():
    """Return ``{(room, other room): modules}`` of all imports, those inside functions included."""
    found = {}
    for parts, tree in modules():
        for node in walk(tree):
            for room in rooms_of(node, parts):
                if room != parts[0]:
                    found.setdefault((parts[0], room), set()).add("/".join(parts))
    return found


def test_every_room_is_in_the_table():
    assert {parts[0] for parts, _ in modules()} <= set(MAY_IMPORT)


def test_no_import_is_outside_the_table():
    wrong = {
        f"{room} -> {other}": sorted(where)
        for (room, other), where in edges().items()
        if other not in MAY_IMPORT[room]
    }

    assert wrong == {}


def test_rooms_form_no_cycle():
    graph = {}
    for room, other in edges():
        if other != "__init__":
            graph.setdefault(room, set()).add(other)

    assert list(TopologicalSorter(graph).static_order())


def test_the_table_has_no_cycle():
    assert list(
        TopologicalSorter({room: others - {"__init__"} for room, others in MAY_IMPORT.items()}).static_order()
    )


def test_nothing_imports_the_demo():
    assert [room for room, other in edges() if other == "demo"] == []


@pytest.mark.parametrize(
    "siblings", [{"capture", "delivery", "peering"}, {"replication", "versions"}, {"web", "peerserver"}]
)
def test_siblings_do_not_know_one_another(siblings):
    for room in siblings:
        assert not MAY_IMPORT[room] & siblings


def test_nobody_names_a_function_of_a_room_that_it_may_not_import():
    """What is imported by its name is imported all the same."""
    named = re.compile(r"livesync\.(\w+)[\w.]*:\w+")
    wrong = {
        f"{'/'.join(parts)}: {node.value}"
        for parts, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for match in [named.fullmatch(node.value)]
        if match and match[1] != parts[0] and match[1] not in MAY_IMPORT[parts[0]]
    }

    assert wrong == set()


@pytest.mark.parametrize(
    ("source", "parts", "expected"),
    [
        ("from ..errors import X", ("cli", "main"), ["errors"]),
        ("from .. import errors, host", ("cli", "main"), ["errors", "host"]),
        ("from .parser import x", ("cli", "main"), ["cli"]),
        ("from . import parser", ("cli", "main"), ["cli"]),
        ("from .errors import X", ("host",), ["errors"]),
        ("from . import errors", ("host",), ["errors"]),
        ("from .errors import X", ("__init__",), ["errors"]),
        ("import livesync.track.inbox as x", ("host",), ["track"]),
        ("import livesync", ("host",), ["__init__"]),
        ("from livesync import Host", ("cli", "main"), ["__init__"]),
        ("from livesync.demo import x", ("cli", "main"), ["demo"]),
        ("import os, ZODB", ("host",), []),
    ],
)
def test_imports_are_understood(source, parts, expected):
    assert list(rooms_of(ast.parse(source).body[0], parts)) == expected


def test_imports_inside_functions_count_and_those_for_types_do_not():
    tree = ast.parse(
        "if TYPE_CHECKING:\n    from .host import Host\nelse:\n    from .action import x\n"
        "def f():\n    from .errors import Y\n"
    )

    assert [room for node in walk(tree) for room in rooms_of(node, ("options",))] == ["action", "errors"]
