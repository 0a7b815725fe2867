"""Which version made each value of a document what it is."""

import pytest
from hypothesis import given, settings

from livesync.versions.blame import kept, leaves
from livesync.versions.values import CODEC

from .typed import documents


@pytest.fixture
def docs(new_collection):
    return new_collection({"a": {"title": "one", "tags": ["x", "y"], "at": {"room": 1, "hour": 9}}})


def edit(docs, message, author="", **document):
    docs.documents["a"] = document
    assert docs.register(message, author=author)


def blame(docs, *args):
    return {one.path: one.entry.message for one in docs.blame("a", *args)}


def test_every_value_is_of_the_version_that_made_it(docs):
    edit(docs, "title", "ada", title="two", tags=["x", "y"], at={"room": 1, "hour": 9})
    edit(docs, "hour", "bob", title="two", tags=["x", "y"], at={"room": 1, "hour": 10})

    assert blame(docs) == {
        ("title",): "title",
        ("tags", 0): "Initial collection.",
        ("tags", 1): "Initial collection.",
        ("at", "room"): "Initial collection.",
        ("at", "hour"): "hour",
    }
    found = docs.blame("a")
    assert [one.value for one in found] == ["two", "x", "y", 1, 10]
    assert [one.entry.author for one in found] == ["ada", "", "", "", "bob"]
    assert str(found[0]).endswith(" 1 (main) ada 2030-03-17 title: 'two'")


def test_an_earlier_version_has_a_blame_of_its_own(docs):
    edit(docs, "title", title="two")
    edit(docs, "again", title="three")

    assert blame(docs, 1) == {("title",): "title"}
    assert blame(docs, 0)["title",] == "Initial collection."


def test_items_that_moved_keep_their_version(docs):
    edit(docs, "front", title="one", tags=["w", "x", "y"], at={})

    assert [message for path, message in blame(docs).items() if path[0] == "tags"] == [
        "front",
        "Initial collection.",
        "Initial collection.",
    ]


def test_a_value_that_came_back_is_of_the_version_that_brought_it_back(docs):
    edit(docs, "away", title="two")
    edit(docs, "back", title="one")

    assert blame(docs) == {("title",): "back"}


def test_another_type_is_another_value(docs):
    edit(docs, "one", title=1)
    edit(docs, "true", title=True)

    assert blame(docs) == {("title",): "true"}


def test_a_deleted_document_has_no_blame_and_one_that_was_made_anew_forgets(docs):
    first = dict(docs.documents["a"])
    del docs.documents["a"]
    docs.register("gone")
    assert docs.blame("a") == []
    assert docs.blame("never") == []

    edit(docs, "anew", **first)
    assert set(blame(docs).values()) == {"anew"}


def test_what_a_merge_brought_is_of_the_version_on_the_other_branch(docs):
    docs.create_branch("side")
    edit(docs, "theirs", title="one", tags=["x", "y"], at={"room": 2, "hour": 9})
    docs.checkout(branch="main")
    edit(docs, "ours", title="two", tags=["x", "y"], at={"room": 1, "hour": 9})
    docs.merge("side")

    found = blame(docs)

    assert found["title",] == "ours"
    assert found["at", "room"] == "theirs"
    assert found["at", "hour"] == "Initial collection."


@given(documents, documents)
@settings(max_examples=50)
def test_what_is_kept_lies_at_both_paths(new, old):
    ours, theirs = dict(leaves(new)), dict(leaves(old))
    pairs = list(kept(new, old, CODEC))
    for path, before in pairs:
        assert CODEC.encode(ours[path]) == CODEC.encode(theirs[before])
    assert len({path for path, _ in pairs}) == len(pairs)
    assert [path for path, _ in kept(new, new, CODEC)] == list(ours)
