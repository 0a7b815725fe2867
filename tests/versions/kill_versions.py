"""A process that makes versions, branches and merges in a database file, and is killed in the middle of one.

kill_versions.py PATH CALL WHAT: at the CALL-th call of a two-phase commit (its beginning, each object that is
stored, the vote, the end) it kills itself, as ``kill -9`` does; 0: never. WHAT is ``grow`` or ``tidy``, which
prunes, squashes and collects garbage. What is done is the same each time, and goes on from what is there.
"""

import os
import signal
import sys

import transaction
import ZODB
from ZODB.FileStorage import FileStorage

from livesync.versions import VersionedCollection
from livesync.versions.upkeep.retention import Policy

#: The number of the last version of the first branch, which is the merge.
VERSIONS = 6


#: Versions that are left of it, and of the first branch, once all was tidied up.
TIDY = (7, 6)


def main(path, call, what):
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
    {"grow": work, "tidy": tidy}[what](docs, manager.commit)
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


def tidy(docs, commit):
    """Go on with pruning, squashing and collecting, from wherever it is, until all of it is done."""
    if not docs.tags():
        docs.create_branch("junk")
        for number in range(3):
            docs.documents["junk"] = {"n": number}
            docs.register(f"junk {number}")
        docs.checkout(branch="main")
        docs.names.drop_branch("junk")
        docs.tag("begun")
        commit()
    while docs.prune(Policy(newest=1), most=1):
        commit()
    if docs.names.branch("main").total == VERSIONS + 1:
        docs.squash(VERSIONS - 1, VERSIONS, message="squashed")
        commit()
    while docs.collect_garbage(most=1):
        commit()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
