"""Home, Facility, City, Cloud, City 2, and a learner's tablet: the story that opens morango's documentation.

Each is offline most of the time. What Home's learner does travels to Facility, City, Cloud and City 2, over
five real servers; on the way clients and servers are killed and connections cut. In the end each has just
what its certificate allows.
"""

import json
import signal
from contextlib import ExitStack

import pytest
from support import school
from support.faulty_proxy import FaultyProxy
from support.school_sites import PROFILE, Site
from support.waiting import LONG_S

from livesync.database import open_database
from livesync.peering.keyring import open_keyring
from livesync.peering.partitions import contained_in_any
from livesync.peering.peers import Peer
from livesync.peering.retrying import Retries
from livesync.peering.trust import TrustStore
from livesync.replication import (
    DatabaseSyncLock,
    PeerSync,
    SyncOrchestrator,
    SyncSessionStatus,
    open_provider,
)

pytestmark = [pytest.mark.server, pytest.mark.slow]

SCOPES = [
    {
        "id": "facility",
        "profile": PROFILE,
        "version": 1,
        "read_write_filter_template": "$facility",
    },
    {
        "id": "learner",
        "profile": PROFILE,
        "version": 1,
        "read_filter_template": "$facility:allusers-ro $facility:user-ro:$learner",
        "write_filter_template": "$facility:anonymous",
        "read_write_filter_template": "$facility:user-rw:$learner",
    },
]


@pytest.fixture
def sites(tmp_path):
    with ExitStack() as stack:

        def make(name):
            site = Site(tmp_path, name)
            stack.callback(site.kill)
            site.livesync("install", "--site", name)
            return site

        yield make


def give(giver, taker, scope, **params):
    """Give a certificate to a site, by files that are carried there and back."""
    taker.livesync("peer", "init")
    there, back = str(taker.directory / "request.json"), str(taker.directory / "chain.json")
    words = [word for name, value in params.items() for word in ("-p", f"{name}={value}")]
    taker.livesync(
        *("peer", "cert", "request", "--profile", PROFILE, "--scope", scope, *words, "--to", there)
    )
    giver.livesync("peer", "cert", "sign", there, "--to", back)
    taker.livesync("peer", "cert", "import", back, "--trust-root")


def know(site, name, url):
    site.livesync("peer", "add", name, url, "--profile", PROFILE, "--insecure-http")


def only(records, *prefixes):
    return {key: found for key, found in records.items() if contained_in_any(prefixes, found[0])}


