"""The lives that a store knows: its own, which it begins, and those that others tell it of (``lives.py``).

A node that claims a provider's writes up to a stamp knows of the lives in which they were made: they come
with the offers that claims are taken from. So a sender tells of those that began later, and, where it has
something to send, of the last few as well: what they come from may be another life than the receiver knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Final

from ..metadata.claims import newest_of
from ..metadata.clocks import Stamps
from ..metadata.ids import NewId
from ..metadata.lives import LIFE_END, Birth, Told, born, random_life
from ..stored import pack_birth, unpack_birth

if TYPE_CHECKING:
    from .owning import OwnedStore

#: Of each provider, so many of its last lives are told, whatever the receiver claims.
TOLD_AGAIN: Final = 16

#: So many lives are told at most, the last ones, so that an offer is never too long for a request.
MOST_TOLD: Final = 30_000


def birth_of(store: OwnedStore, life: int) -> Birth | None:
    """Return where a life begins; None where nobody has told."""
    packed = store.tables.lives.get(life)
    return None if packed is None else unpack_birth(packed)


def begin(store: OwnedStore, new_id: NewId) -> int:
    """Begin a new life of this store's, and return it, within its transaction."""
    life = random_life(new_id)
    _add(store, life, store.provider_id, store.life, store.newest_issued)
    store._set(store.facts, "life", life)
    return life


def learn(store: OwnedStore, told: Iterable[Told]) -> None:
    """Note where lives begin, within the store's transaction; what is known stays as it is."""
    for life, provider, parent, until in sorted(told, key=lambda row: row[2:] + row[:2]):
        if life not in store.tables.lives:
            _add(store, life, provider, parent, until)


def _add(store: OwnedStore, life: int, provider: str, parent: int, until: int) -> None:
    birth = born(store.birth_of, life, provider, parent, until)
    store._set(store.tables.lives, life, pack_birth(birth))
    store._insert(store.tables.lives_of, (provider, until, life))


def told_to(store: OwnedStore, receiver: Mapping[str, Stamps], has_news: bool) -> tuple[Told, ...]:
    """Return the lives that a receiver with these claims may not know of.

    Args:
        store: The sender's.
        receiver: What it claims.
        has_news: It is going to be sent something.
    """
    told = dict[int, Told]()
    for provider in _providers(store):
        known = newest_of(receiver, provider)
        rows = list(store.tables.lives_of.keys((provider, known), (provider, LIFE_END)))
        if has_news and known:
            rows += _last(store, provider)
        for _, until, life in rows:
            birth = birth_of(store, life)
            assert birth is not None, "both trees are of the same lives"
            told[life] = (life, provider, birth.parent, until)
    return tuple(sorted(told.values(), key=lambda row: row[3])[-MOST_TOLD:])


def _providers(store: OwnedStore) -> Iterator[str]:
    tree, row = store.tables.lives_of, ("",)
    while rows := list(islice(tree.keys(row), 1)):
        provider = rows[0][0]
        yield provider
        row = (provider + "\0",)


def _last(store: OwnedStore, provider: str) -> list[tuple[str, int, int]]:
    """Return a provider's last lives, as they are kept in the tree."""
    tree, row = store.tables.lives_of, (provider, LIFE_END, 0)
    rows: list[tuple[str, int, int]] = []
    while len(rows) < TOLD_AGAIN and tree.minKey() < row:
        row = tree.maxKey(row)
        if row[0] != provider:
            break
        rows.append(row)
        row = (*row[:2], row[2] - 1)
    return rows
