"""waitress' servers: where they are, and one in a thread of its own that ends in good order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

#: Seconds that a request may take until it has come, and bytes of it for which it gets a second more.
RECEIVE_S: Final = 60.0
RECEIVE_RATE: Final = 10_000

#: Seconds between looks at requests that are still coming.
_LOOK_S: Final = 1.0


def url_of(server: Any) -> str:
    """Return where a server is found: at the first of its addresses, where a name stands for several."""
    several = getattr(server, "effective_listen", None)
    host, port = several[0] if several else (server.effective_host, server.effective_port)
    return f"http://{f'[{host}]' if ':' in str(host) else host}:{port}/"


class ServerThread:
    """Serves until it is closed.

    waitress' own loop ends with the process only: whoever closes a server from another thread takes its
    sockets away from that loop.

    A request that does not come to its end is not waited for, however often it sends a byte: waitress itself
    closes who says nothing at all.

    Args:
        server: What ``waitress.server.create_server`` has made; it belongs to this from then on.
        name: The thread's.
        clock: Returns seconds that only rise.
    """

    def __init__(self, server: Any, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._server = server
        self._clock = clock
        #: Connections of which a request is coming -> that request, and since when.
        self._coming: dict[Any, tuple[Any, float]] = {}
        self._looked = clock()
        # of a server at one address, or at several
        self._map: dict[int, Any] = getattr(server, "map", None) or server._map
        self._give_up = float("inf")
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def close(self, patience_s: float) -> None:
        """Take no more requests, let those at work end and their answers be sent, close all connections.

        Args:
            patience_s: How long requests at work get, and answers again; seconds.
        """
        self._server.task_dispatcher.shutdown(cancel_pending=True, timeout=patience_s)
        self._give_up = time.monotonic() + patience_s
        if self._thread.ident is not None:
            self._wake()
            self._thread.join(patience_s + self._server.adj.asyncore_loop_timeout)
        for each in list(self._map.values()):
            if hasattr(each, "total_outbufs_len"):
                each.handle_close()  # a connection, with what it was to send
            else:
                each.close()

    def _run(self) -> None:
        from waitress import wasyncore

        adjustments = self._server.adj
        while self._give_up == float("inf") or (self._has_answers() and time.monotonic() < self._give_up):
            wasyncore.loop(
                timeout=adjustments.asyncore_loop_timeout,
                use_poll=adjustments.asyncore_use_poll,
                map=self._map,
                count=1,
            )
            if self._clock() - self._looked >= _LOOK_S:
                self._close_slow()

    def _close_slow(self) -> None:
        """Close connections whose request has been coming for too long."""
        now = self._looked = self._clock()
        before, self._coming = self._coming, {}
        for channel in list(self._map.values()):
            request = getattr(channel, "request", None)
            if request is None:
                continue  # no connection, or one that waits for its next request
            known, since = before.get(channel, (None, now))
            if known is not request:
                since = now
            self._coming[channel] = request, since
            come = request.header_bytes_received + request.body_bytes_received
            if now - since > RECEIVE_S + come / RECEIVE_RATE:
                with channel.requests_lock:
                    channel.will_close = True  # it takes nothing more
                    request.close()

    def _has_answers(self) -> bool:
        """Tell whether there is something to send that was not sent yet."""
        return any(getattr(each, "total_outbufs_len", 0) for each in list(self._map.values()))

    def _wake(self) -> None:
        for each in list(self._map.values()):
            if hasattr(each, "pull_trigger"):
                each.pull_trigger()
