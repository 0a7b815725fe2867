"""Looking a history over, collecting what nothing leads to, and carrying a history in a file."""

import io

import pytest

from livesync.errors import InvalidCollectionState
from livesync.versions import VersionedCollection
from livesync.versions.remotes.bundles import MAGIC, pull_bundle, read_bundle, write_bundle
from livesync.versions.store.entries import Entries, Kind, rewritten
from livesync.versions.store.records import Record
from livesync.versions.stored import ChangeSet

from .editing import edit


@pytest.fixture
def grown(new_collection):
    """Two branches, merged; one document changed so often that it has segments."""
    docs = new_collection({"a": {"n": 0}, "b": {"n": 0, "text": "x" * 300}, "c": {"n": 0}})
    for n in range(1, 40):
        edit(docs, f"v{n}", a={"n": n, "text": f"{n} " * 20})
    docs.create_branch("side")
    edit(docs, "side", b={"n": 1, "text": "x" * 300}, c=None)
    docs.checkout(branch="main")
    edit(docs, "main", d={"n": 1})
    docs.merge("side")
    docs.tag("here")
    return docs


def test_a_history_that_is_whole_has_no_fault(grown):
    assert grown.check() == []
    grown.contents.stored.references.stash = None
    grown.delete_version_subtree(41, "main")
    assert grown.check() == []


def test_what_was_erased_is_no_fault(grown):
    from livesync.versions.upkeep.erasing import erase

    assert erase(grown.contents, "a", 0) > 0
    assert grown.check() == []


def faults(docs):
    return [str(fault) for fault in docs.check()]


def test_documents_that_are_looked_for_elsewhere_are_named(new_collection):
    docs = new_collection({f"{number:03d}": number for number in range(200)})
    (*firsts, last), parts = docs.stored.references.aisles
    assert docs.check() == []
    docs.stored.references.aisles = ((*firsts, last + "x"), parts)
    assert "documents are looked for where they do not lie" in "; ".join(faults(docs))


def test_each_broken_link_is_named(grown):
    stored = grown.stored
    key = grown.find(3)[1]
    packed = stored.records[key]
    stored.records[key] = Record.unpacked(packed)._replace(message="V3").packed()
    assert any("version 3 of main" in one for one in faults(grown))
    stored.records[key] = packed
    assert faults(grown) == []

    del stored.keys[grown.get_log()[0].record.id]
    assert any("its id does not lead to it" in one for one in faults(grown))


def test_a_document_that_says_other_than_its_change_set_is_named(grown):
    history = grown.stored.documents["a"]
    *_, last = Entries(history).all()
    changed = last._replace(kind=Kind.GONE, hash=b"", payload=b"")
    rewritten(history, {changed.key: changed})
    assert any("document a" in one for one in faults(grown))


def test_a_change_set_that_is_missing_or_anothers_is_named(grown):
    stored = grown.stored
    one, other = grown.find(3)[1], grown.find(4)[1]
    kept = stored.changes[one]
    stored.changes[one] = ChangeSet(stored.changes[other].pages)
    assert any("version 3 of main" in fault for fault in faults(grown))
    del stored.changes[one]
    assert any("version 3 of main" in fault for fault in faults(grown))
    stored.changes[one] = kept
    assert faults(grown) == []


@pytest.mark.parametrize("part", ["tail", "segment", "pack", "changes"])
def test_a_flipped_byte_is_found_wherever_it_lies(grown, part):
    stored = grown.stored
    history = stored.documents["a"]
    if part == "tail":
        history.tail = flipped(history.tail)
    elif part == "changes":
        changes = stored.changes[grown.find(5)[1]]
        changes.pages = flipped(changes.pages)
    elif part == "pack":
        first, (pack, histories) = next(one for one in stored.shelves.items() if one[1][0])
        stored.shelves[first] = (flipped(pack), histories)
    else:
        _, packet = next(iter(history.segments.values()))
        packet.data = flipped(packet.data)
    assert faults(grown) != []


def flipped(data):
    at = len(data) // 2
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


def test_a_reference_into_nothing_is_named(grown):
    grown.names.set_tag("lost", 1 << 40)
    grown.names.set_head("nowhere", 1 << 40)
    assert [one.split(":")[0] for one in faults(grown)] == ["tag lost", "HEAD"]


