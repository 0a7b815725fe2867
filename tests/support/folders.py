"""Folders in folders, and the host of an application that only records: nothing of it is ever delivered."""

from contextlib import contextmanager

from persistent.mapping import PersistentMapping

from livesync import Host


class Folder(PersistentMapping):
    """Something with others in it by name; ``uid`` stays, its path does not."""

    __parent__ = None

    def __init__(self, uid):
        super().__init__()
        self.uid = uid


class FolderHost(Host):
    """Ids stay what they are."""

    @contextmanager
    def at(self, connection):
        yield self

    def object_id(self, obj):
        return obj.uid

    def get(self, object_id):
        return None

    def iter_objects(self, after=None):
        return iter(())

    def contents(self, obj):
        for inner in obj.values():
            yield inner
            yield from self.contents(inner)

    def is_excluded(self, obj, audience="public"):
        return False

    def document(self, obj, audience="public"):
        return {}
