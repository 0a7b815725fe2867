"""livesync peer cert request --from and push, with a server that runs."""

import time
from contextlib import contextmanager

import ZODB
from support.peer_serving import Served
from ZODB.FileStorage import FileStorage

from livesync.cli.exitcodes import ExitCode
from livesync.peering.keyring import KeyRing
from livesync.peering.signing import SharedKey
from livesync.peering.trust import TrustStore
from livesync.peerserver.app import PeerApp, make_app
from livesync.peerserver.gate import Gate
from livesync.replication import ZODBDataStore, ZODBSyncProvider


@contextmanager
def served(path):
    """Serve the database of a site, and give the address."""
    db = ZODB.DB(FileStorage(str(path)))
    keys = KeyRing(path.with_name(path.name + ".keys"))
    SharedKey.get_or_create_shared_key(TrustStore(db), keys)
    store = ZODBDataStore(db)
    peers = PeerApp(
        ZODBSyncProvider(None, store),
        Gate(store, keys, time.time),
        login=lambda name, password: (name, password) == ("ada", "the right password"),
    )
    server = Served(make_app(peers))
    try:
        yield server.url
    finally:
        server.close()
        db.close()


def listed(at, site):
    return at(site, "cert", "list", "--json").get_json()["certificates"]


def test_a_server_is_given_a_part_of_a_root_that_it_has_never_heard_of(at, facility, tmp_path):
    (root,) = listed(at, "facility")
    data = root["params"]["dataset_id"]
    push = ("--profile", "facilitydata", "--scope", "full-facility", "--insecure-http")
    at("cloud", "init")
    with served(tmp_path / "cloud.fs") as url:
        made = at("facility", "cert", "push", url, *push, "-p", f"dataset_id={data}", "--json").get_json()
        at("facility", "cert", "push", url, *push, "-p", "dataset_id=F9", code=ExitCode.USAGE)
        at("facility", "cert", "push", url, *push, code=ExitCode.USAGE)

    (own,) = [each for each in listed(at, "cloud") if each["key_is_here"]]
    assert own["id"] == made["certificate"]
    assert (own["state"], own["writes"]) == ("valid", [data])
    assert {each["id"] for each in listed(at, "cloud")} == {facility, own["id"]}


def test_a_root_that_rules_over_everything_is_not_taken(at, tmp_path):
    at("other", "init", "--root", "facilitydata")
    at("cloud", "init")
    push = ("--profile", "facilitydata", "--scope", "everything", "--insecure-http")
    with served(tmp_path / "cloud.fs") as url:
        refused = at("other", "cert", "push", url, *push, code=ExitCode.REFUSED)

    assert "more than its own" in refused.err
    assert listed(at, "cloud") == []


def test_an_address_without_tls_needs_a_word(at, facility):
    push = ("--profile", "facilitydata", "--scope", "nonesuch")

    at("facility", "cert", "push", "http://127.0.0.1:9", *push, code=ExitCode.NOT_FOUND)
    (root,) = listed(at, "facility")
    push = ("--profile", "facilitydata", "--scope", "full-facility", "-p")
    data = f"dataset_id={root['params']['dataset_id']}"
    refused = at("facility", "cert", "push", "http://127.0.0.1:9", *push, data, code=ExitCode.USAGE)
    assert "https" in refused.err


def asking(at, url, *more, code=ExitCode.OK):
    """Ask a server for a tablet's certificate, in the name of a user."""
    return at(
        *("tablet", "cert", "request", "--from", url, "--insecure-http", "--user", "ada"),
        *("--profile", "facilitydata", "--scope", "single-user", "-p", "user_id=U1", *more),
        code=code,
    )


def test_a_server_gives_a_certificate_for_a_password(at, facility, tmp_path, monkeypatch):
    (root,) = listed(at, "facility")
    data = ("-p", f"dataset_id={root['params']['dataset_id']}", "--days", "9")
    monkeypatch.setenv("RIGHT", "the right password")
    monkeypatch.setenv("WRONG", "hunter2 hunter2")
    right = ("--password", "env:RIGHT", "--trust-root")
    at("tablet", "init")
    with served(tmp_path / "facility.fs") as url:
        unsure = asking(at, url, *data, *right[:-1], code=ExitCode.REFUSED)
        assert (
            f"root {facility} is not trusted here: if that is the id that its owner tells you" in unsure.err
        )
        guess = asking(at, url, *data, "--password", "env:WRONG", "--trust-root", code=ExitCode.REFUSED)
        assert "hunter2" not in guess.err
        wide = asking(at, url, "-p", "dataset_id=F2", *right, code=ExitCode.REFUSED)
        assert "does not allow" in wide.err
        asking(at, url, *data, *right, "--parent", "zz", code=ExitCode.REFUSED)
        made = asking(at, url, *data, *right, "--json").get_json()

    (own,) = [each for each in listed(at, "tablet") if each["key_is_here"]]
    assert len(list((tmp_path / "tablet.fs.keys").iterdir())) == 1  # none of what was refused
    assert (own["id"], own["state"], own["parent"]) == (made["certificate"], "valid", facility)
    # what was refused has left nothing on the server
    assert {each["id"] for each in listed(at, "facility")} == {facility, own["id"]}
