import base64
import json
import logging
import re
import ssl
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime, timezone
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from support.opensearch_service import OpenSearchService
from support.shelf import World
from support.waiting import LONG_S

from livesync.delivery.backoff import Backoff
from livesync.delivery.record import Op, Record, document_digest, encode_document
from livesync.delivery.uploader import Delivery, HeldRow
from livesync.destinations import _opensearch_reading as reading
from livesync.destinations import _opensearch_rest as rest
from livesync.destinations import opensearch
from livesync.destinations._opensearch_documents import LONG_ID, action, row_of, service_id
from livesync.destinations._opensearch_pointer import POINTERS
from livesync.destinations._text import document_text
from livesync.destinations.opensearch import OpenSearchAgent, OpenSearchUploader
from livesync.errors import LeaseLost, OptionError, RetryLater, ServiceRefuses
from livesync.upkeep import export as exporting
from livesync.upkeep.export import export

NOW = 1_700_000_000.0


def upsert(object_id, position=7, **document):
    return Record(Op.UPSERT, object_id, position, document={"id": object_id, **document})


def delete(object_id, position=7):
    return Record(Op.DELETE, object_id, position)


@pytest.fixture
def service():
    return OpenSearchService()


@pytest.fixture
def make_uploader(service):
    opened = []

    def make(*, generation=1, rebuild="", url=None, begin: int | None = 7, exporting=False, **options):
        options = {"in_flight": 1, **options}
        agent = OpenSearchAgent("a", url=url or service.url, index="talks", **options)
        waits: list[float] = []
        uploader = OpenSearchUploader(
            agent, now=lambda: NOW, backoff=Backoff(random=lambda: 0.0), sleep=waits.append
        )
        uploader.waits = waits
        opened.append(uploader)
        uploader.open(Delivery("a", "track", generation, rebuild=rebuild))
        uploader.exporting = exporting
        if begin is not None:
            uploader.begin_slice(begin)
        return uploader

    yield make
    for uploader in opened:
        uploader.close()


@pytest.fixture
def deliver(make_uploader):
    """Deliver one slice, its pointer too unless it is an export's."""

    def deliver(*records, till=7, **kwargs):
        uploader = make_uploader(begin=till, **kwargs)
        result = uploader.iterate_over(records)
        uploader.end_slice(None if uploader.exporting else till)
        return result

    return deliver


def searched(service, query=None, *, refresh=True, index="talks"):
    """What a search by the alias finds, as anybody makes it."""
    if refresh:
        requests.post(f"{service.url}/{index}/_refresh", timeout=LONG_S).raise_for_status()
    body = {"query": query or {"match_all": {}}, "size": 1000}
    answer = requests.post(f"{service.url}/{index}/_search", json=body, timeout=LONG_S)
    assert answer.status_code == 200, answer.text
    return {hit["_id"]: hit["_source"] for hit in answer.json()["hits"]["hits"]}


def texts(service, index):
    """What is searched of each document, by id."""
    return {key: doc.values.get("livesync.text") for key, doc in service.indices[index].docs.items()}


@pytest.fixture
def numbers(tmp_path):
    """A mapping file in which a field ``n`` holds numbers."""
    path = tmp_path / "numbers.json"
    path.write_text('{"mappings": {"dynamic": true, "properties": {"n": {"type": "long"}}}}')
    return path


def sent_ids(request):
    """The ids in a bulk request."""
    return [json.loads(line)["index"]["_id"] for line in request.body.split(b"\n")[:-1:2]]


def bulks(service):
    return service.http.told("POST", "_bulk")


def told(service, *, but=("GET",)):
    return [request for request in service.http.requests if request.method not in but]


# -- options, and who we are ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "index", ["Talks", "_talks", "-talks", ".talks", "a b", "a/b", "a,b", "a:b", "x" * 181]
)
def test_a_name_that_no_index_can_have_is_refused_at_once(index):
    with pytest.raises(OptionError, match=r"option index: .* cannot name an index"):
        OpenSearchAgent("a", url="http://search.example", index=index)


def test_a_url_with_a_query_is_refused_at_once():
    with pytest.raises(OptionError, match="option url: no query"):
        OpenSearchAgent("a", url="http://search.example/?key=1", index="talks")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"token": "env:T", "api_key": "env:K"}, "api_key and token exclude each other"),
        ({"username": "u", "password": "env:P", "token": "env:T"}, "username and token exclude"),
        ({"username": "u"}, "username and password belong together"),
        ({"password": "env:P"}, "username and password belong together"),
        ({"username": "u:v", "password": "env:P"}, "no colon"),
    ],
)
def test_there_is_one_way_to_prove_who_we_are(options, said):
    with pytest.raises(OptionError, match=said):
        OpenSearchAgent("a", url="http://search.example", index="talks", **options)


@pytest.mark.parametrize(
    ("options", "header"),
    [
        (
            {"username": "zoë", "password": "env:S"},
            "Basic " + base64.b64encode("zoë:s3cret".encode()).decode(),
        ),
        ({"api_key": "env:S"}, "ApiKey s3cret"),
        ({"api_key": "env:PAIR"}, "ApiKey " + base64.b64encode(b"id:key").decode()),
        ({"token": "env:S"}, "Bearer s3cret"),
    ],
)
def test_who_we_are_is_proved_in_each_way(service, deliver, monkeypatch, options, header):
    monkeypatch.setenv("S", "s3cret")
    monkeypatch.setenv("PAIR", "id:key")
    service.credentials = {header}

    assert deliver(upsert("a"), **options).accepted == 1

    assert {request.headers["Authorization"] for request in service.http.requests} == {header}


@pytest.mark.parametrize("options", [{}, {"token": "env:S"}, {"username": "u", "password": "env:S"}])
def test_wrong_credentials_stop_the_agent_before_anything_is_sent(
    service, make_uploader, monkeypatch, caplog, options
):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("S", "s3cret")
    service.credentials = {"ApiKey other"}

    with pytest.raises(
        ServiceRefuses, match=r"answered 401 to GET /: .*; check username and password"
    ) as caught:
        make_uploader(**options)

    assert "s3cret" not in str(caught.value) + caplog.text
    assert told(service) == []


def test_a_key_that_no_header_can_carry_is_not_repeated(make_uploader, monkeypatch):
    monkeypatch.setenv("S", "two\nlines")

    with pytest.raises(OptionError, match="option api_key: the secret holds") as caught:
        make_uploader(api_key="env:S")

    assert "two" not in str(caught.value)


def test_missing_rights_stop_the_agent(service, make_uploader):
    service.forbidden = {"PUT /talks-1"}

    with pytest.raises(
        ServiceRefuses, match=r"403 to PUT /talks-1: security_exception: .*; check the rights"
    ):
        make_uploader()


def test_missing_rights_to_one_index_of_a_batch_stop_the_agent(service, make_uploader):
    uploader = make_uploader()
    service.item_errors = [("b", 403, "security_exception", "no permissions for [indices:data/write]")]

    with pytest.raises(ServiceRefuses, match="talks-1-write cannot be written: 403: security_exception"):
        uploader.iterate_over([upsert("a"), upsert("b")])


# -- who answers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distribution", "version", "said"),
    [("opensearch", "1.0.0", "OpenSearch 1.0.0"), ("elasticsearch", "9.1.2", "Elasticsearch 9.1.2")],
)
def test_a_probe_says_who_answers_and_makes_nothing(make_uploader, distribution, version, said):
    service = OpenSearchService(distribution, version)

    uploader = make_uploader(url=service.url, begin=None)

    assert uploader.probe() == f"{said}; the index talks will be made"
    assert told(service) == []


