"""Comparing the versions of two collections: equal, behind, ahead, and both gone on."""

import pytest

from livesync.versions import VersionedCollection

from .editing import edit


@pytest.fixture
def pair(new_collection):
    """Two collections with the same two versions; the second was pulled from the first."""
    here, there = new_collection({"a": {"n": 0}}), new_collection(init=False)
    edit(here, "one", a={"n": 1})
    there.pull(here)
    return here, there


def compared(one, other):
    return one < other, one <= other, one == other, one >= other, one > other


EQUAL = (False, True, True, True, False)
LESS = (True, True, False, False, False)
MORE = (False, False, False, True, True)
NEITHER = (False, False, False, False, False)


def test_the_same_versions_are_equal_whatever_was_changed_since(pair):
    here, there = pair
    assert compared(here, there) == EQUAL
    assert here == here
    there.documents["a"] = {"n": 7}
    there.checkout(1)
    assert compared(here, there) == EQUAL
    assert hash(here) == hash(there)


def test_one_that_has_gone_on_is_more(pair):
    here, there = pair
    edit(there, "two", a={"n": 2})
    assert compared(here, there) == LESS
    assert compared(there, here) == MORE
    here.pull(there)
    assert compared(here, there) == EQUAL


def test_a_branch_without_versions_counts(pair):
    here, there = pair
    there.create_branch("side")
    assert compared(here, there) == LESS
    here.create_branch("side")
    assert compared(here, there) == EQUAL


def test_two_that_have_both_gone_on_are_neither_less_nor_more(pair):
    here, there = pair
    edit(here, "here", a={"n": 2})
    edit(there, "there", a={"n": 3})
    assert compared(here, there) == NEITHER
    assert here != there


def test_the_same_versions_under_other_branches_differ(pair):
    here, there = pair
    there.rename_branch("main", "other")
    assert compared(here, there) == NEITHER


def test_without_versions_everything_is_more(pair, new_root):
    here, _ = pair
    nothing = VersionedCollection(new_root(), "docs")
    assert compared(nothing, here) == LESS
    assert compared(nothing, VersionedCollection(new_root(), "docs")) == EQUAL


def test_only_collections_of_one_name_are_compared(pair, new_collection):
    here, _ = pair
    other = new_collection(name="other")
    assert here != other
    with pytest.raises(ValueError, match="of one name"):
        _ = here < other
    assert here != "docs"
    with pytest.raises(TypeError):
        _ = here < "docs"
