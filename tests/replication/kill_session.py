"""A process that syncs two database files both ways, and is killed after so many commits.

python -m replication.kill_session ONE TWO COMMITS AT_ONCE: at the commit of the number COMMITS (0: never) it
kills itself, as ``support/killing.py`` says. AT_ONCE items are applied in one transaction.
"""

import sys

import ZODB
from support.killing import Fuse

from livesync.replication import (
    SyncLock,
    SyncOrchestrator,
    SyncSessionStatus,
    ZODBDataStore,
    ZODBSyncProvider,
)


def main(one, two, commits, at_once):
    fuse = Fuse(commits)
    databases = [ZODB.DB(fuse.storage(path)) for path in (one, two)]
    providers = [
        ZODBSyncProvider(None, ZODBDataStore(db), max_num=7, applied_at_once=at_once) for db in databases
    ]
    sessions = SyncOrchestrator(SyncLock(), providers, 600).run()
    assert all(session.status is SyncSessionStatus.FINISHED for session in sessions), sessions
    for db in databases:
        db.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