def test_a_probe_says_what_is_there(service, make_uploader, deliver):
    deliver(upsert("a"), upsert("b"), delete("c"))
    searched(service)

    said = make_uploader(begin=None).probe()

    assert said == "OpenSearch 2.19.1; talks stands for talks-1, 2 documents, pointer at 7"


def test_an_elasticsearch_that_is_too_old_is_refused(make_uploader):
    service = OpenSearchService("elasticsearch", "7.9.3")

    with pytest.raises(
        ServiceRefuses, match=r"is Elasticsearch 7\.9\.3: it takes Elasticsearch 7\.10 or newer"
    ):
        make_uploader(url=service.url)


def test_a_user_that_may_not_ask_who_answers_can_still_deliver(service, deliver, make_uploader):
    service.forbidden = {"GET /"}

    assert deliver(upsert("a")).accepted == 1
    assert "does not tell its version; talks stands for talks-1" in make_uploader(begin=None).probe()


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (200, "text/html", b"<html>log in</html>"),
        (200, "application/json", b'{"hello": "world"}'),
        (200, "application/json", b"[]"),
        (404, "text/html", b"<html>not found</html>"),
        (404, "application/json", b'{"message": "no route"}'),
        (302, "text/plain", b""),
        (405, "text/plain", b"no"),
    ],
)
def test_another_service_at_the_url_stops_the_agent(service, make_uploader, status, kind, body):
    service.fail_next(status, ending="/", method="GET", body=body, Content_Type=kind, Location="/login")

    with pytest.raises(ServiceRefuses, match="check the URL"):
        make_uploader()


def test_a_404_that_a_proxy_gives_is_no_missing_pointer(service, make_uploader):
    uploader = make_uploader(begin=None)
    service.fail_next(404, ending="talks%3Aa", method="GET", body=b"<html>", Content_Type="text/html")

    with pytest.raises(ServiceRefuses, match="404 to GET /livesync-pointers/_doc/talks%3Aa; check the URL"):
        uploader.read_pointer()


def test_a_service_that_is_not_ready_is_not_now(service, make_uploader):
    said = b'{"error": {"type": "master_not_discovered_exception", "reason": null}, "status": 503}'
    service.fail_next(503, ending="/", method="GET", body=said, Retry_After="7")

    with pytest.raises(RetryLater, match="503 to GET /: master_not_discovered_exception") as caught:
        make_uploader()

    assert caught.value.after_s == 7


def test_a_certificate_that_nobody_vouches_for_stops_the_agent(make_uploader):
    trustme = pytest.importorskip("trustme")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request, client_address):
            pass

    with Quiet(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with pytest.raises(ServiceRefuses, match="cannot be trusted"):
                make_uploader(url=f"https://localhost:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()


# -- how the index is made --------------------------------------------------------------------------------


def test_the_index_is_made_with_its_aliases_and_our_field(service, deliver):
    deliver(upsert("a", when="2026-11-21", n=1), generation=3)

    index = service.indices["talks-3"]
    assert index.aliases == {
        "talks": {"filter": {"bool": {"must_not": [{"term": {"livesync.deleted": True}}]}}},
        "talks-3-write": {},
    }
    # of fields nothing is guessed
    assert index.mappings["dynamic"] == "false"
    assert index.mappings["properties"].keys() == {"livesync"}
    ours = index.mappings["properties"]["livesync"]["properties"]
    types = {name: ours[name]["type"] for name in ("object_id", "position", "text")}
    assert types == {"object_id": "keyword", "position": "long", "text": "text"}


def test_without_a_mapping_file_every_document_is_taken_and_found(service, deliver):
    documents = {
        "text": {"related_urls": "https://example.org/one"},
        "objects": {"related_urls": [{"label": "Two", "url": "https://example.org"}, {"label": None}]},
        "lists": {"related_urls": [["three"], [[]]], "n": 2**70},
        "number": {"related_urls": 4, "title": "Four"},
        "date": {"related_urls": "2026-11-21", "a": {"b": 1}, "a.b": {"c": "five"}},
        "later": {"related_urls": "no date", "a": "six"},
        "many": {f"field{n}": f"seven{n}" for n in range(2000)},
    }

    result = deliver(*(upsert(object_id, **document) for object_id, document in documents.items()))

    assert (result.accepted, result.dead) == (7, 0)
    found = {"one": "text", "two": "objects", "three": "lists", "four": "number", "five": "date",
             "six": "later", "seven1999": "many"}  # fmt: skip
    for word, object_id in found.items():
        assert searched(service, {"match": {"livesync.text": word}}).keys() == {object_id}
    assert searched(service, {"match": {"title": "four"}}) == {}


def test_a_field_name_that_no_service_takes_is_a_dead_letter(deliver):
    result = deliver(upsert("a", **{".": 1}), upsert("b", **{"": 1}), upsert("c", _id=1), upsert("d"))

    assert (result.accepted, result.dead) == (1, 3)


def test_values_that_are_text_in_json_only_are_in_step_with_it(deliver, make_uploader):
    values = [datetime(2026, 11, 21, 9, 30, tzinfo=timezone.utc), date(2026, 11, 21), Decimal("1.5"), b"abc"]
    document = {"id": "a", "title": "A", "values": values}

    deliver(Record(Op.UPSERT, "a", 7, document=document))

    assert list(make_uploader().rows()) == [HeldRow("a", 7, document_digest(document))]


def test_what_was_deleted_is_found_no_more(service, deliver):
    deliver(upsert("a", title="old"), upsert("b", title="old"))
    deliver(delete("a", 8), upsert("b", 8, title="new"), till=8)

    assert searched(service, {"match": {"livesync.text": "old"}}) == {}
    assert texts(service, "talks-1") == {"a": None, "b": ["b\nnew"]}


def test_a_mapping_file_is_applied(service, deliver, tmp_path):
    path = tmp_path / "talks.json"
    path.write_text(
        json.dumps(
            {
                "settings": {"number_of_shards": 2},
                "mappings": {"dynamic": "strict", "properties": {"id": {"type": "keyword"}}},
            }
        )
    )

    result = deliver(upsert("a"), upsert("b", title="not foreseen"), mapping=path)

    index = service.indices["talks-1"]
    assert index.settings["number_of_shards"] == 2
    assert set(index.mappings["properties"]) == {"id", "livesync"}
    assert "text" not in index.mappings["properties"]["livesync"]["properties"]
    assert searched(service)["a"]["livesync"].keys() == {"object_id", "position", "digest"}
    assert (result.accepted, result.dead) == (1, 1)
    assert "strict_dynamic_mapping_exception" in result.dead_records[0].reason


def test_the_mapping_that_the_docs_show_sorts_and_counts(service, deliver, tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "howto" / "opensearch.rst").read_text("utf-8")
    [shown] = re.findall(r'^   \{\n   ( *"mappings".*?)^   \}\n', page, re.DOTALL | re.MULTILINE)
    path = tmp_path / "talks.json"
    path.write_text("{" + shown + "}")

    result = deliver(
        upsert("a", title="On B", year=2018, tags=["x", "y"], related_urls="text"),
        upsert("b", title="On A", year=2017, tags=["y"], related_urls=[{"url": "https://example.org"}]),
        upsert("c", title="On C", year="next year"),
        mapping=path,
    )

    assert (result.accepted, result.dead) == (2, 1)
    assert searched(service, {"match": {"title": "b"}}).keys() == {"a"}
    assert searched(service, {"term": {"tags": "y"}}).keys() == {"a", "b"}
    body = {"query": {"match_all": {}}, "sort": [{"year": "asc"}]}
    answer = requests.post(f"{service.url}/talks/_search", json=body, timeout=LONG_S)
    assert [hit["sort"] for hit in answer.json()["hits"]["hits"]] == [[2017], [2018]]


def test_a_mapping_file_that_comes_later_changes_nothing_before_the_rebuild(
    service, deliver, make_uploader, numbers
):
    deliver(upsert("a", title="A"))

    deliver(upsert("b", 8, title="B"), till=8, mapping=numbers)
    assert searched(service, {"match": {"livesync.text": "b"}}).keys() == {"b"}

    changed = [upsert("c", 9, title="C", n=1), upsert("d", 9, title="D", n="many")]
    deliver(upsert("a", 9, title="A"), till=9, rebuild="g2", exporting=True, mapping=numbers)
    assert deliver(*changed, till=9, rebuild="g2", mapping=numbers).dead == 1
    assert searched(service, {"match": {"livesync.text": "c"}}).keys() == {"c"}
    make_uploader(rebuild="g2", begin=None, mapping=numbers).finish_rebuild()
    assert searched(service, {"match": {"title": "c"}}).keys() == {"c"}
    assert searched(service, {"match": {"livesync.text": "c"}}) == {}
    assert texts(service, "talks-g2") == {"a": None, "c": None}


def test_a_mapping_that_the_service_refuses_stops_the_agent_with_its_reason(service, make_uploader, tmp_path):
    path = tmp_path / "talks.json"
    path.write_text('{"mappings": {"properties": {"title": {"type": "txet"}}}}')

    with pytest.raises(
        ServiceRefuses,
        match=r"refuses to make the index talks-1 with the mapping file .*talks\.json:"
        r" mapper_parsing_exception: .*No handler for type \[txet\] declared on field \[title\]",
    ):
        make_uploader(mapping=path)

    assert service.indices.keys() == set()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is no JSON"),
        ("[]", 'must hold an object of "settings" and "mappings"'),
        ('{"properties": {}}', 'must hold an object of "settings" and "mappings"'),
        ('{"mappings": []}', '"mappings" in .* is no object'),
        ('{"mappings": {"properties": {"livesync": {"type": "text"}}}}', "maps the field livesync"),
        ('{"mappings": {"_source": {"excludes": ["secret"]}}}', "sets _source: documents must come back"),
        (
            '{"settings": {"index": {"mapping": {"source": {"mode": "synthetic"}}}}}',
            "sets mapping.source.mode",
        ),
    ],
)
def test_a_mapping_file_that_cannot_be_used_is_named(service, make_uploader, tmp_path, text, said):
    path = tmp_path / "talks.json"
    if text is not None:
        path.write_text(text)

    with pytest.raises(OptionError, match=rf"option mapping: .*{said}|option mapping: {said}"):
        make_uploader(mapping=path)
    with pytest.raises(OptionError):
        make_uploader(mapping=path, begin=None).probe()

    assert told(service) == []


