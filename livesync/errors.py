"""Every exception that livesync raises on purpose, one tree.

::

    LiveSyncError
    ├── NotInstalled                      no sync manager in this database
    ├── UpgradeNeeded                     the data and the code are of different schemas
    ├── SiteDiffers                       this is a copy: the manager belongs to another site
    ├── NoConnection                      an action that belongs to no database, or to several
    ├── NotFound (LookupError)
    │   ├── UnknownAgent
    │   ├── UnknownAgentType
    │   ├── UnknownTask
    │   ├── UnknownPeer
    │   ├── UnknownCertificate
    │   ├── UnknownScope
    │   └── UnknownObject
    │   ├── UnknownObject
    │   └── UnknownConflict
    ├── UsageError (ValueError)           a setting or an argument makes no sense
    ├── OptionError (ValueError)          an agent's option is missing, unknown or of a wrong form
    ├── AgentStopped                      a run ended before it began: the agent is stopped
    ├── StateForbids                      what was asked is not for an agent in this state
    ├── Leased                            another runner holds the agent
    ├── LeaseLost                         another runner has taken the agent over in the middle of our run
    ├── TrackError
    │   ├── EmptyTrackError (LookupError) nothing on the track
    │   ├── PositionPruned (LookupError)  what a pointer needs is gone: the agent needs an export
    │   └── PositionSealed (ValueError)   nothing new may appear at or before a sealed position
    ├── HostError
    │   ├── HostNotFound                  the host's factory cannot be imported
    │   ├── HostFailed                    a method of the host raised
    │   ├── ReadOnlyHost                  the host takes nothing back
    │   └── NoDocument                    one object has no document: its record is set aside
    ├── DeliveryError
    │   ├── RetryLater                    the service says: not now
    │   ├── BatchRefused                  the service refuses this batch: it is halved
    │   ├── TooManyRefused                so many records are refused that it is the service's fault
    │   └── ServiceRefuses                the service refuses us: the agent stops
    ├── HistoryError
    │   ├── CollectionAlreadyInitialised  init was called before
    │   ├── InvalidOperation              what was asked is not for a collection in this state
    │   ├── InvalidCollectionVersion      there is no such version
    │   ├── VersionPruned                 its record is there, and its contents were pruned
    │   ├── InvalidCollectionState        what is stored contradicts itself
    │   ├── BranchNotFound                there is no such branch
    │   ├── UnkeptValue (TypeError)       a value is of a type that a history cannot give back
    │   ├── BrokenValue (ValueError)      bytes that are no encoded value
    │   └── BrokenDelta (ValueError)      a delta that does not fit what it is applied to
    ├── SyncError                         a session of two-way sync cannot go on
    │   ├── ChangesRefused (ValueError)   what a peer sent makes no sense, or is not for this session
    │   ├── ClockAhead                    a peer's clock is too far ahead
    │   ├── ItemErased                    a write to what was deleted for good
    │   ├── SessionTimedOut               a session took longer than it may
    │   ├── SyncRunning                   another session is under way
    │   ├── TransferEnded                 a transfer has ended, or is not so far yet
    │   ├── BufferGap                     buffers come in order, and one is missing
    │   ├── OfferChanged                  what a sender had pinned is not so any more
    │   ├── StageWaits                    an application lets a stage of a transfer wait
    │   ├── PeerUnreachable               a peer does not answer, or nothing that can be believed
    │   ├── PeerSaysNo                    a peer refuses what this database asked it for
    │   ├── BodyTooLarge                  what a peer sent is larger than is taken
    │   └── BodyUnreadable                what a peer sent cannot be unpacked
    ├── PeerRefused                       what a peer shows or asks for is refused, with code and status
    │   ├── CertificateRefused            a chain of certificates does not hold
    │   │   ├── CertificateExpired        ... not yet, or no longer
    │   │   ├── CertificateRevoked        ... any more
    │   │   └── ProfileDiffers            ... for this profile
    │   ├── SignatureRefused              a message is not signed by whom it says
    │   ├── DigestDiffers                 a body is not what its digest says
    │   ├── NonceRefused                  a nonce is unknown, used, expired or another's
    │   ├── ScopeExceeded                 more than a certificate allows
    │   ├── LoginRefused                  no user name and password, or wrong ones
    │   └── NotAllowed                    this peer may not ask for that
    ├── KeyUnusable                       a private key is missing, encrypted or broken
    └── DatabaseError
        └── DatabaseLocked                another process has the file open

A mistake of the caller is a ``ValueError``, ``TypeError`` or ``KeyError``; what a retry of the
transaction mends is ZODB's own ``TransientError``.
"""

