"""livesync version: as people use it, mistakes included."""

import json
from datetime import UTC, datetime

import pytest
import ZODB
from ZODB.FileStorage import FileStorage

from livesync.cli.main import main
from livesync.versions import DeltasCollection
from livesync.versions.stored import SCHEMA


class Desk:
    """A database with documents, and the command line on it."""

    def __init__(self, path, capsys):
        self.path = path
        self.capsys = capsys

    def write(self, **documents):
        self.write_mapping("documents", **documents)

    def write_mapping(self, mapping, **documents):
        db = ZODB.DB(FileStorage(str(self.path)))
        with db.transaction() as connection:
            kept = dict(connection.root().get(mapping, {}))
            kept.update({name: value for name, value in documents.items() if value is not None})
            for name in [name for name, value in documents.items() if value is None]:
                del kept[name]
            connection.root()[mapping] = kept
        db.close()

    def documents(self):
        db = ZODB.DB(FileStorage(str(self.path), read_only=True))
        with db.transaction() as connection:
            found = dict(connection.root()["documents"])
        db.close()
        return found

    def __call__(self, *arguments, json_=False):
        options = ["--db", f"file://{self.path}", *(["--json"] if json_ else [])]
        code = int(main([*options, "version", *arguments]))
        told = self.capsys.readouterr()
        return code, told.out, told.err


@pytest.fixture
def desk(tmp_path, no_fsync, capsys, monkeypatch):
    monkeypatch.delenv("LIVESYNC_HOST", raising=False)
    made = Desk(tmp_path / "a.fs", capsys)
    made.write(a={"title": "A", "n": 1}, b={"title": "B"})
    return made


@pytest.fixture
def begun(desk):
    assert desk("init", "-m", "begun")[0] == 0
    return desk


@pytest.fixture
def torn(begun):
    """Two branches that disagree on a title; main is checked out."""
    begun("branch", "side")
    begun.write(a={"title": "theirs", "n": 1})
    begun("register", "-m", "theirs")
    begun("checkout", "main")
    begun.write(a={"title": "ours", "n": 1}, b={"title": "BB"})
    begun("register", "-m", "ours")
    return begun


def test_without_versions_every_command_says_how_to_begin(desk):
    for arguments in (
        ("status",),
        ("log",),
        ("register", "-m", "x"),
        ("checkout", "main"),
        ("stash",),
        ("branch",),
    ):
        code, out, err = desk(*arguments)
        assert (code, out) == (2, "")
        assert err == "livesync: 'documents' has no versions yet: init makes the first\n"


def test_beginning_registering_and_looking(desk):
    code, out, _ = desk("init")
    assert (code, out.splitlines()[1:]) == (0, [" 2 created"])
    assert desk("init")[0] == 2
    assert desk("status")[1] == "On branch main, version 0\nnothing has changed\n"
    desk.write(a={"title": "A", "n": 2}, c={"n": 1}, b=None)
    assert desk("status")[1].splitlines() == [
        "On branch main, version 0",
        "  created:  c",
        "  changed:  a",
        "  deleted:  b",
    ]
    assert '-  "n": 1\n+  "n": 2\n' in desk("diff")[1]
    assert desk("diff", "--names")[1] == "changed  a\ndeleted  b\ncreated  c\n"
    code, out, _ = desk("register", "-m", "more", "--author", "ada")
    assert (code, out.splitlines()[1]) == (0, " 1 created, 1 changed, 1 deleted")
    assert desk("register", "-m", "again")[1] == "nothing to register: the documents are as registered\n"
    log = desk("log")[1]
    assert log.startswith("version 1 (main) ")
    assert "(HEAD -> main)" in log.splitlines()[0]
    assert "Author:  ada" in log
    assert json.loads(desk("show", "main:0", "a")[1]) == {"title": "A", "n": 1}
    assert "Document c" in desk("show")[1]
    assert desk("history", "b")[1].count("version ") == 2


