"""Six nodes with real servers: the demo of sync over a network."""

import re

import pytest

from livesync.demo.commands import main


@pytest.mark.slow
@pytest.mark.server
def test_each_node_has_just_what_it_may_whatever_is_killed_on_the_way(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PYTHONWARNINGS", "ignore::UserWarning:pyramid")

    code = main(["network", str(tmp_path)])

    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert (code, told.err) == (0, "")
    assert lines[-1] == "PASSED: each has just what its certificate allows"
    assert "WRONG" not in told.out
    assert sum("kill -9" in line for line in lines) == 2
    # the cloud's 824 entries reach the city in spite of the kill; home is cut in the middle of its 90 edits
    assert "    cloud: 824 received, 0 sent" in told.out
    assert re.search(r"cut: .* sends pycon-us:pycon-us-2013: .*0 of 90 items", told.out)
    counts = dict(re.findall(r"^  (\w+) +(\d+) entries", told.out, re.MULTILINE))
    assert counts == {
        "cloud": "859",
        "city": "859",
        "city2": "859",
        "facility": "250",
        "home": "182",
        "tablet": "68",
    }


def test_a_directory_that_is_not_empty_is_refused(tmp_path, capsys):
    (tmp_path / "something").touch()

    assert main(["network", str(tmp_path)]) == 2
    assert "is no empty directory" in capsys.readouterr().err
