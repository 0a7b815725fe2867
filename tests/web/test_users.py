"""The users' file, and how often somebody may fail to log in."""

import threading
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livesync.web.errors import TooOften
from livesync.web.throttle import PER_ADDRESS, PER_NAME, WINDOW_S, Throttle
from livesync.web.users import Role, Users, hash_password, is_password

PASSWORD = "correct horse battery"


def test_a_hash_is_of_one_password_and_salted():
    one, other = hash_password(PASSWORD), hash_password(PASSWORD)

    assert one != other
    assert is_password(PASSWORD, one)
    assert is_password(PASSWORD, other)
    assert not is_password(PASSWORD + " ", one)
    assert one.startswith("scrypt$32768$8$1$")


def test_a_wrong_name_costs_what_a_wrong_password_does(tmp_path, monkeypatch):
    users = Users(tmp_path / "users.json")
    users.add_user("anna", PASSWORD, Role.SEE)
    costs = []
    real = __import__("hashlib").scrypt
    monkeypatch.setattr(
        "hashlib.scrypt",
        lambda *args, **how: (costs.append((how["n"], how["r"], how["p"])), real(*args, **how))[1],
    )

    assert users.login("anna", "wrong password") is None
    assert users.login("nobody", "wrong password") is None

    assert len(costs) == 2
    assert costs[0] == costs[1]


def test_changes_of_several_at_once_are_all_kept(tmp_path):
    path = tmp_path / "users.json"

    def add(number):
        Users(path).add_token(f"token-{number}", Role.SEE, float(number))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [token.name for token in Users(path).tokens()] == [f"token-{number}" for number in range(12)]


def test_what_a_process_shows_is_known_by_it_alone(tmp_path):
    users = Users(tmp_path / "users.json")
    token = users.process_token("cli", Role.OPERATE)

    assert users.token(token).role is Role.OPERATE
    assert users.token(token[:-1] + ("A" if token[-1] != "A" else "B")) is None
    assert Users(tmp_path / "users.json").token(token) is None
    assert not (tmp_path / "users.json").exists()
    for nonsense in ("", "livesync_", "x" * 100_000, token + "x", "livesync_000000000000_" + "ä" * 43):
        assert users.token(nonsense) is None


@pytest.mark.parametrize(("most", "key"), [(PER_NAME, "name"), (PER_ADDRESS, "address")])
def test_too_many_failures_are_not_heard_until_the_window_is_over(most, key):
    now = [1000.0]
    throttle = Throttle(lambda: now[0])

    def attempt(number):
        name, address = ("anna", f"a{number}") if key == "name" else (f"n{number}", "192.0.2.1")
        throttle.begin(address, name)

    for number in range(most):
        attempt(number)
        now[0] += 1
    with pytest.raises(TooOften) as caught:
        attempt(most)
    assert caught.value.retry_after_s == WINDOW_S - most
    now[0] += caught.value.retry_after_s - 0.5
    with pytest.raises(TooOften):
        attempt(most)
    now[0] += 0.5
    attempt(most)


def test_a_success_forgets_the_failures_of_its_name():
    throttle = Throttle(lambda: 0.0)
    for _ in range(PER_NAME - 1):
        throttle.begin("192.0.2.1", "anna")
    throttle.begin("192.0.2.2", "anna")
    throttle.succeeded("192.0.2.2", "anna")

    throttle.begin("192.0.2.2", "anna")
    for number in range(PER_ADDRESS - PER_NAME + 1):
        throttle.begin("192.0.2.1", f"n{number}")
    with pytest.raises(TooOften):
        throttle.begin("192.0.2.1", "new")


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 100)), max_size=200))
def test_what_is_remembered_is_bounded(attempts):
    now = [0.0]
    throttle = Throttle(lambda: now[0], capacity=20)
    for address, name, later in attempts:
        now[0] += later
        with suppress(TooOften):
            throttle.begin(str(address), str(name))
        assert len(throttle._failures) <= 20
