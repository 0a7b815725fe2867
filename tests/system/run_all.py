"""A runner of one machine: runs every active agent, again and again, until standard input ends.

As a script: the URI of a database, and the host. In the end it runs them once more, and prints what all its
runs came to.
"""

import machine  # isort: skip
import json
import select
import sys
import time
from collections import Counter

from livesync import conflicts
from livesync.database import open_database
from livesync.host import load_host
from livesync.tasks import LiveSyncUpdateTask

assert machine

#: Between two rounds; seconds.
PAUSE_S = 0.05


def main(uri, host):
    db = open_database(uri)
    task = LiveSyncUpdateTask(db, load_host(host), only_due=False)
    counts, errors = Counter(), Counter()
    print("ready", flush=True)
    over = False
    while True:
        for outcome in task.run(time.time()):
            if outcome.error is not None:
                errors[type(outcome.error).__name__] += 1
            elif outcome.result is None:
                counts["held"] += 1
            else:
                counts["runs"] += 1
                counts["read"] += outcome.result.read
        if over:
            break
        over = bool(select.select([sys.stdin], [], [], PAUSE_S)[0])
    db.close()
    print(json.dumps({**counts, "errors": errors, "conflicts": conflicts.counts()["host"]}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
