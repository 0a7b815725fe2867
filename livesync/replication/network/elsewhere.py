"""The store of a provider whose items lie at another node: nothing of it can be had here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from ...attempts import ATTEMPTS
from ...errors import UsageError
from ..stored import StoredReplica
from ..stores.base import BaseDataStore
from ..stores.contract import Savepoint
from ..stores.unwritten import Unwritten

T = TypeVar("T")


class ElsewhereDataStore(BaseDataStore):
    """Refuses everything: who holds it asks the node itself.

    Args:
        place: Where the node is, for whoever reads the refusal.
    """

    def __init__(self, place: str) -> None:
        self.place = place

    def _refuse(self) -> NoReturn:
        raise UsageError(
            f"the items of {self.place} lie there, and not here: they are exchanged in sessions, by"
            " partitions; queries and single items are for databases that are opened here"
        )

    def run(self, work: Callable[[], T], user: str = "", note: str = "", tries: int = ATTEMPTS) -> T:
        """Refuse.

        Raises:
            UsageError: Always.
        """
        self._refuse()

    def read(self, work: Callable[[], T]) -> T:
        """Refuse, as :meth:`run` does."""
        self._refuse()

    def savepoint(self) -> Savepoint:
        """Refuse, as :meth:`run` does."""
        self._refuse()

    @property
    def tables(self) -> StoredReplica:
        """Nothing: it refuses, as :meth:`run` does."""
        self._refuse()

    @property
    def unwritten(self) -> Unwritten:
        """Nothing: it refuses, as :meth:`run` does."""
        self._refuse()

    def _found_life(self) -> int:
        self._refuse()

    def _set(self, tree: Any, key: Any, value: Any) -> None:
        self._refuse()

    def _remove(self, tree: Any, key: Any) -> None:
        self._refuse()

    def _insert(self, members: Any, key: Any) -> None:
        self._refuse()

    def _discard(self, members: Any, key: Any) -> None:
        self._refuse()
