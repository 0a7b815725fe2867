"""Who a database is: witnesses, copies that are adopted, and what lies in the ZODB."""

import io
import pickle
import shutil
from contextlib import closing, contextmanager

import pytest
import ZODB
from support.sync_world import image_of
from ZODB.FileStorage import FileStorage

from livesync import SyncManager
from livesync.cli.main import main
from livesync.errors import DatabaseError
from livesync.replication import Operation, ZODBDataStore, ZODBSyncProvider
from livesync.replication.identity import Witness, check_witness


@pytest.fixture
def witness(tmp_path):
    return Witness(tmp_path / "Data.fs.livesync-peer", place="here")


def write(provider, item_id, payload):
    provider.commit_item_change(Operation.UPDATE, "thing", item_id, payload, "F1")


def test_a_new_database_agrees_and_goes_on_agreeing(new_provider, witness, tools):
    a, b = new_provider("a"), new_provider("b")
    assert not check_witness(a.node, witness)
    write(a, "1", "1")
    tools.sync(a, b)
    witness.write(a.node)
    write(a, "2", "2")

    assert not check_witness(a.node, witness)
    assert a.provider_id == "a"


def test_one_that_was_restored_notices_before_it_writes_anything(new_provider, witness, tools, clock):
    a, b = new_provider("a"), new_provider("b")
    write(a, "1", '"old"')
    tools.sync(a, b)
    witness.write(a.node)
    image = image_of(a.data_store)
    write(a, "1", '"lost"')
    tools.sync(a, b)
    witness.write(a.node)

    restored = new_provider("a", image)
    assert check_witness(restored.node, witness)
    clock.now += 10
    write(restored, "1", '"of the restored one"')
    tools.sync(restored, b)

    # not even what both changed is lost in silence
    assert restored.provider_id != "a"
    assert tools.contents(restored) == tools.contents(b)
    logs = [*restored.conflict_logs(), *b.conflict_logs()]
    assert [log.item_change_loser.serialization_result.serialized_item for log in logs] == ['"lost"']
    assert not check_witness(restored.node, witness)


def test_a_copy_without_its_witness_or_at_another_place_takes_a_new_id(
    new_provider, witness, tools, tmp_path
):
    a, b = new_provider("a"), new_provider("b")
    write(a, "1", "1")
    tools.sync(a, b)
    witness.write(a.node)
    image = image_of(a.data_store)

    alone, elsewhere = new_provider("a", image), new_provider("a", image)
    assert check_witness(alone.node, Witness(tmp_path / "missing", place="here"))
    assert check_witness(elsewhere.node, Witness(witness.path, place="there"))
    assert len({a.provider_id, alone.provider_id, elsewhere.provider_id}) == 3


@pytest.mark.parametrize("content", ["", "[]", "{", '{"provider": 5}', "\udcff"])
def test_a_witness_that_makes_no_sense_is_none(new_provider, witness, tools, content):
    a, b = new_provider("a"), new_provider("b")
    write(a, "1", "1")
    tools.sync(a, b)
    witness.path.write_bytes(content.encode("utf-8", "surrogateescape"))

    assert check_witness(a.node, witness)


def test_a_copy_that_is_adopted_takes_a_new_id_and_keeps_what_it_claims(tmp_path, no_fsync, capsys):
    original, copied = tmp_path / "one.fs", tmp_path / "copy.fs"
    assert main(["--db", f"file://{original}", "install"]) == 0
    db = ZODB.DB(FileStorage(str(original)))
    provider = ZODBSyncProvider("one", ZODBDataStore(db))
    write(provider, "1", "1")
    claims = provider.get_claims()
    db.close()
    shutil.copyfile(original, copied)
    assert main(["--db", f"file://{copied}", "adopt", "--site", "staging"]) == 0

    db = ZODB.DB(FileStorage(str(copied)))
    adopted = ZODBSyncProvider(None, ZODBDataStore(db))
    assert adopted.provider_id != "one"
    assert adopted.get_claims() == claims
    assert adopted.data_store.read(lambda: adopted.data_store.past) == ("one",)
    db.close()


def test_nothing_of_it_stays_when_livesync_is_removed(tmp_path, no_fsync):
    path = tmp_path / "one.fs"
    assert main(["--db", f"file://{path}", "install"]) == 0
    db = ZODB.DB(FileStorage(str(path)))
    ZODBSyncProvider("one", ZODBDataStore(db))
    db.close()
    assert main(["--db", f"file://{path}", "destroy", "--yes"]) == 0

    db = ZODB.DB(FileStorage(str(path)))
    with db.transaction() as connection:
        assert [key for key in connection.root() if key.startswith("livesync")] == []
    db.close()


ALLOWED = (
    "BTrees.",
    "persistent.mapping",
    "livesync.replication.stored StoredReplica",
    "livesync.replication.layers LayeredTree",
    "livesync.replication.pages ",
    "livesync.replication.pagetrees PageTree",
    "livesync.replication.ranges Ranges",
    "livesync.replication.sieve ",
    "livesync.track.",
)


