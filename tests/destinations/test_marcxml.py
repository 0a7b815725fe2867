import gzip
import io
import json
import logging
import re
import traceback
from base64 import b64encode
from importlib import resources

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pymarc import Field, Indicators, Record, Subfield, parse_xml_to_array
from support.marc_service import (
    Invenio1,
    NotMARCXML,
    PositionLibrary,
    as_base64,
    as_told,
    check_collection,
    value,
)
from support.wsgi_service import Fault, Service, answering

from livesync.delivery.backoff import Backoff
from livesync.delivery.record import Op
from livesync.delivery.record import Record as SyncRecord
from livesync.delivery.uploader import Delivery
from livesync.demo.marc import marc_fields
from livesync.destinations._marc_record import (
    Places,
    collection_xml,
    deletion_xml,
    parse_place,
    record_xml,
)
from livesync.destinations.marcxml import MARCXMLAgent, MARCXMLUploader
from livesync.errors import NoDocument, OptionError, RetryLater, ServiceRefuses

PLACES = Places(*(parse_place("x", text) for text in ("970__a", "999__p", "980__c")))
DELIVERY = Delivery("a", "8a7f0c1e-2f4b-4a55-9d11-6f6d2a1c3b90", 1)


def upsert(object_id, position=7, **document):
    return SyncRecord(Op.UPSERT, object_id, position, document={"id": object_id, **document})


def delete(object_id, position=7):
    return SyncRecord(Op.DELETE, object_id, position)


MAPPING = f"{as_told.__module__}:as_told"


def field(tag, indicators="  ", **subfields):
    return Field(tag, Indicators(*indicators), [Subfield(code, text) for code, text in subfields.items()])


@pytest.fixture
def library():
    return Invenio1()


@pytest.fixture
def service(library):
    served = Service(library)
    yield served
    assert served.errors == []


@pytest.fixture
def make_uploader(service):
    opened = []

    def make(*, till=7, delivery=DELIVERY, **options) -> MARCXMLUploader:
        waits: list[float] = []
        uploader = MARCXMLUploader(
            MARCXMLAgent(delivery.agent_id, **({"url": service.url, "fields": MAPPING} | options)),
            clock=lambda: 1_700_000_000.0,
            backoff=Backoff(random=lambda: 0.0),
            sleep=waits.append,
        )
        uploader.waits = waits
        opened.append(uploader)
        uploader.open(delivery)
        uploader.begin_slice(till)
        return uploader

    yield make
    for uploader in opened:
        uploader.close()


def read(xml):
    check_collection(xml)
    return parse_xml_to_array(io.BytesIO(xml), strict=True)


# what a record holds


def test_a_batch_is_a_collection_of_whole_records(service, library, make_uploader):
    make_uploader().iterate_over([upsert("talks/ü", title='Zürich <&> "x"'), delete("b", 8)])

    [xml] = library.uploads
    first, second = read(xml)
    assert value(first, "970__a") == "talks/ü"
    assert value(first, "999__p") == "7"
    assert value(first, "24500a") == 'Zürich <&> "x"'
    assert value(first, "980__c") is None
    assert str(first.leader) == "00000nam a2200000 a 4500"
    assert (value(second, "970__a"), value(second, "999__p"), value(second, "980__c")) == (
        "b",
        "8",
        "DELETED",
    )
    assert len(second.fields) == 3
    assert second.leader.record_status == "d"


def test_places_are_the_hosts_to_choose(library, make_uploader):
    make_uploader(
        id_field="035__a", position_field="035__p", deleted_field="9801_d", id_prefix="(SITE)"
    ).iterate_over([upsert("a"), delete("b", 8)])

    [xml] = library.uploads
    record, gone = read(xml)
    assert [str(field) for field in record.get_fields("035")] == ["=035  \\\\$a(SITE)a$p7"]
    assert [str(field) for field in gone.fields] == ["=035  \\\\$a(SITE)b$p8", "=980  1\\$dDELETED"]


def test_ids_carry_the_prefix_that_tells_them_from_other_systems(library, make_uploader):
    make_uploader(id_prefix="INDICO.").iterate_over([upsert("1"), delete("2")])

    assert set(library.records) == {"INDICO.1", "INDICO.2"}


