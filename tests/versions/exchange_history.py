"""A client that exchanges a history in a process of its own, and kills itself after so many steps.

python -m versions.exchange_history DIRECTION DATABASE KEYS URL STEPS: pushes or pulls the collection ``docs``
of a database file with the server at URL. At the commit or chunk of the number STEPS (0: never) it kills
itself, as ``support/killing.py`` says.
"""

import sys

import transaction
import ZODB
from support.killing import Fuse

from livesync.peering.keyring import KeyRing
from livesync.peering.peers import Peer
from livesync.versions import VersionedCollection
from livesync.versions.remotes.network import NetworkEnd


def main(direction, path, keys, url, steps):
    fuse = Fuse(steps)

    def step(*_):
        fuse.step()

    db = ZODB.DB(fuse.storage(path))
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
