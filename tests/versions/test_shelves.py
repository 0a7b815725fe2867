"""Where documents lie: a shelf for each range of ids."""

from hypothesis import given
from hypothesis import strategies as st

from livesync.versions import VersionedCollection
from livesync.versions.shelves import Histories, aisles_of, keep_pack, new_shelves, packs_of, shelf_of
from livesync.versions.stored import References

IDS = st.text(alphabet="abc\ud800", max_size=3)


def test_a_short_history_lies_in_its_tree_and_a_long_one_is_an_object():
    shelves = new_shelves()
    history = Histories(shelves).place("a").history
    history.tail = b"x" * 256
    assert shelves[""][1]["a"] == history.tail == b"x" * 256
    history.tail += b"y"
    assert shelves[""][1]["a"].tail == history.tail == b"x" * 256 + b"y"
    history.tail = b"z"
    assert Histories(shelves)["a"].tail == shelves[""][1]["a"].tail == b"z"


def test_a_history_whose_tail_is_never_set_is_not_kept():
    histories = Histories(new_shelves())
    histories.place("a")
    assert ("a" in histories, histories.get("a"), list(histories)) == (False, None, [])


@given(st.lists(st.tuples(IDS, st.sampled_from(["history", "pack", "delete"])), max_size=40), IDS)
def test_histories_are_found_whatever_shelves_are_made_between_them(steps, start):
    shelves, histories, packs = new_shelves(), {}, {}
    for number, (document_id, what) in enumerate(steps):
        data = b"%d" % number
        if what == "history":
            Histories(shelves).place(document_id).history.tail = histories[document_id] = data
        elif what == "pack":
            keep_pack(shelves, document_id, data)
            packs[document_id] = data
        elif document_id in histories:
            del histories[document_id]
            del Histories(shelves)[document_id]
    found = Histories(shelves)
    assert {one: found[one].tail for one in found} == histories
    assert list(found.keys(start)) == sorted(one for one in histories if one >= start)
    assert dict(packs_of(shelves)) == packs
    last = max((first for first in packs if first <= start), default="")
    assert shelf_of(shelves, start)[1] == packs.get(last, b"")
    references = References()
    references.aisles = aisles_of(shelves)
    assert Histories(shelves, references).shelf(start) == found.shelf(start)


def test_a_shelf_is_found_by_its_aisle_as_it_is_without():
    shelves, references = new_shelves(), References()
    ids = [f"{number:04d}" for number in range(2_000)]
    for document_id in [*ids[::4], *ids[2::4]]:
        keep_pack(shelves, document_id, document_id.encode())
    references.aisles = aisles_of(shelves)
    assert len(references.aisles[1]) == len(references.aisles[0]) + 1 > 2
    without, found = Histories(shelves), Histories(shelves, references)
    assert all(found.shelf(one) == without.shelf(one) for one in ["", *ids, "~"])


def test_a_read_does_not_look_at_the_root_of_the_shelves(new_root, clock):
    connection = new_root()
    docs = VersionedCollection(connection, "docs", clock=clock)
    docs.documents.update({f"{number:03d}": number for number in range(200)})
    docs.init()
    connection.transaction_manager.commit()
    shelves = docs.stored.shelves
    connection.cacheMinimize()
    assert [docs.read(f"{number:03d}", 0, "main") for number in range(200)] == list(range(200))
    assert shelves._p_changed is None
    assert docs.stored.references.aisles == aisles_of(shelves)


def test_all_that_names_versions_is_stored():
    assert len(References().__getstate__()) == len(vars(References()))
