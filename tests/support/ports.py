"""Ports for processes that can only be told where to listen, or that come back where they were."""

import random
import socket

#: Below those that systems give away by themselves (from 32768 on Linux, from 49152 elsewhere), so that no
#: connection of another process is given the port before it is listened at.
_RANGE = range(20_000, 32_000)

_dice = random.SystemRandom()


def free_port():
    """Return a port of 127.0.0.1 that nobody listens at."""
    while True:
        port = _dice.choice(_RANGE)
        with socket.socket() as probe:
            # as servers do: what an earlier one's connections have left is not in the way
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
