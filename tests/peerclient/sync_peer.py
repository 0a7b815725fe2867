"""A client in a process of its own, which syncs a database file with a peer and kills itself on the way.

sync_peer.py DATABASE KEYS URL COMMITS: after COMMITS commits (0: never) it kills itself, as ``kill -9`` does,
just before the next one's data are complete or just after they are, in turn. It prints what came of the sync.
"""

import os
import signal
import sys

import ZODB
from ZODB.FileStorage import FileStorage

from livesync.peering.keyring import KeyRing
from livesync.peering.peers import Peer
from livesync.peering.trust import TrustStore
from livesync.replication import ZODBDataStore, ZODBSyncProvider
from livesync.replication.network.syncing import PeerSync


def main(path, keys, url, commits):
    left = [0]

    class Storage(FileStorage):
        def tpc_finish(self, *arguments):
            left[0] -= 1
            if left[0] == 0 and commits % 2:
                os.kill(os.getpid(), signal.SIGKILL)
            result = super().tpc_finish(*arguments)
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

    db = ZODB.DB(Storage(path))
    provider = ZODBSyncProvider(None, ZODBDataStore(db), applied_at_once=12)
    left[0] = commits
    # pushes and pulls small buffers, so that there are many commits
    sync = PeerSync(provider, TrustStore(db), KeyRing(keys))
    connection = sync.connection

    def small(peer):
        made = connection(peer)
        made.chunk_size = 4
        return made

    object.__setattr__(sync, "connection", small)
    outcome = sync.run(Peer("server", url, "notes", insecure_http=True))
    print(outcome.pulled, outcome.pushed)
    db.close()


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]))
