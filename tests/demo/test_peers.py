"""Three sites in a ring: the demo of two-way sync."""

import pytest

from livesync.demo.commands import main


@pytest.mark.slow
def test_three_sites_edit_sync_in_a_ring_and_hold_the_same(tmp_path, capsys, no_fsync):
    code = main(["peers", str(tmp_path)])

    told = capsys.readouterr().out
    assert code == 0
    assert told.splitlines()[-1] == "PASSED: all three are identical, clocks included"
    assert "0 deferred" in told
    assert sorted(path.name for path in tmp_path.glob("*.fs")) == ["athens.fs", "berlin.fs", "cairo.fs"]


def test_a_directory_that_is_not_empty_is_refused(tmp_path, capsys):
    (tmp_path / "something").touch()

    assert main(["peers", str(tmp_path)]) == 2
    assert "is no empty directory" in capsys.readouterr().err
