import json
from email.utils import formatdate

import pytest

from livesync.delivery.record import Op, Outcome, Record, Verdict
from livesync.destinations._answers import (
    Answer,
    judge,
    outcome,
    refuse_unless_answered,
    retry_after_s,
    without_secrets,
)
from livesync.errors import BatchRefused, RetryLater, ServiceRefuses

URL = "https://service.example/sync"
NOW = 1_700_000_000.0

UPSERT = Record(Op.UPSERT, "a", 7)
DELETE = Record(Op.DELETE, "b", 7)
BATCH = [UPSERT, DELETE]


def judged(status=200, body=b"", batch=BATCH, **headers):
    return judge(Answer(status, body, **headers), batch, URL, NOW)


# a record


@pytest.mark.parametrize(
    ("status", "on_upsert", "on_delete"),
    [
        (200, Outcome.ACCEPTED, Outcome.ACCEPTED),
        (201, Outcome.ACCEPTED, Outcome.ACCEPTED),
        (204, Outcome.ACCEPTED, Outcome.ACCEPTED),
        (404, Outcome.NOT_NOW, Outcome.ACCEPTED),
        (410, Outcome.REFUSED, Outcome.ACCEPTED),
        (409, Outcome.STALE, Outcome.STALE),
        (412, Outcome.STALE, Outcome.STALE),
        (408, Outcome.NOT_NOW, Outcome.NOT_NOW),
        (425, Outcome.NOT_NOW, Outcome.NOT_NOW),
        (429, Outcome.NOT_NOW, Outcome.NOT_NOW),
        (500, Outcome.NOT_NOW, Outcome.NOT_NOW),
        (503, Outcome.NOT_NOW, Outcome.NOT_NOW),
        (599, Outcome.NOT_NOW, Outcome.NOT_NOW),
        (413, Outcome.REFUSED, Outcome.REFUSED),
        (400, Outcome.REFUSED, Outcome.REFUSED),
        (422, Outcome.REFUSED, Outcome.REFUSED),
        (418, Outcome.REFUSED, Outcome.REFUSED),
        (401, Outcome.NOT_NOW, Outcome.NOT_NOW),
        (403, Outcome.NOT_NOW, Outcome.NOT_NOW),
        (302, Outcome.NOT_NOW, Outcome.NOT_NOW),
        (0, Outcome.NOT_NOW, Outcome.NOT_NOW),
    ],
)
def test_a_status_means_the_same_for_a_record_everywhere(status, on_upsert, on_delete):
    assert outcome(status, Op.UPSERT) is on_upsert
    assert outcome(status, Op.DELETE) is on_delete


def test_items_give_a_verdict_for_each_record():
    items = [{"id": "a", "status": 422, "reason": "no title"}, {"id": "b", "status": 404, "more": 1}]

    verdicts = judged(body=json.dumps({"took": 3, "items": items}).encode())

    assert verdicts == [
        Verdict("a", Outcome.REFUSED, "no title"),
        Verdict("b", Outcome.ACCEPTED, "status 404"),
    ]


def test_items_on_records_that_were_not_sent_are_left_out():
    assert judged(body=b'{"items":[{"id":"stranger","status":200}]}') == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"items":{}}',
        b'{"items":null}',
        b'{"items":[1]}',
        b'{"items":[{"id":"a"}]}',
        b'{"items":[{"id":1,"status":200}]}',
        b'{"items":[{"index":{"_id":"a","status":200}}]}',
    ],
)
def test_items_of_another_form_stop_the_agent(body):
    with pytest.raises(ServiceRefuses, match='"items" of another form'):
        judged(body=body)


# a whole batch


@pytest.mark.parametrize("status", [200, 201, 202, 204])
@pytest.mark.parametrize("body", [b"", b" \n", b"{}", b'{"ok": true}', b"[]", b"null", b'"thanks"'])
def test_success_with_an_empty_or_json_body_accepts_all(status, body):
    assert judged(status, body) is None


@pytest.mark.parametrize(
    "body", [b"<!DOCTYPE html><form>log in</form>", b"OK", b'{"items":[', b"\xff\xfe", b"[" * 100_000]
)
def test_success_with_another_body_stops_the_agent(body):
    with pytest.raises(ServiceRefuses, match="not JSON: is it a login page"):
        judged(200, body, content_type="text/html")


