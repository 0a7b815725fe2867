import gzip
import io
import json
import logging
import threading
import traceback
from datetime import date, datetime, timedelta, timezone
from importlib import resources

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.invenio_service import Repository, _sanitised, _validated, as_base64
from support.wsgi_service import Fault, Service, answering, on
from werkzeug.wrappers import Request as WSGIRequest
from werkzeug.wrappers import Response

from livesync.delivery.backoff import Backoff
from livesync.delivery.record import AttachedFile, Op, Record, document_digest
from livesync.delivery.uploader import Delivery
from livesync.destinations import _invenio_listing
from livesync.destinations._invenio_mark import FileMark, Mark, key_of, parse_mark
from livesync.destinations._invenio_metadata import default_metadata
from livesync.destinations.invenio import InvenioAgent, InvenioUploader
from livesync.errors import NoDocument, OptionError, RetryLater, ServiceRefuses
from livesync.host import content_digest

TRACK = "8a7f0c1e-2f4b-4a55-9d11-6f6d2a1c3b90"
DELIVERY = Delivery("a", TRACK, 1)
MAPPINGS = __name__


class Clock:
    """Time that goes on only when somebody sleeps."""

    def __init__(self):
        self.now = 1_700_000_000.0
        self.slept = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def upsert(object_id, position=7, files=None, **document):
    document = {"title": f"Title of {object_id}", **document}
    return Record(Op.UPSERT, object_id, position, document=document, files=files)


def delete(object_id, position=7):
    return Record(Op.DELETE, object_id, position)


def attached(name, content, sent=True):
    stream = io.BytesIO(content) if sent else None
    return AttachedFile(name, "text/plain", len(content), content_digest(content), stream)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def repository(clock):
    repository = Repository(clock)
    repository.refresh_s = 1.0
    return repository


@pytest.fixture
def service(repository):
    served = Service(repository)
    yield served
    assert served.errors == []


@pytest.fixture
def make_uploader(service, clock, monkeypatch):
    monkeypatch.setenv("INVENIO_TOKEN", "adm1n")
    opened = []

    def make(*, delivery=DELIVERY, till=7, sleep=clock.sleep, **options) -> InvenioUploader:
        values = {"url": service.url, "token": "env:INVENIO_TOKEN", "in_flight": 1} | options
        uploader = InvenioUploader(
            InvenioAgent(delivery.agent_id, **values),
            clock=clock,
            backoff=Backoff(random=lambda: 0.0),
            sleep=sleep,
        )
        opened.append(uploader)
        uploader.open(delivery)
        uploader.begin_slice(till)
        return uploader

    yield make
    for uploader in opened:
        uploader.close()


@pytest.fixture
def mapping(monkeypatch):
    """Let the option ``mapping`` name a function of a test."""

    def use(function):
        import support.invenio_service as room

        monkeypatch.setattr(room, "of_a_test", function, raising=False)
        return f"{room.__name__}:of_a_test"

    return use


def marks_of(repository):
    """The mark of every version, in the order in which they were made."""
    return [
        parse_mark(each["identifier"])
        for version in repository.versions.values()
        for each in (version.published or version.draft).metadata["identifiers"]
    ]


def only(repository):
    [version] = repository.versions.values()
    return version


def writes(service):
    return [request for request in service.requests if request.method != "GET"]


# the mark


ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
file_marks = st.builds(FileMark, ids, st.text("0123456789abcdef", max_size=32), st.booleans())


@given(ids, ids, st.integers(0, 2**63), st.booleans(), st.lists(file_marks, max_size=3))
@example("t", "b/ü\n", 1, False, [FileMark("a=b;c!d/e.txt", "00", True)])
def test_a_mark_can_be_read_back_after_whatever_the_repository_does_to_text(
    track, name, position, deleted, files
):
    mark = Mark(track, name, position, deleted, "" if deleted else "ab" * 16, tuple(files))

    text = str(mark)

    assert _sanitised(text) == text
    assert text.isascii()
    assert parse_mark(text) == mark


def test_a_mark_that_people_have_changed_is_none():
    text = str(Mark(TRACK, "a", 7, digest="ab" * 16))

    assert parse_mark(text) is not None
    for wrong in ("", "10.5281/zenodo.7", text[:-1], text + "b", text.replace("/7/", "/x/"), "x" + text):
        assert parse_mark(wrong) is None
    assert parse_mark(text.replace(TRACK, "other")) is None
    assert parse_mark(text.replace("/-/a", "/odd/a")).files == (FileMark("odd", "", False),)


def test_keys_are_words_that_no_two_objects_share():
    keys = {key_of(track, name) for track in ("a", "ab") for name in ("b", "c", "bc")}

    assert len(keys) == 6
    assert all(len(key) == 32 and key.isalnum() for key in keys)


# metadata


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, {"title": "p/1", "creators": "Unknown"}),
        ({"title": "It"}, {"title": "It (p/1)"}),
        ({"name": " A name\x00 "}, {"title": "A name"}),
        ({"title": 7, "label": "As a label"}, {"title": "As a label"}),
        ({"description": "<p>Long</p>"}, {"description": "<p>Long</p>"}),
        ({"description": "no", "summary": "A summary"}, {"description": "A summary"}),
        ({"publication_date": "2016-02-29"}, {"publication_date": "2016-02-29"}),
        ({"date": "2016-02-30", "recorded": "2016-02"}, {"publication_date": "2016-02"}),
        ({"issued": "2016"}, {"publication_date": "2016"}),
        ({"published": date(2016, 2, 3)}, {"publication_date": "2016-02-03"}),
        (
            {"created": datetime(2016, 2, 3, 23, tzinfo=timezone(timedelta(hours=-5)))},
            {"publication_date": "2016-02-04"},
        ),
        ({"tags": ["b", "a", "b", 7]}, {"subjects": [{"subject": "b"}, {"subject": "a"}]}),
        (
            {"publisher": "Us", "resource_type": "video"},
            {"publisher": "Us", "resource_type": {"id": "video"}},
        ),
        ({"creator": "Lee, Ann"}, {"creators": "Lee, Ann"}),
        ({"authors": ["Ann van Lee", "Plato"]}, {"creators": "Lee, Ann van; Plato"}),
        ({"creators": [], "speakers": [{"name": "Bo Yi"}, None]}, {"creators": "Yi, Bo"}),
    ],
)
def test_common_keys_become_metadata(document, expected):
    metadata = default_metadata(document, "p/1")
    people = [creator["person_or_org"] for creator in metadata["creators"]]
    shown = metadata | {
        "creators": "; ".join(
            who.get("name") or ", ".join(filter(None, (who["family_name"], who.get("given_name"))))
            for who in people
        )
    }

    assert {name: shown.get(name) for name in expected} == expected


