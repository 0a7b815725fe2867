"""A process that holds the lock of a database's sessions until somebody says a line, or ends it.

hold_lock.py URI: prints ``held`` once it has the lock.
"""

import sys

from livesync.database import open_database
from livesync.replication import DatabaseSyncLock, ZODBDataStore


def main(uri):
    db = open_database(uri)
    with DatabaseSyncLock(ZODBDataStore(db, create=False)).lock():
        print("held", flush=True)
        sys.stdin.readline()
    db.close()


if __name__ == "__main__":
    main(sys.argv[1])
