"""Child process: an application that has its FileStorage open, with livesync's runner in a thread.

Arguments: the database's file; then words: ``off``: no runner; ``hang``: documents take for ever to render.
It says ``ready``, then obeys the lines of its standard input: ``put ID…``, ``quit``, ``die``.
"""

import os
import sys
import threading
import time

import ZODB
from ZODB.FileStorage import FileStorage

from livesync.cli.hosting import HostRunner

from .runners import Place, Shelf, ThingsHost


class SlowHost(ThingsHost):
    """Takes a moment for each document."""

    def __init__(self, things=None, opened=None):
        super().__init__(things, opened)

    def at(self, connection):
        return _slow(connection)


class _SlowShelf(Shelf):
    def document(self, obj, audience="public"):
        time.sleep(0.5)
        return super().document(obj, audience)


class _slow:  # noqa: N801 - a context manager
    def __init__(self, connection):
        self.connection = connection

    def __enter__(self):
        return _SlowShelf(self.connection.root()["things"])

    def __exit__(self, *exc):
        return None


def main(path, *words):
    db = ZODB.DB(FileStorage(path))
    place = Place.__new__(Place)
    place.db, place.host = db, SlowHost() if "slow" in words else ThingsHost()
    from livesync.capture import Capture

    place.capture = Capture(place.host)
    runner = HostRunner(db, place.host)
    if "off" not in words:
        runner.start()
    print("ready", flush=True)
    for line in sys.stdin:
        command, *ids = line.split()
        if command == "put":
            place.put(*ids)
            print("done", flush=True)
        elif command == "die":
            os._exit(1)
        else:
            break
    runner.stop(20)
    db.close()
    assert threading.active_count() < 10


if __name__ == "__main__":
    main(*sys.argv[1:])
