"""A runner: exports an agent and then runs it, again and again, until it is killed.

As a script: the URI of a database, the agent's id, and ``once`` to end when nothing is left.
Slices and chunks are small, so that a kill at any time falls into the middle of something.
"""

import sys

import transaction
from syshost import NodeHost

import livesync.delivery.slices
import livesync.upkeep.export
from livesync.database import open_database
from livesync.errors import Leased, RetryLater
from livesync.manager import SyncManager
from livesync.upkeep.export import export


def step(manager, agent_id, host):
    """Do one export or one run; return how many actions are left."""
    if manager.stored(agent_id).state in ("new", "recording"):
        export(manager, agent_id, host)
    else:
        manager.get_agent(agent_id).run(manager, host)
    (status,) = (agent for agent in manager.status().agents if agent.id == agent_id)
    return status.lag_actions + status.queued


def main(uri, agent_id, once=""):
    livesync.delivery.slices.SLICE_SIZE = 30
    livesync.delivery.slices.MOST_IN_SLICE = 60
    livesync.upkeep.export.CHUNK_SIZE = 20
    db = open_database(uri)
    transactions = transaction.TransactionManager()
    connection = db.open(transactions)
    manager = SyncManager.get(connection.root())
    print("ready", flush=True)
    while True:
        try:
            left = step(manager, agent_id, NodeHost())
        except (Leased, RetryLater) as exc:
            print(exc, file=sys.stderr, flush=True)
            left = 1
        transactions.begin()
        if once and not left:
            break
    connection.close()
    db.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