def test_an_index_that_has_the_name_of_the_alias_stops_the_agent(service, make_uploader):
    requests.put(f"{service.url}/talks", timeout=LONG_S).raise_for_status()

    with pytest.raises(ServiceRefuses, match=r"has an index named talks.*give the option index another name"):
        make_uploader()
    with pytest.raises(ServiceRefuses, match="has an index named talks"):
        make_uploader(begin=None).probe()


def test_an_alias_that_is_not_ours_is_not_written_to(service, make_uploader):
    requests.put(f"{service.url}/theirs", json={"aliases": {"talks": {}}}, timeout=LONG_S).raise_for_status()

    with pytest.raises(ServiceRefuses, match="stands for the index theirs, which livesync has not made"):
        make_uploader()


def test_an_alias_for_several_indices_stops_the_agent(service, deliver, make_uploader):
    deliver(upsert("a"))
    requests.put(f"{service.url}/theirs", json={"aliases": {"talks": {}}}, timeout=LONG_S).raise_for_status()

    with pytest.raises(ServiceRefuses, match=r"stands for several indices \(talks-1, theirs\)"):
        make_uploader()


def test_an_index_without_its_alias_is_not_taken_over(service, deliver, make_uploader):
    deliver(upsert("a"))
    actions = [{"remove": {"index": "talks-1", "alias": "talks"}}]
    requests.post(f"{service.url}/_aliases", json={"actions": actions}, timeout=LONG_S).raise_for_status()

    with pytest.raises(ServiceRefuses, match="has an index talks-1 already, and the alias talks does not"):
        make_uploader()


def test_an_index_that_is_removed_meanwhile_is_not_made_again_by_writing_to_it(service, make_uploader):
    uploader = make_uploader()
    uploader.iterate_over([upsert("a")])
    requests.delete(f"{service.url}/talks-1", timeout=LONG_S).raise_for_status()

    with pytest.raises(
        ServiceRefuses, match="talks-1-write cannot be written: 404: index_not_found_exception"
    ):
        uploader.iterate_over([upsert("b")])

    assert service.indices.keys() == {POINTERS}


def test_an_index_that_another_runner_makes_meanwhile_is_used(service, deliver):
    deliver(upsert("a"))
    not_yet = (
        b'{"error": {"type": "index_not_found_exception", "reason": "no such index [talks]"}, "status": 404}'
    )
    service.fail_next(404, ending="/talks", method="GET", body=not_yet)

    assert deliver(upsert("b", 8), till=8).accepted == 1

    assert searched(service).keys() == {"a", "b"}


def test_an_index_that_is_not_made_yet_is_waited_for(service, make_uploader):
    service.fail_next(200, ending="/talks-1", method="PUT", body=b'{"acknowledged": false}')

    with pytest.raises(RetryLater, match="the index talks-1 is not there yet"):
        make_uploader()


def test_a_closed_index_makes_no_dead_letters(service, make_uploader):
    uploader = make_uploader()
    service.indices["talks-1"].settings["closed"] = True

    with pytest.raises(ServiceRefuses, match="index_closed_exception"):
        uploader.iterate_over([upsert("a")])


# -- records ----------------------------------------------------------------------------------------------


def test_searches_by_the_alias_see_documents_and_no_tombstones(service, deliver):
    deliver(upsert("a", title="ZODB at scale"), upsert("b", title="Other"), delete("c"))
    deliver(delete("b", 8), till=8)

    assert searched(service).keys() == {"a"}
    assert searched(service, {"match": {"livesync.text": "zodb"}})["a"]["title"] == "ZODB at scale"
    counted = requests.post(f"{service.url}/talks/_count", timeout=LONG_S).json()["count"]
    assert counted == 1
    # behind the alias they are there, with nothing of what they were
    everything = searched(service, index="talks-1")
    assert everything["b"] == {"livesync": {"object_id": "b", "position": 8, "deleted": True}}


def test_a_document_is_at_the_top_with_one_field_of_ours(service, deliver):
    deliver(upsert("a", title="T", n=1.5))

    assert searched(service)["a"] == {
        "id": "a",
        "n": 1.5,
        "title": "T",
        "livesync": {
            "object_id": "a",
            "position": 7,
            "digest": document_digest({"id": "a", "title": "T", "n": 1.5}),
            "text": "a\nT",
        },
    }


def test_the_position_is_the_version(service, deliver):
    deliver(upsert("a"), delete("b"))
    stale = deliver(upsert("a", 6, n=2), upsert("b", 6), upsert("c", 6), till=6)

    assert (stale.accepted, stale.stale) == (1, 2)
    docs = service.indices["talks-1"].docs
    assert {key: doc.version for key, doc in docs.items()} == {"a": 7, "b": 7, "c": 6}
    assert searched(service).keys() == {"a", "c"}


