import pytest
import zope.event
from zope.lifecycleevent import ObjectAddedEvent, ObjectModifiedEvent, ObjectMovedEvent, ObjectRemovedEvent

from livesync.demo.editor import Editor
from livesync.demo.model import Catalogue, everything_below
from livesync.demo.places import Place
from livesync.demo.visibility import VisibilityChangedEvent

TALK = Place("a-2001", "x")


@pytest.fixture
def editor():
    count = iter(range(1000))
    return Editor(Catalogue(), lambda path: f"{path} {next(count)}")


@pytest.fixture
def heard():
    """Return the list of all events of zope, as they come."""
    events = []
    zope.event.subscribers.append(events.append)
    yield events
    zope.event.subscribers.remove(events.append)


def test_new_talk_is_announced_after_what_it_lies_in(editor, heard):
    talk = editor.write(TALK, {"title": "X"})

    assert [type(event) for event in heard] == [ObjectAddedEvent] * 3
    assert [event.object.path for event in heard] == ["a", "a/a-2001", "a/a-2001/x"]
    assert (heard[-1].object, heard[-1].newParent, heard[-1].newName) == (talk, talk.__parent__, "x")


def test_change_is_announced_with_the_fields_that_differ(editor, heard):
    talk = editor.write(TALK, {"title": "X", "n": 1, "same": [1]})
    del heard[:]

    editor.write(TALK, {"title": "Y", "same": [1], "new": 2})

    (event,) = heard
    assert type(event) is ObjectModifiedEvent
    assert event.object is talk
    assert [description.attributes for description in event.descriptions] == [("n", "new", "title")]


@pytest.mark.parametrize("value", [True, 1.0])
def test_what_json_tells_apart_is_a_change(editor, heard, value):
    talk = editor.write(TALK, {"n": 1})
    del heard[:]

    editor.write(TALK, {"n": value})

    assert type(talk.data["n"]) is type(value)
    assert [type(event) for event in heard] == [ObjectModifiedEvent]


def test_same_document_again_is_no_change(editor, heard):
    editor.write(TALK, {"n": [1, {"m": None}]})
    del heard[:]

    editor.write(TALK, {"n": [1, {"m": None}]})

    assert heard == []


def test_talk_that_becomes_ready_is_announced_as_public_and_back(editor, heard, demo):
    editor.write(TALK, {"title": "X"})
    del heard[:]

    editor.write(TALK, demo.ready)
    editor.write(TALK, {**demo.ready, "speakers": []})

    flips = [event.private for event in heard if isinstance(event, VisibilityChangedEvent)]
    assert flips == [False, True]


def test_conference_that_loses_its_document_is_announced_as_private(editor, heard):
    conference = editor.write(Place("a-2001"), {"title": "A"})
    editor.write(TALK, {})
    del heard[:]

    editor.erase(conference)

    assert [(type(event), event.object) for event in heard] == [
        (ObjectModifiedEvent, conference),
        (VisibilityChangedEvent, conference),
    ]


def test_move_is_announced_once_it_is_made(editor, heard):
    talk = editor.write(TALK, {})
    old = talk.__parent__
    del heard[:]

    editor.move_talk(talk, Place("a-2002", "y"))

    moved = next(event for event in heard if type(event) is ObjectMovedEvent)
    assert (moved.oldParent, moved.oldName, moved.newName) == (old, "x", "y")
    assert moved.newParent is talk.__parent__
    assert talk.path == "a/a-2002/y"


def test_removal_is_announced_while_everything_is_still_there(editor):
    conference = editor.write(Place("a-2001"), {})
    editor.write(TALK, {})
    seen = []

    def look(event):
        if type(event) is ObjectRemovedEvent:
            known = editor.catalogue.by_uid
            seen.append([(entry.path, entry.uid in known) for entry in everything_below(event.object)])

    zope.event.subscribers.append(look)
    try:
        editor.remove(conference)
    finally:
        zope.event.subscribers.remove(look)

    assert seen == [[("a/a-2001/x", True)]]
    assert not any("a-2001" in uid for uid in editor.catalogue.by_uid)


def test_series_goes_with_its_last_conference(editor, heard):
    talk = editor.write(TALK, {})
    del heard[:]

    editor.erase(talk)

    assert [type(event) for event in heard] == [ObjectRemovedEvent] * 3
    assert [event.object.kind for event in heard] == ["talk", "conference", "series"]
    assert not editor.catalogue.by_uid