@pytest.fixture
def catalogue(desk):
    desk.write_mapping("talks", t1={"title": "Sync"})
    desk.write_mapping("events", e1={"year": 2017})
    code, out, err = desk("init", "-c", "catalogue", "--of", "talks", "--of", "events")
    assert (code, err) == (0, "")
    assert out.splitlines()[1] == " 2 created"
    return desk


def test_several_collections_have_one_history(catalogue):
    catalogue.write_mapping("talks", t1={"title": "Sync, again"})
    catalogue.write_mapping("events", e2={"year": 2018})
    assert catalogue("status", "-c", "catalogue")[1].splitlines()[1:] == [
        "  created:  events:e2",
        "  changed:  talks:t1",
    ]
    assert (
        catalogue("register", "-c", "catalogue", "-m", "both")[1].splitlines()[1] == " 1 created, 1 changed"
    )
    assert json.loads(catalogue("show", "0", "talks:t1", "-c", "catalogue")[1]) == {"title": "Sync"}
    assert catalogue("diff", "0", "1", "--names", "-c", "catalogue")[1] == (
        "created  events:e2\nchanged  talks:t1\n"
    )
    assert "title: 'Sync, again'" in catalogue("blame", "talks:t1", "-c", "catalogue")[1]
    assert catalogue("fsck", "-c", "catalogue")[1] == "2 versions: nothing is wrong\n"
    code, _, err = catalogue("show", "0", "t1", "-c", "catalogue")
    assert code == 2
    assert err == (
        "livesync: there is no document 't1' at this version; name it as COLLECTION:ID, of events, talks\n"
    )


def test_histories_are_listed_and_may_follow_more_collections(catalogue):
    assert catalogue("collections")[1] == ("catalogue  1 version, at version 0 of main, of events, talks\n")
    catalogue.write_mapping("people", p1={"name": "Ada"})
    code, out, _ = catalogue("collections", "-c", "catalogue", "--add", "people")
    assert (code, out) == (0, "catalogue follows people, too: register its 1 document.\n")
    catalogue("register", "-c", "catalogue", "-m", "people, too")
    found = json.loads(catalogue("collections", json_=True)[1])["histories"]
    assert [one["collections"] for one in found] == [["events", "people", "talks"]]
    for arguments, said in (
        (("--add", "people"), "'catalogue' is of a collection 'people' already"),
        (("--add", "a:b"), "'a:b' is no name: white space, colons and control characters are not for names"),
    ):
        assert catalogue("collections", "-c", "catalogue", *arguments) == (2, "", f"livesync: {said}\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--of", "talks", "--of", "talks"), "name each of the collections once"),
        (
            ("--of", "talks=kind=talk"),
            "the rule 'kind=talk' of 'talks' is about an application's documents: give a host",
        ),
        (("--of", "documents"), "'documents' has versions already, in the history 'documents'"),
    ],
)
def test_a_history_that_cannot_be_of_these_collections_says_why(begun, arguments, said):
    assert begun("init", "-c", "more", *arguments) == (2, "", f"livesync: {said}\n")


def test_a_bundle_of_several_collections_is_read_elsewhere(catalogue, tmp_path, capsys):
    file = str(tmp_path / "b")
    assert catalogue("export", file, "-c", "catalogue")[0] == 0
    there = Desk(tmp_path / "there.fs", capsys)
    there.write(z={})
    assert there("import", file, "-c", "catalogue")[0] == 0
    assert there("collections")[1] == "catalogue  1 version, at version 0 of main, of events, talks\n"
    assert json.loads(there("show", "main", "events:e1", "-c", "catalogue")[1]) == {"year": 2017}