def test_a_mapping_may_make_a_whole_record_and_is_left_its_own(library, make_uploader):
    made = Record()
    made.add_field(Field("005", data="20260101120000.0"), field("245", a="x"))
    uploader = make_uploader()

    uploader.iterate_over([upsert("a")])  # the mapping is loaded and works
    xml = collection_xml([record_xml(made, PLACES, "a", 7)] * 2)

    first, second = read(xml)
    assert [f.tag for f in first.fields] == [f.tag for f in second.fields] == ["005", "245", "970", "999"]
    assert first["005"].data == "20260101120000.0"
    assert len(made.fields) == 2
    assert str(made.leader) == " " * 10 + "22" + " " * 8 + "4500"
    assert str(first.leader) == "     nam a22        4500"


texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"),
    max_size=20,
) | st.sampled_from(["\r", "\n", "\t", "a\r\nb", " x ", "]]>", "<!--", "&amp;", "\x7f\x85"])


@given(st.lists(st.tuples(st.sampled_from(["245", "520", "9a9".lower(), "FFT"]), texts), max_size=5), texts)
@example([("245", "\r\n")], "id\r")
def test_any_text_that_xml_can_hold_comes_back_as_it_was(values, object_id):
    made = [field(tag, a=text) for tag, text in values]

    [record] = read(collection_xml([record_xml(made, PLACES, object_id, 7)]))

    assert [(f.tag, f.subfields[0].value) for f in record.fields[: len(values)]] == values
    assert value(record, "970__a") == object_id


@pytest.mark.parametrize("char", ["\x00", "\x0b", "\x1f", "\ud800", "\ufffe", "\uffff"])
def test_what_xml_cannot_hold_is_refused_with_its_place(char):
    reason = rf"^245\$a holds U\+{ord(char):04X}, which XML cannot hold$"

    with pytest.raises(NoDocument, match=reason):
        record_xml([field("245", a=f"x{char}")], PLACES, "a", 7)
    with pytest.raises(NoDocument, match=r"^970__a holds"):
        record_xml([field("245", a="x")], PLACES, f"a{char}", 7)
    with pytest.raises(NoDocument, match=r"^970__a holds"):
        deletion_xml(PLACES, f"a{char}", 7)
    with pytest.raises(NoDocument, match=r"^001 holds"):
        record_xml([Field("001", data=char)], PLACES, "a", 7)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (None, "returned a NoneType, not a pymarc.Record"),
        ("245", "returned a str, not"),
        (["245"], "returned a str among the fields"),
        ([Field("24", Indicators(" ", " "), [Subfield("a", "x")])], None),
        ([Field("2x", Indicators(" ", " "), [Subfield("a", "x")])], "'2x' is no tag"),
        ([Field("2aB", Indicators(" ", " "), [Subfield("a", "x")])], "'2aB' is no tag"),
        ([Field("245", Indicators("A", " "), [Subfield("a", "x")])], "'A' is no indicator"),
        ([Field("245", Indicators(" ", "12"), [Subfield("a", "x")])], "'12' is no indicator"),
        ([Field("245", Indicators(" ", " "), [])], "245 has no subfield"),
        ([Field("245", Indicators(" ", " "), [Subfield(" ", "x")])], "' ' is no subfield code"),
        ([Field("245", Indicators(" ", " "), [Subfield("ä", "x")])], "'ä' is no subfield code"),
        ([Field("245", Indicators(" ", " "), [Subfield("a", 7)])], "245\\$a holds a int, not text"),
        ([Field("001")], "001 holds a NoneType, not text"),
        ([Field("000", data="x")], "'000' is no tag of a control field"),
        ([field("970", a="mine")], "the mapping sets 970__a, which livesync needs"),
        ([field("980", c="DELETED")], "the mapping sets 980__c"),
        ([field("999", x="y", p="1")], "the mapping sets 999__p"),
        (Record(leader="x" * 24), "is no leader"),
    ],
)
def test_what_marc_cannot_hold_is_refused_and_the_rest_is_marc(made, reason):
    if reason is None:  # pymarc fills the tag up
        assert check_collection(collection_xml([record_xml(made, PLACES, "a", 7)]))
        return
    with pytest.raises(NoDocument, match=reason):
        record_xml(made, PLACES, "a", 7)


def test_the_same_tag_with_other_indicators_is_the_hosts():
    made = [field("970", "1 ", a="mine"), field("980", a="TALK"), field("999", q="x")]

    [record] = read(collection_xml([record_xml(made, PLACES, "a", 7)]))

    assert value(record, "9701_a") == "mine"
    assert value(record, "970__a") == "a"
    assert value(record, "980__a") == "TALK"


# poison