def test_a_position_of_nought_is_a_version_too(service, deliver):
    assert deliver(upsert("a", 0), till=0).accepted == 1
    assert service.indices["talks-1"].docs["a"].version == 0


def test_an_empty_document_is_a_document(service, deliver, make_uploader):
    deliver(Record(Op.UPSERT, "a", 7, document={}))

    assert set(searched(service)["a"]) == {"livesync"}
    assert list(make_uploader().rows()) == [HeldRow("a", 7, document_digest({}))]


def test_ids_that_are_too_long_for_the_service_are_kept_apart(service, deliver, make_uploader):
    ids = sorted(["x" * 512, "é" * 257, "é" * 258, "😀" * 512, service_id("é" * 257), "b\n/?#%"])

    deliver(*(upsert(object_id) for object_id in ids))

    docs = service.indices["talks-1"].docs
    assert len(docs) == len(ids)
    assert max(len(key.encode()) for key in docs) == 512
    assert {"x" * 512, "b\n/?#%"} <= docs.keys()
    uploader = make_uploader()
    assert [row.object_id for row in uploader.rows()] == ids
    assert sorted(row.object_id for row in uploader.rows_of([*ids, "é" * 259])) == ids


def test_a_document_with_our_field_is_a_dead_letter_and_keeps_nobody_back(service, deliver):
    result = deliver(
        upsert("a"),
        upsert("b", livesync=1),
        upsert("c", **{"livesync.position": 3}),
        upsert("d", n={"livesync": 1}),
    )

    assert (result.accepted, result.dead) == (2, 2)
    assert {dead.object_id: dead.reason for dead in result.dead_records} == dict.fromkeys(
        "bc", "it has a field 'livesync', which is livesync's own"
    )
    assert searched(service).keys() == {"a", "d"}


def test_nothing_is_sent_where_nothing_may_be(service, deliver):
    result = deliver(upsert("a", livesync={}))

    assert (result.accepted, result.dead) == (0, 1)
    assert bulks(service) == []


def test_gzip_is_used_when_asked(service, deliver):
    assert deliver(upsert("a", text="x" * 10_000), gzip=True).accepted == 1

    [request] = bulks(service)
    assert request.headers["Content-Encoding"] == "gzip"
    assert len(request.body) < 1000


# -- what an answer means ---------------------------------------------------------------------------------


def test_a_poison_record_becomes_a_dead_letter_at_once(service, deliver, numbers):
    deliver(upsert("a", n=1), mapping=numbers)

    result = deliver(upsert("b", n=2), upsert("c", n="many"), upsert("d", n=3), till=8, mapping=numbers)

    assert (result.accepted, result.dead) == (2, 1)
    [dead] = result.dead_records
    assert dead.object_id == "c"
    assert dead.reason.startswith(
        "mapper_parsing_exception: failed to parse field [n] of type [long] in document with id 'c':"
        ' illegal_argument_exception: For input string: "many"'
    )
    assert len(bulks(service)) == 2


def test_only_what_was_not_now_is_sent_again(service, make_uploader, deliver):
    deliver(upsert("newer", 9), till=9)
    service.http.requests.clear()
    service.item_errors = [
        ("busy", 429, "es_rejected_execution_exception", "rejected execution of coordinating operation"),
        ("gone", 503, "unavailable_shards_exception", "primary shard is not active"),
        ("bad", 400, "mapper_parsing_exception", "failed to parse"),
    ]

    uploader = make_uploader(batch_size=6)
    result = uploader.iterate_over(
        [upsert("good"), upsert("busy"), upsert("gone"), upsert("bad"), upsert("newer"), delete("old")]
    )

    assert (result.accepted, result.stale, result.dead) == (4, 1, 1)
    assert [sent_ids(request) for request in bulks(service)] == [
        ["good", "busy", "gone", "bad", "newer", "old"],
        ["busy", "gone"],
    ]
    assert len(uploader.waits) == 1


def test_what_is_always_busy_is_given_up_with_the_reason(service, make_uploader):
    service.item_errors = [("a", 429, "es_rejected_execution_exception", "queue is full")] * 9
    uploader = make_uploader(max_attempts=3)

    with pytest.raises(
        RetryLater, match=r"es_rejected_execution_exception: queue is full \(given up after 3"
    ):
        uploader.iterate_over([upsert("a")])


@pytest.mark.parametrize("status", [403, 429])
def test_a_full_disk_is_not_now_and_makes_no_dead_letters(service, make_uploader, status):
    uploader = make_uploader(max_attempts=2)
    service.flood_stage_status = status
    service.block("talks-1")

    with pytest.raises(
        RetryLater, match=r"cluster_block_exception: .*disk usage exceeded flood-stage watermark"
    ):
        uploader.iterate_over([upsert("a"), upsert("b")])

    service.block("talks-1", False)
    assert uploader.iterate_over([upsert("a"), upsert("b")]).accepted == 2


@pytest.mark.parametrize("status", [403, 429])
def test_a_disk_that_is_full_for_the_pointer_is_not_now(service, make_uploader, status):
    uploader = make_uploader()
    uploader.iterate_over([upsert("a")])
    service.flood_stage_status = status
    service.block(POINTERS)

    with pytest.raises(RetryLater, match="flood-stage"):
        uploader.end_slice(7)


def test_a_request_that_is_too_large_is_halved_down_to_the_document_that_is(service, deliver):
    service.max_content_length = 3000
    records = [upsert(str(n), text="x" * 200) for n in range(20)] + [upsert("huge", text="x" * 4000)]

    result = deliver(*records)

    assert (result.accepted, result.dead) == (20, 1)
    [dead] = result.dead_records
    assert dead.object_id == "huge"
    assert dead.reason.startswith("HTTP 413: larger than the service takes in one request")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_service_is_asked_again_after_the_time_it_names(service, make_uploader, status):
    service.fail_next(status, Retry_After="3", body=b"<html>busy</html>", Content_Type="text/html")

    uploader = make_uploader()

    assert uploader.iterate_over([upsert("a")]).accepted == 1
    assert uploader.waits == [3]


def test_a_retry_after_with_a_date_is_counted_from_the_clock(service, make_uploader):
    service.fail_next(503, Retry_After="Tue, 14 Nov 2023 22:14:20 GMT")

    uploader = make_uploader()
    uploader.iterate_over([upsert("a")])

    assert uploader.waits == [60]


@pytest.mark.parametrize("where", ["before", "middle", "after"])
def test_a_connection_that_is_cut_repeats_the_batch_and_nothing_else(service, make_uploader, where):
    service.cut_next(where)

    uploader = make_uploader()
    result = uploader.iterate_over([upsert("a"), delete("b"), upsert("c")])

    assert result.accepted == 3
    assert [sent_ids(request) for request in bulks(service)] == [["a", "b", "c"]] * 2
    assert searched(service).keys() == {"a", "c"}


@pytest.mark.parametrize(
    ("status", "kind", "body", "said"),
    [
        (200, "text/html", b"<html>log in</html>", "no JSON object"),
        (200, "application/json", b"{}", "another form"),
        (200, "application/json", b'{"items": []}', "0 results for 1 action:"),
        (401, "text/plain", b"Unauthorized", "401 .*: Unauthorized; check username and password"),
        (404, "text/plain", b"", "check the URL"),
        (406, "application/json", b'{"error": "Content-Type is not supported"}', "Content-Type is not"),
        (302, "text/plain", b"", "redirects are not followed"),
    ],
)
def test_an_answer_that_is_none_of_a_bulk_request_stops_the_agent(
    service, make_uploader, status, kind, body, said
):
    uploader = make_uploader()
    service.fail_next(status, body=body, Content_Type=kind)

    with pytest.raises(ServiceRefuses, match=said):
        uploader.iterate_over([upsert("a")])


