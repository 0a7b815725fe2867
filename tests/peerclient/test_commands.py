"""The commands of ``livesync peer`` that sync, as people use them."""

import json
import time

import pytest
from support import peer_world, school
from support.faulty_proxy import FaultyProxy
from support.peer_world import PART, PROFILE

from livesync import SyncManager
from livesync.cli.exitcodes import ExitCode
from livesync.database import committed, open_database
from livesync.replication import ZODBDataStore


@pytest.fixture
def world(stack, tmp_path, monkeypatch):
    """One whose clock is that of the wall, as the command's is."""
    monkeypatch.setattr(peer_world, "NOW", time.time())
    return peer_world.World(stack, tmp_path)


def add(livesync, url, *more):
    return livesync("peer", "add", "school", url, "--profile", PROFILE, "--insecure-http", *more)


def test_a_peer_is_added_listed_synced_with_and_removed(home, world, served):
    world.fill(5)

    added = add(home, served.url)
    before = home("peer", "list")
    synced = home("peer", "sync")
    after = home("peer", "list")
    again = home("peer", "sync", "school")
    removed = home("peer", "remove", "school")

    assert added.code == ExitCode.OK
    assert "never" in before.out
    assert (synced.code, synced.err) == (ExitCode.OK, "")
    assert synced.out.startswith("school: 5 received, 3 sent; ")
    assert "5 received, 3 sent" in " ".join(after.out.split())
    assert again.out.startswith("school: 0 received, 0 sent; ")
    assert len(world.contents()) == 8
    assert removed.code == ExitCode.OK
    assert "no peers yet" in home("peer", "list").out


def test_programs_are_told_the_same_in_json(home, world, served):
    world.fill(2)
    add(home, served.url)

    synced = json.loads(home("--json", "peer", "sync").out)
    status = json.loads(home("--json", "peer", "status", "--ask").out)
    sessions = json.loads(home("--json", "peer", "sessions").out)

    assert synced["peers"][0]["result"]["pulled"] == 2
    assert status["peers"][0]["answer"]["name"] == "server"
    assert status["peers"][0]["outcomes"][0]["error"] == ""
    (only,) = sessions["sessions"]
    assert (only["role"], only["active"]) == ("begun", False)
    assert {each["direction"] for each in only["transfers"]} == {"pull", "push"}


def test_where_both_ends_differ_though_both_claim_the_same_is_shown(home, world, served):
    world.fill(3)
    add(home, served.url)
    home("peer", "sync")
    same = home("peer", "status").out + home("peer", "sessions").out
    db = open_database(home.uri)
    store = ZODBDataStore(db)
    store.run(lambda: store.drop(store.get("h1")))  # so it holds less than it claims
    db.close()
    for _ in range(2):
        assert home("peer", "sync").code == ExitCode.OK

    status, sessions = home("peer", "status").out, home("peer", "sessions").out

    assert "both claim it" not in same
    assert "  differs: not the same at both ends, though both claim it: F1; the next sessions" in status
    assert sessions.count("    not the same at both ends, though both claim it: F1;") == 1
    (peer,) = json.loads(home("--json", "peer", "status").out)["peers"]
    assert peer["differences"] == ["F1"]
    told = json.loads(home("--json", "peer", "sessions").out)["sessions"]
    assert [each["differences"] for each in told[0]["transfers"] if not each["sends"]] == [["F1"]]
    for _ in range(2):
        home("peer", "sync")
    assert "differs:" not in home("peer", "status").out


@pytest.mark.slow
def test_objects_of_the_application_that_do_not_travel_are_named(home, world, served, monkeypatch):
    monkeypatch.setenv("LIVESYNC_HOST", "support.school:host")
    monkeypatch.setenv("LIVESYNC_PEER_KEYS", f"{home.uri.removeprefix('file://')}.keys")
    db = open_database(home.uri)
    for each in (("bad", "a b", "x"), ("good", "F1", "x")):
        committed(db, lambda root, each=each: school.change(SyncManager.get(root), root, *each))
    db.close()
    add(home, served.url)

    synced, status, doctor = home("peer", "sync"), home("peer", "status"), home("doctor")

    assert synced.code == ExitCode.OK
    assert synced.out.startswith("school: 0 received, 4 sent; ")
    assert synced.err == (
        "livesync: 1 object of the application cannot be taken, and does not travel: `livesync peer status`"
        " says why\n"
    )
    said = "object bad cannot be taken, and does not travel: ValueError: 'a b' is no partition: it holds"
    assert said in status.out
    assert said in doctor.out
    (told,) = json.loads(home("--json", "peer", "status").out)["untaken"]
    assert told["object"] == "bad"


