"""A process that makes versions, branches and merges in a database file, and is killed in the middle of one.

kill_versions.py PATH CALL: at the CALL-th call of a two-phase commit (its beginning, each object that is
stored, the vote, the end) it kills itself, as ``kill -9`` does; 0: never. What is done is the same each time,
and goes on from what is there.
"""

import os
import signal
import sys

import transaction
import ZODB
from ZODB.FileStorage import FileStorage

from livesync.versions import VersionedCollection

#: The number of the last version of the first branch, which is the merge.
VERSIONS = 6


def main(path, call):
    left = [call]

    def at(name):
        def called(self, *arguments, **named):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return getattr(FileStorage, name)(self, *arguments, **named)

        return called

    steps = ("tpc_begin", "store", "tpc_vote", "tpc_finish")
    storage = type("Storage", (FileStorage,), {name: at(name) for name in steps})
    db = ZODB.DB(storage(path))
    manager = transaction.TransactionManager()
    connection = db.open(transaction_manager=manager)
    docs = VersionedCollection(connection, "docs")
    work(docs, manager.commit)
    connection.close()
    db.close()


def work(docs, commit):
    """Go on with the work, from wherever it is, until all of it is done."""
    if not docs.is_tracked:
        docs.documents.update({f"d{number}": {"n": 0} for number in range(10)})
        docs.init()
        commit()
    while docs.branch == "main" and docs.version < VERSIONS - 2:
        docs.documents["d1"] = {"n": docs.version + 1}
        docs.documents[f"new{docs.version}"] = {"n": 1}
        docs.register(f"version {docs.version + 1}")
        commit()
    if "side" not in docs.branches():
        docs.create_branch("side")
        docs.documents["d2"] = {"n": "side"}
        docs.register("side")
        commit()
    if docs.names.branch("main").total == VERSIONS - 1:
        docs.checkout(branch="main")
        commit()
        docs.documents["d3"] = {"n": "main"}
        docs.register("before the merge")
        docs.merge("side")
        commit()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
