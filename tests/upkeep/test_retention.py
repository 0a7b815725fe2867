"""What the track keeps, for whom, and who is warned of."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from livesync import ActionWrapper, SyncManager
from livesync.agent import SyncAgent
from livesync.upkeep import retention
from livesync.upkeep.retention import KEEP_S, held_back, prune_passed

NOW = 2_000_000_000.0
DAY = 86_400


def manager_with(ages_in_days: list[float], readers: dict[str, float]) -> Any:
    """A manager with an action of each age, and readers that have passed what is older than theirs."""
    manager = SyncManager()
    for age in sorted(ages_in_days, reverse=True):
        manager.add(NOW - age * DAY, ActionWrapper(NOW - age * DAY, f"o{age}", {"created"}))
    manager.track.seal(int(NOW))
    for name, age in readers.items():
        manager.register_agent(SyncAgent(name))
        manager.activate(name, from_start=True)
        manager.advance(name, int(NOW - age * DAY))
    return manager


def ages_left(manager: Any) -> list[float]:
    return [round((NOW - action.timestamp) / DAY, 3) for _, action in manager.track]


def test_what_everybody_has_passed_is_kept_for_a_week():
    manager = manager_with([20, 8, 6, 1], {"a": 0.5, "b": 0.5})

    pruned = prune_passed(manager, NOW)

    assert (pruned.dropped, pruned.left_behind) == (2, [])
    assert ages_left(manager) == [6, 1]


def test_what_one_reader_has_not_passed_is_kept_however_old_it_is():
    manager = manager_with([20, 8, 1], {"a": 0.5, "slow": 15})

    assert prune_passed(manager, NOW, keep_s=0).dropped == 1
    assert ages_left(manager) == [8, 1]


def test_a_reader_is_left_behind_only_when_told():
    manager = manager_with([20, 8, 1], {"a": 0.5, "slow": 15})

    pruned = prune_passed(manager, NOW, leave_behind=True)

    assert (pruned.dropped, pruned.left_behind) == (2, ["slow"])
    assert manager.stored("slow").reason == "needs_export"
    assert manager.stored("a").reason == ""
    assert prune_passed(manager, NOW, keep_s=0, leave_behind=True).left_behind == []  # it is told once


def test_a_position_overrules_the_week():
    manager = manager_with([20, 8, 1], {"a": 0.5})

    assert prune_passed(manager, NOW, before=int(NOW)).dropped == 3


@given(
    ages=st.lists(st.integers(1, 40), min_size=1, max_size=12, unique=True),
    readers=st.lists(st.integers(0, 45), min_size=1, max_size=4),
    keep_days=st.integers(0, 20),
)
def test_nothing_is_dropped_that_somebody_needs_or_that_is_young(ages, readers, keep_days):
    manager = manager_with(ages, {f"r{number}": age for number, age in enumerate(readers)})

    prune_passed(manager, NOW, keep_s=keep_days * DAY)

    slowest = max(readers)
    assert sorted(ages_left(manager)) == sorted(
        age for age in ages if age < slowest or (keep_days and age <= keep_days)
    )


def test_who_holds_back_more_than_a_month_is_named():
    manager = manager_with([45, 31, 1], {"slow": 40, "late": 20, "quick": 0.5})

    (held,) = held_back(manager, NOW)

    assert (held.agent_id, held.actions) == ("slow", 2)
    assert 30.9 < held.days < 31.1
    assert "slow holds back 2 actions" in str(held)
    assert "--leave-behind" in str(held)


def test_who_holds_back_very_much_is_named(monkeypatch):
    monkeypatch.setattr(retention, "WARN_BYTES", 100)
    manager = manager_with([3, 2, 1], {"slow": 5, "quick": 1.5})

    assert [held.agent_id for held in held_back(manager, NOW)] == ["slow"]
    assert held_back(manager, NOW)[0].bytes == 3 * retention.BYTES_PER_ACTION


def test_a_reader_that_is_no_agent_is_named_with_what_lets_it_read():
    manager = manager_with([45, 1], {"quick": 0.5})
    manager.track.add_pointer("livesync.replication", None)
    manager.track.add_pointer("elsewhere", int(NOW - 50 * DAY))

    one, other = held_back(manager, NOW)

    assert {(held.agent_id, held.actions, held.is_agent) for held in (one, other)} == {
        ("livesync.replication", 2, False),
        ("elsewhere", 2, False),
    }
    told = {held.agent_id: str(held) for held in (one, other)}
    assert "reader livesync.replication holds back 2 actions of up to 45 days" in told["livesync.replication"]
    assert "livesync task add two-way" in told["livesync.replication"]
    assert "--leave-behind" in told["elsewhere"]
    manager.track.add_pointer("livesync.versions.docs", None)
    assert any("register a version" in str(held) for held in held_back(manager, NOW))
    assert prune_passed(manager, NOW).dropped == 0


def test_a_reader_that_has_looked_at_all_after_its_position_holds_nothing_back():
    manager = manager_with([45, 40], {})
    manager.track.add_pointer("livesync.replication", None)
    manager.track.move_pointer_inside("livesync.replication", 1)
    assert [held.actions for held in held_back(manager, NOW)] == [1]

    manager.track.move_pointer_inside("livesync.replication", 2)

    assert held_back(manager, NOW) == []


def test_a_new_agent_holds_nothing_back():
    manager = manager_with([45], {"quick": 0})
    manager.register_agent(SyncAgent("new"))

    assert held_back(manager, NOW) == []
    assert KEEP_S == 7 * DAY
