"""Sites of the demo's catalogue that sync one talk both ways, each with a database file of its own."""

import ZODB
from ZODB.FileStorage import FileStorage

from livesync import SyncManager
from livesync.demo.editor import Editor
from livesync.demo.host import demo_paths_host
from livesync.demo.model import ROOT_KEY
from livesync.demo.places import Place
from livesync.demo.replay import prepare
from livesync.demo.wiring import recorded
from livesync.replication import (
    HostExecutor,
    SyncLock,
    SyncOrchestrator,
    TrackReader,
    ZODBDataStore,
    ZODBSyncProvider,
)

TALK = "pycon/pycon-2020/a"


def packed(site):
    """Return the bytes of a site's file without earlier revisions."""
    with site:
        site.db.pack()
    return site.path.read_bytes()


class Site:
    """One of them; its file is open within a ``with`` block.

    Args:
        path: The file.
        name: Its provider's id.
        clock: Returns epoch seconds.
    """

    def __init__(self, path, name, clock):
        self.path, self.name, self.clock = path, name, clock

    def __enter__(self):
        self.db = ZODB.DB(FileStorage(str(self.path)))
        prepare(self.db)
        self.provider = ZODBSyncProvider(
            self.name,
            ZODBDataStore(self.db),
            changes_executor=HostExecutor(demo_paths_host()),
            reader=TrackReader(),
            clock=self.clock,
        )
        return self

    def __exit__(self, *_):
        self.db.close()

    def edit(self, title, name="a"):
        """Let the application write a talk."""
        with recorded(self.db, demo_paths_host()), self.db.transaction() as connection:
            editor = Editor(connection.root()[ROOT_KEY], lambda path: f"uid of {path}")
            editor.write(Place("pycon-2020", name), {"title": title})

    def remove(self):
        """Let the application remove the talk."""
        with recorded(self.db, demo_paths_host()), self.db.transaction() as connection:
            catalogue = connection.root()[ROOT_KEY]
            Editor(catalogue, str).erase(catalogue.at_path(TALK))

    def actions(self):
        """Return all that lies on the track, or waits for it."""
        with self.db.transaction() as connection:
            manager = SyncManager.get(connection.root())
            manager.collect()
            return [action for _, action in manager.track]

    def title(self):
        """Return what the talk is called."""
        with self.db.transaction() as connection:
            return connection.root()[ROOT_KEY].at_path(TALK).title


def two_sites(directory):
    """Return two sites, with files in a directory and one clock."""
    now = iter(range(1_900_000_000, 2_000_000_000))
    return [Site(directory / f"{name}.fs", name, lambda: next(now)) for name in ("one", "other")]


def sync(one, other):
    """Sync two sites that are open."""
    SyncOrchestrator(SyncLock(), [one.provider, other.provider], 1e9).run()
