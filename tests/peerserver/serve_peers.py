"""A peers' server in a process of its own, which kills itself after so many commits.

serve_peers.py DATABASE KEYS COMMITS AT_ONCE CHUNK_BYTES: serves on a free port, which it prints, the database
file whose private keys lie in KEYS. After COMMITS commits (0: never) it kills itself, as ``kill -9`` does,
just before the next one's data are complete or just after they are, in turn. AT_ONCE items are applied
together; a chunk of a history has about CHUNK_BYTES.
"""

import os
import signal
import sys
import warnings

import ZODB
from ZODB.FileStorage import FileStorage

warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)

from waitress.server import create_server  # noqa: E402

from livesync.peering.keyring import KeyRing  # noqa: E402
from livesync.peerserver.app import PeerApp, make_app  # noqa: E402
from livesync.peerserver.gate import Gate  # noqa: E402
from livesync.replication import ZODBDataStore, ZODBSyncProvider  # noqa: E402


def main(path, keys, commits, at_once, chunk_bytes=1_000_000):
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
    provider = ZODBSyncProvider(None, ZODBDataStore(db), applied_at_once=at_once)
    gate = Gate(provider.data_store, KeyRing(keys), provider.node.clock)
    server = create_server(
        make_app(PeerApp(provider, gate, chunk_bytes=chunk_bytes)), host="127.0.0.1", port=0, ident=None
    )
    left[0] = commits
    print(server.effective_port, flush=True)
    server.run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
