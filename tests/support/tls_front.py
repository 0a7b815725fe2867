"""TLS in front of the tests' PostgreSQL server, whose build has none: what a client sees is a server with a
certificate."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

#: What a client sends first when it wants TLS: its length and a code.
_REQUEST = (8).to_bytes(4) + (80877103).to_bytes(4)


@contextmanager
def tls_front(socket_path: str, context: ssl.SSLContext) -> Iterator[int]:
    """Serve TLS on a port of this machine, with what lies behind a Unix socket; give the port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_serve, args=(listening, socket_path, context), daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(listening: socket.socket, socket_path: str, context: ssl.SSLContext) -> None:
    while True:
        try:
            client, _ = listening.accept()
        except OSError:
            return
        threading.Thread(target=_carry, args=(client, socket_path, context), daemon=True).start()


def _carry(client: socket.socket, socket_path: str, context: ssl.SSLContext) -> None:
    # one that hangs up, or does not trust the certificate, is what is to happen
    with suppress(OSError), client, socket.socket(socket.AF_UNIX) as server:
        assert client.recv(8, socket.MSG_WAITALL) == _REQUEST
        client.sendall(b"S")
        with context.wrap_socket(client, server_side=True) as secure:
            server.connect(socket_path)
            _pump(secure, server)


def _pump(secure: ssl.SSLSocket, server: socket.socket) -> None:
    """Carry bytes both ways until one side ends; by one thread, since TLS is not for two."""
    while True:
        ready = [secure] if secure.pending() else select.select([secure, server], [], [])[0]
        for source, target in ((secure, server), (server, secure)):
            if source in ready:
                data = source.recv(65_536)
                if not data:
                    return
                target.sendall(data)