def test_creators_in_the_repositorys_own_form_are_kept():
    creator = {"person_or_org": {"type": "organizational", "name": "CERN"}, "role": {"id": "other"}}

    assert default_metadata({"creators": [creator]}, "a")["creators"] == [creator]


def test_the_whole_history_of_the_demo_can_be_published():
    packed = resources.files("livesync.demo") / "history-small.jsonl.gz"
    repository = Repository()
    count = 0
    with packed.open("rb") as file, gzip.open(file) as lines:
        for line in lines:
            for change in json.loads(line)["changes"]:
                metadata = default_metadata(change.get("data") or {}, change["id"])
                metadata.setdefault("publication_date", "2026-01-01")
                errors = []
                _validated(repository, _sanitised(metadata), errors)
                assert errors == []
                count += 1
    assert count > 2000


# upserts


def test_an_object_becomes_a_published_record(repository, service, make_uploader, clock):
    document = {"title": "Zürich", "speakers": ["Ann Lee"], "summary": "About it."}

    result = make_uploader().iterate_over([Record(Op.UPSERT, "talks/ü", 7, document=document)])

    assert result.accepted == 1
    version = only(repository)
    assert version.draft is None
    published = version.published
    assert published.access == {"record": "public", "files": "public"}
    assert published.enabled is False
    metadata = dict(published.metadata)
    [identifier] = metadata.pop("identifiers")
    assert metadata == {
        "title": "Zürich",
        "description": "About it.",
        "resource_type": {"id": "other"},
        "creators": [{"person_or_org": {"type": "personal", "family_name": "Lee", "given_name": "Ann"}}],
        "publication_date": "2023-11-14",
    }
    assert identifier["scheme"] == "other"
    assert parse_mark(identifier["identifier"]) == Mark(TRACK, "talks/ü", 7, digest=document_digest(document))
    assert [(request.method, request.path.partition("?")[0]) for request in writes(service)] == [
        ("POST", "/api/records"),
        ("POST", f"/api/records/{version.id}/draft/actions/publish"),
    ]


def test_a_later_state_replaces_the_record_and_keeps_what_the_repository_gave_it(
    repository, make_uploader, clock
):
    make_uploader().iterate_over([upsert("a", 7, title="One of them")])
    pids = only(repository).published.pids
    clock.now += 86_400

    make_uploader().iterate_over([upsert("a", 8, title="Another one")])

    published = only(repository).published
    assert published.metadata["title"] == "Another one"
    assert published.metadata["publication_date"] == "2023-11-14"
    assert published.pids == pids != {}
    assert [mark.position for mark in marks_of(repository)] == [8]


def test_a_repeated_slice_writes_nothing(service, make_uploader, clock):
    records = [upsert("a"), upsert("b"), delete("c")]
    make_uploader().iterate_over(records)
    clock.now += 5
    service.requests.clear()

    result = make_uploader().iterate_over(records)

    assert result.accepted == 3
    assert writes(service) == []


def test_many_objects_are_looked_up_together(service, make_uploader):
    make_uploader(settle_s=0).iterate_over([upsert(f"{n:03}") for n in range(60)])

    searches = [request for request in service.requests if request.path.startswith("/api/user/records?")]
    assert len(searches) == 2  # of 50 and of 10
    assert max(len(request.path) for request in service.requests) < 4096


def test_access_and_scheme_are_as_the_options_say(repository, make_uploader):
    repository.schemes = {"livesync"}

    make_uploader(access="restricted", scheme="livesync").iterate_over([upsert("a")])

    published = only(repository).published
    assert published.access == {"record": "restricted", "files": "restricted"}
    assert [each["scheme"] for each in published.metadata["identifiers"]] == ["livesync"]


def test_an_older_state_never_replaces_a_newer_one(repository, make_uploader, clock):
    make_uploader().iterate_over([upsert("a", 9), upsert("b", 9)])
    make_uploader().iterate_over([delete("b", 10)])  # at once, when the search does not show it yet
    clock.now += 5

    result = make_uploader().iterate_over([upsert("a", 8), delete("a", 8), upsert("b", 8)])

    assert (result.accepted, result.stale) == (0, 3)
    assert sorted((mark.object_id, mark.position) for mark in marks_of(repository)) == [("a", 9), ("b", 9)]
    [_, gone] = repository.versions.values()
    assert parse_mark(gone.tombstone["note"]) == Mark(TRACK, "b", 10, deleted=True)


def test_what_the_search_shows_late_does_not_mislead(repository, make_uploader, clock):
    make_uploader().iterate_over([upsert("a", 7)])
    clock.now += 5
    repository.refresh_s = 4  # it shows no more than that
    make_uploader().iterate_over([upsert("a", 9)])

    for record in (upsert("a", 8), delete("a", 8)):
        result = make_uploader().iterate_over([record])
        assert (result.accepted, result.stale) == (0, 1)

    assert [mark.position for mark in marks_of(repository)] == [9]
    assert only(repository).draft is None


