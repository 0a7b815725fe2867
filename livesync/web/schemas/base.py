"""What all values that go in and out have in common."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

AgentId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")]
ObjectId = Annotated[str, Meta(min_length=1, max_length=512)]
Word = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_.-]{0,63}$")]
Line = Annotated[str, Meta(max_length=1000, pattern=r"^[^\x00-\x1f]*$")]
Position = Annotated[int, Meta(ge=0, le=2**62)]
Interval = Annotated[float, Meta(ge=1, le=366 * 86400.0)]
Cron = Annotated[str, Meta(max_length=200)]
Zone = Annotated[str, Meta(max_length=64, pattern=r"^[A-Za-z0-9_+/-]*$")]
Seconds = Annotated[float, Meta(ge=0, le=366 * 86400.0)]

#: What an option's value may be in a request; each type parses it as the command line does.
OptionValue = str | int | float | bool | None


class Value(Struct, frozen=True, kw_only=True):
    """Base of what goes out."""


class Input(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what comes in: a key that is not known is a mistake."""
