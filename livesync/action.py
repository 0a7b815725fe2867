"""One thing done to one object, and what a transaction did to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from .host import Host

CREATED: Final = "created"
DATA_CHANGED: Final = "data_changed"
TITLE_CHANGED: Final = "title_changed"
MOVED: Final = "moved"
DELETED: Final = "deleted"
SET_PRIVATE: Final = "set_private"
SET_PUBLIC: Final = "set_public"
ACL_CHANGED: Final = "acl_changed"
UNDONE: Final = "undone"

#: The words that livesync itself gives a meaning; a host may record words of its own.
ACTION_WORDS: Final = frozenset(
    {CREATED, DATA_CHANGED, TITLE_CHANGED, MOVED, DELETED, SET_PRIVATE, SET_PUBLIC, ACL_CHANGED, UNDONE}
)

#: Actions on a container that reach everything inside it.
CASCADING: Final = frozenset({MOVED, SET_PRIVATE, SET_PUBLIC, ACL_CHANGED})

MAX_ID_LENGTH: Final = 512


class ActionWrapper:
    """The actions of one transaction on one object: an immutable value.

    It holds the object's id, never the object. Hashable; ordered by time, then id, then actions.

    Args:
        timestamp: Epoch seconds. On the track: the time of the commit.
        object_id: The host's id of the object, 1 to 512 characters.
        actions: Action words; at least one.
        user: Who, as the transaction said.
        note: The transaction's note.

    Raises:
        ValueError: The id is empty or too long, or there is no action.
        TypeError: An argument is of the wrong type.
    """

    __slots__ = ("actions", "note", "object_id", "timestamp", "user")

    timestamp: float
    object_id: str
    actions: frozenset[str]
    user: str
    note: str

    def __init__(
        self, timestamp: float, object_id: str, actions: Iterable[str], user: str = "", note: str = ""
    ) -> None:
        _set_timestamp(self, float(timestamp))
        _set_object_id(self, check_object_id(object_id))
        _set_actions(self, check_actions(actions))
        _set_user(self, user)
        _set_note(self, note)

    def get_object(self, host: Host) -> Any | None:
        """Return the object as it is now, or None when it is gone. ``host`` is one from ``Host.at``."""
        return host.get(self.object_id)

    def _key(self) -> tuple[float, str, list[str]]:
        return (self.timestamp, self.object_id, sorted(self.actions))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ActionWrapper):
            return NotImplemented
        return (
            self.timestamp == other.timestamp
            and self.object_id == other.object_id
            and self.actions == other.actions
            and self.user == other.user
            and self.note == other.note
        )

    def __hash__(self) -> int:
        return hash((self.timestamp, self.object_id, self.actions))

    def __lt__(self, other: ActionWrapper) -> bool:
        if not isinstance(other, ActionWrapper):
            return NotImplemented
        # user and note come last so that the order is total and agrees with equality
        return (*self._key(), self.user, self.note) < (*other._key(), other.user, other.note)

    def __le__(self, other: ActionWrapper) -> bool:
        return self == other or self < other

    def __gt__(self, other: ActionWrapper) -> bool:
        if not isinstance(other, ActionWrapper):
            return NotImplemented
        return other < self

    def __ge__(self, other: ActionWrapper) -> bool:
        return self == other or self > other

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"an ActionWrapper cannot be changed ({name})")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"an ActionWrapper cannot be changed ({name})")

    def __reduce__(self) -> tuple[Any, ...]:
        return (
            ActionWrapper,
            (self.timestamp, self.object_id, tuple(sorted(self.actions)), self.user, self.note),
        )

    def describe(self, label: str | None = None) -> str:
        """Return the line of ``livesync list``, with ``label`` where the id would stand."""
        words = ",".join(sorted(self.actions))
        return f"<ActionWrapper@{id(self):#x} ({label or self.object_id}) [{words}] {int(self.timestamp)}>"

    def __repr__(self) -> str:
        return self.describe()

    __str__ = __repr__


# The slots' own setters: the class refuses assignment, and these are also the fastest way in.
_set_timestamp = ActionWrapper.__dict__["timestamp"].__set__
_set_object_id = ActionWrapper.__dict__["object_id"].__set__
_set_actions = ActionWrapper.__dict__["actions"].__set__
_set_user = ActionWrapper.__dict__["user"].__set__
_set_note = ActionWrapper.__dict__["note"].__set__
_new = object.__new__


def trusted_action(
    timestamp: float, object_id: str, actions: frozenset[str], user: str = "", note: str = ""
) -> ActionWrapper:
    """Return an ActionWrapper of values that were checked when they were recorded (no checks here)."""
    action = _new(ActionWrapper)
    _set_timestamp(action, timestamp)
    _set_object_id(action, object_id)
    _set_actions(action, actions)
    _set_user(action, user)
    _set_note(action, note)
    return action


def check_object_id(object_id: str) -> str:
    """Return ``object_id``.

    Raises:
        TypeError: It is not a str.
        ValueError: It is empty or longer than 512 characters.
    """
    if not isinstance(object_id, str):
        raise TypeError(f"an object id is a str, not {type(object_id).__name__}")
    if not 1 <= len(object_id) <= MAX_ID_LENGTH:
        raise ValueError(f"an object id has 1 to {MAX_ID_LENGTH} characters, this one has {len(object_id)}")
    return object_id


def check_actions(actions: Iterable[str]) -> frozenset[str]:
    """Return ``actions`` as a frozenset.

    Raises:
        TypeError: One of them is not a str, or a bare str was given for all of them.
        ValueError: There is none, or one is no word (letters, digits, ``_ - . :``).
    """
    if isinstance(actions, str):
        raise TypeError("actions is a collection of words, not one str")
    words = frozenset(actions)
    if words <= ACTION_WORDS:
        if not words:
            raise ValueError("at least one action is needed")
        return words
    for word in words:
        if not isinstance(word, str):
            raise TypeError(f"an action is a word (str), not {type(word).__name__}")
        if not word or not all(char.isalnum() or char in "_-.:" for char in word):
            raise ValueError(f"{word!r} is no action word: letters, digits and _ - . : only")
    return words