def test_one_uploader_sees_at_once_what_it_has_written(repository, make_uploader):
    repository.refresh_s = 1000
    uploader = make_uploader()

    for till in (7, 8):
        uploader.begin_slice(till)
        uploader.iterate_over([upsert("a", till)])
    uploader.iterate_over([delete("a", 9)])
    uploader.iterate_over([upsert("a", 10)])

    assert [(mark.position, mark.deleted) for mark in marks_of(repository)] == [(10, False)]
    assert only(repository).tombstone is None


# the mapping


def test_a_mapping_of_the_hosts_own_is_used(repository, make_uploader, mapping):
    repository.custom_fields = {"livesync:kind"}

    def own(document, object_id):
        return {
            "metadata": as_base64(document, object_id)
            | {"identifiers": [{"scheme": "url", "identifier": "x:y"}]},
            "custom_fields": {"livesync:kind": document["kind"]},
        }

    result = make_uploader(mapping=mapping(own)).iterate_over([upsert("a", kind="talk")])

    assert result.accepted == 1
    published = only(repository).published
    assert published.custom_fields == {"livesync:kind": "talk"}
    assert [each["scheme"] for each in published.metadata["identifiers"]] == ["url", "other"]


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (KeyError("speakers"), "the mapping raised KeyError: 'speakers'"),
        (NoDocument("nothing to say"), "nothing to say"),
        (None, "the mapping returned a NoneType, not a dict of metadata"),
        ({"metadata": {"title": object()}}, "cannot be written as JSON"),
        ({"identifiers": "x"}, "identifiers that are no list"),
        ({"title": "No more than that"}, "metadata.resource_type: Missing data for required field."),
        ({"metadata": {}, "custom_fields": {"x": 1}}, "custom_fields.x: Unknown field."),
    ],
)
def test_what_a_mapping_gets_wrong_stops_nobody(repository, make_uploader, mapping, made, reason):
    def wrong(document, object_id):
        if object_id != "wrong":
            return default_metadata(document, object_id)
        if isinstance(made, Exception):
            raise made
        return made

    result = make_uploader(mapping=mapping(wrong)).iterate_over([upsert("a"), upsert("wrong"), upsert("b")])

    assert (result.accepted, result.dead) == (2, 1)
    [dead] = result.dead_records
    assert dead.object_id == "wrong"
    assert reason in dead.reason
    assert {mark.object_id for mark in marks_of(repository)} == {"a", "b"}


def test_a_state_that_the_repository_refuses_leaves_the_one_before(repository, make_uploader, mapping, clock):
    def as_it_says(document, object_id):
        return default_metadata(document, object_id) | {
            "resource_type": {"id": document.get("kind", "other")}
        }

    reference = mapping(as_it_says)
    make_uploader(mapping=reference).iterate_over([upsert("a", 7)])
    clock.now += 5

    result = make_uploader(mapping=reference).iterate_over([upsert("a", 8, kind="potato"), upsert("b", 8)])

    assert (result.accepted, result.dead) == (1, 1)
    assert "metadata.resource_type: Invalid value potato." in result.dead_records[0].reason
    assert [(mark.object_id, mark.position) for mark in marks_of(repository)] == [("a", 7), ("b", 8)]
    assert all(version.draft is None for version in repository.versions.values())


def test_without_its_mark_nothing_is_published(repository, make_uploader, mapping):
    repository.schemes = {"doi"}
    result = make_uploader().iterate_over([upsert("a")])
    assert "metadata.identifiers.0.scheme: Invalid scheme." in result.dead_records[0].reason

    repository.schemes, repository.one_per_scheme = {"other"}, True
    own = mapping(
        lambda document, object_id: (
            as_base64(document, object_id) | {"identifiers": [{"scheme": "other", "identifier": "mine"}]}
        )
    )
    result = make_uploader(mapping=own).iterate_over([upsert("a")])
    assert "Only one identifier per scheme is allowed." in result.dead_records[0].reason

    assert repository.versions == {}


def test_a_repository_that_drops_the_mark_without_a_word_is_noticed(repository, make_uploader, monkeypatch):
    monkeypatch.setattr("support.invenio_service._valid_identifiers", lambda *_: [])

    result = make_uploader().iterate_over([upsert("a")])

    assert "has not kept the identifier" in result.dead_records[0].reason
    assert repository.versions == {}


# deletes


def test_a_deletion_leaves_a_tombstone_and_a_newer_state_brings_the_record_back(
    repository, service, make_uploader, clock
):
    make_uploader().iterate_over([upsert("a", 7)])
    clock.now += 5
    make_uploader().iterate_over([delete("a", 8)])

    version = only(repository)
    assert version.tombstone["is_visible"]
    assert parse_mark(version.tombstone["note"]).position == 8
    clock.now += 5
    make_uploader().iterate_over([upsert("a", 9)])

    assert only(repository) is version
    assert version.tombstone is None
    assert [mark.position for mark in marks_of(repository)] == [9]


def test_what_was_never_there_needs_no_deletion(repository, service, make_uploader):
    result = make_uploader().iterate_over([delete("a"), delete("b")])

    assert result.accepted == 2
    assert writes(service) == []


def test_a_grave_keeps_older_states_out(repository, make_uploader, clock):
    make_uploader(graves=True).iterate_over([delete("a", 8)])
    clock.now += 5

    result = make_uploader(graves=True).iterate_over([upsert("a", 7)])

    assert result.stale == 1
    version = only(repository)
    assert version.published is None
    assert version.draft.metadata["title"] == "Deleted: a"
    assert version.draft.access["record"] == "restricted"
    clock.now += 5
    assert make_uploader(graves=True).iterate_over([upsert("a", 9)]).accepted == 1
    assert only(repository).published.access["record"] == "public"


