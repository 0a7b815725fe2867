import pytest
from hypothesis import given
from hypothesis import strategies as st

from livesync.demo.places import (
    Place,
    conference_folder,
    conference_name,
    parse_file,
    parse_path,
    series_name,
)


@pytest.mark.parametrize(
    ("file", "place"),
    [
        ("pycon-us-2013/category.json", Place("pycon-us-2013")),
        ("pycon-us-2013/videos/keynote.json", Place("pycon-us-2013", "keynote")),
        ("data/pycon-us-2013/category.json", Place("data/pycon-us-2013")),
        ("data/pycon-us-2013/videos/a, b & c.json", Place("data/pycon-us-2013", "a, b & c")),
        ("x/videos/category.json", Place("x", "category")),
    ],
)
def test_file_of_a_history_names_a_place_and_back(file, place):
    assert parse_file(file) == place
    assert place.file == file


@pytest.mark.parametrize(
    "file",
    ["", "category.json", "videos/x.json", "a/videos/.json", "a/videos/x.txt", "a/b.json", "a//category.json",
     "../category.json", "/a/category.json", "a/videos/x/y.json", f"{'a' * 300}/category.json"],
)  # fmt: skip
def test_file_of_another_form_is_refused(file):
    with pytest.raises(ValueError, match=r"no path of|too long"):
        parse_file(file)


@pytest.mark.parametrize(
    ("folder", "series"),
    [
        ("pycon-us-2013", "pycon-us"),
        ("depy2015", "depy"),
        ("data/pycon-us-2013", "pycon-us"),
        ("montreal-python", "montreal-python"),
        ("2013", "2013"),
        ("pycon-2525", "pycon-2525"),
    ],
)
def test_series_is_the_conference_without_its_year(folder, series):
    assert series_name(folder) == series


@given(st.text(alphabet="a%/2F5-", min_size=1))
def test_conference_name_has_no_slash_and_can_be_undone(folder):
    name = conference_name(folder)

    assert "/" not in name
    assert conference_folder(name) == folder


@pytest.mark.parametrize("place", [Place("data/pycon-us-2013"), Place("data/pycon-us-2013", "keynote")])
def test_path_in_the_catalogue_names_a_place(place):
    assert parse_path(place.path) == place


def test_path_of_a_series_is_its_name():
    assert parse_path("pycon-us") == "pycon-us"


@pytest.mark.parametrize("path", ["", "a/", "a//b", "a/b/c/d", "other/pycon-us-2013", "a/a%zz", "x" * 513])
def test_path_that_nothing_can_have_is_refused(path):
    with pytest.raises(ValueError, match="no path in the catalogue"):
        parse_path(path)
