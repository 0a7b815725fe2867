"""Where randomness comes from: passed in, so that a test can say what it is."""

from __future__ import annotations

from collections.abc import Callable

#: Returns so many random bytes; ``os.urandom`` unless a test passes in another.
Random = Callable[[int], bytes]