def test_removing_takes_rights_that_the_agent_asks_for(repository, make_uploader, clock, monkeypatch):
    monkeypatch.setenv("INVENIO_TOKEN", "t0ken")
    make_uploader().iterate_over([upsert("a", 7)])
    clock.now += 5

    with pytest.raises(
        ServiceRefuses, match="takes administration rights; give them, or set removal=restrict"
    ):
        make_uploader().iterate_over([delete("a", 8)])

    assert only(repository).tombstone is None


def test_a_repository_that_knows_no_tombstones_says_so(repository, make_uploader, clock):
    repository.removes = False
    make_uploader().iterate_over([upsert("a", 7)])
    clock.now += 5

    with pytest.raises(ServiceRefuses, match=r"cannot remove published records.*removal=restrict"):
        make_uploader().iterate_over([delete("a", 8)])


def test_restricting_shows_nothing_and_takes_no_rights(repository, make_uploader, clock, monkeypatch):
    monkeypatch.setenv("INVENIO_TOKEN", "t0ken")
    options = {"removal": "restrict"}
    make_uploader(**options).iterate_over([upsert("a", 7, description="A secret, now")])
    clock.now += 5

    for _ in range(2):
        assert make_uploader(**options).iterate_over([delete("a", 8)]).accepted == 1
        clock.now += 5

    version = only(repository)
    assert version.published.access == {"record": "restricted", "files": "restricted"}
    assert "secret" not in json.dumps(version.published.metadata)
    assert make_uploader(**options).iterate_over([upsert("a", 7)]).stale == 1
    assert make_uploader(**options).iterate_over([upsert("a", 9)]).accepted == 1
    assert only(repository).published.access["record"] == "public"


def test_what_somebody_else_has_removed_is_not_brought_back(repository, make_uploader, clock):
    make_uploader().iterate_over([upsert("a", 7)])
    clock.now += 5
    version = only(repository)
    version.tombstone = {"note": "taken down", "is_visible": True}
    repository._index(version.parent)

    for _ in range(2):  # while the search still shows it, and when it does no more
        result = make_uploader().iterate_over([upsert("a", 8), upsert("b", 8)])
        assert (result.accepted, result.dead) == (1, 1)
        assert "was removed by somebody in the repository" in result.dead_records[0].reason
        clock.now += 5

    assert version.tombstone["note"] == "taken down"
    assert make_uploader().iterate_over([delete("a", 9)]).accepted == 1


@pytest.mark.parametrize("graves", [False, True])
def test_a_draft_that_was_never_published_goes_with_its_object(
    repository, service, make_uploader, clock, graves
):
    service.script.append(answering(503, when=on("POST", "/publish")))
    with pytest.raises(RetryLater):
        make_uploader(max_attempts=1, settle_s=0).iterate_over(
            [upsert("a", 7, description="Nobody's business")]
        )
    clock.now += 5

    for _ in range(2):
        assert make_uploader(graves=graves).iterate_over([delete("a", 8)]).accepted == 1
        clock.now += 5

    assert [mark.deleted for mark in marks_of(repository)] == [True] * graves
    assert all("business" not in str(version.draft) for version in repository.versions.values())


def test_what_goes_while_it_is_looked_at_is_looked_for_again(repository, service, make_uploader, clock):
    service.script.append(answering(503, when=on("POST", "/publish")))
    with pytest.raises(RetryLater):
        make_uploader(max_attempts=1, settle_s=0).iterate_over([upsert("a", 7)])
    clock.now += 5
    version = only(repository)
    repository.versions.clear()  # the search shows it all the same
    uploader = make_uploader()
    clock.now += 5

    result = uploader.iterate_over([delete("a", 8)])

    assert (result.accepted, result.retried) == (1, 1)
    assert version.id not in repository.versions


def test_answers_to_one_record_speak_of_that_record(repository, service, make_uploader, clock):
    make_uploader().iterate_over([upsert(name, 7) for name in "abc"])
    clock.now += 5
    told = b'{"message": "No.", "errors": [{"field": "x", "messages": {"y": ["bad", "worse"]}}]}'
    service.script += [
        answering(400, told, when=on("DELETE", "/delete")),
        answering(418, when=on("PUT", "/draft")),
    ]

    result = make_uploader().iterate_over([delete("a", 8), upsert("b", 8), upsert("c", 8)])

    assert (result.accepted, result.dead) == (1, 2)
    reasons = {dead.object_id: dead.reason for dead in result.dead_records}
    assert reasons["a"].endswith("/delete: No. x: y: bad, worse")
    assert reasons["b"].startswith("HTTP 418 to PUT /records/")


def test_a_record_that_the_account_may_not_edit_stops_the_agent(service, make_uploader, clock):
    make_uploader().iterate_over([upsert("a", 7)])
    clock.now += 5
    service.script.append(answering(403, b'{"message": "Permission denied."}', when=on("POST", "/draft")))

    with pytest.raises(
        ServiceRefuses, match=r"answered 403 to POST .*: Permission denied\.; check the token"
    ):
        make_uploader().iterate_over([upsert("a", 8)])


# what a search does not show yet


def test_a_runner_that_takes_over_waits_until_the_search_must_show_everything(
    repository, service, make_uploader, clock
):
    service.script.append(Fault(cut="before", when=on("POST", "/publish")))
    with pytest.raises(RetryLater):
        make_uploader(max_attempts=1, settle_s=0).iterate_over([upsert("a")])
    assert only(repository).published is None
    repository.refresh_s = 2.5

    result = make_uploader(settle_s=3).iterate_over([upsert("a")])

    assert result.accepted == 1
    assert only(repository).published is not None
    assert sum(clock.slept) == pytest.approx(3)


