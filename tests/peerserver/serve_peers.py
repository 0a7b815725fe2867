"""A peers' server in a process of its own, which kills itself after so many commits.

python -m peerserver.serve_peers DATABASE KEYS COMMITS AT_ONCE CHUNK_BYTES: serves on a free port, which it
prints, the database file whose private keys lie in KEYS. At the commit of the number COMMITS (0: never) it
kills itself, as ``support/killing.py`` says. AT_ONCE items are applied together; a chunk of a history has
about CHUNK_BYTES.
"""

import sys
import warnings

import ZODB
from support.killing import Fuse

warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)

from waitress.server import create_server  # noqa: E402

from livesync.peering.keyring import KeyRing  # noqa: E402
from livesync.peerserver.app import PeerApp, make_app  # noqa: E402
from livesync.peerserver.gate import Gate  # noqa: E402
from livesync.replication import ZODBDataStore, ZODBSyncProvider  # noqa: E402


def main(path, keys, commits, at_once, chunk_bytes=1_000_000):
    fuse = Fuse(commits, is_lit=False)
    db = ZODB.DB(fuse.storage(path))
    provider = ZODBSyncProvider(None, ZODBDataStore(db), applied_at_once=at_once)
    gate = Gate(provider.data_store, KeyRing(keys), provider.node.clock)
    server = create_server(
        make_app(PeerApp(provider, gate, chunk_bytes=chunk_bytes)), host="127.0.0.1", port=0, ident=None
    )
    fuse.light()
    print(server.effective_port, flush=True)
    server.run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
