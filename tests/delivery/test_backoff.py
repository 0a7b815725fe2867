import pytest
from hypothesis import given
from hypothesis import strategies as st

from livesync.delivery.backoff import Backoff


def longest(**kwargs: float) -> Backoff:
    """A backoff whose every wait is (nearly) the whole step."""
    return Backoff(random=lambda: 1.0, **kwargs)


def test_steps_double_up_to_the_cap():
    backoff = longest(base_s=0.5, cap_s=3)

    waits = [backoff.delay_s(attempt) for attempt in range(1, 6)]

    assert waits == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_jitter_takes_a_share_of_the_whole_step():
    assert Backoff(base_s=8, random=lambda: 0.25).delay_s(1) == 2
    assert Backoff(base_s=8, random=lambda: 0.0).delay_s(1) == 0


def test_what_the_service_asks_for_is_the_least():
    assert Backoff(random=lambda: 0.0).delay_s(1, after_s=7) == 7
    assert longest(base_s=10).delay_s(1, after_s=7) == 10


def test_what_the_service_asks_for_is_cut_to_a_maximum():
    assert Backoff(random=lambda: 0.0).delay_s(1, after_s=86_400) == 900
    assert Backoff(random=lambda: 0.0, max_after_s=5).delay_s(1, after_s=86_400) == 5


def test_a_time_that_has_passed_asks_for_nothing():
    assert Backoff(random=lambda: 0.0).delay_s(1, after_s=-3) == 0


def test_tries_are_counted_from_one():
    with pytest.raises(ValueError, match="from 1"):
        Backoff().delay_s(0)


@pytest.mark.parametrize("name", ["base_s", "cap_s", "max_after_s"])
def test_a_negative_wait_is_refused(name):
    with pytest.raises(ValueError, match="not negative"):
        Backoff(**{name: -1})


@given(
    attempt=st.integers(1, 10**6),
    share=st.floats(0, 1, exclude_max=True),
    after_s=st.none() | st.floats(-10, 1e9),
)
def test_a_wait_is_never_negative_below_what_was_asked_or_without_end(attempt, share, after_s):
    backoff = Backoff(random=lambda: share)

    delay_s = backoff.delay_s(attempt, after_s)

    assert 0 <= delay_s <= 900
    assert after_s is None or delay_s >= min(after_s, 900)
