"""The main job, as a person does it: real edits replayed, agents run in between, the index compared."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from livesync.cli.main import main as livesync
from livesync.demo.commands import main as demo


@pytest.mark.parametrize(
    "host",
    [
        "livesync.demo.host:demo_host",
        pytest.param("livesync.demo.host:demo_paths_host", marks=pytest.mark.slow),
    ],
)
def test_after_every_step_the_index_equals_the_catalogue_for_each_audience(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIVESYNC_HOST", host)
    monkeypatch.setenv("LIVESYNC_DB", f"file://{tmp_path}/catalogue.fs")
    assert demo(["replay", "history-small.jsonl.gz", "--limit", "15"]) == 0
    for audience in ("public", "staff"):
        added = ["agent", "add", audience, "--type", "sqlite", "-o", f"path={audience}.sqlite"]
        assert livesync([*added, "-o", f"audience={audience}"]) == 0
    assert livesync(["agent", "activate", "public", "--from-start"]) == 0
    assert livesync(["agent", "export", "staff"]) == 0

    steps = 0
    while True:
        assert livesync(["run"]) == 0
        for audience in ("public", "staff"):
            assert indexed(audience) == dumped(audience, capsys)
        steps += 1
        capsys.readouterr()
        assert demo(["replay", "history-small.jsonl.gz", "--limit", "20"]) == 0
        if "".join(capsys.readouterr()).startswith("0 lines applied"):
            break

    assert steps == 5
    assert len(indexed("public")) < len(indexed("staff"))


def indexed(audience: str) -> dict[str, str]:
    with sqlite3.connect(f"{audience}.sqlite") as index:
        rows = dict(index.execute("SELECT object_id, document FROM documents"))
    index.close()
    return rows


def dumped(audience: str, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    capsys.readouterr()
    assert demo(["dump", "--audience", audience]) == 0
    rows = {}
    for line in capsys.readouterr().out.splitlines():
        object_id = json.loads(line)["id"]
        # byte for byte: the document as it stands in the line
        rows[object_id] = line.partition('"document":')[2][:-1].strip()
    return rows
