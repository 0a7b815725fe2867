"""TLS in front of a server that has none: what a client sees is a server with a certificate."""

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
def tls_front(
    upstream: str | int, context: ssl.SSLContext, accepted: list[str | None] | None = None
) -> Iterator[int]:
    """Serve TLS on a port of this machine; give the port.

    Args:
        upstream: Where the server is: a Unix socket of PostgreSQL, whose clients ask for TLS first, or a port
            of this machine, where TLS is all there is.
        context: With the certificate.
        accepted: Takes the version of TLS of each connection that the client has agreed to.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        seen = [] if accepted is None else accepted
        thread = threading.Thread(target=_serve, args=(listening, upstream, context, seen), daemon=True)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(
    listening: socket.socket, upstream: str | int, context: ssl.SSLContext, seen: list[str | None]
) -> None:
    while True:
        try:
            client, _ = listening.accept()
        except OSError:
            return
        threading.Thread(target=_carry, args=(client, upstream, context, seen), daemon=True).start()


def _carry(
    client: socket.socket, upstream: str | int, context: ssl.SSLContext, seen: list[str | None]
) -> None:
    # one that hangs up, or does not trust the certificate, is what is to happen
    with suppress(OSError), client, _connected(upstream) as server:
        if isinstance(upstream, str):
            assert client.recv(8, socket.MSG_WAITALL) == _REQUEST
            client.sendall(b"S")
        with context.wrap_socket(client, server_side=True) as secure:
            seen.append(secure.version())
            _pump(secure, server)


def _connected(upstream: str | int) -> socket.socket:
    if isinstance(upstream, int):
        return socket.create_connection(("127.0.0.1", upstream))
    made = socket.socket(socket.AF_UNIX)
    try:
        made.connect(upstream)
    except OSError:
        made.close()
        raise
    return made


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
