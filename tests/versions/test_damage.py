"""A byte that is damaged anywhere in what a history keeps is found by whoever reads it."""

import random
from contextlib import closing

import pytest
import ZODB
from transaction import TransactionManager

from livesync.errors import InvalidCollectionState
from livesync.versions import VersionedCollection
from livesync.versions.diffs.threeway import ABSENT
from livesync.versions.log import log_entries
from livesync.versions.stash import applied_stash
from livesync.versions.store.contents import Contents
from livesync.versions.store.steps import Steps
from livesync.versions.upkeep.retention import Policy


def grown(new_collection, is_tidy=False):
    """A collection with a dictionary, packs, tails, segments, change sets, a stash and a merge that waits.

    A tidy one has versions that were pruned, and one that was squashed.
    """
    chance = random.Random(7)
    words = [f"word{number}" for number in range(40)]

    def text():
        return " ".join(chance.choice(words) for _ in range(30))

    docs = new_collection({f"d{number:03}": {"n": number, "text": text()} for number in range(130)})
    for turn in range(36 if is_tidy else 24):
        for number in (1, 2, 3 + turn):
            docs.documents[f"d{number:03}"] = {"n": turn, "text": text()}
        docs.register(f"turn {turn}", author="ada")
    if is_tidy:
        docs.squash(20, 22)
        assert docs.prune(Policy(newest=25)) == 9
    docs.documents["d001"] = {"n": "stashed"}
    docs.stash()
    docs.create_branch("side")
    docs.documents["d001"] = {"n": "theirs"}
    docs.register("theirs")
    docs.checkout(branch="main")
    docs.documents["d001"] = {"n": "ours"}
    docs.register("ours")
    docs.merge("side")
    assert docs.has_conflicts
    return docs


def stored_bytes(docs):
    """Yield (what, how to read it, how to write it) for all bytes of a history."""
    stored = docs.stored

    def packet(one):
        return (lambda: one.data), (lambda data: setattr(one, "data", data))

    for number, one in stored.dictionaries.items():
        yield f"dictionary {number}", *packet(one)
    yield "samples", *packet(stored.samples)
    for first, (pack, _) in stored.shelves.items():
        if pack:
            yield (
                f"pack {first}",
                lambda pack=pack: pack,
                lambda data, first=first: stored.shelves.__setitem__(first, (data, stored.shelves[first][1])),
            )
    for document_id, history in stored.documents.items():
        yield (
            f"tail of {document_id}",
            lambda history=history: history.tail,
            lambda data, history=history: setattr(history, "tail", data),
        )
        for first, (keys, one) in (history.segments or {}).items():
            yield f"segment of {document_id}", *packet(one)
            yield (
                f"keys of a segment of {document_id}",
                lambda keys=keys: keys,
                lambda data, first=first, one=one, at=history.segments: at.__setitem__(first, (data, one)),
            )
    for key, change in stored.changes.items():
        if isinstance(change.pages, bytes):
            yield (
                f"changes of {key}",
                lambda change=change: change.pages,
                lambda data, change=change: setattr(change, "pages", data),
            )
    for first, one in stored.blocks.items():
        yield f"records from {first} on", *packet(one)
    yield "stash", *packet(stored.references.stash)
    yield "conflicts", *packet(stored.references.conflicts)


def read_all(docs):
    """Read everything there is: by path, by change sets, the log, and what waits."""
    contents = Contents(docs.stored)
    places = docs.names.places()
    keys = list(docs.stored.records)
    for key in keys:
        log_entries(contents, places, key)
        if contents.is_pruned(key):
            continue
        for _ in contents.documents(key):
            pass
        for _ in contents.rows(key):
            pass
    applied_stash(contents, docs.stored.references.stash)
    contents.is_learned("d001")
    docs.conflicts()
    steps = Steps(contents, keys[0], keys[-1])
    for _ in steps.walked((one, contents.value(one, keys[0])) for one in steps.differing()):
        pass


def is_damaged(docs):
    try:
        read_all(docs)
    except InvalidCollectionState:
        return True
    return False


@pytest.fixture(params=[False, True], ids=["as it grew", "tidy"])
def docs(new_collection, request):
    return grown(new_collection, request.param)


def test_all_kinds_of_bytes_are_there(docs):
    kinds = {what.split()[0] for what, _, _ in stored_bytes(docs)}
    assert kinds == {
        "dictionary",
        "samples",
        "pack",
        "tail",
        "segment",
        "keys",
        "changes",
        "records",
        "stash",
        "conflicts",
    }


@pytest.mark.parametrize("most", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_a_damaged_byte_is_found_whichever_it_is(docs, most):
    chance = random.Random(11)
    read_all(docs)
    assert docs.check() == []
    by_kind = {}
    for what, get, put in stored_bytes(docs):
        by_kind.setdefault(what.split()[0], []).append((what, get, put))
    for found in by_kind.values():
        for what, get, put in chance.sample(found, min(most, len(found))):
            whole = get()
            for at in (0, len(whole) - 1, chance.randrange(len(whole))):
                put(whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :])
                assert is_damaged(docs), f"byte {at} of {what}"
                assert docs.check(), f"byte {at} of {what}"
                put(whole)
    read_all(docs)


def test_a_document_that_is_damaged_is_named_with_its_version(docs):
    history = docs.stored.documents["d001"]
    history.tail = history.tail[:-1] + bytes([history.tail[-1] ^ 1])

    called = f"version {docs.version} of main"
    with pytest.raises(InvalidCollectionState, match=f"'d001' cannot be read at {called}: "):
        docs.read("d001")

    assert docs.read("d100", 0) == dict(docs.documents)["d100"]
    assert docs.contents.value("never", 0) is ABSENT


def test_what_a_register_keeps_in_memory_is_not_believed_after_an_abort():
    db = ZODB.DB(None)
    with closing(db.open(transaction_manager=TransactionManager())) as connection:
        manager = connection.transaction_manager
        docs = VersionedCollection(connection, "docs")
        docs.documents["a"] = {"n": 1}
        assert docs.init()
        manager.commit()
        docs.documents["a"] = {"text": "never " * 100}
        assert docs.register("taken back")
        manager.abort()
        docs.documents["a"] = {"text": "ever " * 100}
        assert VersionedCollection(connection, "docs").register("the same number")
        manager.commit()

        docs.documents["a"] = {"text": "ever " * 100, "n": 2}
        assert docs.register("after it")

        assert docs.read("a", 1) == {"text": "ever " * 100}
        assert docs.read("a", 2) == {"text": "ever " * 100, "n": 2}
        assert docs.check() == []
        manager.commit()
    db.close()


def test_a_change_set_without_what_it_should_hold_keeps_no_document_from_being_looked_at(new_collection):
    docs = grown(new_collection)
    history = docs.stored.documents["d002"]
    tail = bytearray(history.tail)
    tail[-1] ^= 1
    history.tail = bytes(tail)
    key = docs.find(5, "main")[1]
    del docs.stored.changes[key].pages

    faults = [str(fault) for fault in docs.check()]

    assert any(fault.startswith("version 5 of main: it cannot be loaded: AttributeError") for fault in faults)
    assert any(fault.startswith("history, document d002: ") for fault in faults)
