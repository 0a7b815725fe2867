"""Child process: make a container of many nodes, deliver it, remove it in one transaction, deliver that.

Prints how many documents are left, and the peak memory (KiB) before the removal and at the end.
"""

import sys
from pathlib import Path

from syshost import Site, peak_kb, rows_of_sqlite

from livesync.destinations.sqlite import SQLiteAgent


def main(directory, count):
    site = Site(directory / "Data.fs")
    site.add_agent(SQLiteAgent("index", path=str(directory / "index.sqlite")))
    with site.change() as store:
        store.add(None, "beside", "Beside")
        many = store.add(None, "many", "Many")
    for begin in range(0, count, 5000):
        with site.change() as store:
            many = store.top.children["many"]
            for number in range(begin, min(begin + 5000, count)):
                store.add(many, f"n{number:06}", f"Number {number}")
        site.connection.cacheMinimize()
    site.run("index")
    assert len(rows_of_sqlite(directory / "index.sqlite")) == count + 2
    before = peak_kb()
    with site.change() as store:
        store.remove(store.top.children["many"])
    site.connection.cacheMinimize()
    result = site.run("index")
    assert result.read == count + 1, result
    print(len(rows_of_sqlite(directory / "index.sqlite")), before, peak_kb())
    site.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
