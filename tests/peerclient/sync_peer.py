"""A client in a process of its own, which syncs a database file with a peer and kills itself on the way.

python -m peerclient.sync_peer DATABASE KEYS URL COMMITS: at the commit of the number COMMITS (0: never) it
kills itself, as ``support/killing.py`` says. It prints what came of the sync.
"""

import sys

import ZODB
from support.killing import Fuse

from livesync.peering.keyring import KeyRing
from livesync.peering.peers import Peer
from livesync.peering.trust import TrustStore
from livesync.replication import ZODBDataStore, ZODBSyncProvider
from livesync.replication.network.syncing import PeerSync


def main(path, keys, url, commits):
    fuse = Fuse(commits, is_lit=False)
    db = ZODB.DB(fuse.storage(path))
    provider = ZODBSyncProvider(None, ZODBDataStore(db), applied_at_once=12)
    fuse.light()
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
