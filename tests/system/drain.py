"""Child process: a backlog of so many actions on so many objects, drained into an SQLite file.

The backlog is made in a process of its own (forked), so that the peak is the run's. Prints JSON.
"""

import json
import os
import sys
from pathlib import Path

from syshost import Site, peak_kb, rows_of_sqlite

from livesync.destinations.sqlite import SQLiteAgent

#: Actions of one transaction.
AT_ONCE = 5_000


def prepare(directory, actions, objects):
    """Make the objects unrecorded, and then record actions on them, each object as often as any other."""
    site = Site(directory / "Data.fs")
    site.add_agent(SQLiteAgent("index", path=str(directory / "index.sqlite")))
    for begin in range(0, objects, AT_ONCE):
        with site.change() as store:
            for number in range(begin, min(begin + AT_ONCE, objects)):
                store.add(None, f"n{number:06}", f"Number {number} " + "x" * 200, announce=False)
        site.connection.cacheMinimize()
    with site.looking():
        ids = list(site.store.by_uid.keys())
    for begin in range(0, actions, AT_ONCE):
        # Ids that are all different, as one transaction has an object once at most.
        for part in range(begin, min(begin + AT_ONCE, actions), objects):
            with site.change():
                for number in range(part, min(part + objects, begin + AT_ONCE, actions)):
                    site.capture.record(ids[number % objects], "data_changed", connection=site.connection)
    site.close()


def main(directory, actions, objects):
    pid = os.fork()
    if pid == 0:
        prepare(directory, actions, objects)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    site = Site(directory / "Data.fs")
    result = site.run("index")
    peak = peak_kb()
    site.close()
    documents = len(rows_of_sqlite(directory / "index.sqlite"))
    print(json.dumps({"read": result.read, "documents": documents, "peak_kb": peak, "s": result.seconds}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
