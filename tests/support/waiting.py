"""Waiting for what other threads and processes do.

One length for all: nothing that is waited for takes nearly as long, however busy the machine is, so whoever
has waited for it may say that it never comes. It costs nothing where all is well.
"""

import time

#: In seconds.
LONG_S = 120.0


def eventually(condition, patience_s=LONG_S):
    """Wait until ``condition()`` is true, and return what it returned."""
    give_up = time.monotonic() + patience_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < give_up, "what was waited for did not come"
        time.sleep(0.01)