def test_a_record_that_marcxml_cannot_hold_stops_nobody(library, make_uploader):
    result = make_uploader().iterate_over(
        [
            upsert("a"),
            upsert("control", title="bell\x07"),
            upsert("raises", raises="no such thing"),
            upsert("nothing", has_none="nothing to say of it"),
            upsert("odd", made=[1]),
            delete("b"),
            delete("b\x01"),
            upsert("c"),
        ]
    )

    assert (result.accepted, result.dead) == (3, 5)
    assert {dead.object_id: dead.reason for dead in result.dead_records} == {
        "control": "245$a holds U+0007, which XML cannot hold",
        "raises": "the mapping raised KeyError: 'no such thing'",
        "nothing": "nothing to say of it",
        "odd": "the mapping returned a int among the fields",
        "b\x01": "970__a holds U+0001, which XML cannot hold",
    }
    assert set(library.living) == {"a", "c"}
    assert len(library.uploads) == 1


def test_a_batch_of_poison_alone_is_not_sent(service, make_uploader):
    result = make_uploader().iterate_over([upsert("a", title="\x00")])

    assert result.dead == 1
    assert service.requests == []


def test_a_record_that_the_library_refuses_is_found_by_halving(library, make_uploader):
    library.collections = {"TALK"}
    records = [upsert(f"{n}") for n in range(7)]
    records[4] = upsert("wrong", collection="SECRET")

    result = make_uploader().iterate_over(records)

    assert (result.accepted, result.dead) == (6, 1)
    [dead] = result.dead_records
    assert dead.object_id == "wrong"
    assert "Wrong collection" in dead.reason


@pytest.mark.parametrize("statuses", [True, False])
def test_a_file_that_is_no_marcxml_is_refused(library, service, make_uploader, statuses):
    library.statuses = statuses
    service.app = lambda environ, start: library.__call__(
        environ
        | {"wsgi.input": io.BytesIO(environ["wsgi.input"].read().replace(b"</record>", b"</recorX>"))},
        start,
    )

    result = make_uploader().iterate_over([upsert("a")])

    assert [dead.reason for dead in result.dead_records] == ["[ERROR] MARCXML is not valid."]


# Invenio's upload form


def test_the_form_is_invenios(service, make_uploader):
    make_uploader().iterate_over([upsert("a")])
    make_uploader().iterate_over([upsert("a")])
    make_uploader(till=8).iterate_over([upsert("a")])

    assert {request.method for request in service.requests} == {"POST"}
    bodies = [request.body for request in service.requests]
    assert all(
        request.headers["Content-Type"].startswith("multipart/form-data; boundary=")
        and request.headers["User-Agent"] == "invenio_webupload"
        for request in service.requests
    )
    assert b'name="mode"\r\n\r\n-ir\r\n' in bodies[0]
    nonces = [re.search(rb'name="nonce"\r\n\r\n(\w+)', body)[1] for body in bodies]
    assert nonces[0] == nonces[1] != nonces[2]


def test_the_newer_way_of_invenio_takes_the_collection_as_it_is(library, service, make_uploader):
    result = make_uploader(url=f"{service.url}/insertorreplace", upload="post").iterate_over(
        [upsert("a"), delete("b")]
    )

    assert result.accepted == 2
    assert set(library.living) == {"a"}
    assert library.deleted == {"b": 7}
    [request] = service.requests
    assert request.headers["Content-Type"] == "application/marcxml+xml"
    assert request.body == library.uploads[0]


def test_what_invenio_was_told_last_is_what_it_holds(library, make_uploader):
    slices = [
        (7, [upsert("a", 7, title="one"), upsert("b", 7)]),
        (8, [upsert("a", 8, title="two"), delete("b", 8)]),
    ]

    for _ in range(2):  # a replay goes through all states again and ends with the last
        uploader = make_uploader()
        for till, records in slices:
            uploader.begin_slice(till)
            uploader.iterate_over(records)

    assert {key: value(record, "24500a") for key, record in library.living.items()} == {"a": "two"}
    assert library.deleted == {"b": 8}


@pytest.mark.parametrize("statuses", [True, False])
@pytest.mark.parametrize(
    ("wrong", "told"),
    [({"here": False}, "client IP 127.0.0.1"), ({"agents": "curl"}, "invenio_webupload useragent")],
)
def test_an_uploader_that_does_not_let_us_in_stops_the_agent(library, make_uploader, statuses, wrong, told):
    library.statuses = statuses
    vars(library).update(wrong)

    with pytest.raises(ServiceRefuses, match=rf"answered \[ERROR\] Sorry, .*{told}.*user_agent"):
        make_uploader().iterate_over([upsert("a")])

    assert library.uploads == []