def test_a_batch_that_is_refused_as_a_whole_is_halved(service, deliver):
    said = b'{"error": {"type": "illegal_argument_exception", "reason": "no"}, "status": 400}'
    service.fail_next(400, body=said)
    service.fail_next(400, body=said)

    result = deliver(upsert("a"), upsert("b"))

    assert (result.accepted, result.dead) == (1, 1)
    assert result.dead_records[0].reason == "HTTP 400: illegal_argument_exception: no"


def test_a_refusal_that_is_no_whole_json_is_a_refusal_all_the_same(service, deliver):
    service.fail_next(400, body=b'{"error": ', Content_Type="application/json")

    assert deliver(upsert("a")).dead_records[0].reason == "HTTP 400"


def test_an_answer_that_is_too_long_is_asked_for_in_halves(service, make_uploader, monkeypatch):
    monkeypatch.setattr(rest, "ANSWER_BYTES", 20)
    monkeypatch.setattr(rest, "_ANSWER_BYTES_PER_RECORD", 60)
    service.item_errors = [("b", 400, "mapper_parsing_exception", "no " * 100)] * 2

    result = make_uploader().iterate_over([upsert("a"), upsert("b")])

    assert (result.accepted, result.dead) == (1, 1)
    assert result.dead_records[0].reason == "the answer has more than 80 bytes"


def test_what_is_called_out_of_turn_says_so(make_uploader):
    uploader = make_uploader(begin=None)
    with pytest.raises(RuntimeError, match="begin_slice"):
        uploader.iterate_over([upsert("a")])
    uploader.close()
    with pytest.raises(RuntimeError, match="open"):
        uploader.begin_slice(7)


# -- the pointer ------------------------------------------------------------------------------------------


def pointer(make_uploader, **kwargs):
    return make_uploader(begin=None, **kwargs).read_pointer()


def test_the_pointer_lies_beside_the_index(service, deliver):
    deliver(upsert("a"))

    [doc] = service.indices[POINTERS].docs.values()
    assert json.loads(doc.source) == {
        "agent": "a",
        "alias": "talks",
        "index": "talks-1",
        "uuid": service.indices["talks-1"].uuid,
        "generation": 1,
        "holds_rows": True,
        "pointer": {"position": 7, "track_id": "track", "generation": 1},
        "rebuild": None,
    }


def test_a_crash_between_the_rows_and_the_pointer_repeats_the_slice(service, deliver, make_uploader):
    deliver(upsert("a"))
    uploader = make_uploader(begin=8)
    uploader.iterate_over([upsert("a", 8, n=2), delete("b", 8)])
    uploader.close()  # and no end_slice
    before = {key: doc.source for key, doc in service.indices["talks-1"].docs.items()}

    assert pointer(make_uploader).position == 7
    result = deliver(upsert("a", 8, n=2), delete("b", 8), till=8)

    assert result.accepted == 2
    assert {key: doc.source for key, doc in service.indices["talks-1"].docs.items()} == before
    assert pointer(make_uploader).position == 8


def test_a_pointer_whose_answer_was_lost_is_found_by_the_next_run(service, make_uploader):
    uploader = make_uploader()
    uploader.iterate_over([upsert("a")])
    service.cut_next("after", ending="talks%3Aa", method="PUT")
    with pytest.raises(RetryLater):
        uploader.end_slice(7)

    assert pointer(make_uploader).position == 7


def remove_index(service):
    requests.delete(f"{service.url}/talks-1", timeout=LONG_S).raise_for_status()


def recreate_index(service):
    body = {"aliases": {"talks": {}, "talks-1-write": {}}}
    remove_index(service)
    requests.put(f"{service.url}/talks-1", json=body, timeout=LONG_S).raise_for_status()


def empty_index(service):
    for key in list(service.indices["talks-1"].docs):
        requests.delete(f"{service.url}/talks-1/_doc/{key}", timeout=LONG_S).raise_for_status()
    searched(service)


@pytest.mark.parametrize(
    ("lose", "said"),
    [
        (remove_index, "there is no index talks"),
        (recreate_index, "stands for another index"),
        (empty_index, "talks was emptied"),
    ],
)
def test_a_pointer_does_not_outlive_its_index(service, deliver, make_uploader, caplog, lose, said):
    deliver(upsert("a"), upsert("b"))
    searched(service)

    lose(service)

    assert pointer(make_uploader) is None
    assert said in caplog.text


def test_an_index_that_never_held_anything_is_not_called_emptied(deliver, make_uploader):
    deliver()
    assert pointer(make_uploader).position == 7


def test_rows_that_no_search_sees_yet_are_not_called_gone(service, deliver, make_uploader):
    deliver(upsert("a"))
    assert not service.indices["talks-1"].searched

    assert pointer(make_uploader).position == 7


def test_an_index_of_tombstones_is_not_called_emptied(deliver, make_uploader):
    deliver(delete("a"))
    assert pointer(make_uploader).position == 7


def test_a_new_index_begins_without_a_pointer(service, deliver, make_uploader):
    deliver(upsert("a"))
    remove_index(service)

    uploader = make_uploader(generation=2)

    assert service.resolved("talks")[0].name == "talks-2"
    uploader.end_slice(None)
    assert pointer(make_uploader) is None


def test_a_runner_that_was_replaced_sends_nothing(service, deliver, make_uploader):
    deliver(upsert("a"))
    slow = make_uploader()
    slow.end_slice(7)
    deliver(upsert("a", 9), till=9)
    service.http.requests.clear()

    with pytest.raises(LeaseLost, match="pointer of agent 'a' in the index livesync-pointers was moved"):
        slow.begin_slice(8)

    assert told(service) == []


def test_a_runner_that_is_replaced_within_a_slice_moves_no_pointer(deliver, make_uploader):
    slow = make_uploader(begin=7)
    slow.iterate_over([upsert("a")])
    deliver(upsert("a", 9, n=9), till=9)

    with pytest.raises(LeaseLost):
        slow.end_slice(7)

    assert pointer(make_uploader).position == 9


def test_somebody_elses_document_in_the_place_of_the_pointer_is_not_overwritten(service, make_uploader):
    place = f"{service.url}/{POINTERS}/_doc/talks%3Aa"
    requests.put(place, json={"agent": 5}, timeout=LONG_S).raise_for_status()

    with pytest.raises(ServiceRefuses, match="talks:a in the index livesync-pointers is none of livesync's"):
        make_uploader()


def test_an_export_does_not_go_on_in_an_index_that_lacks_its_first_part(service, deliver, make_uploader):
    deliver(upsert("a"), generation=2, exporting=True)
    requests.delete(f"{service.url}/talks-2", timeout=LONG_S).raise_for_status()

    for begin in ({"exporting": True}, {"begin": None}):
        with pytest.raises(
            ServiceRefuses,
            match=r"part of this export was sent, is gone: .* anew: livesync agent export a --anew",
        ):
            make_uploader(generation=2, **begin).sweep(7)

    assert deliver(upsert("a"), generation=3, exporting=True).accepted == 1


# -- an export, and a rebuild -------------------------------------------------------------------------------