def test_a_bundle_is_taken_in_under_another_name(begun, catalogue, tmp_path):
    there = Desk(tmp_path / "there.fs", begun.capsys)
    there.write_mapping("nothing")
    for name in ("documents", "catalogue"):
        file = str(tmp_path / name)
        assert begun("export", file, "-c", name)[0] == 0
        brought = (0, f"From {file}\n * [new branch]     main\n", "")
        if name == "documents":
            assert there("import", file, "-c", "other") == brought
            assert there("log", "-c", "other")[1] == begun("log")[1]
        else:
            assert there("import", file, "-c", "another") == brought
            assert there("log", "-c", "another")[1] == begun("log", "-c", "catalogue")[1]
    refused = begun("import", file, "-c", "third")
    assert refused == (2, "", "livesync: 'events' has versions already, in the history 'catalogue'\n")


def test_versions_are_named_in_many_ways(begun):
    begun.write(a={"title": "A", "n": 2})
    begun("register", "-m", "one")
    begun("tag", "first", "main:0")
    version_id = json.loads(begun("log", "-n", "1", json_=True)[1])["versions"][0]["id"]
    for name in ("HEAD~1", "main~1", "main:0", "0", "first", "HEAD~"):
        assert json.loads(begun("show", name, "a")[1])["n"] == 1
    for name in ("HEAD", "main", "1", version_id, version_id[:9]):
        assert json.loads(begun("show", name, "a")[1])["n"] == 2
    for name in ("nope", "7", "main:7", "main~9", "HEAD~x", "abcdef", "nope:0"):
        code, out, err = begun("show", name)
        assert (code, out) == (3, "")
        assert err.startswith("livesync: ")
        assert err.count("\n") == 1


def test_an_id_is_forgotten_in_all_collections_where_nothing_but_a_history_is_kept(catalogue):
    code = main(["--db", f"file://{catalogue.path}", "forget", "t1"])
    told = catalogue.capsys.readouterr()
    assert (int(code), told.err) == (0, "")
    assert "history: erased from all versions of catalogue\n" in told.out
    assert catalogue("show", "0", "talks:t1", "-c", "catalogue")[0] != 0
    assert json.loads(catalogue("show", "0", "events:e1", "-c", "catalogue")[1]) == {"year": 2017}
    assert catalogue("fsck", "-c", "catalogue")[1] == "1 version: nothing is wrong\n"


def test_a_branch_is_deleted_once_it_is_merged_or_by_force(torn):
    for arguments, said in (
        (("--delete", "main"), "HEAD is on 'main': check out another branch before it is deleted"),
        (("--delete", "side"), "nothing else leads to version 0 of 'side': merge, or force it"),
        (("--delete",), "name the branch"),
        (("--force", "new"), "--force goes with --delete"),
    ):
        assert torn("branch", *arguments) == (2, "", f"livesync: {said}\n")
    assert torn("branch", "--delete", "nope")[0] == 3
    assert torn("branch", "--delete", "side", "--force")[1] == "Branch side is deleted.\n"
    assert torn("branch")[1] == "* main  version 1\n"


def test_without_a_message_somebody_has_to_have_noted_why(begun):
    assert begun("register")[1] == "nothing to register: the documents are as registered\n"
    begun.write(a={"n": 2})
    assert begun("register") == (
        2,
        "",
        "livesync: say why: give --message; nothing was noted with the changes\n",
    )
    assert begun("register", "-m", "because")[0] == 0


def test_checkout_changes_the_documents_and_says_where_one_is(begun):
    begun.write(a={"title": "A", "n": 2})
    code, _, err = begun("checkout", "main:0")
    assert code == 0, err
    begun("register", "-m", "one")
    code, out, _ = begun("checkout", "main:0")
    assert out.splitlines()[0] == "You are now at version 0 of branch main."
    assert "detached" in out
    assert begun.documents()["a"]["n"] == 1
    begun.write(a={"title": "A", "n": 9})
    code, _, err = begun("register", "-m", "x")
    assert (code, "new branch" in err) == (2, True)
    assert begun("checkout", "main")[0] == 2
    assert begun("register", "-m", "x", "-b", "past")[0] == 0
    assert begun("branch")[1] == "  main  version 1\n* past  version 0\n"