def test_only_one_way_is_synced_where_that_is_asked_for(home, world, served):
    world.fill(2)
    add(home, served.url)

    assert home("peer", "sync", "--push-only").out.startswith("school: 0 received, 3 sent; ")
    assert home("peer", "sync", "--pull-only").out.startswith("school: 2 received, 0 sent; ")


@pytest.mark.slow
def test_a_filter_of_a_peer_keeps_the_rest_at_home(home, world, served):
    world.fill(2, "F1:U1")
    world.fill(3, "F1:U2")
    add(home, served.url, "--pull", "F1:U1", "--no-push")

    assert home("peer", "sync").out.startswith("school: 2 received, 0 sent; ")


WRONG = [
    (("peer", "sync", "nobody"), ExitCode.NOT_FOUND, "there is no peer 'nobody'"),
    (("peer", "remove", "nobody"), ExitCode.NOT_FOUND, "there is no peer 'nobody'"),
    (("peer", "resume", "abc"), ExitCode.NOT_FOUND, "begins with 'abc'"),
    (("peer", "add", "x", "http://h", "--profile", "notes"), ExitCode.USAGE, "not encrypted"),
    (("peer", "add", "x", "https://a:b@h", "--profile", "notes"), ExitCode.USAGE, "no password"),
    (("peer", "add", "x", "ftp://h", "--profile", "notes"), ExitCode.USAGE, "no address of a peer"),
    (("peer", "add", "a b", "https://h", "--profile", "notes"), ExitCode.USAGE, "no name of a peer"),
    (("peer", "add", "x", "https://h", "--profile", "no tes"), ExitCode.USAGE, "profile"),
    (("peer", "add", "x", "https://h", "--profile", "n", "--push", "a::b"), ExitCode.USAGE, "empty"),
    (
        ("peer", "add", "x", "https://h", "--profile", "n", "--certificate", "ff"),
        ExitCode.NOT_FOUND,
        "ff",
    ),
    (("peer", "cert", "request", "--profile", "n", "--scope", "s"), ExitCode.USAGE, "--to FILE"),
    (
        ("peer", "cert", "request", "--profile", "n", "--scope", "s", "--from", "https://h"),
        ExitCode.USAGE,
        "--user",
    ),
]


def test_wrong_input_gets_one_line(home):
    for argv, code, says in WRONG:
        found = home(*argv)

        assert found.code == code, argv
        assert says in found.err
        assert found.err.count("\n") == 1


@pytest.mark.slow
def test_a_peer_that_does_not_answer_is_one_line_and_the_next_one_is_synced_with(
    home, world, served, monkeypatch
):
    monkeypatch.setattr("livesync.peering.retrying.Retries.wait", lambda self, tries, after_s=None: None)
    home("peer", "add", "away", "http://127.0.0.1:9", "--profile", PROFILE, "--insecure-http")
    add(home, served.url)

    found = home("peer", "sync")
    status = home("peer", "status")

    assert found.code == ExitCode.SERVICE
    assert found.err.startswith("livesync: peer away: http://127.0.0.1:9 did not answer: Connection refused")
    assert found.err.count("\n") == 1
    assert "school: 0 received, 3 sent" in found.out
    assert "failed: http://127.0.0.1:9 did not answer" in status.out


def test_more_than_a_certificate_allows_is_refused(home, world, served):
    add(home, served.url, "--push", "F2")

    found = home("peer", "sync")

    assert found.code == ExitCode.REFUSED
    assert "do not allow to send F2" in found.err


