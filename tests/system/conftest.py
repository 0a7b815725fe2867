"""Puts the small host of these tests where they, and the child processes they start, can import it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import zope.event

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))


@pytest.fixture(autouse=True)
def no_listeners_left():
    """Take away the subscribers that a test that failed has left."""
    before = list(zope.event.subscribers)
    yield
    zope.event.subscribers[:] = before


@pytest.fixture
def child_environment():
    """The environment of a child process that can import what lies here."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LIVESYNC_")}
    paths = [str(HERE), str(HERE.parent.parent), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture
def child(child_environment):
    """Run a script of this directory in a process of its own: ``child("script.py", arg, …)``."""

    def run(script, *args, timeout_s=240):
        return subprocess.run(
            [sys.executable, str(HERE / script), *map(str, args)],
            env=child_environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    return run


@pytest.fixture
def site(tmp_path):
    """Make a :class:`syshost.Site`; all are closed at the end."""
    from syshost import Site

    sites = []

    def make(name="Data.fs", **settings):
        sites.append(Site(tmp_path / name, **settings))
        return sites[-1]

    yield make
    for made in sites:
        made.close()