def test_a_learners_work_reaches_everybody_who_may_have_it_and_nobody_else(sites, tmp_path):
    home, facility, city, cloud, city2, tablet = everybody = [
        sites(name) for name in ("home", "facility", "city", "cloud", "city2", "tablet")
    ]
    # Given: the cloud says who may exchange what
    (tmp_path / "scopes.json").write_text(json.dumps(SCOPES))
    cloud.livesync("peer", "init", "--root", PROFILE)
    cloud.livesync("peer", "scope", "add", str(tmp_path / "scopes.json"))
    for site, scope, params in (
        (cloud, "everything", {}),
        (city, "everything", {}),
        (city2, "everything", {}),
        (facility, "facility", {"facility": "F1"}),
    ):
        give(cloud, site, scope, **params)
    facility.livesync("peer", "scope", "add", str(tmp_path / "scopes.json"))
    for site, learner in ((home, "ada"), (tablet, "ben")):
        give(facility, site, "learner", facility="F1", learner=learner)

    # a coach assigns what there is to learn; and there is another facility, of which the cloud knows
    facility.edit(
        [("course", "F1:allusers-ro", "algebra")]
        + [
            (f"task {who} {n}", f"F1:user-ro:{who}", f"exercise {n}")
            for who in ("ada", "ben")
            for n in range(9)
        ]
        + [("secret", "F1:coaches", "grades")]
    )
    cloud.edit([("other", "F2:allusers-ro", "geometry")])

    # When: both learners bring their tablets to the school
    facility.serve()
    know(home, "facility", facility.url)
    know(tablet, "facility", facility.url)
    home.livesync("peer", "sync")
    tablet.livesync("peer", "sync")

    # Then: each has its own assignments, and no private data of others
    assert home.records().keys() == {"course", *(f"task ada {n}" for n in range(9))}
    assert tablet.records().keys() == {"course", *(f"task ben {n}" for n in range(9))}

    # a week goes by; at its end Home is switched off in the middle of a sync
    work = [(f"log {n}", "F1:user-rw:ada", f"answer {n}") for n in range(1_700)]
    home.edit([*work, ("visit", "F1:anonymous", "somebody")])
    tablet.edit([("log of ben", "F1:user-rw:ben", "answer")])
    (cut,) = cut_by_killing_the_client(home, facility)
    assert (cut["direction"], cut["stage"]) == ("push", "transferring")
    assert "one that was cut went on" in home.livesync("peer", "sync", "facility")
    tablet.livesync("peer", "sync")

    # City is brought there, and the school's server dies and comes back in the middle of the sync
    facility_is_killed_while_a_city_syncs(city, facility)
    facility.stop()

    # Cloud and City 2, where connections break
    cloud.serve()
    know(city, "cloud", cloud.url)
    know(city2, "cloud", cloud.url)
    over_a_broken_line(city, cloud)
    city2.livesync("peer", "sync", "cloud")

    # and Home serves, too: a second laptop of City's comes by with what the cloud has
    home.serve()
    city.serve()
    city2.serve()
    assert sum(site.is_serving for site in (home, city, cloud, city2)) == 4
    facility.serve()
    know(city2, "facility", facility.url)
    assert "0 sent" in city2.livesync("peer", "sync", "facility")
    for site in everybody:
        site.stop()

    # Then: each has just what its scope allows
    everything = cloud.records()
    assert len(everything) == 1_700 + 1 + 1 + 18 + 1 + 1 + 1
    assert city2.records() == everything
    assert city.records() == everything
    assert facility.records() == only(everything, "F1")
    assert home.records() == only(everything, "F1:allusers-ro", "F1:user-ro:ada", "F1:user-rw:ada") | {
        "visit": ("F1:anonymous", "somebody")
    }
    assert tablet.records() == only(everything, "F1:allusers-ro", "F1:user-ro:ben", "F1:user-rw:ben")

    # deletion, soft and for good, travels back all the way
    city2.edit([("course", "F1:allusers-ro", None)])
    city2.erase("log 7")
    cloud.serve()
    replace_peer(city2, "cloud", cloud.url)
    city2.livesync("peer", "sync", "cloud")
    replace_peer(city, "cloud", cloud.url)
    city.livesync("peer", "sync", "cloud")
    facility.serve()
    replace_peer(city, "facility", facility.url)
    city.livesync("peer", "sync", "facility")
    replace_peer(home, "facility", facility.url)
    home.livesync("peer", "sync")
    assert not {"course", "log 7"} & home.records().keys()
    assert len(home.records()) == 9 + 1_699 + 1

    # and a tablet that is lost has no access any more
    ben = next(
        found["id"]
        for found in facility.json("peer", "cert", "list")["certificates"]
        if found["params"].get("learner") == "ben"
    )
    facility.livesync("peer", "cert", "revoke", ben, "--reason", "lost")
    replace_peer(tablet, "facility", facility.url)
    assert "revoked" in tablet.livesync("peer", "sync", code=10)


def orchestrate(site, url, on_read=None):
    """Let a program sync a site with a server, each as a provider; return the two sessions of each run."""
    db = open_database(site.uri)
    try:
        provider = open_provider(db, school.host())
        sync = PeerSync(provider, TrustStore(db), open_keyring(site.uri), retries=Retries(most=1))
        with sync.remote(Peer("there", url, PROFILE, insecure_http=True)) as remote:
            orchestrator = SyncOrchestrator(DatabaseSyncLock(provider.data_store), [provider, remote], 600)
            if on_read is not None:
                remote.read = on_read(remote)
            yield orchestrator.run()
            yield orchestrator.run()
    finally:
        db.close()