def test_a_sweep_goes_through_page_after_page(service, deliver, make_uploader, monkeypatch):
    monkeypatch.setattr(opensearch, "_SWEPT_AT_ONCE", 3)
    deliver(*(upsert(f"{n:02}") for n in range(10)), delete("x"))
    deliver(upsert("04", 9), upsert("new", 9), till=9)

    assert make_uploader().sweep(9) == 9

    assert searched(service).keys() == {"04", "new"}
    assert service.indices["talks-1"].docs["00"].version == 9
    assert service.indices["talks-1"].docs["x"].version == 7
    assert make_uploader().sweep(9) == 0


def test_a_sweep_that_the_service_cannot_do_now_is_not_over(service, deliver, make_uploader):
    deliver(upsert("a"), upsert("b"))
    service.item_errors = [("b", 429, "es_rejected_execution_exception", "queue is full")]

    with pytest.raises(RetryLater, match="queue is full"):
        make_uploader().sweep(9)
    assert make_uploader().sweep(9) == 1

    assert searched(service) == {}


def rebuild(deliver, make_uploader, *records, name="g2", **kwargs):
    deliver(*records, rebuild=name, exporting=True, **kwargs)
    uploader = make_uploader(rebuild=name, begin=None, **kwargs)
    uploader.finish_rebuild()
    return uploader


@pytest.mark.parametrize("keep_old", [False, True])
def test_a_rebuild_removes_the_old_index_unless_it_is_kept(service, deliver, make_uploader, keep_old):
    deliver(upsert("a"))

    rebuild(deliver, make_uploader, upsert("b", 8), keep_old=keep_old)

    assert [index.name for index in service.resolved("talks")] == ["talks-g2"]
    assert ("talks-1" in service.indices) == keep_old
    assert not keep_old or service.indices["talks-1"].aliases == {}
    # what was exported is seen at once, before any refresh of the service's own
    assert searched(service, refresh=False).keys() == {"b"}
    assert pointer(make_uploader).position == 7


def test_a_rebuild_takes_the_mapping_as_it_is_now(service, deliver, make_uploader, tmp_path):
    path = tmp_path / "talks.json"
    path.write_text('{"mappings": {"properties": {"n": {"type": "long"}}}}')
    assert deliver(upsert("a", n="many"), mapping=path).dead == 1

    path.write_text('{"mappings": {"properties": {"n": {"type": "keyword"}}}}')
    rebuild(deliver, make_uploader, upsert("a", n="many"), mapping=path)

    assert searched(service)["a"]["n"] == "many"


def test_a_search_never_meets_a_gap_while_an_index_is_rebuilt(service, deliver, make_uploader):
    ids = [f"{n:03}" for n in range(60)]
    deliver(*(upsert(object_id, n=1) for object_id in ids))
    searched(service)
    seen: list[tuple[int, set[int]]] = []
    ended = threading.Event()
    failures = []

    def search_all_the_time():
        with requests.Session() as session:
            while not ended.is_set():
                body = {"query": {"match_all": {}}, "size": 1000}
                answer = session.post(f"{service.url}/talks/_search", json=body, timeout=LONG_S)
                if answer.status_code != 200:
                    failures.append(answer.text)
                    return
                sources = [hit["_source"] for hit in answer.json()["hits"]["hits"]]
                seen.append(
                    (len(sources), {source["generation"] for source in sources if "generation" in source})
                )

    thread = threading.Thread(target=search_all_the_time)
    thread.start()
    try:
        for start in range(0, 60, 20):
            some = [upsert(object_id, 8, generation=2) for object_id in ids[start : start + 20]]
            deliver(*some, till=8, rebuild="g2", exporting=True)
            deliver(upsert(ids[start], 9 + start, live=start), till=9 + start, rebuild="g2")
        uploader = make_uploader(rebuild="g2", begin=None)
        uploader.finish_rebuild()
        deadline = len(seen) + 3
        while len(seen) < deadline and thread.is_alive():
            ended.wait(0.001)
    finally:
        ended.set()
        thread.join()

    assert failures == []
    assert {number for number, _ in seen} == {60}
    # the old one to its last moment, and then the new one
    changes = [sorted(generations) for _, generations in seen]
    assert changes[0] == []
    assert changes[-1] == [2]
    assert changes == sorted(changes)
    assert {source.get("live") for source in searched(service).values()} == {None, 0, 20, 40}


def test_live_changes_that_the_new_index_alone_refuses_are_dead_letters(service, deliver, numbers):
    deliver(upsert("a", n="many"))
    deliver(upsert("a", 8, n=1), till=8, rebuild="g2", exporting=True, mapping=numbers)

    changed = [upsert("b", 9, n="few"), upsert("c", 9, n="2")]
    result = deliver(*changed, till=9, rebuild="g2", mapping=numbers)

    assert (result.accepted, result.dead) == (1, 1)
    assert result.dead_records[0].object_id == "b"


def test_live_changes_for_which_the_new_index_is_busy_are_sent_again(service, deliver, make_uploader):
    deliver(upsert("a"))
    deliver(rebuild="g2", exporting=True)
    uploader = make_uploader(rebuild="g2", begin=9)
    service.item_errors = [("a", 429, "es_rejected_execution_exception", "queue is full")]

    assert uploader.iterate_over([upsert("a", 9), upsert("b", 9)]).accepted == 2

    assert [sent_ids(request) for request in bulks(service)[-4:]] == [["a", "b"], ["a", "b"], ["a"], ["a"]]
    assert service.indices["talks-g2"].docs.keys() == service.indices["talks-1"].docs.keys() == {"a", "b"}


@pytest.mark.parametrize("again", [False, True])
def test_a_crash_after_the_swap_loses_no_pointer(service, deliver, make_uploader, again):
    deliver(upsert("a"))
    deliver(upsert("a", 8), till=8, rebuild="g2", exporting=True)
    uploader = make_uploader(rebuild="g2", begin=None)
    service.cut_next("before", ending="talks%3Aa", method="PUT")
    with pytest.raises(RetryLater):
        uploader.finish_rebuild()
    uploader.close()
    assert "talks-1" not in service.indices

    if again:
        make_uploader(rebuild="g2", begin=None).finish_rebuild()
    assert pointer(make_uploader).position == 7
    deliver(upsert("a", 10, n=10), till=10)
    assert pointer(make_uploader).position == 10
    assert json.loads(next(iter(service.indices[POINTERS].docs.values())).source)["rebuild"] is None


def test_a_crash_in_the_middle_of_the_swap_is_made_good(service, deliver, make_uploader):
    deliver(upsert("a"))
    deliver(upsert("b", 8), till=8, rebuild="g2", exporting=True)
    service.cut_next("after", ending="_aliases")
    with pytest.raises(RetryLater):
        make_uploader(rebuild="g2", begin=None).finish_rebuild()

    make_uploader(rebuild="g2", begin=None).finish_rebuild()

    assert searched(service).keys() == {"b"}
    assert pointer(make_uploader).position == 7


def test_a_swap_that_is_not_done_yet_is_not_taken_for_done(service, deliver, make_uploader):
    deliver(upsert("a"))
    deliver(upsert("b", 8), till=8, rebuild="g2", exporting=True)
    service.fail_next(200, ending="_aliases", body=b'{"acknowledged": false}')

    with pytest.raises(RetryLater, match="has not yet done it"):
        make_uploader(rebuild="g2", begin=None).finish_rebuild()

    assert searched(service).keys() == {"a"}


def test_a_rebuild_of_nothing_is_not_called_emptied(service, deliver, make_uploader):
    deliver(upsert("a"))

    rebuild(deliver, make_uploader)

    assert searched(service) == {}
    assert pointer(make_uploader).position == 7


