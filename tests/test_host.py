"""The host's contract: its defaults, and how one is found."""

import io
from contextlib import contextmanager

import pytest

from livesync import File, Host
from livesync.errors import HostNotFound, ReadOnlyHost
from livesync.host import content_digest, load_host


class PlainHost(Host):
    """Objects are texts, each its own id."""

    things = ("a", "a/b", "c")

    @contextmanager
    def at(self, connection):
        yield self

    def object_id(self, obj):
        return obj

    def get(self, object_id):
        return object_id if object_id in self.things else None

    def iter_objects(self, after=None):
        return (thing for thing in self.things if after is None or thing > after)

    def contents(self, obj):
        return (thing for thing in self.things if thing.startswith(f"{obj}/"))

    def is_excluded(self, obj, audience="public"):
        return False

    def document(self, obj, audience="public"):
        return {"id": obj}


def make_host():
    return PlainHost()


def make_nothing():
    return object()


def make_trouble():
    raise RuntimeError("no database yet")


NO_FACTORY = 3


def test_what_is_not_written_has_defaults():
    host = PlainHost()

    assert host.former_id("a", None, "x") is None
    assert list(host.files("a")) == []
    assert host.label("a") == "a"
    assert list(host.iter_ids()) == ["a", "a/b", "c"]
    assert list(host.iter_ids("a")) == ["a/b", "c"]
    assert not host.is_never_synced("a")
    assert list(host.stored_parts("a")) == ["a"]


def test_inside_a_moved_object_ids_are_taken_to_be_paths():
    host = PlainHost()

    assert host.former_id_inside("a/b", "a", "old") == "old/b"
    assert host.former_id_inside("c", "a", "old") is None


def test_a_host_is_read_only_unless_it_says_otherwise():
    with pytest.raises(ReadOnlyHost):
        PlainHost().restore("a", None)


def test_a_host_that_lacks_a_method_cannot_be_made():
    class Half(Host):
        def get(self, object_id):
            return None

    with pytest.raises(TypeError, match="abstract"):
        Half()


def test_a_file_tells_what_it_holds():
    content = b"content"
    file = File("a.txt", "text/plain", len(content), content_digest(content), lambda: io.BytesIO(content))

    assert file.open().read() == content
    assert len(file.digest) == 32
    assert content_digest(b"") != file.digest


def test_a_host_is_found_by_its_entry_point():
    assert isinstance(load_host("demo"), Host)
    assert isinstance(load_host("demo-paths"), Host)


def test_a_host_is_found_by_module_and_factory():
    assert type(load_host(f"{__name__}:make_host")).__name__ == "PlainHost"
    assert type(load_host(f"{__name__}:PlainHost")).__name__ == "PlainHost"


@pytest.mark.parametrize(
    "name",
    [
        "nothing",
        "",
        "no.such.module:factory",
        "{here}:missing",
        "{here}:NO_FACTORY",
        "{here}:make_nothing",
        ":",
    ],
)
def test_what_makes_no_host_is_not_found(name):
    with pytest.raises(HostNotFound) as caught:
        load_host(name.format(here=__name__))
    assert "\n" not in str(caught.value)


def test_a_factory_that_raises_is_named_with_its_reason():
    with pytest.raises(HostNotFound, match="no database yet"):
        load_host(f"{__name__}:make_trouble")
