"""A client that exchanges a history in a process of its own, and kills itself after so many steps.

exchange_history.py DIRECTION DATABASE KEYS URL STEPS: pushes or pulls the collection ``docs`` of a database
file with the server at URL. After STEPS commits and chunks (0: never) it kills itself, as ``kill -9`` does;
of a commit just before its data are complete or just after they are, in turn.
"""

import os
import signal
import sys

import transaction
import ZODB
from ZODB.FileStorage import FileStorage

from livesync.peering.keyring import KeyRing
from livesync.peering.peers import Peer
from livesync.versions import VersionedCollection
from livesync.versions.remotes.network import NetworkEnd


def main(direction, path, keys, url, steps):
    left = [steps]

    def step(*_):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    class Storage(FileStorage):
        def tpc_finish(self, *arguments):
            if steps % 2:
                step()
            result = super().tpc_finish(*arguments)
            if not steps % 2:
                step()
            return result

    db = ZODB.DB(Storage(path))
    peer = Peer("office", url, "notes", insecure_http=True)
    with NetworkEnd(db, "docs", peer, KeyRing(keys), direction, chunk_bytes=1_500, progress=step) as end:
        manager = transaction.TransactionManager()
        docs = VersionedCollection(db.open(transaction_manager=manager), "docs")
        moved = docs.push_refs(end) if direction == "push" else docs.pull_refs(end)
        print(moved[0].what, "resumed" if end.resumed else "", flush=True)
        manager.commit()
        end.forget()


if __name__ == "__main__":
    main(*sys.argv[1:5], int(sys.argv[5]))