def test_what_a_rebuild_brings_does_not_count_for_the_old_index(deliver, make_uploader):
    deliver()  # an index without anything in it
    deliver(upsert("a", 8), till=8, rebuild="g2", exporting=True)

    assert pointer(make_uploader, rebuild="g2").position == 7


def test_a_rebuild_may_be_the_first_of_all(service, deliver, make_uploader):
    deliver(upsert("a", 8), till=8, rebuild="g2", exporting=True)
    deliver(upsert("b", 9), till=9, rebuild="g2")

    assert service.resolved("talks") == []
    assert pointer(make_uploader, rebuild="g2").position == 9
    make_uploader(rebuild="g2", begin=None).finish_rebuild()
    assert searched(service).keys() == {"a", "b"}
    assert pointer(make_uploader).position == 9


def test_a_rebuild_whose_index_is_gone_is_not_gone_on_with(service, deliver, make_uploader):
    deliver(upsert("a"))
    deliver(upsert("a", 8), till=8, rebuild="g2", exporting=True)
    requests.delete(f"{service.url}/talks-g2", timeout=LONG_S).raise_for_status()

    with pytest.raises(
        ServiceRefuses,
        match=r"talks-g2, which the rebuild 'g2' was filling, is gone: .* export a --rebuild --anew",
    ):
        make_uploader(rebuild="g2", exporting=True)
    with pytest.raises(ServiceRefuses, match="is gone"):
        make_uploader(rebuild="g2", begin=None).finish_rebuild()

    assert searched(service).keys() == {"a"}


def begin_rebuild(deliver, generation, **kwargs):
    return begin_export(deliver, generation, rebuild=f"g{generation}", **kwargs)


def begin_export(deliver, generation, **kwargs):
    till = generation + 6
    return deliver(upsert("a", till), till=till, generation=generation, exporting=True, **kwargs)


def noted_rebuild(service):
    [doc] = service.indices[POINTERS].docs.values()
    return json.loads(doc.source)["rebuild"]


@pytest.mark.parametrize("begin", [begin_rebuild, begin_export])
def test_what_a_rebuild_that_nobody_finished_left_goes_when_an_export_begins(service, deliver, caplog, begin):
    caplog.set_level(logging.INFO)
    deliver(upsert("a"))
    begin_rebuild(deliver, 2)
    begin_rebuild(deliver, 2)  # the same one goes on
    deliver(upsert("b", 8), till=8, generation=2)
    assert service.indices.keys() == {POINTERS, "talks-1", "talks-g2"}

    begin(deliver, 3)

    left = {POINTERS, "talks-1"} | ({"talks-g3"} if begin is begin_rebuild else set())
    assert service.indices.keys() == left
    assert [record.message for record in caplog.records if record.name == opensearch.__name__] == [
        "agent a: removed what earlier exports have left: talks-g2"
    ]
    assert (noted_rebuild(service) or {}).get("index") == ("talks-g3" if begin is begin_rebuild else None)
    assert searched(service).keys() == {"a", "b"}


def test_nothing_else_goes_when_an_export_begins(service, deliver, make_uploader, caplog):
    deliver(upsert("a"))
    begin_rebuild(deliver, 2, keep_old=True)
    make_uploader(generation=2, rebuild="g2", begin=None, keep_old=True).finish_rebuild()
    others = {
        "talks-g3-1": {"talks-g3": {}, "talks-g3-1-write": {}},  # that of an agent whose alias is talks-g3
        "talks-3x": {"talks-3x-write": {}},
        "talks-old": {"talks-old-write": {}},
        "talks-g9": {"talks-g9-write": {}},  # of a later generation
        "talks-g4": {"talks-g4-write": {}, "yesterday": {}},  # somebody searches it
        "talks-3": {},
        "talks-2": {"talks-g2-write": {}},
        "workshops-3": {"workshops-3-write": {}, "talks-elsewhere": {}},
    }
    for index, aliases in others.items():
        requests.put(f"{service.url}/{index}", json={"aliases": aliases}, timeout=LONG_S).raise_for_status()
    there = set(service.indices)

    begin_rebuild(deliver, 5)

    assert service.indices.keys() == there | {"talks-g5"}
    assert {"talks-1", "talks-g2"} <= there
    assert "left" not in caplog.text
    assert service.http.told("DELETE") == []


def test_a_rebuild_that_goes_on_in_a_later_generation_keeps_its_index(service, deliver):
    deliver(upsert("a"))
    begin_rebuild(deliver, 2)

    deliver(upsert("b", 8), till=8, generation=3, rebuild="g2", exporting=True)

    assert service.indices["talks-g2"].docs.keys() == {"a", "b"}


def test_a_run_removes_nothing(service, deliver):
    deliver(upsert("a"))
    begin_rebuild(deliver, 2)

    deliver(upsert("a", 9), till=9, generation=3)

    assert "talks-g2" in service.indices


def test_an_export_does_not_fail_for_what_cannot_be_removed(service, deliver, caplog):
    deliver(upsert("a"))
    begin_rebuild(deliver, 2)
    service.forbidden = {"DELETE *"}

    assert begin_rebuild(deliver, 3).accepted == 1

    [warning] = [record.message for record in caplog.records if record.name == opensearch.__name__]
    assert warning.startswith("agent a: what earlier exports have left could not be removed: ")
    assert "403 to DELETE /talks-g2" in warning
    service.forbidden = set()
    begin_rebuild(deliver, 4)
    assert service.indices.keys() == {POINTERS, "talks-1", "talks-g4"}


def test_what_is_left_is_removed_by_the_next_attempt_after_a_crash(service, deliver):
    deliver(upsert("a"))
    begin_rebuild(deliver, 2)
    service.cut_next("before", ending="talks%3Aa", method="PUT")
    service.cut_next("before", ending="talks-g2", method="DELETE")
    with pytest.raises(RetryLater):
        begin_rebuild(deliver, 3)
    assert "talks-g2" in service.indices

    begin_rebuild(deliver, 3)

    assert service.indices.keys() == {POINTERS, "talks-1", "talks-g3"}


def test_a_rebuild_does_not_take_over_an_index_with_something_in_it(service, deliver, make_uploader):
    deliver(upsert("a"))
    body = {"aliases": {"talks-g2-write": {}}}
    requests.put(f"{service.url}/talks-g2", json=body, timeout=LONG_S).raise_for_status()
    make_uploader(rebuild="g2", exporting=True)  # an empty one is what a crash leaves
    with_something = f"{service.url}/talks-g3/_doc/x"
    requests.put(with_something, json={"some": "thing"}, timeout=LONG_S).raise_for_status()

    with pytest.raises(ServiceRefuses, match="has an index talks-g3 already, and it is not empty: remove"):
        make_uploader(rebuild="g3", exporting=True)


# -- what is held -----------------------------------------------------------------------------------------


def test_rows_are_read_page_by_page(service, deliver, make_uploader, monkeypatch):
    monkeypatch.setattr(reading, "_FIRST_ROWS", 3)
    monkeypatch.setattr(reading, "_MOST_ROWS", 4)
    deliver(*(upsert(f"{n:02}", text="x" * 50) for n in range(10)), delete("05a"))
    uploader = make_uploader()
    service.http.requests.clear()

    rows = list(uploader.rows())
    quick = list(uploader.rows(quick=True))

    assert [row.object_id for row in rows] == [f"{n:02}" for n in range(10)]
    assert quick == [HeldRow(row.object_id, 7, None) for row in rows]
    asked = [json.loads(request.body) for request in service.http.told("POST", "_search")]
    assert [body["size"] for body in asked] == [3, 4, 4, 4, 4, 4, 4, 4]
    assert [body.get("search_after") for body in asked[:4]] == [None, ["02"], ["06"], ["09"]]