from __future__ import annotations

from typing import Any, ClassVar


class LiveSyncError(Exception):
    """Raised when livesync cannot do what was asked; its text says what to do about it."""


class NotInstalled(LiveSyncError):
    """Raised when the database has no sync manager."""


class UpgradeNeeded(LiveSyncError):
    """Raised when the stored schema is older (run ``livesync upgrade``) or newer than this code."""

    def __init__(self, message: str, *, stored: int, expected: int) -> None:
        super().__init__(message)
        self.stored = stored
        self.expected = expected


def check_schema(what: str, stored: int, expected: int, older: str = "") -> None:
    """Make sure that data are not of a newer schema than the code, nor of an older one that it cannot read.

    Args:
        what: What has a schema, for the message.
        stored: The data's.
        expected: The code's.
        older: What is to be done with data of an older schema; "": they can be read.

    Raises:
        UpgradeNeeded: They are.
    """
    if stored > expected:
        remedy = "use the livesync that wrote it, or a newer one"
    elif stored < expected and older:
        remedy = older
    else:
        return
    raise UpgradeNeeded(
        f"{what} is {stored}, this livesync's is {expected}; {remedy}", stored=stored, expected=expected
    )


class SiteDiffers(LiveSyncError):
    """Raised when the manager names another site than this process: the database is a copy."""

    def __init__(self, message: str, *, stored: str, actual: str) -> None:
        super().__init__(message)
        self.stored = stored
        self.actual = actual


class NoConnection(LiveSyncError):
    """Raised when an explicitly recorded action belongs to no attached database, or to several."""


class NotFound(LiveSyncError, LookupError):
    """Raised when something that was named does not exist."""


class UnknownAgent(NotFound):
    """Raised when no agent of this id is registered."""

    def __init__(self, agent_id: str) -> None:
        super().__init__(f"there is no agent {agent_id!r}; `livesync agent list` shows those there are")
        self.agent_id = agent_id


class UnknownAgentType(NotFound):
    """Raised when no agent type of this name can be loaded."""


class UnknownTask(NotFound):
    """Raised when no periodic task of this id is stored."""

    def __init__(self, task_id: str) -> None:
        super().__init__(f"there is no task {task_id!r}; `livesync task list` shows those there are")
        self.task_id = task_id


class UnknownPeer(NotFound):
    """Raised when no peer of this name, or no session with one of this id, is known."""


class UnknownCertificate(NotFound):
    """Raised when no certificate of this id, or several whose ids begin so, are kept here."""


class UnknownScope(NotFound):
    """Raised when no scope definition of this id is kept here."""


class UnknownObject(NotFound):
    """Raised when the host has no object of this id now."""

    def __init__(self, object_id: str) -> None:
        super().__init__(f"there is no object {object_id!r} now")
        self.object_id = object_id


class OptionError(LiveSyncError, ValueError):
    """Raised when an agent's option is missing, unknown, or has a value of the wrong form."""


class UnknownConflict(NotFound):
    """Raised when no conflict of this id is kept."""


class UsageError(LiveSyncError, ValueError):
    """Raised when a setting, an argument or a combination of them makes no sense."""


class StateForbids(LiveSyncError):
    """Raised when an agent's state does not allow what was asked; the text says the way on."""

    def __init__(self, message: str, *, agent_id: str, state: str) -> None:
        super().__init__(message)
        self.agent_id = agent_id
        self.state = state


