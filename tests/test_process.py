"""Which process this is, and whether another one is gone."""

import os
import subprocess
import sys

from livesync.process import is_dead, this_process

TELL = "from livesync.process import this_process; print(*this_process())"


def test_this_process_is_alive():
    assert not is_dead(this_process())
    assert this_process()[1] == os.getpid()


def test_a_process_that_has_ended_is_dead():
    told = subprocess.run([sys.executable, "-c", TELL], capture_output=True, text=True, check=True)
    host, pid, started = told.stdout.split()

    assert is_dead((host, int(pid), int(started)))
    assert is_dead((host, int(pid), 0))


def test_a_process_of_another_host_is_not_known_to_be_dead():
    _, pid, started = this_process()

    assert not is_dead(("another-host.invalid", pid, started + 1))


def test_a_process_id_that_is_used_again_is_another_process():
    host, pid, started = this_process()

    assert is_dead((host, pid, started + 1)) == bool(started)
    assert not is_dead((host, pid, 0))


def test_a_process_of_another_user_is_alive():
    host, _, _ = this_process()

    assert not is_dead((host, 1, 0))
