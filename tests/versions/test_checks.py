"""Checks of documents in change sets: what a checkout compares, and what decides where they are not known."""

import pytest

from livesync.errors import InvalidOperation
from livesync.versions.store import checks, steps
from livesync.versions.store.checks import CHECK, NOTHING, UNKNOWN, check_of, kept_check
from livesync.versions.values import CODEC, hash_of

from .editing import edit

THEN = {"a": {"n": 1}, "b": {"n": 1}, "c": {"n": 1}}
NOW = {"a": {"n": 2}, "b": {"n": 1}, "d": {"n": 4}}


@pytest.fixture(params=["with xxhash", "written without", "read without"])
def docs(new_collection, monkeypatch, request):
    """A collection at its second version, by whatever means."""
    docs = new_collection(THEN)
    if request.param == "written without":
        monkeypatch.setattr(checks, "check_of", checks._no_check)
    elif request.param == "read without":
        monkeypatch.setattr(steps, "check_of", checks._no_check)
    edit(docs, "one", a={"n": 2}, c=None, d={"n": 4})
    return docs


def rows(docs):
    return list(docs.contents.rows(docs.names.head[1]))


def test_a_checkout_goes_there_and_back_whether_checks_are_known_or_not(docs):
    docs.checkout(0)
    assert dict(docs.documents) == THEN

    docs.checkout(1)
    assert dict(docs.documents) == NOW
    assert docs.check() == []


@pytest.mark.parametrize("untold", ["a", "d"])
def test_an_edit_that_nobody_told_of_is_seen_whether_checks_are_known_or_not(docs, untold):
    docs.documents[untold]["n"] = 7

    with pytest.raises(InvalidOperation, match=f"'{untold}' was changed, and nobody has said so"):
        docs.checkout(0)

    assert dict(docs.documents) == {**NOW, untold: {"n": 7}}


def test_a_document_that_vanished_untold_is_seen_whether_checks_are_known_or_not(docs):
    del docs.documents.documents["a"]  # past the mapping that notes it

    with pytest.raises(InvalidOperation, match="'a' was changed, and nobody has said so"):
        docs.checkout(0)


def test_rows_have_checks_of_what_documents_are_before_and_after(new_collection):
    pytest.importorskip("xxhash")
    docs = new_collection(THEN)
    edit(docs, "one", a={"n": 2}, c=None, d={"n": 4})
    one, two, four = (check_of(CODEC.encode({"n": number})) for number in (1, 2, 4))

    found = {row.document_id: (row.check_before, row.check_after) for row in rows(docs)}

    assert found == {"a": (one, two), "c": (one, NOTHING), "d": (NOTHING, four)}


def test_of_what_was_erased_no_check_is_left(new_collection):
    docs = new_collection(THEN)
    edit(docs, "one", a={"n": 2}, c=None)
    docs.erase("a")
    docs.erase("c")

    found = {row.document_id: (row.check_before, row.check_after) for row in rows(docs)}

    assert found == {"a": (UNKNOWN, UNKNOWN), "c": (UNKNOWN, NOTHING)}
    assert docs.check() == []


def test_what_a_check_belies_is_read_as_it_was_kept_and_fsck_names_it(new_collection):
    pytest.importorskip("xxhash")
    docs = new_collection(THEN)
    edit(docs, "one", a={"n": 2}, b={"n": 2})
    wrong = [row._replace(check_before=b"1" * CHECK, check_after=b"2" * CHECK) for row in rows(docs)[:1]]
    docs.contents.keep_rows(docs.names.head[1], [*wrong, *rows(docs)[1:]])

    faults = [(fault.document_id, fault.text) for fault in docs.check()]
    docs.checkout(0)

    assert faults == [("a", "a check of its change set is another document's")]
    assert dict(docs.documents) == THEN


def test_what_is_kept_tells_no_document_from_one_that_is_not_known():
    body = CODEC.encode({"n": 1})
    assert kept_check(b"", b"") == NOTHING
    assert kept_check(hash_of(body), b"") == UNKNOWN
    assert kept_check(hash_of(body), body) in (check_of(body), UNKNOWN)
    assert len({NOTHING, UNKNOWN, kept_check(hash_of(body), body)} - {UNKNOWN}) == 1 + bool(check_of(body))
