"""A peer behind TLS: its certificate is verified, and what is wrong with it is said in one line."""

import datetime
import socket
import ssl
import threading
import time

import pytest
import trustme
from support import peer_world
from support.peer_serving import NetworkNode
from support.peer_world import PROFILE
from support.tls_front import tls_front
from support.waiting import LONG_S

from livesync.cli.exitcodes import ExitCode
from livesync.errors import PeerUnreachable
from livesync.peering.peers import Peer


@pytest.fixture
def world(stack, tmp_path, monkeypatch):
    """One whose clock is that of the wall, as the command's is."""
    monkeypatch.setattr(peer_world, "NOW", time.time())
    return peer_world.World(stack, tmp_path)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def fronted(served, stack):
    """Put TLS with a certificate before the server; give the address, and the connections agreed to."""

    def make(certificate, host="localhost"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        agreed = []
        port = stack.enter_context(tls_front(int(served.port), context, agreed))
        return f"https://{host}:{port}", agreed

    return make


@pytest.fixture
def ca_file(authority, tmp_path):
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def no_bundle(monkeypatch):
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


pytestmark = pytest.mark.usefixtures("no_bundle")


def secure(livesync, url, *more):
    found = livesync("peer", "add", "school", url, "--profile", PROFILE, *more)
    assert found.code == ExitCode.OK, found.err


def test_an_authority_that_is_named_is_trusted(home, world, fronted, authority, ca_file):
    world.fill(5)
    url, agreed = fronted(authority.issue_cert("localhost"))
    secure(home, url, "--ca-file", ca_file)

    synced = home("peer", "sync")

    assert (synced.code, synced.err) == (ExitCode.OK, "")
    assert synced.out.startswith("school: 5 received, 3 sent; ")
    assert set(agreed) == {"TLSv1.3"}
    assert "livesync" in home("peer", "status", "--ask").out


@pytest.mark.slow
def test_an_authority_that_the_environment_names_is_trusted(
    home,
    fronted,
    authority,
    ca_file,
    monkeypatch,
):
    url, _ = fronted(authority.issue_cert("localhost"))
    secure(home, url)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_file)

    assert home("peer", "sync").out.startswith("school: 0 received, 3 sent; ")


@pytest.mark.parametrize("named", [False, True], ids=["by the system's", "by another authority's"])
def test_an_unknown_authority_is_refused_in_one_line_and_nothing_is_sent(
    home,
    fronted,
    tmp_path,
    named,
):
    url, agreed = fronted(trustme.CA().issue_cert("localhost"))
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "another.pem"))
    secure(home, url, *(["--ca-file", str(tmp_path / "another.pem")] if named else []))

    found = home("peer", "sync")

    assert found.code == ExitCode.SERVICE
    assert found.err.startswith(f"livesync: peer school: {url} cannot be trusted: ")
    assert "issuer certificate" in found.err
    assert found.err.count("\n") == 1
    assert agreed == []
    assert f"answers: no: {url} cannot be trusted" in home("peer", "status", "--ask").out


def test_a_certificate_of_another_host_is_refused(home, fronted, authority, ca_file):
    url, agreed = fronted(authority.issue_cert("sync.example.org"))
    secure(home, url, "--ca-file", ca_file)

    found = home("peer", "sync")

    assert found.code == ExitCode.SERVICE
    assert "cannot be trusted: Hostname mismatch" in found.err
    assert found.err.count("\n") == 1
    assert agreed in ([], ["TLSv1.3"])  # the client hangs up once it has seen the certificate


@pytest.mark.slow
def test_a_certificate_that_has_expired_is_refused(home, fronted, authority, ca_file):
    long_ago = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    url, _ = fronted(authority.issue_cert("localhost", not_after=long_ago))
    secure(home, url, "--ca-file", ca_file)

    found = home("peer", "sync")

    assert found.code == ExitCode.SERVICE
    assert "certificate has expired" in found.err
    assert found.err.count("\n") == 1


@pytest.mark.slow
def test_a_password_is_asked_for_after_the_server_was_believed(home, fronted, monkeypatch):
    url, _ = fronted(trustme.CA().issue_cert("localhost"))
    monkeypatch.setenv("SECRET", "of nobody's business")

    found = home(
        *("peer", "cert", "request", "--profile", PROFILE, "--scope", "part", "-p", "part=F1"),
        *("--from", url, "--user", "ada", "--password", "env:SECRET"),
    )

    assert found.code == ExitCode.SERVICE
    assert "cannot be trusted" in found.err
    assert "business" not in found.err


def test_a_file_of_authorities_that_is_none_is_said_so(
    home,
    fronted,
    authority,
    tmp_path,
):
    url, _ = fronted(authority.issue_cert("localhost"))
    (tmp_path / "empty.pem").write_text("no certificate\n")
    for number, (path, says) in enumerate(
        (
            (str(tmp_path / "missing.pem"), "missing.pem"),
            (str(tmp_path / "empty.pem"), "empty.pem"),
        )
    ):
        found = home("peer", "add", f"school{number}", url, "--profile", PROFILE, "--ca-file", path)
        assert found.code == ExitCode.USAGE, found
        assert says in found.err
        assert found.err.count("\n") == 1


@pytest.mark.slow
def test_a_file_of_authorities_that_went_away_is_said_so(
    home,
    fronted,
    authority,
    ca_file,
    tmp_path,
):
    url, _ = fronted(authority.issue_cert("localhost"))
    secure(home, url, "--ca-file", ca_file)
    (tmp_path / "authority.pem").unlink()

    found = home("peer", "sync")

    assert found.code == ExitCode.SERVICE
    assert "authority.pem" in found.err
    assert found.err.count("\n") == 1


def test_a_server_without_tls_is_said_so(home, stack):
    listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

    def answer():
        with listening.accept()[0] as client:
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            client.recv(1)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    url = f"https://localhost:{listening.getsockname()[1]}"
    secure(home, url)

    found = home("peer", "sync")

    thread.join(LONG_S)
    assert found.code == ExitCode.SERVICE
    assert found.err == f"livesync: peer school: {url} speaks no TLS: is its address one of http:// ?\n"


@pytest.mark.slow
def test_a_server_that_waits_for_something_else_than_tls_is_said_so(world, stack):
    listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    url = f"https://localhost:{listening.getsockname()[1]}"
    home = NetworkNode(world, "home")
    peer = home.registry.add(Peer("server", url, PROFILE))

    with pytest.raises(PeerUnreachable, match=r"no TLS within 0\.2 s; is its address one of http:// \?"):
        home.sync(peer, timeout_s=0.2)

    assert len(home.waits) == home.retries.most


@pytest.mark.slow
def test_what_cannot_be_trusted_is_not_asked_again(world, fronted):
    url, _ = fronted(trustme.CA().issue_cert("localhost"))
    home = NetworkNode(world, "home")
    peer = home.registry.add(Peer("server", url, PROFILE))

    with pytest.raises(PeerUnreachable, match="cannot be trusted"):
        home.sync(peer)

    assert home.waits == []


@pytest.mark.slow
def test_plain_http_needs_leave_on_this_machine_too(home, served):
    found = home("peer", "add", "school", served.url, "--profile", PROFILE)

    assert found.code == ExitCode.USAGE
    assert "--insecure-http" in found.err
    secure(home, served.url, "--insecure-http")
    assert home("peer", "sync").code == ExitCode.OK