def test_a_body_that_was_cut_stops_the_agent():
    with pytest.raises(ServiceRefuses, match="too long to be an answer"):
        judge(Answer(200, b"{}", whole=False), BATCH, URL, NOW)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599, 199, 600])
def test_not_now(status):
    with pytest.raises(RetryLater, match=f"answered {status}") as caught:
        judged(status, retry_after="17")

    assert caught.value.after_s == 17


@pytest.mark.parametrize("status", [400, 413, 415, 418, 422, 499])
@pytest.mark.parametrize("batch", [BATCH, [UPSERT]])
def test_a_batch_that_cannot_be_taken_is_halved_to_the_last_record(status, batch):
    with pytest.raises(BatchRefused, match=f"^HTTP {status}$"):
        judged(status, batch=batch)


@pytest.mark.parametrize("status", [409, 412])
def test_a_conflict_is_halved_until_a_lone_record_is_stale(status):
    with pytest.raises(BatchRefused):
        judged(status)

    assert judged(status, batch=[UPSERT]) == [Verdict("a", Outcome.STALE)]


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (401, "check the token"),
        (403, "rights"),
        (404, "check the URL"),
        (405, "no POST"),
        (407, "proxy"),
        (410, "gone"),
    ],
)
@pytest.mark.parametrize("batch", [BATCH, [DELETE]])
def test_a_refusal_of_us_stops_the_agent(status, remedy, batch):
    with pytest.raises(ServiceRefuses, match=f"{URL} answered {status}: .*{remedy}"):
        judged(status, batch=batch)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_stops_the_agent_and_says_where_to(status):
    with pytest.raises(
        ServiceRefuses, match=f"answered {status} and sends to https://service.example/login:"
    ):
        judged(status, location="/login?next=/sync&key=hidden#top")


@pytest.mark.parametrize(
    ("location", "said"), [("", "nowhere"), ("http://[bad", "no URL"), ("//x:bad/", "no URL")]
)
def test_a_redirect_to_nowhere_is_told_too(location, said):
    with pytest.raises(ServiceRefuses, match=said):
        judged(302, location=location)


# reasons


@pytest.mark.parametrize(
    "kind", ["application/json", "application/problem+json; charset=utf-8", "Text/Plain"]
)
def test_a_refusal_quotes_what_the_service_says(kind):
    with pytest.raises(BatchRefused, match=r"^HTTP 422: no title x+$") as caught:
        judged(422, b"no \n title " + b"x" * 10_000, content_type=kind)

    assert len(caught.value.reason) < 400


def test_a_refusal_quotes_no_html():
    with pytest.raises(BatchRefused, match=r"^HTTP 400$"):
        judged(400, b"<h1>Bad</h1>", content_type="text/html")


# Retry-After


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("9" * 400, float("9" * 12)),
        ("Mon, 99 Nov 2023 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header, seconds):
    assert retry_after_s(header, NOW) == seconds


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h.example/a/b?key=1#x", "https://h.example/a/b"),
        ("http://user:pass@h.example:8080/", "http://h.example:8080/"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
        ("/login?x", "/login"),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url, shown):
    assert without_secrets(url) == shown


# an answer to a question


@pytest.mark.parametrize("status", [200, 204])
def test_an_answer_to_a_question_passes(status):
    refuse_unless_answered(Answer(status), URL, "GET", NOW)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_a_question_that_cannot_be_answered_now_is_asked_later(status):
    with pytest.raises(RetryLater, match=f"answered {status}") as caught:
        refuse_unless_answered(Answer(status, retry_after="3"), URL, "GET", NOW)

    assert caught.value.after_s == 3


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 405, 407, 409, 410, 413, 422])
def test_a_question_that_is_refused_stops_whoever_asks(status):
    with pytest.raises(ServiceRefuses, match=rf"^{URL} answered {status}"):
        refuse_unless_answered(Answer(status), URL, "GET", NOW)


def test_the_remedy_names_the_method():
    with pytest.raises(ServiceRefuses, match="answered 405: the URL takes no POST"):
        judged(405)
    with pytest.raises(ServiceRefuses, match="answered 405 to GET: the URL takes no GET"):
        refuse_unless_answered(Answer(405), URL, "GET", NOW)
