"""A byte of a database's file that is damaged: fsck names what cannot be loaded, and goes on."""

import random

import pytest
import transaction
import ZODB
from ZODB.FileStorage import FileIterator, FileStorage
from ZODB.POSException import POSError
from ZODB.utils import get_pickle_metadata

from livesync.cli.exitcodes import ExitCode
from livesync.cli.main import main
from livesync.errors import LiveSyncError
from livesync.versions import VersionedCollection

from .test_damage import grown

#: Bytes that are damaged, a file each.
FLIPS = 40


@pytest.fixture
def path(tmp_path, no_fsync):
    """A packed file, in which all objects are needed."""
    made = tmp_path / "whole.fs"
    db = ZODB.DB(FileStorage(str(made)))
    connection = db.open(transaction_manager=transaction.TransactionManager())

    def new_collection(documents):
        docs = VersionedCollection(connection, "docs")
        docs.documents.update(documents)
        docs.init()
        return docs

    grown(new_collection, is_tidy=True)
    connection.transaction_manager.commit()
    connection.close()
    db.pack()
    db.close()
    return made


def places_of(path):
    """Return (class, where its state begins in the file, bytes) of all objects of the history."""
    whole, found = path.read_bytes(), []
    for transaction_record in FileIterator(str(path)):
        for record in transaction_record:
            _, kind = get_pickle_metadata(record.data)
            # what leads to everything is damaged as a whole, and the working documents are not the history's
            if kind not in ("PersistentMapping", "OOBTree", "OOBucket", "NotedDocuments"):
                start = whole.index(record.data, record.pos)
                found.append((kind, start + record.data.index(b".") + 1, start + len(record.data)))
    return found


def looked_over(path):
    """Return (what fsck finds, what all versions hold), where it can be said."""
    db = ZODB.DB(FileStorage(str(path), read_only=True))
    connection = db.open(transaction_manager=transaction.TransactionManager())
    try:
        docs = VersionedCollection(connection, "docs")
        return [str(fault) for fault in docs.check()], said(docs)
    except (LiveSyncError, POSError, AttributeError) as exc:
        return [f"it cannot be opened: {type(exc).__name__}"], None
    finally:
        connection.close()
        db.close()


def said(docs):
    """Return what all versions hold; None where something cannot be read."""
    try:
        whole = [
            docs.contents.documents(key) for key in docs.stored.records if not docs.contents.is_pruned(key)
        ]
        return [repr(list(one)) for one in whole], [str(one) for one in docs.get_log()]
    except (LiveSyncError, POSError, AttributeError):
        return None


@pytest.mark.slow
def test_whatever_is_damaged_is_named_or_does_no_harm(path):
    chance = random.Random(5)
    whole, places = path.read_bytes(), places_of(path)
    faults, truth = looked_over(path)
    assert faults == []
    broken = path.with_name("broken.fs")
    named = 0
    for number in range(FLIPS):
        # each object as often as another, and each byte as often as another
        weights = [end - start for _, start, end in places] if number % 2 else None
        ((kind, start, end),) = chance.choices(places, weights)
        at = chance.randrange(start, end)
        broken.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :])
        broken.with_name("broken.fs.index").unlink(missing_ok=True)
        faults, found = looked_over(broken)
        assert faults or found == truth, (kind, at - start)
        named += bool(faults)
    assert named > FLIPS * 0.6


@pytest.mark.slow
def test_what_cannot_be_loaded_is_named_and_all_else_is_looked_at(path, capsys):
    data = bytearray(path.read_bytes())
    for broken in ("ChangeSet", "DocumentHistory"):
        end = next(end for kind, _, end in places_of(path) if kind == broken)
        data[end - 1 : end] = b"?"  # where the state ends
    path.write_bytes(data)

    code = main(["--db", f"file://{path}", "version", "fsck", "-c", "docs"])

    told = capsys.readouterr()
    assert (code, told.err) == (ExitCode.DIFFERENT, "")
    assert "version 0 of side: it cannot be loaded: StateLoadError\n" in told.out
    assert "history, document d00" in told.out
    assert told.out.splitlines()[-1].startswith("37 versions: ")