def test_another_user_agent_may_be_what_it_lets_in(library, make_uploader):
    library.agents = "library-robot"

    assert make_uploader(user_agent="library-robot/1").iterate_over([upsert("a")]).accepted == 1


def test_a_page_for_people_stops_the_agent(service, make_uploader):
    service.script.append(answering(200, b"<html>login</html>", Content_Type="text/html"))

    with pytest.raises(ServiceRefuses, match="text/html, not JSON"):
        make_uploader().iterate_over([upsert("a")])


# failures


@pytest.mark.parametrize("cut", ["before", "middle", "after"])
def test_a_connection_that_is_cut_is_tried_again(library, service, make_uploader, cut):
    service.script.append(Fault(cut=cut))

    result = make_uploader().iterate_over([upsert("a"), delete("b")])

    assert result.accepted == 2
    assert set(library.living) == {"a"}
    assert len(service.requests) == 2
    assert len({request.body for request in service.requests}) == 1


def test_a_service_that_never_answers_is_not_now(service, make_uploader):
    service.script.append(Fault(silent=True))

    with pytest.raises(RetryLater, match=r"did not answer within 0\.1 s"):
        make_uploader(timeout_s=0.1, max_attempts=1).iterate_over([upsert("a")])


def test_a_busy_service_is_given_the_time_it_asks_for(library, service, make_uploader):
    service.script += [answering(503, Retry_After="9"), answering(500)]
    uploader = make_uploader()

    assert uploader.iterate_over([upsert("a")]).accepted == 1
    assert uploader.waits == [9, 0]


def test_a_service_that_knows_positions_says_what_is_stale(service, make_uploader):
    service.app = library = PositionLibrary()
    options = {"upload": "post", "fields": f"{as_base64.__module__}:as_base64"}
    make_uploader(**options).iterate_over([upsert("a", 9)])

    result = make_uploader(**options).iterate_over([upsert("a", 8), delete("b", 8)])

    assert (result.accepted, result.stale) == (1, 1)
    assert value(library.records["a"], "999__p") == "9"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, None),
        ({"token": "env:LIBRARY_SECRET"}, "Bearer s3cret"),
        (
            {"username": "röbot", "password": "env:LIBRARY_SECRET"},
            "Basic " + b64encode("röbot:s3cret".encode()).decode(),
        ),
    ],
)
def test_who_we_are_is_proved_as_asked(service, make_uploader, monkeypatch, options, expected):
    monkeypatch.setenv("LIBRARY_SECRET", "s3cret")

    make_uploader(**options).iterate_over([upsert("a")])

    [request] = service.requests
    assert request.headers.get("Authorization") == expected


def test_a_probe_uploads_nothing(library, service, make_uploader):
    assert make_uploader().probe() == f"{service.url} takes uploads from here"
    library.statuses = False
    assert make_uploader().probe() == f"{service.url} takes uploads from here"
    assert library.uploads == []
    library.here = False
    with pytest.raises(ServiceRefuses, match="client IP"):
        make_uploader().probe()


def test_a_probe_of_another_service_sends_an_empty_collection(service, make_uploader):
    service.app = library = PositionLibrary()

    assert make_uploader(upload="post").probe() == f"{service.url} takes uploads (200)"

    assert [read(xml) for xml in library.uploads] == [[]]
    service.script += [answering(422), answering(404)]
    assert "takes no empty upload (422)" in make_uploader(upload="post").probe()
    with pytest.raises(ServiceRefuses, match="404"):
        make_uploader(upload="post").probe()


@pytest.mark.parametrize(
    "options",
    [
        {"fields": None},
        {"url": None},
        {"fields": "no_colon"},
        {"id_field": "970a"},
        {"id_field": "001__a"},
        {"id_field": "2aB__a"},
        {"deleted_field": "980__"},
        {"position_field": "970__a"},
        {"upload": "ftp"},
        {"username": "u"},
        {"password": "env:X"},
        {"username": "u", "password": "env:X", "token": "env:Y"},
        {"username": "u:v", "password": "env:X"},
        {"user_agent": ""},
        {"user_agent": "two\nlines"},
    ],
)
def test_options_of_a_wrong_form_are_refused(options):
    values = {"url": "http://h/", "fields": MAPPING} | options
    with pytest.raises(OptionError):
        MARCXMLAgent("a", **{name: text for name, text in values.items() if text is not None})


