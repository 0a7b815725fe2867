"""Two-way sync: databases that all change come to hold the same, and nothing is overwritten in silence.

The public names, each loaded at first use.
"""

from typing import TYPE_CHECKING

from ..imports import at_first_use as _at_first_use

if TYPE_CHECKING:
    from .events import EventsManager as EventsManager
    from .metadata.changes import ConflictLog as ConflictLog
    from .metadata.changes import ConflictStatus as ConflictStatus
    from .metadata.changes import ConflictType as ConflictType
    from .metadata.changes import ItemChange as ItemChange
    from .metadata.changes import ItemChangeBatch as ItemChangeBatch
    from .metadata.changes import ItemVersion as ItemVersion
    from .metadata.changes import Operation as Operation
    from .metadata.changes import SerializationResult as SerializationResult
    from .metadata.changes import SyncSession as SyncSession
    from .metadata.changes import SyncSessionStatus as SyncSessionStatus
    from .metadata.clocks import VectorClock as VectorClock
    from .metadata.clocks import VectorClockItem as VectorClockItem
    from .metadata.clocks import concurrent as concurrent
    from .metadata.clocks import descends as descends
    from .metadata.clocks import merge as merge
    from .metadata.query import Comparator as Comparator
    from .metadata.query import Comparison as Comparison
    from .metadata.query import Connector as Connector
    from .metadata.query import Filter as Filter
    from .metadata.query import Query as Query
    from .metadata.query import SortOrder as SortOrder
    from .models.executor import ChangesExecutor as ChangesExecutor
    from .models.executor import MissingDependency as MissingDependency
    from .models.hostexecutor import HostExecutor as HostExecutor
    from .models.model import ModelRegistry as ModelRegistry
    from .models.model import SyncableModel as SyncableModel
    from .network.client import SyncSessionClient as SyncSessionClient
    from .network.connection import NetworkSyncConnection as NetworkSyncConnection
    from .network.pulling import PullClient as PullClient
    from .network.pushing import PushClient as PushClient
    from .network.remote import RemoteProvider as RemoteProvider
    from .network.syncing import PeerSync as PeerSync
    from .opening import open_provider as open_provider
    from .provider import BaseSyncProvider as BaseSyncProvider
    from .provider import MemorySyncProvider as MemorySyncProvider
    from .provider import ZODBSyncProvider as ZODBSyncProvider
    from .reader import TrackReader as TrackReader
    from .sessions.locking import DatabaseSyncLock as DatabaseSyncLock
    from .sessions.orchestrator import BaseSyncLock as BaseSyncLock
    from .sessions.orchestrator import SyncLock as SyncLock
    from .sessions.orchestrator import SyncOrchestrator as SyncOrchestrator
    from .stores.base import BaseDataStore as BaseDataStore
    from .stores.memory import MemoryDataStore as MemoryDataStore
    from .stores.zodbstore import ZODBDataStore as ZODBDataStore

_HOMES = {
    "BaseDataStore": "stores.base",
    "BaseSyncLock": "sessions.orchestrator",
    "BaseSyncProvider": "provider",
    "ChangesExecutor": "models.executor",
    "Comparator": "metadata.query",
    "Comparison": "metadata.query",
    "ConflictLog": "metadata.changes",
    "ConflictStatus": "metadata.changes",
    "ConflictType": "metadata.changes",
    "Connector": "metadata.query",
    "DatabaseSyncLock": "sessions.locking",
    "EventsManager": "events",
    "Filter": "metadata.query",
    "HostExecutor": "models.hostexecutor",
    "ItemChange": "metadata.changes",
    "ItemChangeBatch": "metadata.changes",
    "ItemVersion": "metadata.changes",
    "MemoryDataStore": "stores.memory",
    "MemorySyncProvider": "provider",
    "MissingDependency": "models.executor",
    "ModelRegistry": "models.model",
    "NetworkSyncConnection": "network.connection",
    "Operation": "metadata.changes",
    "PeerSync": "network.syncing",
    "PullClient": "network.pulling",
    "PushClient": "network.pushing",
    "Query": "metadata.query",
    "RemoteProvider": "network.remote",
    "SerializationResult": "metadata.changes",
    "SortOrder": "metadata.query",
    "SyncLock": "sessions.orchestrator",
    "SyncOrchestrator": "sessions.orchestrator",
    "SyncSession": "metadata.changes",
    "SyncSessionClient": "network.client",
    "SyncSessionStatus": "metadata.changes",
    "SyncableModel": "models.model",
    "TrackReader": "reader",
    "VectorClock": "metadata.clocks",
    "VectorClockItem": "metadata.clocks",
    "ZODBDataStore": "stores.zodbstore",
    "ZODBSyncProvider": "provider",
    "concurrent": "metadata.clocks",
    "descends": "metadata.clocks",
    "merge": "metadata.clocks",
    "open_provider": "opening",
}

__all__ = [
    "BaseDataStore",
    "BaseSyncLock",
    "BaseSyncProvider",
    "ChangesExecutor",
    "Comparator",
    "Comparison",
    "ConflictLog",
    "ConflictStatus",
    "ConflictType",
    "Connector",
    "DatabaseSyncLock",
    "EventsManager",
    "Filter",
    "HostExecutor",
    "ItemChange",
    "ItemChangeBatch",
    "ItemVersion",
    "MemoryDataStore",
    "MemorySyncProvider",
    "MissingDependency",
    "ModelRegistry",
    "NetworkSyncConnection",
    "Operation",
    "PeerSync",
    "PullClient",
    "PushClient",
    "Query",
    "RemoteProvider",
    "SerializationResult",
    "SortOrder",
    "SyncLock",
    "SyncOrchestrator",
    "SyncSession",
    "SyncSessionClient",
    "SyncSessionStatus",
    "SyncableModel",
    "TrackReader",
    "VectorClock",
    "VectorClockItem",
    "ZODBDataStore",
    "ZODBSyncProvider",
    "concurrent",
    "descends",
    "merge",
    "open_provider",
]

__getattr__, __dir__ = _at_first_use(__name__, _HOMES, globals())
