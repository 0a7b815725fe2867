"""What an operation may refuse so that the page which asked for it is shown again, saying why."""

from __future__ import annotations

from typing import Final

from ...errors import (
    Leased,
    LiveSyncError,
    OptionError,
    PositionPruned,
    SiteDiffers,
    StateForbids,
    UnknownAgentType,
    UsageError,
)
from ..errors import TooBusy
from ..problems import problem_of

#: Everything else is a page of its own: what is not there, not allowed, or broken.
REFUSALS: Final[tuple[type[LiveSyncError], ...]] = (
    Leased,
    OptionError,
    PositionPruned,
    SiteDiffers,
    StateForbids,
    TooBusy,
    UnknownAgentType,
    UsageError,
)


def status_of(refusal: LiveSyncError) -> int:
    """Return the status of the page that says it."""
    return problem_of(refusal).status


def text_of(refusal: LiveSyncError) -> str:
    """Return what it says, as a sentence."""
    message = problem_of(refusal).message
    return message[:1].upper() + message[1:]