@pytest.mark.parametrize("cut", ["before", "middle", "after"])
def test_a_creation_that_was_never_answered_makes_no_second_record(
    repository, service, make_uploader, clock, cut
):
    uploader = make_uploader()
    clock.now += 10  # it has been running for a while
    service.script.append(Fault(cut=cut, when=on("POST", "/api/records")))

    result = uploader.iterate_over([upsert("a"), upsert("b")])

    assert result.accepted == 2
    assert sorted(mark.object_id for mark in marks_of(repository)) == ["a", "b"]
    assert all(version.published for version in repository.versions.values())
    assert max(clock.slept) <= 3


def test_without_the_wait_a_second_record_can_be_made_and_is_removed_later(
    repository, service, make_uploader, clock, caplog
):
    for till in (7, 8):  # what the search needs a second for happens in none
        make_uploader(settle_s=0).iterate_over([upsert("a", till)])
        clock.now += 0.1
    assert len(repository.versions) == 2
    clock.now += 5

    result = make_uploader().iterate_over([upsert("a", 9)])

    assert result.accepted == 1
    living = [version for version in repository.versions.values() if version.tombstone is None]
    assert len(living) == 1
    assert living[0] is next(iter(repository.versions.values()))  # the one that was made first
    assert [
        parse_mark(each["identifier"]).position for each in living[0].published.metadata["identifiers"]
    ] == [9]
    assert "is a second record of 'a' and is removed" in caplog.text
    clock.now += 5
    assert make_uploader().iterate_over([upsert("a", 10)]).accepted == 1
    assert sum(version.tombstone is None for version in repository.versions.values()) == 1


def test_objects_that_are_there_do_not_wait_for_new_ones(repository, make_uploader, clock):
    make_uploader().iterate_over([upsert("a", 7)])
    clock.now += 5
    clock.slept.clear()

    result = make_uploader().iterate_over([upsert("new", 8), upsert("a", 8)])

    assert result.accepted == 2
    assert {mark.object_id for mark in marks_of(repository)} == {"a", "new"}
    assert sum(clock.slept) == pytest.approx(3)


# failures


def story(files):
    """A record's life: made, changed, deleted, made again."""

    def some(**contents):
        return tuple(attached(name, content) for name, content in contents.items()) if files else None

    return [
        [upsert("a", 7, some(x=b"one", y=b"two")), upsert("b", 7, some(x=b"one"))],
        [upsert("a", 8, some(x=b"one", z=b"three")), delete("b", 8)],
        [delete("a", 9), upsert("b", 9, some(x=b"one", w=b"four"))],
    ]


def state_of(repository):
    """What is there of each object, and that it is there once."""
    held = {}
    for version in repository.versions.values():
        newest = version.parent.family[-1]
        state = newest.published or newest.draft
        [mark] = [parse_mark(each["identifier"]) for each in state.metadata["identifiers"]]
        if newest.tombstone is not None:
            mark = parse_mark(newest.tombstone["note"])
        files = {} if mark.deleted else dict(state.files)
        known = (newest.parent.id, mark.position, mark.deleted, newest.draft is None, files)
        assert held.setdefault(mark.object_id, known) == known, "an object has two records"
    return {object_id: rest for object_id, (_, *rest) in held.items()}


class Crash(Exception):
    pass


def deliver_story(make_uploader, clock, **options):
    for till, records in enumerate(story(options["files"]), 7):
        uploader = make_uploader(till=till, **options)
        uploader.iterate_over(records)
        uploader.close()
        clock.now += 5


@pytest.mark.parametrize(
    ("removal", "files", "step"),
    [
        ("tombstone", True, 13),
        pytest.param("tombstone", True, 1, marks=pytest.mark.slow),
        pytest.param("restrict", True, 1, marks=pytest.mark.slow),
        pytest.param("tombstone", False, 1, marks=pytest.mark.slow),
        pytest.param("restrict", False, 1, marks=pytest.mark.slow),
    ],
)
def test_wherever_a_run_breaks_off_the_next_one_mends_it(service, make_uploader, clock, removal, files, step):
    options = {"removal": removal, "files": files}
    service.app = repository = Repository(clock)
    repository.refresh_s = 1.0
    deliver_story(make_uploader, clock, **options)
    expected = state_of(repository)
    count = len(service.requests)
    assert count > 20

    def sleep(seconds):
        if not service.script:
            raise Crash  # the run got as far as the fault
        clock.sleep(seconds)

    for number in range(0, count, step):
        for cut in ("before", "after"):
            service.app = repository = Repository(clock)
            repository.refresh_s = 1.0
            left = iter(range(number, -1, -1))
            service.script.append(Fault(cut=cut, when=lambda *_, left=left: next(left) == 0))
            with pytest.raises(Crash):
                deliver_story(make_uploader, clock, sleep=sleep, **options)
            deliver_story(make_uploader, clock, **options)
            assert service.errors == []
            assert state_of(repository) == expected, (number, cut)


def test_a_busy_repository_is_given_the_time_it_asks_for(repository, make_uploader, clock):
    def sleep(seconds):
        clock.sleep(seconds)
        if seconds:
            repository.left = 7

    uploader = make_uploader(sleep=sleep)
    clock.now += 10
    repository.left = 7  # two searches, two records and a half

    result = uploader.iterate_over([upsert(f"{n}") for n in range(5)])

    assert result.accepted == 5
    assert set(clock.slept) == {0, 30}
    assert sorted(mark.object_id for mark in marks_of(repository)) == list("01234")


def test_a_repository_that_lets_nothing_through_says_for_how_long(repository, make_uploader):
    repository.left = 0

    with pytest.raises(RetryLater, match="answered 429 to GET /user/records") as caught:
        make_uploader(max_attempts=1, settle_s=0).iterate_over([upsert("a")])

    assert caught.value.after_s == 30


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_repository_that_fails_is_tried_again(repository, service, make_uploader, status):
    service.script += [
        answering(status, when=on("POST", "/publish")),
        answering(status, when=on("GET", "/user/records")),
    ]

    assert make_uploader().iterate_over([upsert("a")]).accepted == 1
    assert only(repository).published is not None


