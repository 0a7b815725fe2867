"""livesync peer conflict: list, show and reinstate."""

import sys
from dataclasses import replace

import pytest
from support.twosites import TALK, Site, packed, sync, two_sites

from livesync.cli.main import main
from livesync.replication.sessions import conflicts


@pytest.fixture
def sites(tmp_path, no_fsync):
    """Two sites that edited one talk at once, and have synced; both files are closed."""
    made = two_sites(tmp_path)
    with made[0] as one, made[1] as other:
        one.edit("first")
        sync(one, other)
        one.edit("mine")
        one.provider.prepare()
        other.edit("theirs\n")
        sync(one, other)
    return made


@pytest.fixture
def peer(sites, capsys):
    """Call ``livesync peer conflict`` on the site that keeps the conflict."""

    def call(*arguments, site=sites[1]):
        code = main(["--db", f"file://{site.path}", "--host", "demo-paths", "peer", "conflict", *arguments])
        told = capsys.readouterr()
        return int(code), told.out, told.err

    return call


def conflict_id(peer):
    return peer("list")[1].split()[1]


def test_conflicts_are_a_line_each(peer):
    code, out, _ = peer("list")

    assert code == 0
    assert "resolved local_update_remote_update document" in out
    assert len(out.splitlines()) == 1
    assert peer("list", "--open")[1] == "there are no conflicts\n"
    assert peer("list", "--item", "nothing")[1] == "there are no conflicts\n"
    assert '"total": 1' in peer("list", "--json")[1]


def test_the_loser_is_shown_beside_the_winner(peer):
    code, out, _ = peer("show", conflict_id(peer))

    assert code == 0
    assert out.index("loser: update by one") < out.index('"mine"') < out.index("winner: update by other")
    assert '"theirs\\n"' in out
    assert '"says"' in peer("show", conflict_id(peer), "--json")[1]


def test_a_loser_is_reinstated_and_travels(peer, sites):
    code, out, _ = peer("reinstate", conflict_id(peer))

    assert code == 0
    assert "says again what had lost" in out
    with sites[0] as one, sites[1] as other:
        assert other.title() == "mine"
        assert one.title() == "theirs\n"
        sync(one, other)
        assert one.title() == other.title() == "mine"


@pytest.mark.parametrize("command", ["show", "reinstate"])
def test_an_id_that_is_none_gets_one_clear_line(peer, command):
    code, out, err = peer(command, "ffffffffffffffff")

    assert (code, out) == (3, "")
    assert err.startswith("livesync: there is no conflict 'ffffffffffffffff'")
    assert "peer conflict list" in err
    assert len(err.splitlines()) == 1


def test_a_database_that_takes_no_part_says_so(peer, tmp_path, capsys):
    path = tmp_path / "alone.fs"
    assert main(["--db", f"file://{path}", "install"]) == 0
    capsys.readouterr()
    code = main(["--db", f"file://{path}", "peer", "conflict", "list"])

    assert int(code) == 11
    assert "takes no part in two-way sync" in capsys.readouterr().err


def test_without_anything_to_do_it_says_what_there_is(peer):
    code, _, err = peer()

    assert code == 2
    assert "livesync peer conflict" in err


def forget(site, object_id, capsys):
    code = main(["--db", f"file://{site.path}", "--host", "demo-paths", "forget", object_id])
    return int(code), capsys.readouterr().out


@pytest.mark.parametrize("is_removed", [False, True], ids=["there", "gone"])
def test_forgetting_an_object_erases_what_its_conflicts_said(peer, sites, capsys, is_removed):
    site = sites[1]
    assert "mine" in peer("show", conflict_id(peer))[1]
    if is_removed:
        with site:
            site.remove()
            site.provider.prepare()

    assert b"mine" in packed(site)
    code, out = forget(site, TALK, capsys)

    assert code == 0
    assert "two-way sync: erased in 1 conflict, 0 texts of errors, 0 waiting transfers ended (items " in out
    shown = peer("show", conflict_id(peer))[1]
    assert "mine" not in shown
    assert "theirs" not in shown
    assert b"mine" not in packed(site)
    assert "erased in 0 conflicts" in forget(site, TALK, capsys)[1]


def test_forgetting_another_object_leaves_conflicts_as_they_are(peer, sites, capsys):
    code, out = forget(sites[1], "pycon/pycon-2020/b", capsys)
    assert code == 0
    assert "two-way sync: erased in 0 conflicts, 0 texts of errors, 0 waiting transfers ended\n" in out
    assert "mine" in peer("show", conflict_id(peer))[1]


def test_forgetting_erases_what_sessions_and_other_conflicts_say_of_the_object(peer, sites, capsys):
    site = sites[1]

    def name_it(text):
        def work():
            store = site.provider.data_store
            key, kept = next(iter(store.tables.sessions.items()))
            store._set(store.tables.sessions, key, {**kept, "reason": text})
            (entry,) = conflicts.newest_first(store)
            conflicts.save(store, replace(entry, description=text))

        with site:
            site.provider.data_store.run(work)

    name_it("ValueError: what pycon/pycon-2020/b says, secretly, is no title")
    assert b"secretly" in packed(site)
    assert "0 texts of errors" in forget(site, "pycon/pycon-2020/bb", capsys)[1]

    code, out = forget(site, "pycon/pycon-2020/b", capsys)

    assert code == 0
    assert "erased in 0 conflicts, 2 texts of errors, " in out
    assert b"secretly" not in packed(site)
    assert "mine" in peer("show", conflict_id(peer))[1]


def test_a_database_without_two_way_sync_says_nothing_of_it(tmp_path, no_fsync, capsys):
    with Site(tmp_path / "alone.fs", "alone", lambda: 1.9e9) as site, site.db.transaction() as connection:
        del connection.root()["livesync.replication"]
    code, out = forget(site, "x", capsys)
    assert code == 0
    assert "two-way" not in out


def test_an_object_is_forgotten_where_nothing_but_the_package_itself_is_installed(sites, capsys, monkeypatch):
    for name in [*sys.modules]:
        if name.startswith(("livesync.replication.network.transfers", "livesync.peering.compression")):
            monkeypatch.delitem(sys.modules, name)
    for name in ("zstandard", "cryptography", "http_message_signatures"):
        monkeypatch.setitem(sys.modules, name, None)

    code, out = forget(sites[1], TALK, capsys)

    assert code == 0
    assert "two-way sync: erased in 1 conflict" in out
