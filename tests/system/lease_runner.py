"""Child process: runs an agent, as one of several runners.

Arguments: the URI of a database, and what to do:

``freeze N``: one run whose lease lasts a second; before its N-th batch is sent it prints a line and waits for
one on its standard input, so that somebody can stop the process in between;
``take``: tries until it holds the agent, then runs it until nothing is left;
``race N``: N runs, one after the other.

Prints JSON in the end: what the runs came to, and the name of the exception that ended the last.
"""

import machine  # isort: skip
import json
import sys
import time

import transaction
from syshost import NodeHost

from livesync.database import open_database
from livesync.destinations.http import HTTPUploader
from livesync.destinations.sqlite import SQLiteUploader
from livesync.errors import Leased, LiveSyncError, RetryLater
from livesync.leases import LEASE_S
from livesync.manager import SyncManager

assert machine  # whose process this is

#: Seconds that the lease of one that will be stopped lasts: what a test waits for it to be overtaken.
SHORT_S = 1.0


def wait_before(number):
    """Let the uploaders say a line and wait for one before they send their batch of this number."""
    seen = []

    def wrap(upload):
        def wrapped(self, batch):
            seen.append(None)
            if len(seen) == number:
                print("sending", flush=True)
                sys.stdin.readline()
            return upload(self, batch)

        return wrapped

    for uploader in SQLiteUploader, HTTPUploader:
        uploader._upload_batch = wrap(uploader._upload_batch)


class Runs:
    """What several runs came to."""

    def __init__(self, manager, lease_s=LEASE_S):
        self.manager = manager
        self.lease_s = lease_s
        self.host = NodeHost()
        self.counts = {"runs": 0, "read": 0, "leased": 0, "not now": 0}
        self.error = ""

    def run(self):
        """Run once; tell whether there was anything to do."""
        try:
            agent = self.manager.get_agent("a")
            result = agent.run(self.manager, self.host, lease_s=self.lease_s)
        except Leased:
            self.counts["leased"] += 1
            if self.counts["leased"] == 1:
                print("leased", flush=True)
            return True
        except RetryLater as exc:
            self.counts["not now"] += 1
            print(f"not now: {exc}", flush=True)
            return True
        self.counts["runs"] += 1
        self.counts["read"] += result.read
        return result.read > 0


def main(uri, what, number=""):
    db = open_database(uri)
    transactions = transaction.TransactionManager()
    runs = Runs(SyncManager.get(db.open(transactions).root()), SHORT_S if what == "freeze" else LEASE_S)
    transactions.abort()
    try:
        if what == "freeze":
            wait_before(int(number))
            runs.run()
        elif what == "race":
            for _ in range(int(number)):
                runs.run()
        else:
            while runs.run():
                time.sleep(0.02)
    except LiveSyncError as exc:
        runs.error = type(exc).__name__
    print(json.dumps({**runs.counts, "error": runs.error}), flush=True)
    db.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
