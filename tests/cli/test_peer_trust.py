"""livesync peer init, peer cert and peer scope."""

import json
import re
import stat
import sys

import pytest
from support.peer_sites import FIXTURE

from livesync.cli.exitcodes import ExitCode


def dataset(at, root):
    (found,) = [
        each
        for each in at("facility", "cert", "list", "--json").get_json()["certificates"]
        if each["id"] == root
    ]
    return found["params"]["dataset_id"]


def test_init_makes_a_provider_once(at, tmp_path):
    one = at("facility", "init", "--json").get_json()
    again = at("facility", "init").out

    assert again == f"this database is provider {one['provider']}\n"
    assert one["root"] is None


def test_init_makes_a_root_once(at, tmp_path):
    made = at("cloud", "init", "--root", "conferences")

    assert "made root certificate" in made.out
    assert "not encrypted" in made.err
    (key,) = (tmp_path / "cloud.fs.keys").iterdir()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert at("cloud", "init", "--root", "conferences", "--json").get_json()["root"] is None
    (root,) = at("cloud", "cert", "list", "--json").get_json()["certificates"]
    assert root["reads"] == root["writes"] == [""]
    assert root["state"] == "valid"
    assert root["key_is_here"]


def test_init_needs_livesync_and_a_profile_that_is_one(at, cli, tmp_path, monkeypatch):
    monkeypatch.setenv("LIVESYNC_DB", f"file://{tmp_path}/none.fs")
    assert cli("peer", "init").code == ExitCode.DATABASE
    at("facility", "init", "--root", "no name", code=ExitCode.USAGE)
    assert "livesync peer init" in at("facility", "cert", "list", code=ExitCode.NOT_INSTALLED).err


def test_keys_are_encrypted_under_a_passphrase(at, monkeypatch, tmp_path):
    monkeypatch.setenv("LIVESYNC_PEER_PASSPHRASE", "correct horse")
    made = at("cloud", "init", "--root", "conferences")

    assert made.err == ""
    assert "correct horse" not in made.out
    (key,) = (tmp_path / "cloud.fs.keys").iterdir()
    assert "scrypt" in key.read_text()
    monkeypatch.setenv("LIVESYNC_PEER_PASSPHRASE", "another")
    at("x", "init")
    at("x", "cert", "request", "--profile", "conferences", "--scope", "everything", "--to", "r.json")
    refused = at("cloud", "cert", "sign", "r.json", "--to", "c.json", code=ExitCode.USAGE)
    assert "passphrase is not that of this private key" in refused.err
    assert "another" not in refused.err


def test_scopes_are_added_from_a_file_and_shown(at):
    at("facility", "init")
    assert at("facility", "scope", "list").out.startswith("there are no scopes yet")
    added = at("facility", "scope", "add", "scopes.json")
    again = at("facility", "scope", "add", "scopes.json", "--json").get_json()

    assert added.lines == [
        "scope full-facility 1 of facilitydata added",
        "scope single-user 1 of facilitydata added",
    ]
    assert again["new"] == [False, False]
    assert "single-user" in at("facility", "scope", "list").out
    assert len(at("facility", "scope", "list", "--json").get_json()["scopes"]) == 2
    shown = at("facility", "scope", "show", "single-user", "-p", "dataset_id=F1", "-p", "user_id=U1")
    assert shown.lines[4:] == [
        "reads:       F1:allusers-ro F1:user-ro:U1 F1:user-rw:U1",
        "writes:      F1:anonymous F1:user-rw:U1",
    ]
    assert (
        "both:        ${dataset_id}:user-rw:${user_id}" in at("facility", "scope", "show", "single-user").out
    )
    for wrong in (["-p", "dataset_id=F1"], ["-p", "dataset_id=a:b", "-p", "user_id=U1"]):
        at("facility", "scope", "show", "single-user", *wrong, code=ExitCode.USAGE)
    at("facility", "scope", "show", "none", code=ExitCode.NOT_FOUND)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("3", "is a JSON object"),
        ('{"id": "a"}', "needs the key 'profile'"),
        ('{"id": "a", "profile": "p", "color": "red"}', "has no key 'color'"),
        ('{"id": "a", "profile": "p", "version": "1"}', "version of a scope definition is a whole number"),
        ('{"id": 3, "profile": "p"}', "id of a scope definition is text"),
        ('{"id": "a b", "profile": "p"}', "no id"),
        ('{"id": "a", "profile": "p", "read_filter_template": "$"}', "no template"),
    ],
)
def test_a_file_without_scopes_is_refused(at, tmp_path, content, message):
    at("facility", "init")
    (tmp_path / "wrong.json").write_text(content)

    refused = at("facility", "scope", "add", "wrong.json", code=ExitCode.USAGE)

    assert message in refused.err
    assert at("facility", "scope", "list", "--json").get_json()["scopes"] == []