def test_a_stash_and_what_is_discarded(begun):
    begun.write(a={"n": 5})
    assert begun("stash")[1] == "Changes stashed.\n"
    assert begun.documents()["a"] == {"title": "A", "n": 1}
    assert begun("stash")[1] == "No changes to stash.\n"
    assert begun("stash", "apply")[1] == "Stash applied.\n"
    assert begun.documents()["a"] == {"n": 5}
    assert begun("stash", "discard")[1] == "Nothing is stashed.\n"
    code, _, err = begun("discard")
    assert (code, "--yes" in err) == (2, True)
    assert begun("discard", "--yes")[1] == "Changes of 1 document discarded.\n"
    assert begun("discard")[1] == "nothing to discard\n"


def test_a_merge_that_disagrees_waits_and_is_decided(torn):
    code, out, _ = torn("merge", "side")
    assert code == 1
    assert "  a: edit/edit at title\n" in out
    code, out, _ = torn("conflicts")
    assert (code, out) == (1, 'a: edit/edit at title\n  base:   "A"\n  ours:   "ours"\n  theirs: "theirs"\n')
    assert torn("register", "-m", "no")[0] == 2
    assert torn("conflicts", "--take", "ours", "--path", "title")[0] == 2
    assert torn("conflicts", "--take", "ours", "--document", "a", "--path", "n")[0] == 2
    assert torn("conflicts", "--value", "{")[0] == 2
    assert torn("conflicts", "--value", '"both"', "--abort")[0] == 2
    code, out, _ = torn("conflicts", "--value", '"both"', "--document", "a", "--path", "title")
    assert (code, out.startswith("[main 2 ")) == (0, True)
    assert torn.documents() == {"a": {"title": "both", "n": 1}, "b": {"title": "BB"}}
    assert torn("conflicts")[:2] == (0, "there are no conflicts\n")
    assert torn("merge", "side")[1] == "already up to date\n"


def test_the_graph_shows_forks_and_merges(torn):
    torn("merge", "side")
    torn("conflicts", "--take", "theirs")
    lines = [line.rstrip() for line in torn("log", "--graph")[1].splitlines()]
    assert lines == [
        "* main:2 (HEAD -> main) Merge 'side' into 'main'",
        "|\\",
        "* | main:1 ours",
        "| * side:0 (side) theirs",
        "|/",
        "* main:0 begun",
    ]


def test_a_merge_is_aborted_a_version_picked_and_taken_back(torn):
    torn("merge", "side")
    assert torn("conflicts", "--abort")[1] == "The merge is aborted.\n"
    assert torn("conflicts", "--abort")[1] == "no merge waits\n"
    assert torn("revert", "HEAD")[0] == 0
    assert torn.documents()["a"]["title"] == "A"
    assert torn("cherry-pick", "side")[0] == 0
    assert torn.documents()["a"]["title"] == "theirs"
    assert torn("cherry-pick", "main:0")[0] == 2


def test_branches_and_tags_are_named_once(begun):
    assert begun("branch", "side")[1] == "Switched to a new branch side, at version 0 of main.\n"
    assert begun("branch", "side")[0] == 2
    assert begun("branch", "no name")[0] == 2
    assert begun("branch", "other", "--rename", "side")[1] == "Branch side is called other now.\n"
    assert begun("branch", "x", "--rename", "nope")[0] == 3
    assert begun("tag", "one")[0] == 0
    assert begun("tag", "one")[0] == 2
    assert begun("tag")[1] == "one  version 0 of main\n"
    assert begun("tag", "one", "--delete")[1] == "Tag one is deleted.\n"
    assert begun("tag", "one", "--delete")[0] == 2


