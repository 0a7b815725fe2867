"""Makes the process that imports it one of another machine: its host name and its clock.

From the environment: ``LIVESYNC_TEST_MACHINE``, a host name, and ``LIVESYNC_TEST_CLOCK``, the seconds by
which its clock is ahead. To be imported before anything of livesync is.
"""

import os
import socket
import time

_name = os.environ.get("LIVESYNC_TEST_MACHINE")
_ahead = float(os.environ.get("LIVESYNC_TEST_CLOCK", "0"))
_time = time.time

if _name:
    socket.gethostname = lambda: _name
if _ahead:
    time.time = lambda: _time() + _ahead
