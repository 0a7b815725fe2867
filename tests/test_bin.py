"""The scripts in ``bin/``: what they refuse, and that the demo's proof would find what is wrong."""

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
BIN = CHECKOUT / "bin"


def run(*command, **environment):
    clean = {key: value for key, value in os.environ.items() if not key.startswith("LIVESYNC_")}
    return subprocess.run(
        [str(part) for part in command],
        env=clean | {"PYTHON": sys.executable} | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def delivered(tmp_path_factory):
    """A catalogue and an index that equals it: ``(environment, index file)``."""
    place = tmp_path_factory.mktemp("demo")
    environment = {"LIVESYNC_DB": f"file://{place}/Data.fs", "LIVESYNC_HOST": "demo"}
    index = place / "index.db"
    livesync = [sys.executable, "-m", "livesync"]
    for command in (
        [sys.executable, "-m", "livesync.demo", "replay", "history-small.jsonl.gz", "--limit", "20"],
        [*livesync, "agent", "add", "index", "--type", "sqlite", "-o", f"path={index}"],
        [*livesync, "agent", "export", "index"],
    ):
        done = run(*command, **environment)
        assert done.returncode == 0, done.stderr
    return environment, index


def compared(delivered, *statements):
    """Return what the demo's comparison says of a copy of the index that ``statements`` have changed."""
    environment, index = delivered
    copy = index.with_name("tampered.db")
    copy.unlink(missing_ok=True)
    with closing(sqlite3.connect(index)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        for statement in statements:
            target.execute(statement)
        target.commit()
    return run(sys.executable, BIN / "demo_index.py", "compare", copy, **environment)


def test_comparison_passes_where_index_and_catalogue_are_the_same(delivered):
    done = compared(delivered)

    assert done.returncode == 0, done.stderr
    assert "PASSED" in done.stdout
    assert "FAILED" not in done.stdout


def test_comparison_names_everything_that_is_wrong(delivered):
    done = compared(
        delivered,
        "DELETE FROM documents WHERE rowid = 2",
        "UPDATE documents SET document = document || ' ' WHERE rowid = 1",
        "INSERT INTO documents VALUES ('ghost', 1, '{}')",
        "INSERT INTO documents_fts VALUES ('spectre', 'boo')",
    )

    assert done.returncode == 1
    assert "1 missing in the index: " in done.stdout
    assert "1 in the index but not public, or gone: ghost" in done.stdout
    assert "1 of another content than in the catalogue: " in done.stdout
    assert re.search(r"3 found by searches or in the index, not both: .*ghost, spectre", done.stdout)
    assert done.stdout.splitlines()[-1].startswith("FAILED")


@pytest.mark.slow
def test_comparison_fails_where_the_index_is_empty(delivered):
    done = compared(delivered, "DELETE FROM documents", "DELETE FROM documents_fts")

    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("FAILED")


@pytest.mark.slow
def test_comparison_finds_what_is_private(delivered):
    environment, _ = delivered
    ids = {
        audience: {
            line[7:43]
            for line in run(
                sys.executable, "-m", "livesync.demo", "dump", "--audience", audience, **environment
            ).stdout.splitlines()
        }
        for audience in ("public", "staff")
    }
    private = min(ids["staff"] - ids["public"])

    done = compared(delivered, f"INSERT INTO documents VALUES ('{private}', 1, '{{}}')")

    assert done.returncode == 1
    assert f"1 private but in the index: {private}" in done.stdout


def test_search_that_finds_nothing_fails(delivered):
    environment, index = delivered
    command = [sys.executable, BIN / "demo_index.py", "search", index]

    assert run(*command, "python", **environment).returncode == 0
    assert run(*command, "xyzzy42", **environment).returncode == 1


@pytest.mark.parametrize("arguments", [["--bogus"], ["--keep"]])
def test_demo_refuses_what_it_does_not_know(arguments):
    done = run(BIN / "demo", *arguments)

    assert done.returncode == 2
    assert done.stderr.startswith("demo: ")


def test_scripts_say_what_is_missing_where_python_is_too_old(tmp_path):
    for name in ("bash", "dirname", "env", "sed"):
        found = next(Path(d, name) for d in os.environ["PATH"].split(":") if Path(d, name).exists())
        (tmp_path / name).symlink_to(found)

    done = run(BIN / "test", PATH=str(tmp_path), PYTHON="")

    assert done.returncode == 2
    assert "no Python 3.11 or newer" in done.stderr


@pytest.mark.parametrize("script", ["bin/demo", "bin/plone", "bin/test", ".ci/run"])
def test_script_is_executable_and_without_mistakes_of_syntax(script):
    assert os.access(CHECKOUT / script, os.X_OK)
    assert run("bash", "-n", CHECKOUT / script).returncode == 0


# -- the browser ---------------------------------------------------------------------------------


def path_with(directory, **scripts):
    """A PATH with nothing on it but these scripts and what they are made of."""
    for name, text in scripts.items():
        script = directory / name.replace("_", "-")
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
    for name in ("bash", "sh", "env"):
        (directory / name).symlink_to(f"/usr/bin/{name}")
    return str(directory)


def test_a_browser_that_is_there_is_taken(tmp_path):
    done = run(BIN / "browser", PATH=path_with(tmp_path, chromium="exit 0"))

    assert (done.returncode, done.stdout) == (0, f"browser: {tmp_path}/chromium\n")


def test_without_a_browser_and_root_it_is_said_that_tests_are_skipped(tmp_path):
    done = run(BIN / "browser", PATH=path_with(tmp_path, id="echo 1000"))

    assert done.returncode == 0
    assert "SKIPPED" in done.stderr


def test_a_browser_that_cannot_be_installed_is_said(tmp_path):
    done = run(BIN / "browser", PATH=path_with(tmp_path, id="echo 0", apt_get="exit 1"))

    assert done.returncode == 0
    assert "could not be installed" in done.stderr
    assert "SKIPPED" in done.stderr


def test_a_browser_is_installed_where_that_can_be_done(tmp_path):
    made = f"""printf '#!/bin/sh\\n' > {tmp_path}/chromium; /bin/chmod +x {tmp_path}/chromium"""
    done = run(BIN / "browser", PATH=path_with(tmp_path, id="echo 0", apt_get=made))

    assert done.stdout.splitlines()[-1] == f"browser: {tmp_path}/chromium"