@pytest.mark.slow
def test_a_session_that_was_cut_is_shown_and_resumed(home, world, served, stack, monkeypatch):
    monkeypatch.setattr("livesync.peering.retrying.Retries.wait", lambda self, tries, after_s=None: None)
    world.fill(1_200)
    proxy = FaultyProxy(served.port, 1, share=0)
    stack.callback(proxy.close)
    add(home, proxy.url)
    proxy.lose_after = 5

    failed = home("peer", "sync")
    proxy.lose_after = None
    status = home("peer", "status")
    (cut,) = json.loads(home("--json", "peer", "sessions", "--active").out)["sessions"]
    shown = cut["transfers"][0]["id"][:8]
    other_process = home("peer", "resume", shown)
    again = [home("peer", "resume", each) for each in (shown, cut["id"])]

    assert failed.code == ExitCode.SERVICE
    assert f"  cut:     {shown} receives F1" in status.out
    assert cut["transfers"][0]["items"] == 1_000
    assert other_process.code == ExitCode.OK
    assert "1,200 received" in other_process.out
    assert "one that was cut went on" in other_process.out
    for each in again:
        assert each.code == ExitCode.NOT_FOUND
        assert each.err.startswith(f"livesync: session {cut['id'][:8]} has ended: there is nothing to go on")


@pytest.mark.slow
def test_what_nobody_goes_on_with_is_cleaned_up(home, world, served, stack, monkeypatch):
    monkeypatch.setattr("livesync.peering.retrying.Retries.wait", lambda self, tries, after_s=None: None)
    world.fill(600)
    proxy = FaultyProxy(served.port, 1, share=0)
    stack.callback(proxy.close)
    add(home, proxy.url)
    proxy.lose_after = 5
    home("peer", "sync")

    early = home("peer", "cleanup")
    other = home("peer", "cleanup", "--older-than", "0", "--push")
    done = home("peer", "cleanup", "--older-than", "0")

    assert early.out.startswith("0 sessions and 0 transfers ended")
    assert other.out.startswith("0 sessions and 0 transfers ended")
    assert done.out.startswith("1 session and 1 transfer ended")
    assert json.loads(home("--json", "peer", "sessions", "--active").out)["sessions"] == []


def test_without_a_certificate_it_is_said_how_to_get_one(livesync, served):
    livesync("install")
    livesync("peer", "init")
    add(livesync, served.url)

    found = livesync("peer", "sync")

    assert found.code == ExitCode.USAGE
    assert "livesync peer cert request" in found.err


def test_a_database_that_takes_no_part_says_so(livesync):
    livesync("install")

    assert livesync("peer", "sync").code == ExitCode.NOT_INSTALLED
    assert "livesync peer init" in livesync("peer", "sync").err


def test_a_server_is_asked_for_a_certificate_in_the_name_of_a_user(
    livesync, world, served, monkeypatch, caplog
):
    world.trust.run(lambda trust: trust.add_definition(PART))
    world.options["login"] = lambda name, password: (name, password) == ("ada", "pass word")
    world.restart()
    served.app = world.app
    monkeypatch.setenv("RIGHT", "pass word")
    monkeypatch.setenv("WRONG", "password")
    livesync("install")
    livesync("peer", "init")
    asked = ("peer", "cert", "request", "--profile", PROFILE, "--scope", "part", "-p", "part=F1")
    at = ("--from", served.url, "--insecure-http", "--user", "ada")

    wrong = livesync(*asked, *at, "--password", "env:WRONG", "--trust-root")
    unasked = livesync(*asked, *at, "--trust-root")
    distrusted = livesync(*asked, *at, "--password", "env:RIGHT")
    unsigned = [
        livesync(*words, *at, "--password", "env:RIGHT", "--trust-root")
        for words in (
            (*asked, "--parent", "ffff"),
            ("peer", "cert", "request", "--profile", "other", "--scope", "part", "-p", "part=F1"),
        )
    ]
    given = livesync(*asked, *at, "--password", "env:RIGHT", "--trust-root")
    add(livesync, served.url)

    assert len(caplog.messages) == 1, "a password is tried once"
    assert (wrong.code, wrong.err.count("\n")) == (ExitCode.REFUSED, 1)
    assert "password" in wrong.err
    assert "pass word" not in wrong.err
    assert unasked.code == ExitCode.USAGE
    assert "nobody to ask for a password" in unasked.err
    assert distrusted.code == ExitCode.REFUSED
    assert "is not trusted here" in distrusted.err
    assert [found.code for found in unsigned] == [ExitCode.REFUSED] * 2
    assert "begins with 'ffff'" in unsigned[0].err
    assert "no certificate of profile other" in unsigned[1].err
    assert given.code == ExitCode.OK, given.err
    world.fill(2)
    assert livesync("peer", "sync").out.startswith("school: 2 received, 0 sent; ")