def test_large_documents_come_in_small_pages(service, deliver, make_uploader, monkeypatch):
    monkeypatch.setattr(reading, "_MOST_BYTES", 12_000)
    monkeypatch.setattr(reading, "_BYTES_AT_ONCE", 6_000)
    ids = [f"{n:02}" for n in range(20)]
    deliver(*(upsert(object_id, text="x" * 2000) for object_id in ids))
    uploader = make_uploader()

    assert [row.object_id for row in uploader.rows()] == ids
    assert sorted(row.object_id for row in uploader.rows_of(ids)) == ids


def test_a_document_that_is_larger_than_any_answer_is_said(deliver, make_uploader, monkeypatch):
    monkeypatch.setattr(reading, "_MOST_BYTES", 1000)
    deliver(upsert("a", text="x" * 2000))

    with pytest.raises(ServiceRefuses, match="with more than 1000 bytes"):
        list(make_uploader().rows())
    with pytest.raises(ServiceRefuses, match="with more than 1000 bytes"):
        make_uploader().rows_of(["a"])


def test_what_others_put_into_the_index_is_not_told(service, deliver, make_uploader):
    deliver(upsert("a"))
    requests.put(f"{service.url}/talks-1/_doc/theirs", json={"x": 1}, timeout=LONG_S).raise_for_status()

    assert [row.object_id for row in make_uploader().rows()] == ["a"]
    assert [row.object_id for row in make_uploader().rows(quick=True)] == ["a"]
    assert make_uploader().rows_of(["theirs"]) == [HeldRow("theirs", None, "")]


@contextmanager
def changed(service, object_id):
    """The stored JSON of a document, to be changed behind livesync's back."""
    index = service.indices["talks-1"]
    source = json.loads(index.docs[object_id].source)
    yield source
    doc = index.docs[object_id]
    index.docs[object_id] = replace(doc, source=json.dumps(source, indent=2).encode())


def test_a_service_that_writes_documents_anew_alters_nothing(service, deliver, make_uploader):
    document = {
        "f": 1e-7,
        "g": 1e22,
        "h": 0.1,
        "i": 2**53 + 1,
        "s": "Zürich \u2028 \x00",
        "n": None,
        "l": [1, [2, None]],
    }
    deliver(upsert("a", **document))
    with changed(service, "a"):
        pass

    digest = document_digest({"id": "a", **document})
    assert list(make_uploader().rows()) == [HeldRow("a", 7, digest)]
    assert make_uploader().rows_of(["a"]) == [HeldRow("a", 7, digest)]


@pytest.mark.parametrize("what", ["field", "digest", "id", "ours", "text", "no text"])
def test_whatever_is_altered_shows(service, deliver, make_uploader, what):
    deliver(upsert("a", title="as sent"))
    with changed(service, "a") as source:
        if what == "field":
            source["title"] = "as altered"
        elif what == "digest":
            source["livesync"]["digest"] = document_digest({})
        elif what == "id":
            source["livesync"]["object_id"] = "b"
        elif what == "text":
            source["livesync"]["text"] = "a\nas altered"
        elif what == "no text":
            source["livesync"]["text"] = 5
        else:
            source["livesync"] = "gone"

    assert [row.digest for row in make_uploader().rows_of(["a"])] == [""]


def test_a_part_of_what_there_is_is_not_taken_for_all(service, deliver, make_uploader):
    deliver(upsert("a"))
    uploader = make_uploader()
    for body in (
        b'{"timed_out": true, "_shards": {"failed": 0}, "hits": {"hits": []}}',
        b'{"timed_out": false, "_shards": {"failed": 1}, "hits": {"hits": []}}',
    ):
        service.fail_next(200, ending="_search", body=body)
        with pytest.raises(RetryLater, match="with a part of what there is"):
            list(uploader.rows())
    service.fail_next(200, ending="_mget", body=b'{"docs": [{"_id": "a", "error": {"type": "x"}}]}')
    with pytest.raises(RetryLater, match="'a' could not be read"):
        uploader.rows_of(["a"])


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('abl.é"\\', max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    object_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=512),
    document=st.dictionaries(st.text('ab,:{}"', max_size=4), json_values, max_size=4),
    indent=st.sampled_from([None, 1]),
    with_text=st.booleans(),
)
def test_every_document_comes_back_with_its_digest(object_id, document, indent, with_text):
    lines = action(object_id, 5, encode_document(document), document_text(document) if with_text else None)
    line, source, rest = lines.split(b"\n")
    assert rest == b""
    assert len(json.loads(line)["index"]["_id"].encode()) <= 512
    expected = HeldRow(object_id, 5, document_digest(document))

    assert row_of(object_id, source) == expected
    assert json.loads(source).items() >= json.loads(encode_document(document)).items()
    assert json.loads(source)["livesync"].get("text") == (document_text(document) if with_text else None)
    written_anew = json.dumps(json.loads(source), indent=indent, ensure_ascii=False).encode()
    assert row_of(object_id, written_anew) == expected


@pytest.mark.parametrize(
    "source",
    [
        b"{}",
        b"[",
        b'{"id":"a","livesync":{"object_id":5,"position":7}}',
        b'{"id":"a","livesync":{"object_id":"a"}}',
        b'{"n":1e999,"livesync":{"object_id":"a","position":7,"digest":""}}',
        b'{"livesync":{"object_id":"a","position":7,"digest":""},"n":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"livesync":{"object_id":"a","position":7,"digest":""},"n":' + b"[" * 600 + b"]" * 600 + b"}",
    ],
)
def test_what_can_be_no_document_of_ours_has_no_digest(source):
    row = row_of("a", source)

    assert (row.object_id, row.digest) == ("a", "")


def test_a_tombstone_is_no_row():
    source = action("a", 5, None).split(b"\n")[1]

    assert row_of("a", source) is None
    assert row_of("a", json.dumps(json.loads(source), indent=1).encode()) is None


def test_ids_that_are_short_enough_are_their_own():
    assert service_id("x" * 512) == "x" * 512
    assert service_id("é" * 257).startswith(LONG_ID)
    assert service_id(LONG_ID) != LONG_ID


# -- all of it, from a database ---------------------------------------------------------------------------


@pytest.fixture
def world(tmp_path):
    made = World(str(tmp_path / "host.fs"))
    yield made
    made.tm.abort()
    made.connection.close()
    made.db.close()


def test_from_a_database_to_the_index_and_through_a_rebuild(world, service, monkeypatch):
    monkeypatch.setattr(exporting, "CHUNK_SIZE", 4)
    world.manager.register_agent(OpenSearchAgent("search", url=service.url, index="talks", in_flight=2))
    world.tm.commit()

    def held():
        return {
            key: {name: value for name, value in source.items() if name != "livesync"}
            for key, source in searched(service).items()
        }

    def send(mode, **kwargs):
        world.clock += 10_000_000_000
        mode(world.manager, host=world.host, now=world.clock, **kwargs)
        world.tm.begin()

    for number in range(10):
        world.put(f"{number}", extra=number)
    send(export, agent_id="search")
    assert held() == world.expected()

    world.put("3", extra=33)
    world.put("5", private=True)
    world.remove("7")
    world.run(world.manager.get_agent("search"))
    assert held() == world.expected()

    world.put("new", extra=5)
    send(export, agent_id="search", rebuild=True)
    assert held() == world.expected()
    assert service.indices.keys() == {POINTERS, "talks-g3"}

    world.remove("new")
    world.run(world.manager.get_agent("search"))
    assert held() == world.expected()
    assert world.manager.stored("search").state == "active"
