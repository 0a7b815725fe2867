"""Memory is bounded: peak resident memory of processes that do the same work at two sizes."""

import json

import pytest


def measured(child, tmp_path, name, actions, objects):
    directory = tmp_path / name
    directory.mkdir()
    ended = child("drain.py", directory, actions, objects)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.slow
def test_a_drain_of_a_million_actions_on_100_000_objects_needs_at_most_300_mb(child, tmp_path):
    told = measured(child, tmp_path, "million", 1_000_000, 100_000)

    assert told["read"] == 1_000_000
    assert told["documents"] == 100_000
    assert told["peak_kb"] <= 300 * 1024


@pytest.mark.slow
def test_a_run_over_a_hundred_times_the_actions_needs_no_more_memory(child, tmp_path):
    """Both are larger than a slice, which is what a run holds at a time."""
    small = measured(child, tmp_path, "small", 12_000, 5_000)
    large = measured(child, tmp_path, "large", 1_200_000, 5_000)

    assert large["read"] == 1_200_000
    assert large["peak_kb"] <= 1.3 * small["peak_kb"], (small, large)
