"""A bad line between a peer and a server: a relay on this machine that stops when it is told to.

While it stands still, whoever is at one of its ends can be killed; mended, it carries on with new
connections.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

_PIECE = 16 * 1024


class Line:
    """A relay to a port of this machine; close it with :meth:`close`.

    Attributes:
        port: Where it listens.
        stands: Set while it stands still.
    """

    def __init__(self, target: int) -> None:
        self.stands = threading.Event()
        self._target = target
        self._left: int | None = None
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Where peers find it."""
        return f"http://127.0.0.1:{self.port}"

    def stand_still_after(self, count: int) -> None:
        """Carry so many bytes more, both ways together, and stand still then."""
        with self._lock:
            self._left = count

    def mend(self, target: int) -> None:
        """Break off what is open, and carry new connections to a port, however much it is."""
        with self._lock:
            self._target, self._left = target, None
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
            self._open.clear()
            self.stands.clear()

    def close(self) -> None:
        """Take no more connections, and break off what is open."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self.mend(self._target)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target), timeout=10)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._open += [client, server]
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(_PIECE):
                if not self._may_pass(len(piece)):
                    return  # what it held is lost; both ends wait until the line is mended
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)

    def _may_pass(self, count: int) -> bool:
        with self._lock:
            if self._left is None:
                return True
            self._left -= count
            if self._left >= 0:
                return True
            self.stands.set()
            return False
