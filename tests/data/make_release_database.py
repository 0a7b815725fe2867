"""Make the small database of a release that a test opens ever after.

Run once for each release, with that release installed: ``python tests/data/make_release_database.py``.
It writes ``release-VERSION.fs`` beside itself, and refuses to replace one.
"""

import sys
from pathlib import Path

import transaction
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage

import livesync
from livesync import ActionWrapper, SyncAgent, SyncManager
from livesync.agent import load_agent_type
from livesync.track.packed import pack_changes
from livesync.track.stored import InboxPage

URL = "https://search.example/records"
CHANGED = frozenset({"data_changed"})


def make(path: Path) -> None:
    """Fill a new database with a bit of everything that livesync stores."""
    db = DB(FileStorage(str(path)))
    with db.transaction() as connection:
        manager = SyncManager.install(connection.root(), granularity=10, site="museum")
        manager.register_agent(load_agent_type("http")("hook", "A hook", "for the test of old data", url=URL))
        manager.register_agent(SyncAgent("reader", audience="staff"))
        manager.add(1_000_000_000, ActionWrapper(1_000_000_000, "old-1", {"created"}, "ada", "the first"))
        manager.add(1_000_000_010, ActionWrapper(1_000_000_010, "old\n2", {"moved", "set_private"}))
        manager.track.prepare_entry(100_000_002)
        manager.track.seal(100_000_002)
        manager.activate("hook", from_start=True)
        manager.activate("reader")
        manager.advance("hook", 100_000_000)
        manager.pause("reader")
        manager.set_interval("hook", 60)
        manager.stored("hook").dead["old-9"] = {
            "reason": "no title", "op": "upsert", "position": 100_000_000, "time": 1e9, "attempts": 1,
        }  # fmt: skip
    with db.transaction() as connection:
        SyncManager.get(connection.root()).record(
            [ActionWrapper(0, "collected", {"created"}, "bob", "a note")]
        )
    with db.transaction() as connection:
        assert SyncManager.get(connection.root()).collect(1_000_000_030) == 1
    with db.transaction() as connection:
        SyncManager.get(connection.root()).record([ActionWrapper(0, "waiting-1", {"deleted"})])
    with db.transaction() as connection:
        pages = [InboxPage(pack_changes([(f"paged-{number}", CHANGED)])) for number in range(2)]
        for page in pages:
            connection.add(page)
        SyncManager.get(connection.root()).record_pages(pages, "", "on pages")
    with db.transaction() as connection:
        SyncManager.get(connection.root()).record([ActionWrapper(0, "waiting-2", {"acl_changed"})])
    undoing = transaction.TransactionManager()
    undoing.begin()
    db.undo(db.undoInfo(0, -3)[1]["id"], undoing.get())  # what lies on pages
    undoing.commit()
    db.close()


if __name__ == "__main__":
    target = Path(__file__).parent / f"release-{livesync.__version__}.fs"
    if target.exists():
        sys.exit(f"{target.name} is there already: what a release has written is never made anew")
    make(target)
    for rest in target.parent.glob(f"{target.name}.*"):
        rest.unlink()