def test_a_program_syncs_over_remote_providers_while_a_server_is_killed(sites, tmp_path):
    """Facility -> City -> Cloud, by a program that orchestrates, with real servers, one of which dies."""
    facility, city, cloud = everybody = [sites(name) for name in ("facility", "city", "cloud")]
    (tmp_path / "scopes.json").write_text(json.dumps(SCOPES))
    cloud.livesync("peer", "init", "--root", PROFILE)
    cloud.livesync("peer", "scope", "add", str(tmp_path / "scopes.json"))
    give(cloud, cloud, "everything")
    give(cloud, city, "everything")
    give(cloud, facility, "facility", facility="F1")
    facility.edit([(f"log {n}", "F1:user-rw:ada", f"answer {n}") for n in range(1_700)])
    facility.edit([("kept", "F2:elsewhere", "of another school")])
    cloud.edit([("course", "F1:allusers-ro", "algebra"), ("other", "F2:allusers-ro", "geometry")])
    facility.serve()

    killed = []

    def die_at_the_third(remote):
        read = remote.read

        def read_and_die(offer, number=0, *args, **options):
            if number == 2 and not killed:
                killed.append(number)
                facility.kill()
            return read(offer, number, *args, **options)

        return read_and_die

    runs = orchestrate(city, facility.url, die_at_the_third)
    _, pulled = next(runs)
    assert killed
    assert pulled.status is SyncSessionStatus.FAILED
    assert "did not answer" in pulled.reason
    facility.serve(facility.port)
    pushed, pulled = next(runs)
    assert [each.reason for each in (pushed, pulled)] == ["", ""]
    assert list(runs) == []
    facility.stop()

    cloud.serve()
    for there, back in orchestrate(city, cloud.url):
        assert {there.status, back.status} == {SyncSessionStatus.FINISHED}
    for there, back in orchestrate(facility, cloud.url):
        assert {there.status, back.status} == {SyncSessionStatus.FINISHED}
    cloud.stop()

    everything = cloud.records()
    assert len(everything) == 1_702
    assert city.records() == everything
    assert facility.records() == only(everything, "F1") | {"kept": ("F2:elsewhere", "of another school")}
    assert not any(site.is_serving for site in everybody)


def replace_peer(site, name, url):
    site.livesync("peer", "remove", name)
    know(site, name, url)


def cut_by_killing_the_client(client, server):
    """Kill a client that has sent its first buffer; return what it says of what was cut."""
    with ExitStack() as stack:
        proxy = FaultyProxy(server.port, 0, share=0)
        stack.callback(proxy.close)
        replace_peer(client, "facility", proxy.url)
        proxy.hold_at("POST", "/buffers", 2)
        process = client.start("peer", "sync", "facility")
        assert proxy.is_holding.wait(LONG_S), process.communicate()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        proxy.go_on()
        cut = client.json("peer", "status")["peers"][0]["cut"]
    replace_peer(client, "facility", server.url)
    return cut


def facility_is_killed_while_a_city_syncs(city, facility):
    """Kill a server that gives a buffer; the client waits for it, and goes on."""
    with ExitStack() as stack:
        proxy = FaultyProxy(facility.port, 0, share=0)
        stack.callback(proxy.close)
        know(city, "facility", proxy.url)
        proxy.hold_at("GET", "/buffers", 3)
        process = city.start("peer", "sync", "facility")
        assert proxy.is_holding.wait(LONG_S), process.communicate()
        facility.kill()
        facility.serve()
        proxy.upstream = facility.port
        proxy.go_on()
        out, err = process.communicate(timeout=LONG_S)
        assert (process.returncode, err) == (0, ""), (out, err)
        assert out.startswith("facility: 1,7")


def over_a_broken_line(client, server):
    """Sync with a server while answers and requests break off."""
    with ExitStack() as stack:
        proxy = FaultyProxy(
            server.port, 3, share=0.3, faults={"answer cut": 2, "request cut": 1, "answer lost": 1}
        )
        stack.callback(proxy.close)
        replace_peer(client, "cloud", proxy.url)
        client.livesync("peer", "sync", "cloud")
        assert proxy.happened
    replace_peer(client, "cloud", server.url)
