"""The units, crontab and Celery application of the documentation: systemd reads them, their commands run."""

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.waiting import LONG_S

from livesync.cli.parser import build_parser

HOWTO = Path(__file__).resolve().parent.parent / "docs" / "howto"
UNITS = sorted([*HOWTO.rglob("*.service"), *HOWTO.rglob("*.timer")])
VENV = "/srv/app/venv/bin/"


def sections(path):
    parser = configparser.ConfigParser(strict=True, interpolation=None, delimiters=("=",))
    parser.optionxform = str
    parser.read_string(path.read_text("utf-8"))
    return parser


def check_command(words):
    """Check that a command line is one that livesync, or Celery, takes."""
    program, *arguments = words
    if program.endswith("livesync"):
        assert build_parser().parse_args(arguments).handler
    else:
        assert program == f"{VENV}celery"
        assert arguments[:2] == ["-A", "livesync.schedule.celery"]
        done = subprocess.run(
            [sys.executable, "-m", "celery", arguments[2], "--help"],
            capture_output=True, text=True, timeout=LONG_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        for option in (word for word in arguments[3:] if word.startswith("-")):
            assert re.search(rf"(?<![\w-]){option}\b", done.stdout), option


def test_there_are_units():
    assert len(UNITS) == 7


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_is_well_formed_and_its_command_is_one(path):
    found = sections(path)

    assert found["Unit"]["Description"]
    if path.suffix == ".timer":
        assert path.with_suffix(".service").exists()
        assert found["Timer"]["OnCalendar"]
        assert found["Install"]["WantedBy"] == "timers.target"
    else:
        check_command(shlex.split(found["Service"]["ExecStart"]))


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path):
    # what they name is to be there: the program, the user, and who is told
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "notify-admin@.service").write_text(
        f"[Unit]\nDescription=tells somebody\n[Service]\nType=oneshot\nExecStart={program} %i\n"
    )
    names = []
    for path in UNITS:
        text = re.sub(rf"{VENV}\w+", str(program), path.read_text("utf-8")).replace("User=app", "User=root")
        (tmp_path / path.name).write_text(text.replace("man:livesync(1)", "https://example.org/"))
        names.append(str(tmp_path / path.name))

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names],
        capture_output=True, text=True, timeout=LONG_S, check=False,
        env={"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
    )  # fmt: skip

    told = [line for line in done.stderr.splitlines() if any(path.name in line for path in UNITS)]
    assert (done.returncode, told) == (0, []), done.stderr


def test_the_crontab_has_five_fields_a_user_and_commands_that_are_there():
    lines = (HOWTO / "systemd" / "livesync.cron").read_text("utf-8").splitlines()
    jobs = [line for line in lines if not line.startswith("#") and "=" not in line.split()[0]]

    assert len(jobs) == 2
    for job in jobs:
        *fields, user, command = job.split(maxsplit=6)
        assert len(fields) == 5
        assert user == "app"
        words = shlex.split(command, comments=False)
        begin = words.index("livesync") if words[0] == "livesync" else words.index("livesync", 1)
        end = next((n for n, word in enumerate(words) if word in (">", "||")), len(words))
        check_command(words[begin:end])


def test_an_application_of_celerys_gets_the_tasks():
    pytest.importorskip("celery")
    script = (
        "import runpy; app = runpy.run_path({!r})['app'];"
        "ours = [name for name in app.tasks if name.startswith('livesync.')];"
        "print(sorted(ours), list(app.conf.beat_schedule))"
    )

    done = subprocess.run(
        [sys.executable, "-c", script.format(str(HOWTO / "celery" / "application.py"))],
        capture_output=True, text=True, timeout=LONG_S, check=False,
    )  # fmt: skip

    assert done.stdout == "['livesync.run', 'livesync.tick'] ['livesync']\n", done.stderr
