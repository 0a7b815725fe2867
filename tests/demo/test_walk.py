from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st

from livesync.demo.editor import Editor
from livesync.demo.model import Catalogue
from livesync.demo.places import Place
from livesync.demo.walk import by_path

# characters before and after the slash, so that names begin with one another in every way
NAMES = st.text(alphabet="a-.0é", min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))
PLACES = st.lists(st.tuples(NAMES, NAMES), max_size=30)


def catalogue_of(places):
    numbers = count()
    editor = Editor(Catalogue(), lambda path: str(next(numbers)))
    for folder, talk in places:
        editor.write(Place(folder, talk), {})
    return editor.catalogue


@given(PLACES)
def test_everything_comes_in_the_order_of_paths_as_text(places):
    catalogue = catalogue_of(places)

    walked = [entry.path for entry in by_path(catalogue)]

    assert walked == sorted(entry.path for entry in catalogue.by_uid.values())


@given(PLACES, st.text(alphabet="a-./0é", max_size=9))
def test_walk_begins_after_any_text(places, after):
    catalogue = catalogue_of(places)

    walked = [entry.path for entry in by_path(catalogue, after)]

    assert walked == sorted(entry.path for entry in catalogue.by_uid.values() if entry.path > after)


@settings(max_examples=25)
@given(PLACES)
def test_walk_goes_on_after_each_thing_it_yielded(places):
    catalogue = catalogue_of(places)
    paths = [entry.path for entry in by_path(catalogue)]

    for number, path in enumerate(paths, 1):
        assert [entry.path for entry in by_path(catalogue, path)] == paths[number:]


def test_walk_loads_only_what_lies_on_its_way(world, demo, small_history):
    from livesync.demo.host import demo_host

    world.replay(demo_host(), *small_history)
    with world.root() as root:
        connection = root._p_jar
        connection.cacheMinimize()
        walk = by_path(root["catalogue"], "pycon-us")

        first = [next(walk).path for _ in range(3)]

        assert first[0] == "pycon-us/pycon-us-2013"
        loaded = [obj for obj in connection._cache.lru_items() if obj[1]._p_changed is not None]
        assert len(loaded) < 200
