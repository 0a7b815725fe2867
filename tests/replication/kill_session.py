"""A process that syncs two database files both ways, and is killed after so many commits.

kill_session.py ONE TWO COMMITS AT_ONCE: after COMMITS commits (0: never) it kills itself, as ``kill -9``
does, just before the next one's data are complete or just after they are, in turn. AT_ONCE items are applied
in one transaction.
"""

import os
import signal
import sys

import ZODB
from ZODB.FileStorage import FileStorage

from livesync.replication import (
    SyncLock,
    SyncOrchestrator,
    SyncSessionStatus,
    ZODBDataStore,
    ZODBSyncProvider,
)


def main(one, two, commits, at_once):
    left = [commits]

    class Storage(FileStorage):
        def tpc_finish(self, *arguments):
            left[0] -= 1
            if left[0] == 0 and commits % 2:
                os.kill(os.getpid(), signal.SIGKILL)
            result = super().tpc_finish(*arguments)
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

    databases = [ZODB.DB(Storage(path)) for path in (one, two)]
    providers = [
        ZODBSyncProvider(None, ZODBDataStore(db), max_num=7, applied_at_once=at_once) for db in databases
    ]
    sessions = SyncOrchestrator(SyncLock(), providers, 600).run()
    assert all(session.status is SyncSessionStatus.FINISHED for session in sessions), sessions
    for db in databases:
        db.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
