"""One of several writers that replay a history together: every so-manieth line of it.

As a script: the URI of a database, the number of the writer, how many there are, and the files. A line waits
until the earlier ones that have to do with the same series are in the database, whoever applies them; all
others are applied at once. Prints how many lines it applied, how many conflicts livesync's objects caused,
and how many the catalogue's own.
"""

import machine  # isort: skip
import json
import sys
import time
from itertools import chain
from pathlib import Path

import transaction
from ZODB.POSException import ConflictError

from livesync import conflicts
from livesync.capture import Capture
from livesync.database import open_database
from livesync.demo.history import read_history
from livesync.demo.host import demo_host
from livesync.demo.places import series_name
from livesync.demo.replay import replay

assert machine


def numbered(files):
    """Yield ``(number, line, lines to wait for)`` of all lines, in order."""
    last = {}
    for number, line in enumerate(chain.from_iterable(read_history(Path(file)) for file in files)):
        places = [place for change in line.changes for place in (change.place, change.former) if place]
        series = {series_name(place.folder) for place in places}
        yield number, line, {last[name] for name in series if name in last}
        last.update(dict.fromkeys(series, line.digest))


class Waiting:
    """Looks into the database whether lines have been applied."""

    def __init__(self, db):
        self._transactions = transaction.TransactionManager(explicit=True)
        self._transactions.begin()
        self._connection = db.open(transaction_manager=self._transactions)
        self._transactions.abort()

    def wait_for(self, digests):
        while digests:
            self._transactions.begin()
            replayed = self._connection.root()["catalogue"].replayed
            digests = {digest for digest in digests if digest not in replayed}
            self._transactions.abort()
            if digests:
                time.sleep(0.01)

    def close(self):
        self._connection.close()


def main(uri, part, parts, *files):
    db = open_database(uri)
    waiting = Waiting(db)
    applied = own = 0
    with Capture(demo_host()).attached(db):
        print("ready", flush=True)
        sys.stdin.readline()
        for number, line, earlier in numbered(files):
            if number % int(parts) != int(part):
                continue
            waiting.wait_for(earlier)
            while True:
                try:
                    applied += replay(db, [line]).applied
                    break
                except ConflictError:  # again and again over the catalogue's own trees
                    own += 1
    waiting.close()
    db.close()
    print(json.dumps({"applied": applied, "conflicts": conflicts.counts()["host"], "given up": own}))


if __name__ == "__main__":
    main(*sys.argv[1:])