def test_a_repository_that_never_answers_is_not_now(service, make_uploader):
    service.script.append(Fault(silent=True))

    with pytest.raises(RetryLater, match=r"did not answer within 0\.1 s"):
        make_uploader(timeout_s=0.1, max_attempts=1, settle_s=0).iterate_over([upsert("a")])


def test_somebody_who_edits_the_record_at_the_same_time_is_not_overwritten_unseen(
    repository, service, make_uploader, clock
):
    make_uploader().iterate_over([upsert("a", 7)])
    clock.now += 5
    version = only(repository)

    def others_first(method, path):
        if method == "PUT":
            version.revision += 1  # another has saved the draft in the meantime
        return False

    service.script.append(Fault(when=others_first))
    uploader = make_uploader(max_attempts=1, settle_s=0)
    with pytest.raises(RetryLater, match="has been modified since it was read"):
        uploader.iterate_over([upsert("a", 8)])

    service.script.clear()
    assert make_uploader().iterate_over([upsert("a", 8)]).accepted == 1


def test_two_runners_end_on_the_newest_state(repository, make_uploader, clock):
    repository.refresh_s = 0
    make_uploader().iterate_over([upsert("a", 1), upsert("b", 1)])
    clock.now += 5

    def run(positions):
        uploader = make_uploader(max_attempts=50)
        for position in positions:
            uploader.iterate_over([upsert(name, position, n=position) for name in ("a", "b")])

    threads = [threading.Thread(target=run, args=(range(2 + n, 22, 2),)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [(mark.object_id, mark.position) for mark in marks_of(repository)] == [("a", 21), ("b", 21)]
    assert all(version.draft is None for version in repository.versions.values())


@pytest.mark.parametrize(
    ("token", "told"), [("wr0ng", "answered 401 to GET /user/records.*check the token and the rights")]
)
def test_a_wrong_token_stops_the_agent(service, make_uploader, monkeypatch, token, told):
    monkeypatch.setenv("INVENIO_TOKEN", token)

    with pytest.raises(ServiceRefuses, match=told) as caught:
        make_uploader().iterate_over([upsert("a")])

    assert token not in str(caught.value)


def test_another_users_token_finds_nothing_of_ours(repository, make_uploader, clock, monkeypatch):
    make_uploader().iterate_over([upsert("a", 7)])
    clock.now += 5
    monkeypatch.setenv("INVENIO_TOKEN", "0ther")

    make_uploader().iterate_over([upsert("a", 8)])

    assert [version.parent.owner for version in repository.versions.values()] == [2, 3]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            answering(200, b"<html>hello</html>", Content_Type="text/html"),
            "text/html, which is not InvenioRDM's",
        ),
        (
            answering(200, b"{}", Content_Type="application/json"),
            "application/json, which is not InvenioRDM's",
        ),
        (answering(404, b"<h1>"), "answered 404 to GET /user/records; check the URL"),
        (answering(301, Location="/elsewhere"), "redirects are not followed"),
        (answering(400, b'{"message": "Page size cannot be greater"}'), "Page size cannot be greater"),
    ],
)
def test_what_is_no_such_repository_stops_the_agent(service, make_uploader, answer, told):
    service.script.append(answer)

    with pytest.raises(ServiceRefuses, match=told):
        make_uploader().iterate_over([upsert("a")])

    assert writes(service) == []


# communities


def test_new_records_go_through_the_community(repository, make_uploader, clock):
    repository.communities = {"talks": ("c-1", True)}
    make_uploader(community="talks").iterate_over([upsert("a", 7)])
    clock.now += 5

    make_uploader(community="talks").iterate_over([upsert("a", 8)])

    version = only(repository)
    assert version.parent.communities == ["c-1"]
    assert version.published is not None
    assert version.draft is None
    assert [mark.position for mark in marks_of(repository)] == [8]


def test_what_people_still_look_at_is_kept_up_to_date(repository, make_uploader, clock):
    repository.communities = {"talks": ("c-1", False)}
    make_uploader(community="c-1").iterate_over([upsert("a", 7)])
    clock.now += 5
    version = only(repository)
    assert version.published is None

    result = make_uploader(community="c-1").iterate_over([upsert("a", 8, title="A better title")])

    assert result.accepted == 1
    assert version.published is None
    repository.decide(version.id, accept=True)
    assert version.published.metadata["title"] == "A better title"
    clock.now += 5
    assert make_uploader(community="c-1").iterate_over([upsert("a", 9)]).accepted == 1
    assert [mark.position for mark in marks_of(repository)] == [9]


def test_what_the_community_declines_is_a_dead_letter(repository, make_uploader, clock):
    repository.communities = {"talks": ("c-1", False)}
    make_uploader(community="talks").iterate_over([upsert("a", 7)])
    clock.now += 5
    repository.decide(only(repository).id, accept=False)
    clock.now += 5

    result = make_uploader(community="talks").iterate_over([upsert("a", 8)])

    assert [dead.reason for dead in result.dead_records] == ["the community has declined it"]


def test_a_community_that_is_not_there_stops_the_agent(repository, make_uploader):
    with pytest.raises(ServiceRefuses, match="has no community 'talks': check the option community"):
        make_uploader(community="talks").iterate_over([upsert("a")])


# files


def test_files_that_change_make_a_new_version_and_the_others_are_taken_over(
    repository, service, make_uploader, clock
):
    make_uploader(files=True).iterate_over(
        [upsert("a", 7, files=(attached("keep", b"same"), attached("new", b"old"), attached("gone", b"x")))]
    )
    clock.now += 5
    service.requests.clear()

    make_uploader(files=True).iterate_over(
        [upsert("a", 8, files=(attached("keep", b"same"), attached("new", b"newer"), attached("empty", b"")))]
    )

    one, two = repository.versions.values()
    assert (one.index, two.index) == (1, 2)
    assert one.published.files == {"keep": b"same", "new": b"old", "gone": b"x"}
    assert two.published.files == {"keep": b"same", "new": b"newer", "empty": b""}
    assert {request.path.split("/")[-2] for request in service.told("PUT", "/content")} == {"new", "empty"}
    assert two.published.metadata["publication_date"] == "2023-11-14"


