import pytest

from livesync.demo.editor import Editor
from livesync.demo.model import ROOT_KEY, Catalogue, get_catalogue, is_private
from livesync.demo.places import Place


@pytest.mark.parametrize("missing", ["speakers", "videos", "summary"])
def test_talk_is_private_until_it_has_everything_that_people_need(demo, missing):
    assert not is_private("talk", demo.ready)
    assert is_private("talk", {**demo.ready, missing: None})
    assert is_private("talk", {name: value for name, value in demo.ready.items() if name != missing})


def test_talk_may_have_a_description_instead_of_a_summary(demo):
    assert not is_private("talk", {**demo.ready, "summary": "", "description": "…"})


def test_conference_is_private_until_it_has_a_title():
    assert is_private("conference", None)
    assert is_private("conference", {"title": ""})
    assert not is_private("conference", {"title": "A"})


def test_series_is_public():
    assert not is_private("series", None)


def test_catalogue_is_found_in_the_root_if_there_is_one():
    catalogue = Catalogue()

    assert get_catalogue({}) is None
    assert get_catalogue({ROOT_KEY: catalogue}) is catalogue


def test_something_else_under_the_key_of_the_catalogue_is_refused():
    with pytest.raises(TypeError, match="something else"):
        get_catalogue({ROOT_KEY: {}})


@pytest.mark.parametrize("path", ["b", "a/b-2001", "a/a-2001/y", "a/a-2001/x/y", "a/a-2001/x/y/z", ""])
def test_nothing_is_found_at_a_path_where_nothing_lies(path):
    catalogue = Catalogue()
    Editor(catalogue, str).write(Place("a-2001", "x"), {})

    assert catalogue.at_path("a/a-2001/x").kind == "talk"
    assert catalogue.at_path(path) is None