def test_branches_travel_between_databases(begun, tmp_path):
    uri = f"file://{tmp_path / 'b.fs'}"
    assert begun("push", uri)[0] == 4
    ZODB.DB(FileStorage(str(tmp_path / "b.fs"))).close()
    assert begun("push", uri)[1] == f"To {uri}\n * [new branch]     main\n"
    assert begun("push", uri)[1] == "Everything up-to-date\n"
    assert f"{uri}: up to date\n" in begun("status")[1]
    other = Desk(tmp_path / "b.fs", begun.capsys)
    assert "begun" in other("log")[1]
    begun.write(a={"title": "here", "n": 1})
    begun("register", "-m", "here")
    other("checkout", "main")
    db = ZODB.DB(FileStorage(str(other.path)))
    with db.transaction() as connection:
        connection.root()["documents"]["a"] = {"title": "there", "n": 1}
    db.close()
    other("register", "-m", "there")
    code, _, err = begun("push", uri)
    assert (code, "have diverged" in err) == (2, True)
    code, out, _ = begun("pull", uri)
    assert (code, "conflicts wait (1)" in out) == (1, True)
    assert "(merged, and conflicts wait; what was here before is on __rebranched_main_0)" in out
    assert f"{uri}: up to date\n" in begun("status")[1]
    assert begun("conflicts", "--take", "theirs")[0] == 0
    assert f"{uri}: ahead by 2, behind by 0\n" in begun("status")[1]
    assert begun("push", uri)[0] == 0
    assert json.loads(other("show", "HEAD", "a")[1])["title"] == "here"


def test_what_was_pushed_to_a_database_is_squashed_by_force_only(long, tmp_path):
    uri = f"file://{tmp_path / 'b.fs'}"
    ZODB.DB(FileStorage(str(tmp_path / "b.fs"))).close()
    long("push", uri)
    code, _, err = long("squash", "--last", "2")
    assert (code, f"is known at {uri}" in err) == (2, True)
    assert long("squash", "--last", "2", "--force")[0] == 0


@pytest.mark.parametrize("command", ["push", "pull"])
def test_a_database_is_no_remote_of_its_own(begun, command):
    for uri in (f"file://{begun.path}", f"file://{begun.path.parent}/../{begun.path.parent.name}/a.fs?x=1"):
        assert begun(command, uri) == (2, "", f"livesync: {uri} is this database itself: name another one\n")
    assert begun("status")[1] == "On branch main, version 0\nnothing has changed\n"


def test_a_file_brings_what_has_diverged_as_a_pull_does(torn, tmp_path):
    file = str(tmp_path / "talks.bundle")
    torn("tag", "both", "main:0")
    assert torn("export", file)[0] == 0
    torn("squash", "main..main", "-m", "main, said anew")
    torn("squash", "side..side", "-m", "side, said anew")

    code, out, _ = torn("import", file)

    assert (code, out.splitlines()[0]) == (1, f"From {file}")
    assert " ! [diverged]       side  (left as it is: check it out, and pull then)" in out
    assert "main  (merged; what was here before is on __rebranched_main_0)" in out
    assert " = [up to date]     both" in out
    assert json.loads(torn("import", file, json_=True)[1])["refs"][0]["what"] == "diverged"
    assert torn("fsck")[0] == 0


def test_a_pull_beside_changes_leaves_them_and_refuses_what_it_would_write(begun, tmp_path):
    uri = f"file://{tmp_path / 'b.fs'}"
    ZODB.DB(FileStorage(str(tmp_path / "b.fs"))).close()
    begun("push", uri)
    other = Desk(tmp_path / "b.fs", begun.capsys)
    other.write(a={"title": "there", "n": 1})
    other("register", "-m", "there")
    begun.write(a={"title": "mine"}, b={"title": "BB"})
    told = "livesync: 'a' changed here and there: register, stash or discard your changes first\n"
    assert begun("pull", uri) == (2, "", told)
    assert "there" not in begun("log")[1]
    begun.write(a={"title": "A", "n": 1})
    assert begun("pull", uri)[0] == 0
    assert begun.documents() == {"a": {"title": "there", "n": 1}, "b": {"title": "BB"}}
    assert "  changed:  b\n" in begun("status")[1]


