"""Run by Plone's Python: answers what stands in a database that a running Zope has open.

One JSON line in, one out. ``{"what": …, "db": URI}``: ``documents`` as the host makes them, ``files``, or all
``actions`` on the track and in the inbox, oldest first. Each answer comes from the database as it is then.
"""

import json
import sys

import transaction

from livesync.database import open_database
from livesync.delivery.record import encode_document
from livesync.errors import LiveSyncError
from livesync.host import load_host
from livesync.manager import SyncManager
from livesync.track import inbox


def documents(host, connection, audience):
    with host.at(connection) as at:
        return {
            at.object_id(obj): encode_document(at.document(obj, audience)).decode()
            for obj in at.iter_objects()
            if not at.is_excluded(obj, audience)
        }


def actions(manager):
    waiting = [action for commit in inbox.waiting(manager._inbox) for action in commit.actions]
    told = [action for _, action in manager.track.iterate()] + waiting
    return [[action.object_id, sorted(action.actions)] for action in told]


def files(host, connection, audience):
    with host.at(connection) as at:
        return {
            at.object_id(obj): [
                [file.name, file.media_type, file.size, file.digest, len(file.open().read())]
                for file in at.files(obj, audience)
            ]
            for obj in at.iter_objects()
            if not at.is_excluded(obj, audience)
        }


def answer(asked):
    host = load_host(asked.get("host", "plone"))
    db = open_database(asked["db"], read_only=True)
    manager = transaction.TransactionManager(explicit=True)
    manager.begin()
    connection = db.open(manager)
    try:
        if asked["what"] == "actions":
            return actions(SyncManager.get(connection.root()))
        function = {"documents": documents, "files": files}[asked["what"]]
        return function(host, connection, asked.get("audience", "public"))
    except LiveSyncError as exc:
        return {"error": f"{type(exc).__name__}: {exc}"}
    finally:
        manager.abort()
        connection.close()
        db.close()


def main():
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
