"""Sites with certificates, each a database file of its own, at the command line."""

from __future__ import annotations

import contextlib
import io
import json
import shutil

import pytest

from livesync.cli.exitcodes import ExitCode
from livesync.cli.main import main

FIXTURE = [
    {
        "model": "morango.scopedefinition",
        "pk": "full-facility",
        "fields": {
            "profile": "facilitydata",
            "version": 1,
            "primary_scope_param_key": "dataset_id",
            "description": "Everything of facility ${dataset_id}.",
            "read_filter_template": "",
            "write_filter_template": "",
            "read_write_filter_template": "${dataset_id}",
        },
    },
    {
        "id": "single-user",
        "profile": "facilitydata",
        "description": "What user ${user_id} needs.",
        "read_filter_template": "${dataset_id}:allusers-ro\n${dataset_id}:user-ro:${user_id}",
        "write_filter_template": "${dataset_id}:anonymous",
        "read_write_filter_template": "${dataset_id}:user-rw:${user_id}",
    },
]


@pytest.fixture
def at(cli, monkeypatch, tmp_path, no_fsync):
    """Call the command line on one of several sites: ``at("facility", "peer", "init")``."""
    monkeypatch.delenv("LIVESYNC_PEER_PASSPHRASE", raising=False)
    (tmp_path / "scopes.json").write_text(json.dumps(FIXTURE))

    def call(site, *args, code=ExitCode.OK):
        monkeypatch.setenv("LIVESYNC_DB", f"file://{tmp_path}/{site}.fs")
        if not (tmp_path / f"{site}.fs").exists():
            assert cli("install").code == 0
        result = cli("peer", *args)
        assert result.code == code, result.err
        assert len(result.err.strip().splitlines()) <= 1, result.err
        return result

    return call


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A directory with a site that has a root, a tablet that was given its certificate, and both ids."""
    place = tmp_path_factory.mktemp("prepared")
    (place / "scopes.json").write_text(json.dumps(FIXTURE))

    def call(site, *args):
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            code = main(["--db", f"file://{place}/{site}.fs", *args, "--json"])
        assert code == ExitCode.OK, out.getvalue()
        return json.loads(out.getvalue())

    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(place):
        patch.delenv("LIVESYNC_PEER_PASSPHRASE", raising=False)
        for site in ("facility", "tablet"):
            call(site, "install")
            call(site, "peer", "init")
        call("facility", "peer", "scope", "add", "scopes.json")
        scope = ("--profile", "facilitydata", "--scope")
        root = call("facility", "peer", "cert", "root", *scope, "full-facility")["certificate"]
        (shown,) = call("facility", "peer", "cert", "list")["certificates"]
        params = ("-p", f"dataset_id={shown['params']['dataset_id']}", "-p", "user_id=U1")
        ask = ("--days", "30", "--to", "request.json")
        call("tablet", "peer", "cert", "request", *scope, "single-user", *params, *ask)
        shutil.copytree(place, place / "before")
        call("facility", "peer", "cert", "sign", "request.json", "--to", "chain.json")
        made = call("tablet", "peer", "cert", "import", "chain.json", "--trust-root")["certificate"]
    return place, root, made


@pytest.fixture
def facility(prepared, tmp_path):
    """A site with scopes and a root, whose id is returned."""
    place, root, _ = prepared
    for name in ("facility.fs", "facility.fs.keys"):
        copy(place / "before" / name, tmp_path / name)
    return root


@pytest.fixture
def tablet(prepared, tmp_path, facility):
    """A tablet's certificate, by files that were carried there and back; its id is returned."""
    place, _, made = prepared
    for path in place.iterdir():
        if path.name != "before":
            copy(path, tmp_path / path.name)
    return made


def copy(source, target):
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy(source, target)
