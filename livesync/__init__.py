"""livesync keeps other systems in step with an application that stores its objects in ZODB.

The public names, each loaded at first use.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .action import ActionWrapper as ActionWrapper
    from .agent import SyncAgent as SyncAgent
    from .capture import Capture as Capture
    from .capture import record_action as record_action
    from .delivery.push import PushSyncAgent as PushSyncAgent
    from .delivery.record import Op as Op
    from .delivery.record import Outcome as Outcome
    from .delivery.record import Record as Record
    from .delivery.record import Verdict as Verdict
    from .delivery.uploader import RecordUploader as RecordUploader
    from .errors import AgentStopped as AgentStopped
    from .errors import BatchRefused as BatchRefused
    from .errors import EmptyTrackError as EmptyTrackError
    from .errors import LiveSyncError as LiveSyncError
    from .errors import NoConnection as NoConnection
    from .errors import NoDocument as NoDocument
    from .errors import NotInstalled as NotInstalled
    from .errors import PositionPruned as PositionPruned
    from .errors import PositionSealed as PositionSealed
    from .errors import ReadOnlyHost as ReadOnlyHost
    from .errors import RetryLater as RetryLater
    from .errors import ServiceRefuses as ServiceRefuses
    from .errors import StateForbids as StateForbids
    from .host import File as File
    from .host import Host as Host
    from .manager import SyncManager as SyncManager
    from .scripts import recorded as recorded
    from .scripts import recording as recording
    from .track.multipointer import ListMultiPointerTrack as ListMultiPointerTrack
    from .track.multipointer import MultiPointerTrack as MultiPointerTrack
    from .track.multipointer import SetMultiPointerTrack as SetMultiPointerTrack

__version__ = "0.2.0.dev0"

_HOMES = {
    "ActionWrapper": "action",
    "AgentStopped": "errors",
    "BatchRefused": "errors",
    "Capture": "capture",
    "EmptyTrackError": "errors",
    "File": "host",
    "Host": "host",
    "ListMultiPointerTrack": "track.multipointer",
    "LiveSyncError": "errors",
    "MultiPointerTrack": "track.multipointer",
    "NoConnection": "errors",
    "NoDocument": "errors",
    "NotInstalled": "errors",
    "Op": "delivery.record",
    "Outcome": "delivery.record",
    "PositionPruned": "errors",
    "PositionSealed": "errors",
    "PushSyncAgent": "delivery.push",
    "ReadOnlyHost": "errors",
    "Record": "delivery.record",
    "RecordUploader": "delivery.uploader",
    "RetryLater": "errors",
    "ServiceRefuses": "errors",
    "SetMultiPointerTrack": "track.multipointer",
    "StateForbids": "errors",
    "SyncAgent": "agent",
    "SyncManager": "manager",
    "Verdict": "delivery.record",
    "record_action": "capture",
    "recorded": "scripts",
    "recording": "scripts",
}

__all__ = [
    "ActionWrapper",
    "AgentStopped",
    "BatchRefused",
    "Capture",
    "EmptyTrackError",
    "File",
    "Host",
    "ListMultiPointerTrack",
    "LiveSyncError",
    "MultiPointerTrack",
    "NoConnection",
    "NoDocument",
    "NotInstalled",
    "Op",
    "Outcome",
    "PositionPruned",
    "PositionSealed",
    "PushSyncAgent",
    "ReadOnlyHost",
    "Record",
    "RecordUploader",
    "RetryLater",
    "ServiceRefuses",
    "SetMultiPointerTrack",
    "StateForbids",
    "SyncAgent",
    "SyncManager",
    "Verdict",
    "record_action",
    "recorded",
    "recording",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(_import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
