"""Values of the engine as they go out: what has one name in both is the same."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

S = TypeVar("S", bound=msgspec.Struct)


def shown(kind: type[S], found: Any, **others: Any) -> S:
    """Return a value that goes out: each field is given, or else the attribute of this name.

    Args:
        kind: Of :mod:`livesync.web.schemas`.
        found: Has the attributes.
        others: What is said in another way there.
    """
    names = (field.name for field in msgspec.structs.fields(kind))
    return kind(**{name: others[name] if name in others else getattr(found, name) for name in names})