class AgentStopped(LiveSyncError):
    """Raised when a run cannot begin and stops its agent: the destination differs, or needs an export."""

    def __init__(self, message: str, *, reason: str, detail: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.detail = detail


class Leased(LiveSyncError):
    """Raised when another runner holds the agent; ``holder`` says which, for people."""

    def __init__(self, message: str, *, agent_id: str, holder: str) -> None:
        super().__init__(message)
        self.agent_id = agent_id
        self.holder = holder


class LeaseLost(LiveSyncError):
    """Raised in a run whose agent another runner has taken over: nothing of it is noted any more."""


class TrackError(LiveSyncError):
    """Raised when the track cannot answer."""


class EmptyTrackError(TrackError, LookupError):
    """Raised when the oldest or newest position of an empty track is asked for."""


class PositionPruned(TrackError, LookupError):
    """Raised when something that lies after a pointer has been pruned; the agent needs an export."""

    def __init__(self, message: str, *, position: int | None, pruned: int) -> None:
        super().__init__(message)
        self.position = position
        self.pruned = pruned


class PositionSealed(TrackError, ValueError):
    """Raised when something is added at or before the last sealed position."""

    def __init__(self, message: str, *, position: int, sealed: int) -> None:
        super().__init__(message)
        self.position = position
        self.sealed = sealed


class HostError(LiveSyncError):
    """Raised when the host application is the reason."""


class HostNotFound(HostError):
    """Raised when the host's factory cannot be imported or is not a host."""


class HostFailed(HostError):
    """Raised when a method of the host raised; the cause is chained."""


class ReadOnlyHost(HostError):
    """Raised by a host that does not take documents back (``Host.restore``)."""


class NoDocument(HostError):
    """Raised by ``Host.document`` when an object cannot be rendered: its record is set aside."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class DeliveryError(LiveSyncError):
    """Raised between an agent and its service."""


class RetryLater(DeliveryError):
    """Raised by ``_upload_batch`` when nothing of the batch was accepted and a later try may help.

    ``after_s`` is the least number of seconds to wait, as the service said it (None: it did not).
    """

    def __init__(self, after_s: float | None = None, reason: str = "") -> None:
        super().__init__(reason or "the service is not ready")
        self.after_s = after_s


class BatchRefused(DeliveryError):
    """Raised by ``_upload_batch`` when the service refuses the batch as it is: it is sent in halves."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TooManyRefused(DeliveryError):
    """Raised when more records than the agent's ``dead_threshold`` are refused: the agent stops.

    It is stopped with the reason ``failing``, and the slice will be sent again as a whole: what
    was refused of it does not become dead letters.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ServiceRefuses(DeliveryError):
    """Raised when the service refuses us, whatever we send: the agent stops, no dead letters."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SyncError(LiveSyncError):
    """Raised when a session of two-way sync cannot go on; what was applied stays, and nothing is lost."""


class ChangesRefused(SyncError, ValueError):
    """Raised when what a peer sent makes no sense, or is not for this session; nothing of it is applied."""


class ClockAhead(SyncError):
    """Raised when a peer's clock is further ahead than is allowed: the session waits until it is not."""


class ItemErased(SyncError):
    """Raised when something is written to an item that was deleted for good: its id is closed."""


class SessionTimedOut(SyncError):
    """Raised when a session took longer than it may; the next one goes on where it was."""


class SyncRunning(SyncError):
    """Raised when another session is under way with the same lock."""


class TransferEnded(SyncError):
    """Raised when a transfer or its session has ended, or is not in a stage that allows what was asked."""


class BufferGap(SyncError):
    """Raised when a buffer comes before the one that is due.

    Attributes:
        confirmed: How many have come: the number of the one that is due.
    """

    def __init__(self, message: str, confirmed: int) -> None:
        super().__init__(message)
        self.confirmed = confirmed


class OfferChanged(SyncError):
    """Raised when what a sender had pinned is not so any more: a new transfer is needed."""


class StageWaits(SyncError):
    """Raised when an application, here or there, lets a stage of a transfer wait; the next sync goes on."""


class PeerUnreachable(SyncError):
    """Raised when a peer gives no answer, or none that can be believed, however often it is asked."""


class PeerSaysNo(SyncError):
    """Raised when a peer refuses what it was asked for.

    Attributes:
        code: One of :data:`livesync.peering.wire.CODES`.
        status: Of HTTP.
        next_sequence: With the code ``sequence``: the number to go on with, else None.
        retry_after_s: After how many seconds it may be asked again, as it says; None: it does not.
        is_signed: Whether it is known that the peer itself said so.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int,
        next_sequence: int | None = None,
        retry_after_s: float | None = None,
        is_signed: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.next_sequence = next_sequence
        self.retry_after_s = retry_after_s
        self.is_signed = is_signed


class BodyTooLarge(SyncError):
    """Raised when what a peer sent is larger than is taken, as it travels or unpacked."""


class BodyUnreadable(SyncError):
    """Raised when what a peer sent cannot be unpacked: it is broken, breaks off, or goes on after its end."""


class PeerRefused(LiveSyncError):
    """Raised when what a peer shows or sends is not believed, or is more than it may; nothing is changed.

    Its text says what was wrong, and holds nothing secret.

    Attributes:
        code: For programs, as it goes over HTTP.
        status: Of HTTP.
    """

    code: ClassVar[str] = "forbidden"
    status: ClassVar[int] = 403


class CertificateRefused(PeerRefused):
    """Raised when a chain of certificates does not hold."""

    code = "certificate"


class CertificateExpired(CertificateRefused):
    """Raised when a certificate of a chain is not valid yet, or no longer."""

    code = "expired"


class CertificateRevoked(CertificateRefused):
    """Raised when a certificate of a chain was revoked."""

    code = "revoked"


class ProfileDiffers(CertificateRefused):
    """Raised when a certificate is of another profile."""

    code = "profile"


class SignatureRefused(PeerRefused):
    """Raised when a message is not signed, or not by whom it says, or not as it must be."""

    code, status = "signature", 401


class DigestDiffers(PeerRefused):
    """Raised when a body is not what its digest says."""

    code, status = "digest", 400


class NonceRefused(PeerRefused):
    """Raised when a nonce is unknown, used, expired or another client's."""

    code = "nonce"


class ScopeExceeded(PeerRefused):
    """Raised when a peer asks for more than its certificate's scope allows, or gives more."""

    code = "scope"


class LoginRefused(PeerRefused):
    """Raised when a signing request comes without a user name and password, or with wrong ones."""

    code, status = "not_logged_in", 401


class NotAllowed(PeerRefused):
    """Raised when a peer, or whom it asks for, may not have what it asks for."""


class KeyUnusable(LiveSyncError):
    """Raised when a private key is missing, needs another passphrase, or is broken."""


class DatabaseError(LiveSyncError):
    """Raised when the database cannot be opened."""


class DatabaseLocked(DatabaseError):
    """Raised when another process has the FileStorage open."""


class HistoryError(LiveSyncError):
    """Raised when a history of versions cannot do what was asked."""


class CollectionAlreadyInitialised(HistoryError):
    """Raised when a collection that has versions is initialised again."""


class InvalidOperation(HistoryError):
    """Raised when what was asked is not for a collection in this state; nothing was changed."""


class InvalidCollectionVersion(HistoryError, LookupError):
    """Raised when there is no such version.

    Args:
        version: Its number; None: what was asked for is all in ``branch``.
        branch: The branch.
    """

    def __init__(self, version: int | None, branch: str) -> None:
        what = f"version {branch!r}" if version is None else f"version {version} of branch {branch!r}"
        super().__init__(f"{what} does not exist")
        self.version = version
        self.branch = branch


class VersionPruned(HistoryError, LookupError):
    """Raised when what documents were at a version is asked for, and its contents were pruned on purpose.

    Args:
        version: Its number.
        branch: Its branch; "": it has no name any more.
    """

    def __init__(self, version: int, branch: str) -> None:
        what = f"version {version} of branch {branch!r}" if branch else "a version without a name"
        super().__init__(f"the contents of {what} were pruned: its record is all that is left")
        self.version = version
        self.branch = branch


class InvalidCollectionState(HistoryError):
    """Raised when what is stored of a history contradicts itself, or is damaged."""


class DocumentErased(HistoryError, LookupError):
    """Raised when a document's content at a version is gone: it was erased on purpose."""

    def __init__(self, document_id: str) -> None:
        super().__init__(f"what document {document_id!r} said then was erased from the history")
        self.document_id = document_id


class BranchNotFound(HistoryError, LookupError):
    """Raised when there is no branch of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no branch {name!r}")
        self.name = name


class UnkeptValue(HistoryError, TypeError):
    """Raised when a value is of a type that a history cannot give back.

    Attributes:
        path: Where in the document it lies: keys and indexes.
    """

    def __init__(self, message: str, path: tuple[Any, ...] = ()) -> None:
        super().__init__(message)
        self.path = path


class BrokenValue(HistoryError, ValueError):
    """Raised when bytes are no value that a history has written."""


class BrokenDelta(HistoryError, ValueError):
    """Raised when a delta does not fit the value that it is applied to."""