def test_in_the_database_lie_only_trees_plain_values_and_a_few_classes(file_db, tmp_path, tools):
    with file_db.transaction() as connection:
        SyncManager.install(connection.root())
    other = ZODB.DB(FileStorage(str(tmp_path / "other.fs")))
    one = ZODBSyncProvider("one", ZODBDataStore(file_db))
    two = ZODBSyncProvider("two", ZODBDataStore(other))
    for provider in (one, two):
        for number in range(50):
            write(provider, f"i{number}", f'"{provider.provider_id}"')
    tools.sync(one, two)
    one.erase("i1")
    other.close()

    found = set()

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            found.add(f"{module} {name}")
            return super().find_class(module, name)

        def persistent_load(self, reference):
            return reference

    with closing(file_db.storage.iterator()) as transactions:
        for record in (record for transaction in transactions for record in transaction):
            unpickler = Unpickler(io.BytesIO(record.data))
            unpickler.load()  # the class
            unpickler.load()  # the state
    unexpected = {name for name in found if not name.startswith(ALLOWED)}
    assert unexpected <= {"livesync.manager SyncManager", "copyreg _reconstructor", "builtins object"}


@contextmanager
def opened(path, name=None):
    """A provider of a database file, as any process makes one that opens it."""
    with closing(ZODB.DB(FileStorage(str(path)))) as db:
        yield ZODBSyncProvider(name, ZODBDataStore(db))


@pytest.fixture
def files(tmp_path, no_fsync, tools):
    """Two directories with a database file each that have been synced."""
    paths = [tmp_path / name / "Data.fs" for name in ("office", "boat")]
    for path in paths:
        path.parent.mkdir()
    with opened(paths[0], "office") as office, opened(paths[1], "boat") as boat:
        write(office, "1", '"first"')
        tools.sync(office, boat)
    return paths


def test_a_database_file_that_was_restored_notices_when_it_is_opened(files, tmp_path, tools, caplog):
    path, boat_path = files
    shutil.copyfile(path, tmp_path / "backup.fs")
    with opened(path) as office, opened(boat_path) as boat:
        write(office, "1", '"lost"')
        tools.sync(office, boat)
    for left in (path, path.with_name("Data.fs.index")):
        left.unlink()
    shutil.copyfile(tmp_path / "backup.fs", path)

    with opened(path) as restored, opened(boat_path) as boat:
        assert restored.provider_id != "office"
        assert "this database was restored or copied: provider office is now" in caplog.text
        write(restored, "1", '"of the restored one"')
        tools.sync(restored, boat)
        assert tools.contents(restored) == tools.contents(boat)
        logs = [*restored.conflict_logs(), *boat.conflict_logs()]
        # what was changed in the lost time and again afterwards is lost in no silence
        assert [log.item_change_loser.serialization_result.serialized_item for log in logs] == ['"lost"']
        known = restored.provider_id
    with opened(path) as again:
        assert again.provider_id == known


@pytest.mark.parametrize("with_witness", [True, False], ids=["whole directory", "file alone"])
def test_a_database_file_that_was_copied_notices_and_the_original_does_not(files, tmp_path, with_witness):
    path, _ = files
    copy = tmp_path / "copy" / "Data.fs"
    if with_witness:
        shutil.copytree(path.parent, copy.parent)
    else:
        copy.parent.mkdir()
        shutil.copyfile(path, copy)

    with opened(copy) as copied, opened(path) as original:
        assert original.provider_id == "office"
        assert copied.provider_id != "office"
        assert copied.get_claims() == original.get_claims()


def test_a_database_file_that_is_packed_moved_or_written_by_a_crashed_process_stays_who_it_is(
    files, tmp_path, tools
):
    path, boat_path = files
    with opened(path) as office, opened(boat_path) as boat:
        write(office, "2", '"second"')
        tools.sync(office, boat)
        office.data_store.db.pack()
        write(office, "3", '"never told"')
    path.parent.rename(tmp_path / "elsewhere")

    with opened(tmp_path / "elsewhere" / "Data.fs") as office:
        assert office.provider_id == "office"


def test_a_new_database_where_another_one_was_keeps_its_name(files):
    path, _ = files
    for file in path.parent.iterdir():
        if not file.name.endswith(".livesync-peer"):
            file.unlink()

    with opened(path, "new") as new:
        assert new.provider_id == "new"


def test_a_witness_that_cannot_be_written_is_one_clear_line(files, tmp_path):
    path, _ = files
    path.with_name("Data.fs.livesync-peer").unlink()
    path.with_name("Data.fs.livesync-peer.new").mkdir()

    with pytest.raises(
        DatabaseError, match="how far two-way sync has come, cannot be written: Is a directory"
    ):
        opened(path).__enter__()
