"""Large changes lie in a version's change set alone, and are read, moved and erased as small ones are."""

import random

import pytest

from livesync.errors import InvalidCollectionState
from livesync.versions.store.changesets import Forwards, Row, change_set, rows_of
from livesync.versions.store.entries import Entries, Kind
from livesync.versions.store.frames import Frames
from livesync.versions.store.writing import MOST_ROWS
from livesync.versions.upkeep.retention import Policy

WORDS = [
    f"{stem}{end}" for stem in ("live", "sync", "note", "path", "word") for end in ("", "s", "ed", "ing")
]
VERSIONS = 24


def text(chance, words=80):
    return " ".join(chance.choice(WORDS) + str(chance.randrange(1000)) for _ in range(words))


@pytest.fixture
def grown(new_collection):
    """Documents that come, are rewritten, edited a little, go and come again; and what they were at each."""
    chance = random.Random(4)
    docs = new_collection({f"d{n:03}": {"n": n, "text": text(chance)} for n in range(110)})
    states = [dict(docs.documents)]
    for version in range(1, VERSIONS):
        for number in chance.sample(range(90, 140), 12):
            name = f"d{number:03}"
            old = docs.documents.get(name)
            if old is None or chance.random() < 0.3:
                docs.documents[name] = {"n": version, "text": text(chance)}
            elif chance.random() < 0.15:
                del docs.documents[name]
            else:
                docs.documents[name] = {**old, "n": version}
        docs.register(f"v{version}")
        states.append(dict(docs.documents))
    return docs, states


def kinds(docs):
    return [entry.kind for history in docs.stored.documents.values() for entry in Entries(history).all()]


def read_all(docs):
    return [dict(docs.read_all(number)) for number in range(VERSIONS)]


def test_large_deltas_lie_in_change_sets_and_every_version_is_what_it_was(grown):
    docs, states = grown
    assert kinds(docs).count(Kind.ROW) > 50
    assert Kind.DELTA in kinds(docs)
    assert read_all(docs) == states
    assert docs.check() == []
    for document_id, history in docs.stored.documents.items():
        for entry in Entries(history).all():
            assert docs.contents.state(document_id, entry.key).rows <= MOST_ROWS


def test_another_collection_gets_them_and_going_back_does_too(grown, new_collection):
    docs, states = grown
    other = new_collection(init=False)
    assert docs.push(other)
    assert read_all(other) == states
    assert other.check() == []
    for number in (3, 20, 0, VERSIONS - 1):
        docs.checkout(number, "main")
        assert dict(docs.documents) == states[number]
    docs.delete_version_subtree(12)
    assert [dict(docs.read_all(number)) for number in range(12)] == states[:12]
    assert docs.check() == []


def test_pruned_and_squashed_versions_leave_the_others_as_they_were(grown):
    docs, states = grown
    for number in (5, 11, 17):
        docs.tag(f"at-{number}", number)
    while docs.prune(Policy(newest=2), 3):
        assert docs.check() == []
    for number in (0, 5, 11, 17, VERSIONS - 2, VERSIONS - 1):
        assert dict(docs.read_all(number)) == states[number]
    docs.untag("at-11")
    docs.squash(6, 17, message="run")
    assert docs.check() == []
    assert [dict(docs.read_all(n)) for n in (0, 5, 6, 7 + VERSIONS - 19)] == [
        states[n] for n in (0, 5, 17, VERSIONS - 1)
    ]


def test_what_is_erased_is_in_no_change_set_and_those_of_others_stay(grown):
    docs, states = grown
    assert docs.stored.dictionaries
    assert docs.contents.is_learned("d100")
    assert docs.erase("d100") > 0
    assert docs.check() == []
    for number, state in enumerate(states):
        assert dict(docs.read_all(number)) == {one: value for one, value in state.items() if one != "d100"}
    for key in docs.stored.changes:
        rows = [row for row in docs.contents.rows(key) if row.document_id == "d100"]
        assert all(len(row.forward) <= 1 and len(row.backward) <= 1 for row in rows)


def test_a_document_whose_change_set_is_missing_is_named(grown):
    docs, _ = grown
    document_id, entry = next(
        (one, entry)
        for one, history in docs.stored.documents.items()
        for entry in Entries(history).all()
        if entry.kind == Kind.ROW
    )
    del docs.stored.changes[entry.key]
    with pytest.raises(InvalidCollectionState, match=f"{document_id!r}.*change set of version"):
        docs.contents.value(document_id, entry.key)
    assert docs.check() != []


def test_what_was_read_of_a_change_set_is_not_believed_once_it_is_another_one(grown):
    docs, _ = grown
    ends = (0, "main"), (VERSIONS - 1, "main")
    changed = docs.changed(*ends)
    key, document_id = next(
        (entry.key, one)
        for one, history in docs.stored.documents.items()
        for entry in Entries(history).all()
        if entry.kind == Kind.ROW
    )
    delta = docs.contents.forward(document_id, key)
    change_set = docs.stored.changes[key]
    whole = change_set.pages
    for at in (0, len(whole) // 2, len(whole) - 1):
        change_set.pages = whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :]
        for read in (lambda: docs.changed(*ends), lambda: docs.contents.forward(document_id, key)):
            with pytest.raises(InvalidCollectionState, match="change set is damaged"):
                read()
    change_set.pages = whole
    assert docs.changed(*ends) == changed
    assert docs.contents.forward(document_id, key) == delta


def test_no_more_than_a_little_of_change_sets_is_kept_unpacked(monkeypatch):
    frames = Frames({})
    rows = [Row(f"d{n:04}", f"{n}".encode() * 900, b"", b"1" * 8, b"2" * 8) for n in range(900)]
    stored = change_set(rows, frames)
    unpacked = []
    unpack = frames.unpack
    monkeypatch.setattr(frames, "unpack", lambda frame: unpacked.append(frame) or unpack(frame))
    forwards = Forwards(frames)

    for row in rows[:8]:
        assert forwards.delta(stored, 1, row.document_id) == row.forward
    few = len(unpacked)
    for row in rows:
        assert forwards.delta(stored, 1, row.document_id) == row.forward
    assert forwards.delta(stored, 1, rows[0].document_id) == rows[0].forward

    assert few == 2
    assert unpacked.count(unpacked[1]) > 1


@pytest.mark.parametrize("size", [10, 3_000])
def test_one_row_is_found_wherever_it_lies(size):
    frames = Frames({})
    rows = [
        Row(f"d{number:04}", str(number).encode() * size, b"b" * (number % 7), b"1" * 8, b"2" * 8)
        for number in range(2_500)
    ]
    stored = change_set(rows, frames)
    assert not isinstance(stored.pages, bytes)
    assert list(rows_of(stored, frames)) == rows
    forwards = Forwards(frames)
    for row in [*rows[::97], *rows[::-89]]:
        assert forwards.delta(stored, 1, row.document_id) == row.forward
    for absent in ("a", "d0001x", "e"):
        with pytest.raises(InvalidCollectionState):
            forwards.delta(stored, 1, absent)