def test_what_a_root_says_of_itself_is_not_given(at, facility, tmp_path):
    asked = ("--profile", "facilitydata", "--scope", "full-facility", "-p", "dataset_id=F1")

    refused = at("facility", "cert", "root", *asked, code=ExitCode.USAGE)

    assert refused.err == "livesync: dataset_id is the root's own fingerprint: leave out -p dataset_id=…\n"
    assert len(list((tmp_path / "facility.fs.keys").iterdir())) == 1


def test_another_definition_needs_another_version(at, tmp_path, facility):
    (tmp_path / "other.json").write_text(json.dumps({**FIXTURE[1], "read_filter_template": ":"}))

    assert "new version" in at("facility", "scope", "add", "other.json", code=ExitCode.USAGE).err
    (tmp_path / "other.json").write_text(json.dumps({**FIXTURE[1], "version": 2}))
    at("facility", "scope", "add", "other.json")
    assert "single-user 2" in at("facility", "scope", "show", "single-user").out


def test_a_device_is_given_its_certificate_by_files(at, facility, tablet):
    data = dataset(at, facility)
    shown = at("tablet", "cert", "show", tablet[:8])

    assert f"reads:       {data}:allusers-ro {data}:user-ro:U1 {data}:user-rw:U1" in shown.lines
    assert "state:       valid" in shown.lines
    assert "private key: here" in shown.lines
    assert shown.lines[-2].startswith(f"chain:       {facility} full-facility")
    listed = at("facility", "cert", "list", "--json").get_json()["certificates"]
    assert {each["id"]: each["key_is_here"] for each in listed} == {facility: True, tablet: False}
    assert "root, valid" in at("facility", "cert", "list").out


def test_a_file_is_never_written_over(at, facility, tablet, tmp_path):
    before = (tmp_path / "chain.json").read_bytes()

    assert "exists already" in at("tablet", "cert", "show", tablet, "--to", "chain.json", code=2).err
    assert (tmp_path / "chain.json").read_bytes() == before


@pytest.mark.parametrize(
    ("to", "says"), [("chain.json", "chain.json exists already"), ("no/where.json", "cannot be written")]
)
def test_where_a_file_cannot_be_written_nothing_is_signed_and_no_key_is_made(
    at, facility, tablet, tmp_path, to, says
):
    asked = ("--profile", "facilitydata", "--scope", "single-user", "-p", "dataset_id=F", "-p", "user_id=U2")

    signed = at("facility", "cert", "sign", "request.json", "--to", to, code=ExitCode.USAGE)
    requested = at("tablet", "cert", "request", *asked, "--to", to, code=ExitCode.USAGE)

    assert says in signed.err
    assert says in requested.err
    listed = at("facility", "cert", "list", "--json").get_json()["certificates"]
    assert {each["id"] for each in listed} == {facility, tablet}
    assert len(list((tmp_path / "tablet.fs.keys").iterdir())) == 1


def test_a_chain_of_a_stranger_is_not_trusted_unless_told(at, facility, tablet):
    at("other", "init")

    refused = at("other", "cert", "import", "chain.json", code=ExitCode.REFUSED)
    assert f"root {facility} is not trusted here: if that is the id that its owner tells you" in refused.err
    assert at("other", "cert", "list", "--json").get_json()["certificates"] == []
    at("other", "cert", "import", "chain.json", "--trust-root")
    at("other", "cert", "distrust", facility)
    assert {each["state"] for each in at("other", "cert", "list", "--json").get_json()["certificates"]} == {
        "not trusted"
    }
    at("other", "cert", "distrust", facility, code=ExitCode.NOT_FOUND)
    at("other", "cert", "distrust", tablet, code=ExitCode.NOT_FOUND)


def test_what_is_stolen_is_revoked(at, facility, tablet):
    at("facility", "cert", "revoke", tablet, "--reason", "left on the bus")

    assert "revoked" in at("facility", "cert", "list").out
    assert "left on the bus" in at("facility", "cert", "show", tablet).out
    assert at("facility", "cert", "show", tablet, "--json").get_json()["certificate"]["state"] == "revoked"


def test_who_has_no_key_above_cannot_revoke(at, facility, tablet):
    at("other", "init")
    at("other", "cert", "import", "chain.json", "--trust-root")

    refused = at("other", "cert", "revoke", tablet, code=ExitCode.USAGE)

    assert "no private key" in refused.err
    at("other", "cert", "revoke", "zzz", code=ExitCode.NOT_FOUND)


