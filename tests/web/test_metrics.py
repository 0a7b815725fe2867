"""What monitoring sees: metrics, life and readiness."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from livesync import conflicts
from livesync.database import committed
from livesync.manager import SyncManager
from livesync.web.users import Role


def figures(desk, **environ):
    answer = desk.browser(**{"REMOTE_ADDR": "127.0.0.1", **environ}).get("/metrics")
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_metrics_say_what_was_delivered_and_what_is_left(desk):
    desk.add_agent()
    desk.put("a", "b", "broken")
    desk.put("broken", broken="no document")
    desk.collect()
    desk.finished(desk.ask("POST", "/agents/index/run"))
    desk.put("c", "d")

    found = figures(desk)

    assert found["livesync_agent_records_total", "accepted", "index"] == 2
    assert found["livesync_agent_records_total", "dead", "index"] == 1
    assert found["livesync_agent_dead_letters", "index"] == 1
    assert found["livesync_agent_lag_actions", "index"] == 2
    assert found["livesync_agent_lag_seconds", "index"] >= 0
    assert found["livesync_waiting_actions",] == 2
    assert found["livesync_agent_state", "active", "index"] == 1
    assert found["livesync_agent_state", "index", "paused"] == 0
    assert found["livesync_agent_runs_total", "index"] == 1
    assert found["livesync_agent_batch_seconds_bucket", "+Inf", "index"] == 1
    assert found["livesync_agent_batch_seconds_count", "index"] == 1
    assert 0 < found["livesync_agent_batch_seconds_sum", "index"] < 30
    assert found["livesync_track_actions",] == 4
    assert found["livesync_conflicts_total", "host"] == conflicts.counts()["host"]
    assert (found["livesync_database_up",], found["livesync_runner_alive",]) == (1, 1)
    assert found["livesync_info", desk.ask("GET", "/status").json["version"]] == 1


def test_a_second_scrape_at_once_does_not_look_again(desk):
    desk.put("a")
    first = figures(desk)
    desk.put("b")

    again = figures(desk)
    desk.clock += 1.5
    later = figures(desk)

    assert first["livesync_waiting_actions",] == again["livesync_waiting_actions",] == 1
    assert later["livesync_waiting_actions",] == 2


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({"REMOTE_ADDR": "127.0.0.1"}, 200),
        ({"REMOTE_ADDR": "::1"}, 200),
        ({"REMOTE_ADDR": "192.0.2.1"}, 401),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "192.0.2.1"}, 401),
        ({"REMOTE_ADDR": "192.0.2.1", "HTTP_X_FORWARDED_FOR": "127.0.0.1"}, 401),
    ],
)
def test_metrics_are_for_this_machine_unless_a_token_is_shown(desk, environ, status):
    headers = {"Authorization": f"Bearer {desk.tokens[Role.SEE]}"}

    assert desk.browser(**environ).get("/metrics", expect_errors=True).status_int == status
    assert desk.browser(**environ).get("/metrics", headers=headers).status_int == 200


@pytest.mark.parametrize(("rule", "status"), [("open", 200), ("login", 401)])
def test_who_may_read_metrics_can_be_set(make_desk, rule, status):
    desk = make_desk(metrics=rule)

    for address in ("127.0.0.1", "192.0.2.1"):
        answer = desk.browser(REMOTE_ADDR=address).get("/metrics", expect_errors=True)
        assert answer.status_int == status


def test_readiness_says_what_is_wrong(desk):
    assert desk.browser().get("/readyz").json == {"status": "ok"}

    desk.runner.is_running = False
    answer = desk.browser().get("/readyz", status=503)
    assert answer.json == {"status": "not ready", "reason": "runner_stopped"}

    desk.runner.is_running = True
    committed(desk.db, lambda root: SyncManager.get(root).adopt("elsewhere"))
    assert desk.browser().get("/readyz", status=503).json["reason"] == "site_differs"

    committed(desk.db, lambda root: root.pop("livesync") and None)
    assert desk.browser().get("/readyz", status=503).json["reason"] == "not_installed"
    assert desk.browser().get("/healthz", status=200).json == {"status": "ok"}
    desk.clock += 2
    assert figures(desk)["livesync_database_up",] == 0
