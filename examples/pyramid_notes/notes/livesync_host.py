"""What livesync needs to know of the notebook: the one file that an application writes for it."""

from contextlib import contextmanager

from livesync import Host

from .models import Entry, Folder, Notebook


class NotesHost(Host):
    notebook = None

    @contextmanager
    def at(self, connection):
        reader = NotesHost()
        reader.notebook = connection.root().get("notebook") or Notebook()
        yield reader

    def object_id(self, entry):
        return entry.uid

    def get(self, object_id):
        return self.notebook.by_uid.get(object_id)

    def iter_objects(self, after=None):
        return iter(self.notebook.by_uid.values(min=after, excludemin=after is not None))

    def iter_ids(self, after=None):
        return iter(self.notebook.by_uid.keys(min=after, excludemin=after is not None))

    def contents(self, entry):
        return entry.everything_inside() if isinstance(entry, Folder) else iter(())

    def is_excluded(self, entry, audience="public"):
        while entry is not None:
            if entry.is_draft and audience == "public":
                return True
            entry = entry.__parent__
        return False

    def document(self, entry, audience="public"):
        return {"title": entry.title, "text": getattr(entry, "text", ""), "path": self.label(entry)}

    def is_never_synced(self, obj):
        return not isinstance(obj, Entry) or isinstance(obj, Notebook)

    def label(self, entry):
        names = []
        while entry is not None:
            names.insert(0, entry.__name__)
            entry = entry.__parent__
        return "/".join(names)
