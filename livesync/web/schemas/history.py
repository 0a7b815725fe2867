"""Versions of documents."""

from __future__ import annotations

from .base import Value


class Collections(Value, frozen=True):
    """The collections whose versions are kept, by name."""

    collections: list[str]


class VersionCounts(Value, frozen=True):
    """How many documents a version created, changed and deleted."""

    created: int
    changed: int
    deleted: int


class VersionLanes(Value, frozen=True):
    """A version's row in a drawing of the graph, with a column for each line of versions.

    ``at`` is the version's column, ``width`` how many there are; ``above`` has pairs of the column at the top
    and that at the version's height, ``below`` of this one and that at the bottom.
    """

    at: int
    width: int
    above: list[list[int]]
    below: list[list[int]]


class Version(Value, frozen=True):
    """A version of a collection's documents.

    ``name`` is its branch and number, "" where it has none any more; ``parents`` are ids, the first one
    first; ``names`` the branches and tags that point at it; ``graph`` the lines that draw it beside others,
    and ``lanes`` the same for a drawing, where many are listed.
    Of one that was ``pruned`` nothing else is left.
    """

    id: str
    name: str
    time: float
    author: str
    message: str
    parents: list[str]
    counts: VersionCounts
    names: list[str]
    graph: list[str]
    pruned: bool
    lanes: VersionLanes | None = None


class VersionPage(Value, frozen=True):
    """Versions of all branches, the newest first; ``next`` is the cursor of what is older.

    ``of`` names the collections of a history that is of several.
    """

    of: list[str]
    versions: list[Version]
    next: str | None


class DocumentChange(Value, frozen=True):
    """What became of a document: ``created``, ``changed`` or ``deleted``; ``lines`` of a unified diff."""

    document_id: str
    change: str
    lines: list[str]


class VersionDetail(Value, frozen=True):
    """A version and what it changed; ``more`` documents are not shown.

    ``since`` is the id of the version that it is compared with: its first parent, unless that was pruned;
    "" of the first version.
    """

    version: Version
    changes: list[DocumentChange]
    more: int
    since: str


class VersionOfDocument(Value, frozen=True):
    """A version that changed a document, and how: ``lines`` of a unified diff."""

    version: Version
    change: str
    lines: list[str]


class DocumentHistory(Value, frozen=True):
    """The versions that changed a document, the newest first; ``next`` is the cursor of what is older."""

    versions: list[VersionOfDocument]
    next: str | None
