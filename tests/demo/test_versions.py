"""The demo of history: every line a version, a year checked out, a branch merged back."""

import pytest

from livesync.demo.commands import main


@pytest.mark.slow
def test_the_history_becomes_versions_a_year_comes_back_and_a_branch_is_merged(tmp_path, capsys, no_fsync):
    code = main(["versions", str(tmp_path)])

    told = capsys.readouterr().out
    assert code == 0, told
    assert told.splitlines()[-1] == "PASSED: every version that was looked at is what it was"
    assert "tag year-2016: version 32 of main" in told
    assert "1 conflict:" in told
    assert "Merge 'titles' into 'main'" in told


def test_a_directory_that_is_not_empty_is_refused_for_versions(tmp_path, capsys):
    (tmp_path / "something").touch()

    assert main(["versions", str(tmp_path)]) == 2
    assert "is no empty directory" in capsys.readouterr().err
