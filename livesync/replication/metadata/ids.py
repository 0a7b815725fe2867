"""New ids, where nothing else says what something is called: of providers, databases, sessions, logs."""

from __future__ import annotations

import uuid
from collections.abc import Callable

#: Returns a new id, 32 hexadecimal digits that nobody else has; passed in, so that histories can be repeated.
NewId = Callable[[], str]


def random_id() -> str:
    """Return a random id."""
    return uuid.uuid4().hex
