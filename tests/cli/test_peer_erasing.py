"""livesync peer erase: something is deleted for good, once somebody has said so."""

import io
import json

import pytest
from support.twosites import TALK, Site, packed, sync, two_sites

from livesync.cli.main import main
from livesync.demo.host import demo_paths_host
from livesync.demo.model import ROOT_KEY
from livesync.versions import VersionedCollection


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def sites(tmp_path, no_fsync):
    """Two sites that have exchanged a talk; both files are closed."""
    made = two_sites(tmp_path)
    with made[0] as one, made[1] as other:
        one.edit("Our secret")
        sync(one, other)
    return made


@pytest.fixture
def erase(sites, capsys, monkeypatch):
    """Call ``livesync peer erase`` on the first site, with somebody at a terminal or not."""

    def call(*arguments, says=None, host="demo-paths", site=sites[0]):
        monkeypatch.setattr("sys.stdin", io.StringIO() if says is None else Terminal(f"{says}\n"))
        code = main(["--db", f"file://{site.path}", "--host", host, "peer", "erase", *arguments])
        told = capsys.readouterr()
        assert "Traceback" not in told.err
        return int(code), told.out, told.err

    return call


def item_id(site):
    with site:
        return site.provider.data_store.read(lambda: site.provider.data_store.item_of(TALK))


def has_talk(site):
    with site, site.db.transaction() as connection:
        return connection.root()[ROOT_KEY].at_path(TALK) is not None


def test_it_asks_says_what_goes_and_deletes_it_on_every_node(erase, sites):
    item = item_id(sites[0])

    code, out, err = erase(TALK, says="erase")

    assert code == 0
    assert err.startswith(f"document {item}, {TALK} (talk Our secret), will be deleted for good: ")
    assert "Type erase to go on: " in err
    assert out.startswith(f"item {item}, {TALK} in the application, is deleted for good; ")
    assert not has_talk(sites[0])
    assert has_talk(sites[1])
    with sites[0] as one, sites[1] as other:
        sync(one, other)
    assert not has_talk(sites[1])
    for site in sites:
        assert b"Our secret" not in packed(site)


@pytest.mark.parametrize("says", ["", "no", "yes", "Erase it", "y"])
def test_whoever_says_something_else_deletes_nothing(erase, sites, says):
    code, out, err = erase(TALK, says=says)

    assert (code, out) == (0, "")
    assert err.endswith("nothing was deleted\n")
    assert has_talk(sites[0])
    assert json.loads(erase(TALK, "--json", says=says)[1])["erased"] is False


def test_where_nobody_can_be_asked_it_has_to_be_told(erase, sites):
    code, out, err = erase(TALK)

    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "give --yes" in err
    assert has_talk(sites[0])


def test_a_script_gets_json_and_a_second_time_does_no_harm(erase, sites):
    item = item_id(sites[0])

    first = json.loads(erase(item, "--yes", "--json")[1])
    second = erase(item, "--yes")

    assert first == {"format": 1, "erased": True, "item": item, "object": TALK}
    assert second[:2] == (0, f"item {item} was deleted for good before\n")
    assert json.loads(erase(item, "--yes", "--json")[1])["erased"] is False


@pytest.mark.parametrize("says", [None, "erase"])
def test_what_nobody_knows_gets_one_line(erase, says):
    code, out, err = erase("pycon/nothing", *(["--yes"] if says is None else []), says=says)

    assert (code, out) == (3, "")
    assert err == "livesync: two-way sync knows no object and no item 'pycon/nothing'\n"


@pytest.mark.parametrize("says", [None, "erase"])
def test_what_was_made_just_now_is_deleted_too(erase, sites, says):
    with sites[0] as one:
        one.edit("Never sent", "b")
    path = TALK[:-1] + "b"

    code, _, err = erase(path, *(["--yes"] if says is None else []), says=says)

    assert code == 0
    assert says is None or err.startswith(f"{path} (talk Never sent) will be deleted")
    assert b"Never sent" not in packed(sites[0])
    assert b"Our secret" in packed(sites[0])


def test_what_the_application_has_deleted_can_be_deleted_for_good_afterwards(erase, sites):
    item = item_id(sites[0])
    with sites[0] as one, sites[1] as other:
        one.remove()
        sync(one, other)
    assert b"Our secret" in packed(sites[0])

    code, out, _ = erase(item, "--yes")

    assert code == 0
    assert out.startswith(f"item {item} is deleted for good")
    with sites[0] as one, sites[1] as other:
        sync(one, other)
    for site in sites:
        assert b"Our secret" not in packed(site)


def test_agents_are_told(erase, sites):
    with sites[0] as one:
        before = one.actions()

    assert erase(TALK, "--yes")[0] == 0

    with sites[0] as one:
        told = one.actions()[len(before) :]
    assert {(action.object_id, action.actions) for action in told} == {(TALK, frozenset({"deleted"}))}


def test_versions_forget_it(erase, sites):
    with sites[0] as one, one.db.transaction() as connection:
        VersionedCollection(connection.root(), "talks", host=demo_paths_host()).init("as it was")

    assert erase(TALK, "--yes")[0] == 0

    assert b"Our secret" not in packed(sites[0])


def test_a_copy_of_the_database_deletes_nothing(erase, sites, monkeypatch):
    monkeypatch.setenv("LIVESYNC_SITE", "staging")

    assert erase(TALK, "--yes")[0] == 13
    assert has_talk(sites[0])


def test_a_database_that_takes_no_part_says_so(erase, tmp_path, capsys, sites):
    alone = Site(tmp_path / "alone.fs", "alone", None)
    assert main(["--db", f"file://{alone.path}", "install"]) == 0
    capsys.readouterr()

    for arguments in ([TALK, "--yes"], [TALK]):
        code, _, err = erase(*arguments, says="erase", site=alone)
        assert (code, len(err.splitlines())) == (11, 1)
        assert "takes no part in two-way sync" in err


def test_without_the_host_it_says_what_is_missing(erase, sites):
    code, _, err = erase(TALK, "--yes", host="nowhere")

    assert (code, len(err.splitlines())) == (6, 1)
    assert has_talk(sites[0])