def test_a_request_that_is_too_wide_or_unknown_is_not_signed(at, facility, tmp_path):
    at("tablet", "init")
    ask = ("tablet", "cert", "request", "--profile", "facilitydata", "--scope")
    at(*ask, "full-facility", "-p", "dataset_id=F2", "--to", "wide.json")
    at(*ask, "nonesuch", "--to", "strange.json")
    at(*ask, "full-facility", "--to", "missing.json")

    wide = at("facility", "cert", "sign", "wide.json", "--to", "c.json", code=ExitCode.USAGE)
    assert "no certificate whose key is here allows" in wide.err
    named = at(
        *("facility", "cert", "sign", "wide.json", "--parent", facility, "--to", "c.json"),
        code=ExitCode.REFUSED,
    )
    assert "does not allow all" in named.err
    at("facility", "cert", "sign", "strange.json", "--to", "c.json", code=ExitCode.NOT_FOUND)
    at("facility", "cert", "sign", "missing.json", "--to", "c.json", code=ExitCode.USAGE)
    assert not (tmp_path / "c.json").exists()


def test_a_request_for_a_scope_that_is_known_is_checked_at_once(at, facility, tmp_path):
    refused = at(
        *("facility", "cert", "request", "--profile", "facilitydata", "--scope", "full-facility"),
        *("--to", "r.json"),
        code=ExitCode.USAGE,
    )

    assert "needs a value for dataset_id" in refused.err
    assert not (tmp_path / "r.json").exists()
    twice = ("-p", "dataset_id=a", "-p", "dataset_id=b", "--to", "r.json")
    at(*("facility", "cert", "request", "--profile", "p", "--scope", "s"), *twice, code=ExitCode.USAGE)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        '{"kind": "livesync signing request 1"}',
        '{"chain": []}',
        '{"chain": [{"text": "", "signature": ""}]}',
    ],
)
def test_files_of_another_form_are_refused(at, facility, tmp_path, content):
    (tmp_path / "wrong.json").write_text(content)

    at("facility", "cert", "sign", "wrong.json", "--to", "x.json", code=ExitCode.USAGE)
    refused = at(
        *("facility", "cert", "import", "wrong.json"),
        code=ExitCode.REFUSED if "chain" in content else ExitCode.USAGE,
    )
    assert refused.err


def test_a_chain_that_was_changed_is_refused(at, facility, tablet, tmp_path):
    text = (tmp_path / "chain.json").read_text()
    (tmp_path / "changed.json").write_text(text.replace("user-rw", "user-rx"))

    at("facility", "cert", "import", "changed.json", "--trust-root", code=ExitCode.REFUSED)


def test_a_copy_of_the_database_has_no_keys(at, facility, tmp_path):
    (tmp_path / "copy.fs").write_bytes((tmp_path / "facility.fs").read_bytes())

    (root,) = at("copy", "cert", "list", "--json").get_json()["certificates"]

    assert not root["key_is_here"]


@pytest.mark.parametrize(
    "command", [("init",), ("cert", "list"), ("cert", "import", "x"), ("cert", "sign", "x", "--to", "y")]
)
def test_a_missing_extra_is_named(at, monkeypatch, command):
    monkeypatch.setitem(sys.modules, "cryptography", None)

    assert "zodb-livesync[peer]" in at("facility", *command, code=ExitCode.USAGE).err


def doctor(cli):
    """Return what the doctor says of certificates: [(text, name)]."""
    found = cli("doctor", "--json").get_json()["findings"]
    return [(each["text"], each["name"]) for each in found if each["subject"].startswith("certificate")]


def test_the_doctor_looks_at_certificates(at, cli, facility, tmp_path, monkeypatch):
    at("facility", "scope", "list")  # it is this site's doctor
    ((text, name),) = doctor(cli)
    assert "holds for" in text
    assert name == "OK"

    at("facility", "cert", "root", "--profile", "brief", "--days", "20")
    assert sorted(name for _, name in doctor(cli)) == ["DIFFERENT", "OK"]
    assert any(re.search(r"expires in (19d 23h|20d)", text) for text, _ in doctor(cli))

    for key in (tmp_path / "facility.fs.keys").iterdir():
        key.chmod(0o644)
    assert [name for _, name in doctor(cli)] == ["USAGE", "USAGE"]
    assert all("chmod 600" in text for text, _ in doctor(cli))

    monkeypatch.setenv("LIVESYNC_PEER_KEYS", str(tmp_path / "elsewhere"))
    ((text, _),) = doctor(cli)
    assert "has the key of none" in text
    monkeypatch.setitem(sys.modules, "cryptography", None)
    assert "zodb-livesync[peer]" in doctor(cli)[0][0]


def test_the_doctor_says_nothing_of_certificates_where_there_are_none(installed):
    assert doctor(installed) == []


def test_the_doctor_names_what_was_revoked(at, cli, facility):
    at("facility", "cert", "revoke", facility)

    ((text, name),) = doctor(cli)

    assert "was revoked" in text
    assert name == "REFUSED"
