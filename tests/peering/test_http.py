"""Requests to a peer: prepared from a part that is made once, they are what requests would make."""

import pytest
import requests

from livesync.httpcalls import NoAuth
from livesync.peering.http import PeerHTTP

BASES = [
    "http://127.0.0.1:8080",
    "https://sync.example.org/prefix/",
    "https://b\xfccher.example:8443/pre%20fix",
    "http://[::1]:8080/x",
]
REQUESTS = [
    ("GET", "/peer/v1/info", b""),
    ("POST", "/peer/v1/buffers", b"abc"),
    ("POST", "/peer/v1/buffers", b""),
    ("DELETE", "/peer/v1/syncsessions/ab", b""),
    ("GET", "/peer/v1/buffers?cursor=%7B%22a%22%3A+1%7D&number=1", b""),
    ("GET", "/a path?with=\xe4", b""),
    ("GET", "/a%2Fb?", b""),
]


def facts(request):
    return request.method, request.url, request.path_url, request.body, dict(request.headers)


@pytest.fixture(params=BASES)
def http(request):
    made = PeerHTTP(request.param, insecure_http=True)
    yield made
    made.close()


@pytest.mark.parametrize(("method", "path", "body"), REQUESTS)
def test_a_request_is_prepared_as_requests_prepares_it(http, method, path, body):
    whole = requests.Request(method, http.base_url + path, data=body or None, auth=NoAuth())

    once, again = http.prepare(method, path, body), http.prepare(method, path, body)

    assert facts(once) == facts(again) == facts(http._opened().prepare_request(whole))


def test_what_is_added_to_one_request_is_not_in_the_next(http):
    http.prepare("GET", "/a", b"").headers["Signature"] = "x"

    assert "Signature" not in http.prepare("GET", "/a", b"").headers


def test_cookies_of_whoever_spreads_requests_over_servers_are_sent(http):
    http.prepare("GET", "/a", b"")
    http._opened().cookies.set("server", "2")

    assert http.prepare("GET", "/a", b"").headers["Cookie"] == "server=2"