def test_files_that_stay_make_no_new_version(repository, service, make_uploader, clock):
    make_uploader(files=True).iterate_over([upsert("a", 7, files=(attached("x", b"one"),))])
    clock.now += 5
    service.requests.clear()

    make_uploader(files=True).iterate_over(
        [upsert("a", 8, title="New title", files=(attached("x", b"one"),))]
    )

    assert only(repository).published.metadata["title"] == "New title"
    assert only(repository).published.files == {"x": b"one"}
    assert service.told("PUT", "/content") == []


def test_an_agent_that_sends_no_files_leaves_those_that_are_there(repository, make_uploader, clock):
    make_uploader(files=True).iterate_over([upsert("a", 7, files=(attached("x", b"one"),))])
    clock.now += 5

    make_uploader().iterate_over([upsert("a", 8)])

    assert only(repository).published.files == {"x": b"one"}
    assert marks_of(repository)[0].files == (FileMark("x", content_digest(b"one"), True),)


def test_a_deletion_takes_all_versions(repository, make_uploader, clock):
    for till, content in ((7, b"one"), (8, b"two"), (9, b"three")):
        make_uploader(files=True).iterate_over([upsert("a", till, files=(attached("x", content),))])
        clock.now += 5

    make_uploader(files=True).iterate_over([delete("a", 10)])

    assert len(repository.versions) == 3
    assert all(version.tombstone is not None for version in repository.versions.values())
    clock.now += 5
    make_uploader(files=True).iterate_over([upsert("a", 11, files=())])
    newest = list(repository.versions.values())[-1]
    assert newest.tombstone is None
    assert newest.published.files == {}


def test_files_of_what_was_emptied_do_not_come_to_light_again(repository, make_uploader, clock):
    options = {"files": True, "removal": "restrict"}
    make_uploader(**options).iterate_over([upsert("a", 7, files=(attached("x", b"secret"),))])
    clock.now += 5
    make_uploader(**options).iterate_over([delete("a", 8)])
    assert only(repository).published.access["files"] == "restricted"
    clock.now += 5

    make_uploader(**options).iterate_over([upsert("a", 9, files=())])

    old, new = repository.versions.values()
    assert old.published.access["files"] == "restricted"
    assert new.published.access["files"] == "public"
    assert new.published.files == {}


def test_a_content_that_another_record_has_is_read_from_there(repository, service, make_uploader, clock):
    make_uploader(files=True).iterate_over([upsert("a", 7, files=(attached("x", b"one"),))])
    clock.now += 5
    uploader = make_uploader(files=True)
    digests = {content_digest(b"one"), content_digest(b"two")}
    assert uploader.missing_files(digests) == {content_digest(b"two")}

    result = uploader.iterate_over([upsert("b", 8, files=(attached("y", b"one", sent=False),))])

    assert result.accepted == 1
    assert list(repository.versions.values())[1].published.files == {"y": b"one"}


def test_a_content_in_an_object_store_is_fetched_there_without_the_token(
    repository, service, make_uploader, clock
):
    seen = []

    @WSGIRequest.application
    def store(request):
        seen.append(request.headers.get("Authorization"))
        return Response(b"one")

    elsewhere = Service(store)
    make_uploader(files=True).iterate_over([upsert("a", 7, files=(attached("x", b"one"),))])
    clock.now += 5
    service.script.append(answering(302, Location=f"{elsewhere.url}/bucket", when=on("GET", "/content")))

    make_uploader(files=True).iterate_over([upsert("b", 8, files=(attached("y", b"one", sent=False),))])

    assert list(repository.versions.values())[1].published.files == {"y": b"one"}
    assert seen == [None]


def test_a_content_that_was_changed_there_is_not_taken_for_the_hosts(repository, make_uploader, clock):
    make_uploader(files=True).iterate_over([upsert("a", 7, files=(attached("x", b"one"),))])
    clock.now += 5
    only(repository).published.files["x"] = b"two"

    result = make_uploader(files=True).iterate_over(
        [upsert("b", 8, files=(attached("y", b"one", sent=False),)), upsert("c", 8)]
    )

    assert (result.accepted, result.dead) == (1, 1)
    assert "where it is another now" in result.dead_records[0].reason


def test_a_file_whose_content_is_not_its_own_stops_nobody(repository, make_uploader):
    wrong = AttachedFile("x", "text/plain", 3, content_digest(b"two"), io.BytesIO(b"one"))

    result = make_uploader(files=True).iterate_over([upsert("a", files=(wrong,)), upsert("b", files=())])

    assert (result.accepted, result.dead) == (1, 1)
    assert {mark.object_id for mark in marks_of(repository)} == {"b"}


def test_files_that_come_later_or_go_again_follow_the_object(repository, make_uploader, clock):
    for till, files in ((7, ()), (8, (attached("x", b"one"),)), (9, ()), (10, (attached("y", b"two"),))):
        assert make_uploader(files=True).iterate_over([upsert("a", till, files=files)]).accepted == 1
        clock.now += 5

    assert [version.published.files for version in repository.versions.values()] == [
        {}, {"x": b"one"}, {}, {"y": b"two"}
    ]  # fmt: skip


def test_files_of_a_draft_that_was_never_published_do_not_stay(repository, service, make_uploader, clock):
    service.script.append(answering(503, when=on("POST", "/publish")))
    with pytest.raises(RetryLater):
        make_uploader(files=True, max_attempts=1, settle_s=0).iterate_over(
            [upsert("a", 7, files=(attached("x", b"one"),))]
        )
    assert only(repository).draft.files == {"x": b"one"}
    clock.now += 5

    assert make_uploader(files=True).iterate_over([upsert("a", 8, files=())]).accepted == 1

    assert only(repository).published.files == {}
    assert only(repository).published.enabled is False