@pytest.mark.parametrize("reference", ["no.such.module:x", "json:no_such_function", "sys:version"])
def test_a_mapping_that_is_none_is_refused_before_anything_is_sent(service, make_uploader, reference):
    with pytest.raises(OptionError):
        make_uploader(fields=reference)

    assert service.requests == []


def test_neither_logs_nor_errors_hold_a_secret(service, make_uploader, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG, "livesync")
    monkeypatch.setenv("LIBRARY_SECRET", "s3cret")
    service.script += [answering(500)] * 2
    uploader = make_uploader(url=f"{service.url}?key=hidden", token="env:LIBRARY_SECRET", max_attempts=2)
    records = [upsert("a", title="payload")]

    with pytest.raises(RetryLater) as caught:
        uploader.iterate_over(records)

    told = caplog.text + "".join(traceback.format_exception(caught.value))
    assert service.url in told
    assert not [text for text in ("hidden", "s3cret", "payload") if text in told]


# the demo's mapping


def history():
    """The documents of the demo's history, as its host makes them."""
    packed = resources.files("livesync.demo") / "history-small.jsonl.gz"
    with packed.open("rb") as file, gzip.open(file) as lines:
        for line in lines:
            for change in json.loads(line)["changes"]:
                if change.get("data"):
                    kind = "talk" if "/videos/" in change["id"] else "conference"
                    yield change["id"], change["data"] | {
                        "kind": kind, "title": change["data"].get("title", ""), "path": change["id"],
                        "series": change["id"].split("/")[0], "source": change["id"],
                    }  # fmt: skip


@pytest.mark.slow
def test_the_whole_history_of_the_demo_is_marc():
    documents = list(history())

    xml = collection_xml(
        record_xml(marc_fields(object_id, document), PLACES, object_id, 7)
        for object_id, document in documents
    )

    records = read(xml)
    assert len(records) == len(documents) > 2000
    assert all(value(record, "24500a") for record in records)
    for record, (object_id, document) in zip(records, documents, strict=True):
        assert value(record, "970__a") == object_id
        names = [f["a"] for f in record.get_fields("100", "700")]
        assert names == [name.strip() for name in document.get("speakers", []) if name.strip()]


def test_a_talk_is_described():
    document = {
        "kind": "talk", "title": "Pyramid", "series": "pycon", "path": "pycon/2013/pyramid",
        "speakers": ["Ann Lee", "Bo Yi"], "tags": ["web", "zodb"], "language": "English",
        "recorded": "2013-03-16", "copyright_text": "CC", "summary": "Features.", "duration": 1800,
        "videos": [{"url": "https://v.example/1", "type": "mp4"}], "related_urls": ["https://r.example", 7],
        "description": None,
    }  # fmt: skip

    assert [str(f) for f in marc_fields("p1", document)] == [
        "=100  1\\$aAnn Lee",
        "=245  00$aPyramid",
        "=490  0\\$apycon",
        "=518  \\\\$d2013-03-16",
        "=520  \\\\$aFeatures.",
        "=540  \\\\$aCC",
        "=546  \\\\$aEnglish",
        "=653  \\\\$aweb",
        "=653  \\\\$azodb",
        "=700  1\\$aBo Yi",
        "=856  41$uhttps://v.example/1",
        "=856  42$uhttps://r.example",
        "=980  \\\\$aTALK",
    ]


def test_an_entry_without_anything_still_has_a_title():
    assert [str(f) for f in marc_fields("s1", {"kind": "series", "title": "", "path": "pycon"})] == [
        "=245  00$apycon",
        "=980  \\\\$aSERIES",
    ]


# the stand-in


@pytest.mark.parametrize(
    "xml",
    [
        b"<collection/>",
        b'<collection xmlns="http://www.loc.gov/MARC21/slim"><record/></collection>',
        b'<collection xmlns="http://www.loc.gov/MARC21/slim"><record><leader>short</leader></record></collection>',
        b'<collection xmlns="http://www.loc.gov/MARC21/slim"><other/></collection>',
        b'<collection xmlns="http://www.loc.gov/MARC21/slim">',
        b'<collection xmlns="http://www.loc.gov/MARC21/slim">\x00</collection>',
    ],
)
def test_the_stand_ins_are_strict(xml):
    with pytest.raises(NotMARCXML):
        check_collection(xml)
