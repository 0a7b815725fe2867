"""Lives: what one provider wrote from an opening of its database to the next. Pure.

A database that is restored from an old copy goes on where the copy was made, under the same provider id, and
what was written after that is in it no more: the clock of its provider says of a new write that it has seen
all earlier ones, and it has not. Nobody can notice that from inside. So a database draws a random number, its
*life*, before it stamps anything in a process that has opened it, and says from which life it comes, and how
far that had come. Two lives that come from one copy are then told apart wherever their writes meet, and of
two in a row the later has seen all of the earlier one.

Lives form a tree for each database. Each keeps an ancestor further up beside its parent (the jump pointers of
Myers, An Applicative Random-Access Stack, 1983), so that it is climbed in steps that grow with the logarithm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from .ids import NewId

#: A write: the life in which it was made, and its stamp. Life 0: any, as far as a vector speaks of it.
Deed = tuple[int, int]

#: (life, provider, parent, until): where a life begins, as it is told.
Told = tuple[int, str, int, int]

#: Lives are below this.
LIFE_END: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class Birth:
    """Where a life begins.

    Attributes:
        provider: Who began it.
        parent: The life that it comes from; 0: none.
        until: The newest stamp that the parent had issued by then: so much of it, this one has seen.
        depth: How many lives there are before it.
        skip: An ancestor further up, or itself.
    """

    provider: str
    parent: int
    until: int
    depth: int = 0
    skip: int = 0


#: Returns where a life begins; None: nobody has told.
FindBirth = Callable[[int], Birth | None]


def nothing_known(_: int) -> None:
    """Know of no life."""


def random_life(new_id: NewId) -> int:
    """Return a new life: 62 bits of an id that is random."""
    return int.from_bytes(blake2b(new_id().encode(), digest_size=8).digest(), "big") % (LIFE_END - 1) + 1


def born(find: FindBirth, life: int, provider: str, parent: int, until: int) -> Birth:
    """Return the birth of a life, with its place in the tree."""
    above = find(parent)
    if above is None:
        return Birth(provider, parent, until, 0, life)
    skipped = find(above.skip) or above
    further = find(skipped.skip) or skipped
    is_even = above.depth - skipped.depth == skipped.depth - further.depth
    return Birth(provider, parent, until, above.depth + 1, skipped.skip if is_even else parent)


def has_lived_through(find: FindBirth, newer: Deed, older: Deed) -> bool:
    """Tell whether whoever did ``newer`` comes from the one who did ``older``: it is the same, later.

    False where that is not known.
    """
    life, stamp = newer
    wanted, earlier = older
    if earlier > stamp:
        return False
    if not life:
        return True
    while life != wanted:
        birth = find(life)
        if birth is None or not earlier <= birth.until < stamp:
            return False  # that life had not issued it yet, or what is told of it makes no sense
        stamp = birth.until
        skipped = find(birth.skip)
        is_on_way = skipped is not None and earlier <= skipped.until < stamp
        life = birth.skip if is_on_way else birth.parent
    return True


def newest_deeds(
    find: FindBirth, own: tuple[Deed, ...], seen: tuple[Deed, ...], more: tuple[Deed, ...]
) -> tuple[Deed, ...]:
    """Return the newest writes that are seen by one who has seen ``seen``, and now ``more``.

    Args:
        find: The lives.
        own: What they are kept beside: what comes before it need not be named.
        seen: Of these, none comes after another one, or before ``own``.
        more: Any.
    """
    newest = dict((*seen, *own))
    if all(newest.get(life, 0) >= stamp for life, stamp in more):
        return seen
    new: list[Deed] = []
    for deed in more:
        if not any(has_lived_through(find, known, deed) for known in (*own, *seen, *new)):
            new = [known for known in new if not has_lived_through(find, deed, known)]
            new.append(deed)
    if not new:
        return seen
    kept = [known for known in seen if not any(has_lived_through(find, deed, known) for deed in new)]
    return (*kept, *new)