def test_json_says_all_of_a_version(begun):
    found = json.loads(begun("log", json_=True)[1])["versions"]
    assert [(one["version"], one["branch"], one["message"], one["counts"]["created"]) for one in found] == [
        (0, "main", "begun", 2)
    ]
    assert json.loads(begun("status", json_=True)[1])["tracked"] is True


def test_a_history_is_looked_over_and_carried_in_a_file(torn, tmp_path):
    code, out, _ = torn("fsck")
    assert (code, out) == (0, "3 versions: nothing is wrong\n")
    assert torn("gc")[1].startswith("0 versions removed")
    file = str(tmp_path / "talks.bundle")
    assert torn("export", file)[1] == f"3 versions written to {file}\n"
    assert torn("export", file)[0] == 2
    assert torn("export", str(tmp_path / "no" / "file"))[0] == 2
    ZODB.DB(FileStorage(str(tmp_path / "c.fs"))).close()
    other = Desk(tmp_path / "c.fs", torn.capsys)
    brought = f"From {file}\n * [new branch]     main\n * [new branch]     side\n"
    assert other("import", file)[:2] == (0, brought)
    assert other("import", file)[:2] == (0, "Everything up-to-date\n")
    assert "theirs" in other("log", "side")[1]
    assert other("status")[1].startswith("On branch main, version 1\n")
    (tmp_path / "broken").write_bytes(b"nonsense")
    code, _, err = other("import", str(tmp_path / "broken"))
    assert (code, err) == (4, "livesync: this is no bundle of livesync\n")
    assert other("import", str(tmp_path / "nothing"))[0] == 2


def test_blame_names_the_version_of_each_value(begun):
    begun.write(a={"title": "A", "n": 2})
    begun("register", "-m", "one", "--author", "ada")
    lines = begun("blame", "a")[1].splitlines()
    assert [line.split(" ", 1)[1].split("-")[0][:9] for line in lines] == ["0 (main) ", "1 (main) "]
    assert "ada" in lines[1]
    assert begun("blame", "nope")[0] == 2


@pytest.fixture
def long(begun):
    """Eight versions of main; 3 has a tag."""
    for number in range(1, 8):
        begun.write(a={"title": "A", "n": number * 10})
        begun("register", "-m", f"v{number}", "--author", "ada")
    begun("tag", "third", "3")
    return begun


def test_old_versions_lose_what_they_held_and_say_so(long):
    code, out, _ = long("prune", "--keep", "2", "--dry-run")
    assert (code, out.splitlines()) == (
        0,
        [f"version {number} of main" for number in (5, 4, 2, 1)] + ["4 versions would be pruned"],
    )
    assert long("prune", "--keep", "100")[1].startswith("0 versions pruned; ")
    assert json.loads(long("prune", "--keep", "2,1", json_=True)[1])["pruned"] == 4
    assert long("fsck")[:2] == (0, "8 versions: nothing is wrong\n")
    log = long("log")[1]
    assert log.count("Pruned:  this record is all that is left") == 4
    assert [one["pruned"] for one in json.loads(long("log", json_=True)[1])["versions"]] == [
        False,
        False,
        True,
        True,
        False,
        True,
        True,
        False,
    ]
    assert "* main:5 (pruned) v5\n" in long("log", "--graph")[1]
    for arguments in (("show", "5", "a"), ("diff", "5"), ("checkout", "5"), ("blame", "a", "--at", "5")):
        code, out, err = long(*arguments)
        assert (code, out) == (3, "")
        assert err.startswith("livesync: the contents of version 5 of branch 'main' were pruned: its record")
    code, out, _ = long("show", "5")
    assert (code, "Pruned: " in out, "Document" in out) == (0, True, False)
    code, out, _ = long("show", "6")
    assert "Since:   version 3 (main): what lay between was pruned" in out.splitlines()
    assert '-  "n": 30' in out
    assert out.count("Document ") == 1
    assert long("history", "a")[1].count("Since:   version") == 2
    assert long("history", "a", "--limit", "2")[1].count("Author:  ada") == 2


