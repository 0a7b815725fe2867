"""Retention: versions lose what they held, keep their records, and everything else stays as it was."""

import datetime

import pytest

from livesync.errors import InvalidOperation, VersionPruned
from livesync.versions.store.entries import Entries, Kind
from livesync.versions.store.writing import LONGEST_CHAIN
from livesync.versions.upkeep.retention import Dated, Policy, prunable, prune_slice

from .editing import edit

NEWEST = Policy(newest=1)


@pytest.fixture
def docs(new_collection):
    made = new_collection({"a": {"n": 0}, "b": {"n": 0, "text": "word " * 60}, "c": {"n": 0}})
    for n in range(1, 30):
        edit(made, f"v{n}", a={"n": n, "text": f"{n} " * 20}, b={"n": n // 3, "text": "word " * 60})
    return made


def states(docs, branch="main"):
    return {n: dict(docs.read_all(n, branch)) for n in range(docs.names.branch(branch).total)}


def prune_all(docs, policy=NEWEST, most=200):
    total = 0
    while number := docs.prune(policy, most):
        total += number
        assert docs.check() == []
    return total


def test_a_pruned_version_keeps_its_record_and_says_so_where_it_is_read(docs):
    before = docs.get_log()
    told = [(entry.record, entry.version, entry.branch, entry.parents) for entry in before]

    assert prune_all(docs) == 28

    after = docs.get_log()
    assert [(entry.record, entry.version, entry.branch, entry.parents) for entry in after] == told
    assert [entry.key for one, entry in zip(before, after, strict=True) if one != entry] == list(
        range(28, 0, -1)
    )
    assert not any(entry.is_pruned for entry in before), "an entry tells what was so when it was read"
    assert [entry.version for entry in docs.get_log() if entry.is_pruned] == list(range(28, 0, -1))
    assert [entry.id for entry in docs.get_log()] == [entry.record.checked().id.hex() for entry in before]
    for ask in (
        lambda: docs.read("a", 5),
        lambda: dict(docs.read_all(5)),
        lambda: docs.diff(5),
        lambda: docs.changed((5, "main"), (29, "main")),
        lambda: docs.history("a", 5),
        lambda: docs.blame("a", 5),
        lambda: docs.checkout(5),
        lambda: docs.cherry_pick(5),
        lambda: docs.revert(5),
        lambda: docs.revert(29),  # nobody knows any more what it changed itself
    ):
        with pytest.raises(VersionPruned, match=r"the contents of version \d+ of branch 'main' were pruned"):
            ask()
    assert (docs.version, docs.has_changes) == (29, False)


@pytest.mark.parametrize("most", [1, 3, 7, 200])
def test_what_is_kept_reads_as_before_whatever_the_slices(docs, most):
    docs.tag("here", 11)
    docs.tag("there", 20)
    known = states(docs)

    prune_all(docs, most=most)

    assert prunable(docs.contents, NEWEST, 0) == []
    for n in (0, 11, 20, 29):
        assert dict(docs.read_all(n)) == known[n]
        assert docs.checkout(n)
        assert dict(docs.documents) == known[n]
    assert docs.between((11, "main"), (20, "main"))["a"] == (known[11]["a"], known[20]["a"])
    assert [(entry.version, entry.branch) for entry in docs.history("a", 29, "main")] == [
        (29, "main"),
        (20, "main"),
        (11, "main"),
        (0, "main"),
    ]


def test_what_was_changed_and_changed_back_within_what_is_pruned_is_changed_no_more(docs):
    start = docs.documents["c"]
    edit(docs, "there", c={"n": 7})
    edit(docs, "new", d={"n": 1})
    edit(docs, "and back", c=start, d=None)
    edit(docs, "last", a={"n": "last"})
    prune_all(docs)
    assert [entry.message for entry in docs.history("c")] == ["Initial collection."]
    assert docs.history("d") == []
    assert set(docs.stored.documents) == {"a", "b"}
    assert docs.read("c") == start


def test_history_and_blame_name_the_version_that_holds_what_was_pruned(docs):
    docs.tag("here", 10)
    prune_all(docs)
    found = {one.path: one.entry.version for one in docs.blame("b")}
    assert found == {("n",): 29, ("text",): 0}
    assert [entry.version for entry in docs.history("b")] == [29, 10, 0]
    assert docs.contents.base_of(docs.find(29)[1]) == docs.find(10)[1]


def test_ends_tags_forks_and_merges_are_kept_whatever_the_policy(docs):
    docs.tag("tagged", 4)
    docs.checkout(8)
    edit(docs, a={"n": "side"})
    docs.register("side 0", "side")
    edit(docs, "side 1", c={"n": "side"})
    edit(docs, "side 2", c={"n": "side again"})
    docs.checkout(branch="main")
    assert docs.merge("side", 1).conflicts
    docs.resolve_conflicts("ours")
    edit(docs, "after the merge", a={"n": "end"})
    edit(docs, "and on", a={"n": "end of all"})
    docs.checkout(15, "main")
    known = {(n, name): value for name in ("main", "side") for n, value in states(docs, name).items()}

    prune_all(docs)

    kept = {place for place in known if not docs.contents.is_pruned(docs.find(*place)[1])}
    assert kept == {
        (0, "main"),
        (4, "main"),
        (8, "main"),
        (15, "main"),
        (29, "main"),
        (32, "main"),
        (1, "side"),
        (2, "side"),
    }
    for place in kept:
        assert dict(docs.read_all(*place)) == known[place]
        assert docs.checkout(*place)
        assert dict(docs.documents) == known[place]
    assert docs.checkout(branch="side")
    assert not docs.merge("main").conflicts
    assert docs.check() == []


def test_what_a_merge_that_waits_begins_at_and_what_a_remote_has_is_kept(docs):
    docs.create_branch("side")
    edit(docs, "side", a={"n": "side"})
    docs.checkout(branch="main")
    edit(docs, "main", a={"n": "main"})
    docs.merge("side")
    docs.stored.references.remotes = {"elsewhere": {"main": docs.get_log("main")[20].record.id}}
    prune_all(docs)
    assert docs.abort_merge()
    kept = [n for n in range(31) if not docs.contents.is_pruned(docs.find(n, "main")[1])]
    assert kept == [0, 10, 29, 30]


def test_chains_stay_short_and_erased_documents_erased(docs):
    docs.erase("b")
    for n in range(60):
        edit(docs, f"w{n}", a={"n": n, "text": "same " * 200, "more": [n % 2]}, b={"n": n % 5})
    docs.tag("x", 40)
    docs.tag("y", 77)
    prune_all(docs, Policy(periods={"daily": None}, newest=5), most=9)
    for history in docs.stored.documents.values():
        entries = {entry.key: entry for entry in Entries(history).all()}
        for entry in entries.values():
            length = 0
            while entry.kind == Kind.DELTA:
                length += 1
                if entry.up not in entries:
                    break
                entry = entries[entry.up]
            assert length <= LONGEST_CHAIN
    assert docs.contents.is_erased("b", docs.find(0)[1])
    assert docs.read("b") == {"n": 4}


def test_a_history_goes_on_after_it_was_pruned(docs):
    prune_all(docs)
    edit(docs, "on", a={"n": "on"}, c=None)
    docs.create_branch("side")
    edit(docs, "side", a={"n": "side"})
    assert docs.checkout(29, "main")
    assert docs.checkout(0, "main")
    assert docs.documents["a"] == {"n": 0}
    docs.checkout(branch="main")
    assert docs.revert(30).version == (31, "main")
    assert docs.documents["c"] == {"n": 0}
    assert prune_all(docs) == 1  # version 29; 30 is where the side begins
    assert docs.check() == []


def test_deleting_what_comes_after_pruned_versions_is_refused_where_they_would_be_the_newest(docs):
    docs.tag("here", 20)
    prune_all(docs)
    docs.untag("here")
    with pytest.raises(
        InvalidOperation, match="version 28 of 'main', which would be the newest then, was pruned"
    ):
        docs.delete_version_subtree(29)
    assert docs.delete_version_subtree(21)
    assert (docs.version, docs.documents["a"]["n"]) == (20, 20)
    assert docs.check() == []
    assert docs.delete_version_subtree(1)
    assert (docs.version, dict(docs.documents)["a"]) == (0, {"n": 0})
    assert (docs.check(), list(docs.contents.stored.settings["pruned"])) == ([], [])


def test_a_contradiction_about_what_was_pruned_is_a_fault(docs):
    key = docs.find(7)[1]
    docs.tag("kept", 7)
    prune_all(docs)
    docs.stored.settings["pruned"].add(key)
    assert {fault.text for fault in docs.check()} >= {
        "it was pruned, and has a change set",
        "it was pruned, and says something",
    }
    docs.stored.settings["pruned"].remove(key)
    assert docs.check() == []
    docs.stored.settings["pruned"].remove(docs.find(12)[1])
    assert {fault.where for fault in docs.check()} >= {"version 12 of main"}
    docs.stored.settings["pruned"].add(docs.find(12)[1])
    docs.stored.settings["pruned"].add(1 << 40)
    assert [str(fault) for fault in docs.check()] == ["pruned: version 0x10000000000 is missing"]


def test_nothing_to_prune_writes_nothing(docs):
    assert docs.prune(Policy(newest=100)) == 0
    prune_slice(docs.contents, [])
    assert "pruned" not in docs.stored.settings


# -- policies ------------------------------------------------------------------------------------------


def dated(*times, branch="main"):
    return [
        Dated(
            number,
            branch,
            round(datetime.datetime.fromisoformat(f"{text}+00:00").timestamp() * 1e6),
            number,
        )
        for number, text in enumerate(times)
    ]


DAYS = dated(
    "2024-12-29 10:00",
    "2024-12-31 10:00",
    "2024-12-31 23:59",
    "2025-01-01 00:00",
    "2025-01-01 00:30",
    "2025-01-05 09:00",
    "2025-01-06 09:00",
    "2025-03-01 00:00",
)
NOW = DAYS[-1].time_us


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("0", set()),
        ("3", {5, 6, 7}),
        ("60d", {1, 2, 3, 4, 5, 6, 7}),
        ("59d", {4, 5, 6, 7}),
        ("1h", {7}),
        ("hourly", {0, 1, 2, 4, 5, 6, 7}),
        ("daily", {0, 2, 4, 5, 6, 7}),
        ("daily:2", {6, 7}),
        ("weekly", {0, 5, 6, 7}),
        ("monthly", {2, 6, 7}),
        ("yearly", {2, 7}),
        ("yearly:1", {7}),
        ("1, yearly daily:2", {2, 6, 7}),
        ("1,2 1", {6, 7}),
    ],
)
def test_a_policy_keeps_what_its_words_say(text, kept):
    assert Policy.parsed(text).kept(DAYS, NOW) == kept
    assert Policy.parsed(text.replace(",", " ").split()).kept(reversed(DAYS), NOW) == kept


def test_the_newest_are_told_by_their_order_where_a_clock_went_back():
    later = [one._replace(time_us=NOW - one.time_us) for one in DAYS]
    assert Policy(newest=2).kept(later, NOW) == {6, 7}


def test_each_branch_is_counted_for_itself():
    side = [one._replace(key=one.key + 100, branch="side") for one in DAYS]
    assert Policy(newest=2).kept([*DAYS, *side], NOW) == {6, 7, 106, 107}


@pytest.mark.parametrize(
    "text", ["", " , ", "x", "3 d", "-1", "daily:", "daily:x", "30m", "9" * 30, "daily:-1"]
)
def test_words_that_say_not_what_to_keep_are_refused(text):
    with pytest.raises(ValueError, match=r"what to keep"):
        Policy.parsed(text)