# what is there


def test_rows_are_what_is_published_of_the_track(service, make_uploader, clock, monkeypatch):
    monkeypatch.setattr(_invenio_listing, "_PAGE", 3)
    uploader = make_uploader()
    for number in range(7):  # several at the same time, and more than a page
        uploader.iterate_over([upsert(f"{number}", 7), delete("3", 8)])
        clock.now += 0 if number < 4 else 1
    make_uploader(delivery=Delivery("a", "another-track", 1)).iterate_over([upsert("x", 7)])
    clock.now += 5
    uploader = make_uploader(max_attempts=1, settle_s=0)
    service.script.append(answering(503, when=on("POST", "/publish")))
    with pytest.raises(RetryLater):
        uploader.iterate_over([upsert("unfinished", 9)])
    clock.now += 5

    rows = list(make_uploader().rows())

    names = ["0", "1", "2", "4", "5", "6"]
    assert [row.object_id for row in rows] == names
    assert {row.position for row in rows} == {7}
    assert [row.object_id for row in make_uploader().rows("4")] == ["5", "6"]


def test_more_records_of_one_moment_than_a_search_shows_are_told(repository, make_uploader, monkeypatch):
    make_uploader(settle_s=0).iterate_over([upsert(f"{n}") for n in range(6)])
    repository.refresh_s = 0
    monkeypatch.setattr(_invenio_listing, "_PAGE", 2)
    monkeypatch.setattr(_invenio_listing, "SEARCH_WINDOW", 4)

    with pytest.raises(ServiceRefuses, match="more than the repository's search can tell apart"):
        list(make_uploader().rows())


def test_a_listing_that_is_left_or_fails_leaves_nothing_open(repository, service, make_uploader):
    repository.refresh_s = 0
    make_uploader(settle_s=0).iterate_over([upsert("a"), upsert("b")])
    uploader = make_uploader()

    rows = uploader.rows()
    assert next(rows).object_id == "a"
    rows.close()
    service.script.append(answering(503))
    with pytest.raises(RetryLater):
        next(uploader.rows())


@pytest.mark.parametrize("removal", ["tombstone", "restrict"])
def test_a_sweep_removes_what_an_export_did_not_bring(repository, make_uploader, clock, removal):
    make_uploader(removal=removal).iterate_over([upsert("gone", 7), upsert("kept", 7)])
    clock.now += 5
    make_uploader(removal=removal).iterate_over([upsert("kept", 9)])
    clock.now += 5

    assert make_uploader(removal=removal).sweep(9) == 1

    clock.now += 5
    assert [row.object_id for row in make_uploader(removal=removal).rows()] == ["kept"]
    assert make_uploader(removal=removal).sweep(9) == 0
    assert make_uploader(removal=removal).iterate_over([upsert("gone", 8)]).stale == 1


def test_a_sweep_leaves_what_went_or_cannot_go(repository, service, make_uploader, clock, caplog):
    make_uploader().iterate_over([upsert(name, 7) for name in "abcd"])
    clock.now += 5
    gone = next(iter(repository.versions.values()))
    gone.tombstone = {"note": "spam", "is_visible": True}  # which the search does not show yet
    service.script.append(answering(422, when=on("DELETE", "/delete")))

    assert make_uploader().sweep(9) == 2

    assert sum(version.tombstone is None for version in repository.versions.values()) == 1
    assert "was not removed: HTTP 422" in caplog.text


# set-up


def test_a_probe_tells_whose_repository_it_is(repository, service, make_uploader, clock):
    repository.communities = {"talks": ("c-1", True)}
    make_uploader().iterate_over([upsert("a")])
    clock.now += 5
    before = len(writes(service))

    line = make_uploader(community="talks", url=f"{service.url}/api/").probe()

    assert line == f"{service.url} is an InvenioRDM; the token's user has 1 record there"
    assert len(writes(service)) == before
    with pytest.raises(ServiceRefuses, match="no community"):
        make_uploader(community="other").probe()


@pytest.mark.parametrize(
    "options",
    [
        {"token": None},
        {"url": None},
        {"url": "https://h/?x=1"},
        {"mapping": "nothing"},
        {"access": "secret"},
        {"removal": "never"},
        {"settle_s": -1},
        {"max_attempts": 1},
        {"batch_size": 0},
    ],
)
def test_options_of_a_wrong_form_are_refused(options):
    values = {"url": "https://h/", "token": "env:INVENIO_TOKEN"} | options
    with pytest.raises(OptionError):
        InvenioAgent("a", **{name: value for name, value in values.items() if value is not None})


def test_a_mapping_that_is_none_is_refused_before_anything_is_sent(service, make_uploader):
    with pytest.raises(OptionError, match="cannot be imported"):
        make_uploader(mapping="no.such.module:function")

    assert service.requests == []


def test_neither_logs_nor_errors_hold_the_token_or_a_document(service, make_uploader, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG, "livesync")
    service.script += [answering(500)] * 2
    uploader = make_uploader(max_attempts=2)
    records = [upsert("a", title="payload")]

    with pytest.raises(RetryLater) as caught:
        uploader.iterate_over(records)

    told = caplog.text + "".join(traceback.format_exception(caught.value))
    assert service.url in told
    assert not [text for text in ("adm1n", "payload") if text in told]


def test_open_comes_first(service):
    uploader = InvenioUploader(InvenioAgent("a", url=service.url, token="env:INVENIO_TOKEN"))

    with pytest.raises(RuntimeError, match=r"open\(\) comes before"):
        uploader.iterate_over([upsert("a")])