def test_wrong_words_of_what_to_keep_are_refused(long):
    assert long("prune")[0] == 2
    code, out, err = long("prune", "--keep", "fortnightly")
    assert (code, out) == (2, "")
    assert err.startswith("livesync: 'fortnightly' says not what to keep: a number of versions")


def test_a_run_of_versions_becomes_one(long):
    code, out, _ = long("squash", "4..6", "-m", "four to six")
    assert (code, out.splitlines()[0].split(" ", 2)[:2]) == (0, ["[main", "4"])
    assert out.splitlines()[0].endswith("] four to six")
    assert [one["message"] for one in json.loads(long("log", json_=True)[1])["versions"]][:3] == [
        "v7",
        "four to six",
        "v3",
    ]
    assert long("squash", "--last", "2")[0] == 0
    assert json.loads(long("log", json_=True)[1])["versions"][0]["message"] == "four to six\nv7"
    for arguments, said in (
        (("2..4",), "tag 'third' is at version 3 of 'main', within the run"),
        (("4..2",), "name the older one first"),
        (("0..1",), "the first version of all stays"),
        ((), "give FROM..TO, or --last N"),
        (("1..2", "--last", "2"), "give FROM..TO, or --last N"),
        (("2",), "'2' is no run of versions: write FROM..TO"),
        (("--last", "9"), "does not exist"),
    ):
        code, out, err = long("squash", *arguments, "-m", "x")
        assert (code in (2, 3), out) == (True, "")
        assert said in err
    assert long("fsck")[0] == 0
    long.write(a={"title": "other"})
    long("register", "-m", "there")
    long.write(a={"title": "A", "n": 70})
    long("register", "-m", "and back")
    assert long("squash", "--last", "2")[1] == "all that was changed was changed back: no version is left\n"
    assert long.documents()["a"] == {"title": "A", "n": 70}


def test_what_nothing_leads_to_stays_for_a_time(long):
    long("branch", "side")
    long.write(b={"title": "side"})
    long("register", "-m", "side")
    long("checkout", "main")
    db = ZODB.DB(FileStorage(str(long.path)))
    with db.transaction() as connection:
        from livesync.versions import VersionedCollection

        VersionedCollection(connection.root(), "documents").names.drop_branch("side")
    db.close()
    assert long("gc")[1].startswith("0 versions removed; ")
    assert long("gc", "--grace", "1d")[1].startswith("0 versions removed; ")
    assert json.loads(long("gc", "--grace", "0", json_=True)[1])["removed"] == 1
    assert long("fsck")[1] == "8 versions: nothing is wrong\n"


def test_a_branch_without_versions_of_its_own_is_checked_out_by_its_name(begun):
    begun("branch", "empty")
    begun("checkout", "main")
    assert begun("checkout", "empty")[0] == 0
    assert begun("status")[1].startswith("On branch empty, no version of its own yet")


@pytest.fixture
def opened(begun):
    """Version 1 of main, and version 0 of a branch from elsewhere, are open."""
    db = ZODB.DB(FileStorage(str(begun.path)))
    with db.transaction() as connection:
        deltas = DeltasCollection(connection, "documents")
        when, before = datetime(2030, 1, 1, tzinfo=UTC), [(0, "main")]
        deltas.add_delta({"title": "A", "n": 1}, {"title": "A", "n": 2}, "a", 1, "main", when, before)
        deltas.add_delta({}, {"title": "C"}, "c", 1, "main", when, before)
        deltas.add_delta({"title": "B"}, {}, "b", 0, "elsewhere", when, before)
    db.close()
    return begun


