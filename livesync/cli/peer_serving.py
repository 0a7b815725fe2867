"""The peers' server within ``livesync serve``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..errors import UsageError
from .listening import ServerThread, url_of
from .peer_trust import check_extra, keys_of
from .session import Session

if TYPE_CHECKING:
    from ..peering.keyring import KeyRing

#: Seconds that requests at work get to end.
_STOP_S: Final = 20

#: Connections at once, and seconds after which one that says nothing is closed.
_CONNECTIONS: Final = 200
_IDLE_S: Final = 60


class PeerServing:
    """The peers' server, in threads of its own.

    Args:
        session: The command.
        db: An open ``ZODB.DB``.
        host: The application.

    Raises:
        UsageError: The extra is missing, or the address cannot be had.
        NotInstalled: This database has no peers.
        KeyUnusable: The key of one of its certificates cannot be used.
    """

    def __init__(self, session: Session, db: Any, host: Any) -> None:
        check_extra()
        listen = session.args.peers
        try:
            with warnings.catch_warnings():
                # Pyramid imports pkg_resources, which warns whoever imports it
                warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)
                from waitress.server import create_server

                from ..peerserver.app import make_app
        except ImportError as exc:
            raise UsageError(
                f"the peers' server needs the extra peer ({exc}): pip install 'zodb-livesync[peer]'"
            ) from exc
        from ..peering.wire import MAX_BUFFER_BYTES

        app = make_app(_peer_app(session, db, host, keys_of(session)))
        try:
            self._server = create_server(
                app,
                host=listen.host,
                port=listen.port,
                threads=8,
                ident=None,
                clear_untrusted_proxy_headers=True,
                connection_limit=_CONNECTIONS,
                channel_timeout=_IDLE_S,
                cleanup_interval=_IDLE_S // 2,
                # a body that is too large is answered by the application, in its own form
                max_request_body_size=4 * MAX_BUFFER_BYTES,
            )
        except (OSError, ValueError) as exc:
            raise UsageError(f"nobody can listen at {listen}: {exc}") from exc
        self._thread = ServerThread(self._server, "peers")

    @property
    def url(self) -> str:
        """Where peers find it."""
        return url_of(self._server)

    def start(self) -> None:
        """Serve until :meth:`close`."""
        self._thread.start()

    def close(self) -> None:
        """Take no more requests, let those at work end, and close all connections."""
        self._thread.close(_STOP_S)


def _peer_app(session: Session, db: Any, host: Any, keys: KeyRing) -> Any:
    from ..peering.signing import SharedKey
    from ..peering.trust import TrustStore
    from ..peering.wire import CAPABILITIES
    from ..peerserver.app import PeerApp
    from ..peerserver.gate import Gate
    from ..replication.opening import open_provider

    trust = TrustStore(db)
    for chain in trust.read(lambda found: found.own_chains(keys)):
        keys.get(chain[-1].public_key)
    capabilities = CAPABILITIES
    if session.args.share_key:
        SharedKey.get_or_create_shared_key(trust, keys)
    else:
        capabilities -= {"certificate-pushing"}
    login = _login(session)
    if login is None:
        capabilities -= {"signing-requests"}
    provider = open_provider(db, host)
    return PeerApp(
        provider,
        Gate(provider.data_store, keys, provider.node.clock),
        name=session.settings.site,
        host=host,
        login=login,
        capabilities=capabilities,
        clock=provider.node.clock,
    )


def _login(session: Session) -> Callable[[str, str], bool] | None:
    """Return what tells whether somebody may give certificates: who may operate; None: nobody can log in."""
    path = session.args.users or session.settings.users
    if not path:
        return None
    from ..web.users import Role, Users

    users = Users(path)

    def login(name: str, password: str) -> bool:
        found = users.login(name, password)
        return found is not None and found.role.includes(Role.OPERATE)

    return login
