"""What is wrong with a service or with the way to it stops the agent with one clear reason: nothing is
lost, nothing becomes a dead letter, nothing is tried for ever."""

import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support.shelf import World

from livesync.destinations.http import HTTPAgent
from livesync.destinations.invenio import InvenioAgent
from livesync.destinations.marcxml import MARCXMLAgent
from livesync.destinations.opensearch import OpenSearchAgent
from livesync.destinations.webhook import WebhookAgent
from livesync.errors import ServiceRefuses

AGENTS = {
    "http": lambda url: HTTPAgent("index", url=url),
    "webhook": lambda url: WebhookAgent("index", url=url, secret="env:SERVICE_SECRET"),
    "opensearch": lambda url: OpenSearchAgent("index", url=url, index="things"),
    "invenio": lambda url: InvenioAgent("index", url=url, token="env:SERVICE_TOKEN"),
    "marcxml": lambda url: MARCXMLAgent("index", url=url, fields="support.marc_service:as_told"),
}


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Say nothing of a client that hangs up: that is what is to happen."""


@contextmanager
def answering(status, context=None):
    """The URL of a server that answers everything with ``status``; with a context, over TLS."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - http.server's names

        def log_message(self, *arguments):
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http{'s' if context else ''}://localhost:{server.server_port}/api"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def world(tmp_path, no_fsync, monkeypatch):
    monkeypatch.setenv("SERVICE_SECRET", "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=")
    monkeypatch.setenv("SERVICE_TOKEN", "a-token-nobody-is-to-see")
    made = World(str(tmp_path / "host.fs"))
    yield made
    made.close()


def refused(world, agent):
    """Run an agent that cannot deliver; return why it is stopped."""
    world.manager.remove_agent("index")
    world.manager.register_agent(agent)
    world.manager.activate("index", from_start=True)
    world.tm.commit()
    world.put("a")
    world.put("b")

    with pytest.raises(ServiceRefuses) as told:
        world.run(agent)

    stored = world.stored
    assert (stored.state, stored.reason) == ("stopped", "service_refuses")
    assert "\n" not in stored.detail
    assert stored.detail == told.value.reason
    assert "a-token-nobody-is-to-see" not in str(told.value) + stored.detail
    assert (world.pointer, dict(stored.dead)) == (None, {})
    assert stored.last_run["error"]
    return stored.detail


@pytest.mark.parametrize("kind", AGENTS)
def test_a_certificate_that_does_not_verify_stops_the_agent(world, kind):
    trustme = pytest.importorskip("trustme")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)

    with answering(200, context) as url:
        assert "cannot be trusted" in refused(world, AGENTS[kind](url))


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("kind", AGENTS)
def test_wrong_credentials_stop_the_agent(world, kind, status):
    with answering(status) as url:
        assert str(status) in refused(world, AGENTS[kind](url))


@pytest.mark.parametrize("status", [302, 404])
@pytest.mark.parametrize("kind", AGENTS)
def test_a_wrong_url_stops_the_agent(world, kind, status):
    with answering(status) as url:
        assert str(status) in refused(world, AGENTS[kind](url))
