"""Two-way sync: databases that all change come to hold the same, and nothing is overwritten in silence.

The public names, each loaded at first use.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import BaseDataStore as BaseDataStore
    from .changes import ConflictLog as ConflictLog
    from .changes import ConflictStatus as ConflictStatus
    from .changes import ConflictType as ConflictType
    from .changes import ItemChange as ItemChange
    from .changes import ItemChangeBatch as ItemChangeBatch
    from .changes import ItemVersion as ItemVersion
    from .changes import Operation as Operation
    from .changes import SerializationResult as SerializationResult
    from .changes import SyncSession as SyncSession
    from .changes import SyncSessionStatus as SyncSessionStatus
    from .client import PullClient as PullClient
    from .client import PushClient as PushClient
    from .client import SyncSessionClient as SyncSessionClient
    from .clocks import VectorClock as VectorClock
    from .clocks import VectorClockItem as VectorClockItem
    from .clocks import concurrent as concurrent
    from .clocks import descends as descends
    from .clocks import merge as merge
    from .connection import NetworkSyncConnection as NetworkSyncConnection
    from .events import EventsManager as EventsManager
    from .executor import ChangesExecutor as ChangesExecutor
    from .executor import MissingDependency as MissingDependency
    from .hostexecutor import HostExecutor as HostExecutor
    from .locking import DatabaseSyncLock as DatabaseSyncLock
    from .memory import MemoryDataStore as MemoryDataStore
    from .model import ModelRegistry as ModelRegistry
    from .model import SyncableModel as SyncableModel
    from .opening import open_provider as open_provider
    from .orchestrator import BaseSyncLock as BaseSyncLock
    from .orchestrator import SyncLock as SyncLock
    from .orchestrator import SyncOrchestrator as SyncOrchestrator
    from .provider import BaseSyncProvider as BaseSyncProvider
    from .provider import MemorySyncProvider as MemorySyncProvider
    from .provider import ZODBSyncProvider as ZODBSyncProvider
    from .query import Comparator as Comparator
    from .query import Comparison as Comparison
    from .query import Connector as Connector
    from .query import Filter as Filter
    from .query import Query as Query
    from .query import SortOrder as SortOrder
    from .reader import TrackReader as TrackReader
    from .remote import RemoteProvider as RemoteProvider
    from .syncing import PeerSync as PeerSync
    from .zodbstore import ZODBDataStore as ZODBDataStore

_HOMES = {
    "BaseDataStore": "base",
    "BaseSyncLock": "orchestrator",
    "BaseSyncProvider": "provider",
    "ChangesExecutor": "executor",
    "Comparator": "query",
    "Comparison": "query",
    "ConflictLog": "changes",
    "ConflictStatus": "changes",
    "ConflictType": "changes",
    "Connector": "query",
    "DatabaseSyncLock": "locking",
    "EventsManager": "events",
    "Filter": "query",
    "HostExecutor": "hostexecutor",
    "ItemChange": "changes",
    "ItemChangeBatch": "changes",
    "ItemVersion": "changes",
    "MemoryDataStore": "memory",
    "MemorySyncProvider": "provider",
    "MissingDependency": "executor",
    "ModelRegistry": "model",
    "NetworkSyncConnection": "connection",
    "Operation": "changes",
    "PeerSync": "syncing",
    "PullClient": "client",
    "PushClient": "client",
    "Query": "query",
    "RemoteProvider": "remote",
    "SerializationResult": "changes",
    "SortOrder": "query",
    "SyncLock": "orchestrator",
    "SyncOrchestrator": "orchestrator",
    "SyncSession": "changes",
    "SyncSessionClient": "client",
    "SyncSessionStatus": "changes",
    "SyncableModel": "model",
    "TrackReader": "reader",
    "VectorClock": "clocks",
    "VectorClockItem": "clocks",
    "ZODBDataStore": "zodbstore",
    "ZODBSyncProvider": "provider",
    "concurrent": "clocks",
    "descends": "clocks",
    "merge": "clocks",
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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
