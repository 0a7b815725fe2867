"""What is built and installed: dependencies, entry points, man pages, the wheel."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import livesync

HERE = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((HERE / "pyproject.toml").read_text("utf-8"))

#: Imported packages that come with another one, whose interface they are.
BROUGHT_ALONG = {
    "zc.lockfile": "ZODB",
    "ZEO": "zodburi",
    "urllib3": "requests",
    "relstorage": "RelStorage",
    "psycopg2": "psycopg2-binary",
    **dict.fromkeys(
        (
            "AccessControl",
            "Acquisition",
            "App",
            "DateTime",
            "OFS",
            "ZPublisher",
            "Zope2",
            "zope.component",
            "zope.globalrequest",
            "zope.proxy",
            "zope.publisher",
            "zope.schema",
            "zope.security",
        ),
        "Zope",
    ),
    **dict.fromkeys(("Products", "plone", "z3c"), "Products.CMFPlone"),
    "apscheduler": "APScheduler",
}

MANUALS = {
    "share/man/man1/livesync.1",
    "share/man/man1/livesync-agent.1",
    "share/man/man1/livesync-dead.1",
    "share/man/man1/livesync-peer.1",
    "share/man/man1/livesync-task.1",
    "share/man/man1/livesync-user.1",
    "share/man/man1/livesync-version.1",
    "share/bash-completion/completions/livesync",
    "share/zsh/site-functions/_livesync",
}


def run(*command, cwd=None):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=600, cwd=cwd, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def imported_packages():
    """Return ``{the distribution that an import needs: the rooms of the house that import it}``."""
    found = {}
    for path in (HERE / "livesync").rglob("*.py"):
        for module in imported_modules(ast.parse(path.read_text("utf-8"))):
            top, _, rest = module.partition(".")
            if top in sys.stdlib_module_names or top == "livesync":
                continue
            name = f"{top}.{rest.partition('.')[0]}" if top in ("zope", "zc") else top
            room = path.relative_to(HERE / "livesync").parts[0]
            found.setdefault(BROUGHT_ALONG.get(name, name.replace("_", "-")), set()).add(room)
    return found


def imported_modules(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def names_of(requirements):
    return {re.match(r"[\w.-]+", text)[0] for text in requirements}


def test_the_dependencies_are_what_is_imported():
    declared = names_of(PROJECT["project"]["dependencies"])
    extras = PROJECT["project"]["optional-dependencies"]
    for_us = ("all", "bench", "dev", "test", "plone-test")
    optional = set().union(*(names_of(extras[name]) for name in extras if name not in for_us))

    used = imported_packages()

    assert used.keys() - optional == declared
    for package in used.keys() & optional:
        # nothing that everybody needs may rest on it
        rooms = {"destinations", "demo", "schedule", "web", "plugins", "timetable.py"} | {
            "relstorage.py",
            "relundo.py",
            "relcache.py",
            "peering",
            "peerserver",
            "versions",
        }
        if package in ("waitress", "cryptography"):
            rooms.add("cli")  # `livesync serve`, `livesync peer`
        assert used[package] <= rooms, package


def test_every_entry_point_can_be_loaded():
    for group in ("livesync.agents", "livesync.hosts", "zodburi.resolvers"):
        declared = PROJECT["project"]["entry-points"][group]
        found = {point.name: point for point in metadata.entry_points(group=group)}
        for name in declared:
            assert callable(found[name].load()), name


def test_the_version_is_one():
    assert metadata.version("zodb-livesync") == livesync.__version__


def test_public_names_are_loaded_at_first_use_only():
    script = (
        "import json, sys, livesync; before = set(sys.modules);"
        "heavy = [name for name in before if name.split('.')[0] in"
        " ('ZODB', 'BTrees', 'persistent', 'transaction', 'requests', 'msgspec', 'rich')];"
        "missing = [name for name in livesync.__all__ if not hasattr(livesync, name)];"
        "print(json.dumps([heavy, missing]))"
    )

    assert json.loads(run(sys.executable, "-c", script)) == [[], []]


@pytest.fixture
def source(tmp_path):
    """A copy of what a build needs, so that nothing is left in the source tree."""
    place = tmp_path / "source"
    place.mkdir()
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        if (HERE / name).exists():
            shutil.copy(HERE / name, place)
    shutil.copytree(HERE / "livesync", place / "livesync", ignore=shutil.ignore_patterns("__pycache__"))
    return place


def test_manuals_are_built_where_zodb_is_not_installed(source, tmp_path):
    pytest.importorskip("argparse_manpage")
    pytest.importorskip("shtab")
    absent = ("ZODB", "BTrees", "persistent", "transaction", "zodburi", "ZEO", "rich", "msgspec", "requests")
    script = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({absent!r}));"
        f"sys.argv = ['setup.py', '-q', 'build_manuals', '-d', {str(tmp_path / 'built')!r}];"
        "runpy.run_path('setup.py', run_name='__main__')"
    )

    run(sys.executable, "-W", "ignore", "-c", script, cwd=source)

    built = tmp_path / "built"
    assert {str(path.relative_to(built)) for path in built.rglob("*") if path.is_file()} == MANUALS
    page = (built / "share/man/man1/livesync.1").read_text("utf-8")
    for command in ("install", "doctor", "status", "prune"):
        assert f"COMMAND \\fI\\,'livesync {command}'" in page or f"'livesync {command}'" in page
    assert "EXIT STATUS" in page
    assert "LIVESYNC_SITE" in page
    agent_page = (built / "share/man/man1/livesync-agent.1").read_text("utf-8")
    for command in ("add", "simulate", "export", "add_task", "verify"):
        assert f"livesync agent {command}" in agent_page
    dead_page = (built / "share/man/man1/livesync-dead.1").read_text("utf-8")
    for command in ("list", "show", "retry", "discard"):
        assert f"livesync dead {command}" in dead_page
    _check_with_their_readers(built)


def _check_with_their_readers(built):
    """Let groff and the shells read what was built, where they are installed."""
    if shutil.which("groff"):
        for page in (built / "share/man/man1").iterdir():
            done = subprocess.run(
                ["groff", "-man", "-ww", "-z", "-Tutf8", "-Kutf8", str(page)],
                capture_output=True,
                text=True,
                check=False,
            )
            assert (done.returncode, done.stderr) == (0, "")
    for shell, place in (
        ("bash", "bash-completion/completions/livesync"),
        ("zsh", "zsh/site-functions/_livesync"),
    ):
        if shutil.which(shell):
            run(shell, "-n", built / "share" / place)


@pytest.mark.slow
@pytest.mark.network
def test_a_wheel_is_built_in_an_isolated_environment_and_holds_everything(source, tmp_path):
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path / "wheels", source)

    (wheel,) = (tmp_path / "wheels").iterdir()
    names = set(zipfile.ZipFile(wheel).namelist())
    installed = {name.partition(".data/data/")[2] for name in names if ".data/data/" in name}
    assert installed == MANUALS
    expected = {
        str(path.relative_to(HERE))
        for path in (HERE / "livesync").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if name.startswith("livesync/")} == expected
    assert not any(name.startswith(("tests/", "docs/", "bench/")) for name in names)


@pytest.mark.slow
@pytest.mark.network
def test_an_installed_wheel_is_a_command_with_man_pages(source, tmp_path):
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", environment)
    python = environment / "bin" / "python"

    run(python, "-m", "pip", "install", "-q", "--no-deps", source)

    # without its dependencies, even: help needs the standard library only
    assert "exit codes:" in run(environment / "bin" / "livesync", "--help", cwd=tmp_path)
    assert {name for name in MANUALS if (environment / name).is_file()} == MANUALS