def test_what_an_aborted_pull_left_is_collected_and_all_else_stays(grown, new_root, clock):
    other = VersionedCollection(new_root(), "docs", clock=clock)
    grown.push(other)
    edit(other, "theirs", a={"n": "theirs"})
    edit(grown, "ours", a={"n": "ours"})
    before = len(grown.stored.records)
    grown.pull(other)
    assert grown.collect_garbage() == 0
    grown.abort_merge()
    grown.checkout(branch="__rebranched_main_0")
    grown.delete_version_subtree(
        len([one for one in grown.get_log("main") if one.branch == "main"]) - 1, "main"
    )
    assert grown.check() == []
    assert grown.collect_garbage() == 0
    assert len(grown.stored.records) == before
    grown.names.drop_branch("main")
    grown.names.drop_branch("side")
    assert grown.collect_garbage() == 0
    assert grown.check() == []


def test_versions_without_a_name_go(grown):
    grown.names.set_tag("here", None)
    grown.checkout(branch="side")
    names = grown.names
    names.set_branch("main", names.branch("main").until(40))
    doomed = 2
    assert grown.collect_garbage() == doomed
    assert grown.check() == []
    assert grown.collect_garbage() == 0


def test_a_bundle_carries_all_branches_and_is_read_as_another_collection(grown, new_root, clock):
    file = io.BytesIO()
    assert write_bundle(grown, file) == len(grown.stored.records)
    file.seek(0)
    bundle = read_bundle(file)
    assert bundle.branches() == grown.branches()
    other = VersionedCollection(new_root(), "docs", clock=clock)
    for branch in sorted(bundle.branches()):
        assert other.pull(bundle, branch)
    assert [entry.id for entry in other.get_log("main")] == [entry.id for entry in grown.get_log("main")]
    assert dict(other.documents) == dict(grown.documents)
    assert other.check() == []
    assert write_bundle(grown, io.BytesIO(), ["side"]) == 41


def carried(docs, *branches):
    file = io.BytesIO()
    write_bundle(docs, file, branches)
    file.seek(0)
    return read_bundle(file)


def test_a_bundle_is_taken_in_again_under_another_name_after_an_abort(grown, new_root, clock):
    bundle, connection = carried(grown), new_root()
    for _ in range(2):
        other = VersionedCollection(connection, "other", clock=clock)
        assert [one.what for one in pull_bundle(other, bundle)] == ["new branch"] * 2 + ["new tag"]
        assert [one.id for one in other.get_log("main")] == [one.id for one in grown.get_log("main")]
        connection.transaction_manager.abort()
        assert not other.is_tracked
    assert bundle.name == "docs"


def test_a_bundle_brings_tags_and_leaves_out_what_a_pull_has_put_aside(grown, new_root, clock):
    other = VersionedCollection(new_root(), "docs", clock=clock)
    assert [one.what for one in pull_bundle(other, carried(grown))] == ["new branch"] * 2 + ["new tag"]
    edit(grown, "ours", a={"n": "ours"})
    grown.tag("ours")
    edit(other, "theirs", b={"n": "theirs"})
    other.tag("theirs")
    other.create_branch("aside")
    edit(other, "more", b={"n": "more"})
    other.tag("only-a-tag")
    other.checkout(branch="main")
    other.delete_branch("aside", force=True)
    assert [one.what for one in pull_bundle(other, carried(grown))][:1] == ["merged"]
    third, fourth, fifth = (VersionedCollection(new_root(), "docs", clock=clock) for _ in range(3))

    pull_bundle(third, carried(other))
    pull_bundle(fourth, carried(other, "side"))
    pull_bundle(fifth, carried(other, "__rebranched_main_0"))

    assert third.branch == "main"
    assert third.tags().keys() == {"here", "ours", "theirs", "only-a-tag"}
    assert [one.id for one in third.get_log()] == [one.id for one in other.get_log()]
    assert fourth.tags() == {}
    assert fourth.branches() >= {"side"}
    assert fifth.read("b", branch="__rebranched_main_0") == {"n": "theirs"}
    assert list(fifth.tags()) == ["here", "theirs"]
    for one in (third, fourth, fifth):
        assert one.check() == []
        assert pull_bundle(one, carried(other)) is not None
        assert one.check() == []


def test_a_bundle_that_is_damaged_or_cut_is_refused(grown):
    file = io.BytesIO()
    write_bundle(grown, file)
    data = file.getvalue()
    for broken in (b"", b"nonsense", data[:-1], data[: len(data) // 2], MAGIC, flipped(data), data[:-40]):
        with pytest.raises(InvalidCollectionState):
            read_bundle(io.BytesIO(broken))


def test_whatever_is_damaged_in_a_bundle_it_is_refused(new_collection):
    docs = new_collection({f"d{number}": {"text": f"word {number} " * 20} for number in range(8)})
    edit(docs, "one", d1={"text": "other words"})
    docs.tag("here")
    file = io.BytesIO()
    write_bundle(docs, file)
    data = file.getvalue()
    for at in range(len(data)):
        broken = data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]
        with pytest.raises(InvalidCollectionState):
            read_bundle(io.BytesIO(broken))