def test_an_open_version_is_shown_and_closed_and_the_documents_follow(opened):
    assert opened("status")[1].splitlines() == [
        "On branch main, version 0",
        "Version 1 of main is open: livesync version close main",
        "Version 0 of elsewhere is open: livesync version close elsewhere",
        "nothing has changed",
    ]
    assert opened("fsck")[0] == 1
    code, out, err = opened("close", "-m", "it came in parts", "--author", "ada")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("[main 1 ")
    assert out.splitlines()[0].endswith("] it came in parts")
    assert out.splitlines()[1] == " 1 created, 1 changed"
    assert opened.documents() == {"a": {"title": "A", "n": 2}, "b": {"title": "B"}, "c": {"title": "C"}}
    assert "Author:  ada" in opened("log")[1]
    assert json.loads(opened("status", json_=True)[1])["open"] == [[0, "elsewhere"]]

    version = json.loads(opened("close", "elsewhere", "-m", "too", json_=True)[1])["version"]

    assert (version["branch"], version["version"], version["message"]) == ("elsewhere", 0, "too")
    assert set(opened.documents()) == {"a", "b", "c"}
    assert opened("fsck")[1] == "3 versions: nothing is wrong\n"
    assert "is open" not in opened("status")[1]


def test_where_no_version_is_open_none_is_closed(begun):
    assert begun("close", "-m", "x") == (2, "", "livesync: no version of 'main' is open\n")


def test_what_cannot_be_closed_is_refused_in_one_line_and_nothing_is_lost(opened):
    assert opened("close") == (2, "", "livesync: say why: give --message\n")
    assert opened("close", "nowhere", "-m", "x") == (3, "", "livesync: there is no branch 'nowhere'\n")
    opened.write(b={"title": "B", "n": 7})
    code, out, err = opened("close", "-m", "x")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("livesync: there are changes: ")
    assert opened.documents()["b"] == {"title": "B", "n": 7}
    assert len(json.loads(opened("status", json_=True)[1])["open"]) == 2

    assert opened("stash")[0] == 0
    assert opened("close", "-m", "x")[0] == 0
    assert opened("stash", "apply")[0] == 0
    assert opened("register", "-m", "mine")[0] == 0
    assert opened.documents() == {
        "a": {"title": "A", "n": 2},
        "b": {"title": "B", "n": 7},
        "c": {"title": "C"},
    }
    assert opened("close", "-m", "x") == (2, "", "livesync: no version of 'main' is open\n")


def set_schema(desk, schema):
    db = ZODB.DB(FileStorage(str(desk.path)))
    with db.transaction() as connection:
        connection.root()["livesync.versions"]["documents"].schema = schema
    db.close()


@pytest.mark.parametrize(
    ("schema", "way"),
    [(SCHEMA - 1, "and begin anew"), (SCHEMA + 1, "or a newer one")],
)
def test_a_history_of_another_schema_is_refused_in_one_line_and_stays_as_it_is(begun, schema, way):
    told = begun("log")
    set_schema(begun, schema)
    begun.write(a={"title": "A", "n": 2})
    before = begun.path.read_bytes()

    commands = [
        ("log",), ("status",), ("register", "-m", "x"), ("init", "-m", "x"), ("checkout", "0"), ("fsck",),
        ("gc",), ("history", "a"), ("export", str(begun.path.with_name("bundle"))), ("collections",),
    ]  # fmt: skip
    for command in commands:
        code, out, err = begun(*command)
        assert (code, out, err.count("\n")) == (12, "", 1), command
        assert f"the stored schema of histories is {schema}, this livesync's is {SCHEMA}; " in err
        assert way in err

    assert begun.path.read_bytes() == before
    set_schema(begun, SCHEMA)
    assert begun("log") == told
    assert begun("register", "-m", "x")[0] == 0


def test_what_is_said_of_an_older_schema_leads_on(begun):
    set_schema(begun, SCHEMA - 1)
    assert "take them out of what the database's root has as 'livesync.versions'" in begun("log")[2]
    db = ZODB.DB(FileStorage(str(begun.path)))
    with db.transaction() as connection:
        del connection.root()["livesync.versions"]["documents"]
    db.close()

    assert begun("init", "-m", "anew")[0] == 0
    assert begun.documents() == {"a": {"title": "A", "n": 1}, "b": {"title": "B"}}
    assert begun("fsck")[1] == "1 version: nothing is wrong\n"
