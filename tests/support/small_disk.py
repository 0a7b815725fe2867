"""A disk that is really full: a script in a process of its own, on a file system of a few hundred KiB."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_MOUNTED = 'mount -t tmpfs -o size="$1"k small "$2" && exec "$3" -c "$4" "$2"'

#: What every script begins with: ``disk`` is the directory, ``fill(kib)`` leaves that much room in it.
_HEAD = """
import os, sys
disk = sys.argv[1]
ballast = os.path.join(disk, "ballast")

def empty():
    if os.path.exists(ballast):
        os.unlink(ballast)

def fill(kib):
    empty()
    room = os.statvfs(disk)
    free = room.f_bavail * room.f_frsize - kib * 1024
    with open(ballast, "wb") as stream:
        stream.write(bytes(max(free, 0)))
"""


def run_on_small_disk(directory: Path, kib: int, script: str) -> None:
    """Run ``script`` with a file system of ``kib`` KiB mounted on ``directory``, for it alone.

    Skips the test where this system lets nobody mount one.
    """
    if shutil.which("unshare") is None or sys.platform != "linux":
        pytest.skip("no unshare here")
    own = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*own, "mount", "-t", "tmpfs", "small", directory], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    done = subprocess.run(
        [*own, "sh", "-c", _MOUNTED, "sh", str(kib), directory, sys.executable, _HEAD + script],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
