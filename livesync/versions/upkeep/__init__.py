"""Looking after a history: squash, retention, collection of garbage, erasure, and the check of it all."""

from typing import Final

#: How long a version that nothing leads to is kept, so that it may be found again by its id: two weeks.
GRACE_S: Final = 14 * 86_400.0

#: Versions that nothing leads to which are removed in one transaction.
AT_ONCE: Final = 500
