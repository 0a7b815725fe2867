"""The peers' server, on its own or within an application's own Pyramid.

:func:`make_app` returns a WSGI application. :func:`includeme` mounts the same within a host's, under the
``route_prefix`` that it is included with; the host's own security policy has no say here: who a peer is, its
certificate says.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pyramid.config import Configurator

from ..peering import compression, historywire, wire
from ..peering.controller import Operation as StageOperation
from ..peering.controller import SessionController, StageEvent
from ..peering.signing import Login, MayGive
from ..peering.stages import Stage
from ..replication.network.operations import operations_with
from ..replication.network.transfers import Transfer
from ..replication.provider import ZODBSyncProvider
from ..replication.stores.zodbstore import ZODBDataStore
from .packs import Packs
from .sequence import Sequences
from .throttle import Throttle

if TYPE_CHECKING:
    from ..host import Host
    from .gate import Gate

T = TypeVar("T")

#: Under this key a host's registry gives a :class:`PeerApp` to :func:`includeme`.
REGISTRY_KEY: Final = "livesync.peerserver"

#: Transfers whose offers are kept in memory.
_OFFERS_KEPT: Final = 200

#: Of them, those whose buffers that wait are kept in memory, too: the last ones that were spoken of.
_BUFFERS_KEPT: Final = 8


class PeerApp:
    """What all requests share. Threads may share it.

    Args:
        provider: This database's side of two-way sync.
        gate: Whom it lets in, and what to.
        name: How this server is called, for people.
        operations: Whole chains for stages, in place of what the host and livesync bring.
        listeners: Called with each :class:`~livesync.peering.controller.StageEvent`.
        login: Tells whether a user of this name has this password and may give certificates; None: nobody
            may, and signing requests are refused.
        may_give: Tells whether a user may give a scope; None: whoever may log in.
        host: The application whose documents histories are of, and whose operations are asked first; None:
            those of histories without one only.
        chunk_size: Items in a buffer, at most.
        chunk_bytes: Bytes of a chunk of a history that are aimed at.
        capabilities: What this server does, of :data:`livesync.peering.wire.CAPABILITIES`.
        clock: Epoch seconds.
    """

    def __init__(
        self,
        provider: ZODBSyncProvider,
        gate: Gate,
        *,
        name: str = "",
        operations: Mapping[Stage, Sequence[StageOperation[Transfer]]] | None = None,
        listeners: Sequence[Callable[[StageEvent], None]] = (),
        login: Login | None = None,
        may_give: MayGive | None = None,
        host: Host | None = None,
        chunk_size: int = wire.CHUNK_SIZE,
        chunk_bytes: int = historywire.CHUNK_BYTES,
        capabilities: frozenset[str] = wire.CAPABILITIES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        store = provider.data_store
        assert isinstance(store, ZODBDataStore)
        self.provider = provider
        self.store = store
        self.gate = gate
        self.name = name
        self.controller = SessionController({**operations_with(host), **(operations or {})}, listeners)
        self.login = login
        self.may_give = may_give
        self.host = host
        self.packs = Packs()
        self.throttle = Throttle(clock)
        self.chunk_size = chunk_size
        self.chunk_bytes = chunk_bytes
        self.capabilities = capabilities
        self.clock = clock
        self.sequences = Sequences()
        #: Certificate -> when it last made this server take a new provider id.
        self.renamed: dict[str, float] = {}
        self._transfers: OrderedDict[str, Transfer] = OrderedDict()
        self._lock = threading.Lock()
        self._applying = ThreadPoolExecutor(1, "livesync-peer-applying")

    def apply(self, work: Callable[[], T]) -> T:
        """Carry out what applies items, in the one thread that does, and return what it returns.

        A database commits one transaction at a time anyway, and an allocator keeps for each thread what it
        has ever needed: the server's threads in turn would each hold on to the memory of a transaction.

        Raises:
            Exception: Whatever it raises.
        """
        return self._applying.submit(work).result()

    @property
    def encodings(self) -> tuple[str, ...]:
        """How bodies may be packed here."""
        return tuple(name for name in compression.ENCODINGS if name in self.capabilities)

    def transfer(self, transfer_id: str) -> Transfer:
        """Return a transfer that is known to be there."""
        with self._lock:
            found = self._transfers.get(transfer_id)
            if found is None:
                found = self._transfers[transfer_id] = Transfer(self.provider, transfer_id)
                while len(self._transfers) > _OFFERS_KEPT:
                    self._transfers.popitem(last=False)
            self._transfers.move_to_end(transfer_id)
            for other in islice(reversed(self._transfers.values()), _BUFFERS_KEPT, None):
                other.forget_waiting()
            return found

    def forget_transfer(self, transfer_id: str) -> None:
        """Keep nothing of a transfer in memory."""
        with self._lock:
            self._transfers.pop(transfer_id, None)


def make_app(app: PeerApp, *, prefix: str = "") -> Any:
    """Return the peers' server as a WSGI callable; its ``livesync`` attribute is ``app``.

    Args:
        app: What its requests share.
        prefix: Where it is mounted: ``/sync``; "" for the root.
    """
    config = Configurator()
    config.registry[REGISTRY_KEY] = app
    config.include(includeme, route_prefix=prefix.strip("/") or None)
    config.include("livesync.peerserver.standalone")
    made = config.make_wsgi_app()
    made.livesync = app
    return made


def includeme(config: Configurator) -> None:
    """Mount the peers' server in a host's Pyramid: ``config.include(includeme, route_prefix="sync")``.

    ``config.registry["livesync.peerserver"]`` holds the :class:`PeerApp`.
    """
    config.include("livesync.peerserver.serving")
