"""Eight writers that change their own parts of the store until standard input ends.

As a script: the URI of a database, a seed. In the end it prints how many commits there were and
how many conflicts livesync's objects caused.
"""

import json
import random
import sys
import threading

import transaction
from syshost import Node, NodeHost
from ZODB.POSException import ConflictError
from zope.event import notify
from zope.lifecycleevent import ObjectAddedEvent

from livesync import conflicts
from livesync.capture import Capture
from livesync.database import open_database

WRITERS = 8


class Writer(threading.Thread):
    """Adds, edits, moves, hides and removes below a node of its own; what conflicts is tried again."""

    def __init__(self, db, number, seed, over):
        super().__init__()
        self._db = db
        self._number = number
        self._dice = random.Random(f"{seed} {number}")
        self._over = over
        self._made = 0
        self.commits = 0
        self.error = None

    def run(self):
        manager = transaction.TransactionManager(explicit=True)
        connection = self._db.open(manager)
        try:
            while not self._over.wait(self._dice.random() * 0.02):
                self._change(manager, connection)
        except BaseException as exc:
            self.error = repr(exc)
            raise
        finally:
            connection.close()

    def _change(self, manager, connection):
        while True:
            manager.begin()
            try:
                self._do_something(connection.root()["store"])
                manager.commit()
                self.commits += 1
                return
            except ConflictError:
                manager.abort()  # the application's own: trees of the store

    def _do_something(self, store):
        mine = store.top.children[f"w{self._number}"]
        names = list(mine.children)
        what = self._dice.random()
        if what < 0.4 or not names:
            self._add(store, self._dice.choice([mine, *mine.children.values()]))
            return
        node = mine.children[self._dice.choice(names)]
        if what < 0.7:
            store.edit(node, f"edit {self._dice.random()}")
        elif what < 0.8:
            store.remove(node)
        elif what < 0.9:
            store.move(node, mine, f"moved-{self._number}-{self.commits}-{self._dice.random()}")
        else:
            store.set_private(node, not node.private)

    def _add(self, store, parent):
        self._made += 1
        node = Node(f"w{self._number}-{self._made:06}-{self._dice.random()}", "new")
        node.__parent__, node.__name__ = parent, node.uid
        parent.children[node.__name__] = node
        store.by_uid[node.uid] = node
        notify(ObjectAddedEvent(node, parent, node.__name__))


def main(uri, seed):
    db = open_database(f"{uri}&connection_pool_size=20")
    capture = Capture(NodeHost()).install(db)
    over = threading.Event()
    writers = [Writer(db, number, seed, over) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    print("ready", flush=True)
    sys.stdin.read()
    over.set()
    for writer in writers:
        writer.join()
    capture.uninstall()
    db.close()
    told = {
        "commits": sum(writer.commits for writer in writers),
        "errors": [writer.error for writer in writers if writer.error],
        "conflicts": conflicts.counts()["host"],
    }
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
