"""Times, lengths of time and numbers as pages show them."""

import pytest

from livesync import words

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.2, "200 ms"),
        (1, "1 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (3605, "1 h"),
        (7800, "2 h 10 min"),
        (90_000, "1 d 1 h"),
        (86_400 * 400, "400 d"),
    ],
)
def test_a_length_of_time_has_its_two_greatest_units(seconds, text):
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("apart", "text"),
    [
        (0.4, "just now"),
        (1, "1 second ago"),
        (59, "59 seconds ago"),
        (61, "1 minute ago"),
        (86_400 * 3, "3 days ago"),
        (86_400 * 800, "2 years ago"),
        (-120, "in 2 minutes"),
    ],
)
def test_how_long_ago_something_was_is_told_in_its_greatest_unit(apart, text):
    assert words.ago(NOW - apart, NOW) == text


def test_times_are_in_utc_and_say_so():
    assert words.utc(NOW) == "2027-01-15 08:00:00 UTC"
    assert words.utc(NOW, seconds=False) == "2027-01-15 08:00 UTC"
    assert words.iso(NOW) == "2027-01-15T08:00:00Z"
    assert (words.clock(NOW), words.clock(NOW, seconds=True), words.day(NOW)) == (
        "08:00",
        "08:00:00",
        "2027-01-15",
    )


@pytest.mark.parametrize("show", [words.utc, words.iso, words.clock, words.day])
def test_a_time_beyond_any_calendar_is_empty(show):
    assert show(1e30) == ""


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1_234_567, "1,234,567"), (2.345, "2.3"), (1234.5, "1,234"), (0.04, "0.0")]
)
def test_numbers_have_their_thousands_apart(value, text):
    assert words.number(value) == text


def test_counts_and_sizes_have_their_words():
    assert (words.plural(1, "agent"), words.plural(1200, "agent")) == ("1 agent", "1,200 agents")
    assert words.plural(2, "object is", "objects are") == "2 objects are"
    assert (words.size(1), words.size(2000), words.size(5 * 1024**3)) == ("1 byte", "2.0 KiB", "5.0 GiB")
