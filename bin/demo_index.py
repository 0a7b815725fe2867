"""What ``bin/demo`` does with the index: search it, and compare it with the catalogue.

``python bin/demo_index.py search INDEX QUERY`` and ``python bin/demo_index.py compare INDEX``; the latter
takes the catalogue's documents from ``python -m livesync.demo dump``, whose database LIVESYNC_DB names.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing

import msgspec

from livesync.destinations.sqlite import search

#: Differences that are named; all are counted.
NAMED = 5


class Line(msgspec.Struct):
    """A line of the dump; the document stays the very bytes that it is."""

    id: str
    document: msgspec.Raw


def main(arguments: list[str]) -> int:
    """Carry out one command and return the exit code."""
    if len(arguments) == 3 and arguments[0] == "search":
        return show_hits(arguments[1], arguments[2])
    if len(arguments) == 2 and arguments[0] == "compare":
        return compare(arguments[1])
    print("usage: demo_index.py search INDEX QUERY | compare INDEX", file=sys.stderr)
    return 2


def show_hits(index: str, query: str) -> int:
    """Print what a search finds; 1 when it finds nothing."""
    print(f"search: {query}")
    with closing(sqlite3.connect(index)) as connection:
        hits = search(index, query, limit=5)
        for hit in hits:
            (document,) = connection.execute(
                "SELECT document FROM documents WHERE object_id = ?", (hit.object_id,)
            ).fetchone()
            found = json.loads(document)
            print(f"  {found['kind']}: {found['title']} ({found['path']})")
            print(f"      {hit.snippet}")
    if not hits:
        print("FAILED: the search found nothing")
    return 0 if hits else 1


def compare(index: str) -> int:
    """Print whether the index holds what the public may see, byte for byte, and nothing else."""
    public, everything = dumped("public"), dumped("staff")
    hidden = everything.keys() - public.keys()
    with closing(sqlite3.connect(index)) as connection:
        indexed = {
            object_id: document.encode()
            for object_id, document in connection.execute("SELECT object_id, document FROM documents")
        }
        searchable = {row[0] for row in connection.execute("SELECT object_id FROM documents_fts")}
    common = public.keys() & indexed.keys()
    findings = {
        "missing in the index": public.keys() - indexed.keys(),
        "in the index but not public, or gone": indexed.keys() - public.keys(),
        "of another content than in the catalogue": {key for key in common if public[key] != indexed[key]},
        "private but in the index": hidden & (indexed.keys() | searchable),
        "found by searches or in the index, not both": searchable ^ indexed.keys(),
    }
    print(f"the catalogue: {len(everything):,} documents, {len(hidden):,} of them private")
    print(f"the index:     {len(indexed):,} documents, {sum(map(len, indexed.values())):,} bytes")
    agreed = [told(what, ids) for what, ids in findings.items()]
    same = all(agreed) and bool(indexed)
    if same:
        print(f"PASSED: index and catalogue have the same {len(indexed):,} ids and the same documents,")
        print("        byte for byte, and nothing in the index is private.")
    else:
        print("FAILED: the index is not what the catalogue says.")
    return 0 if same else 1


def told(what: str, ids: Iterable[str]) -> bool:
    """Print what differs, if anything does; tell whether nothing does."""
    differing = sorted(ids)
    if differing:
        print(f"{len(differing):,} {what}: {', '.join(differing[:NAMED])}{', …' * (len(differing) > NAMED)}")
    return not differing


def dumped(audience: str) -> dict[str, bytes]:
    """Return id -> document of everything in the catalogue that an audience may see."""
    command = [sys.executable, "-m", "livesync.demo", "dump", "--audience", audience]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout  # noqa: S603
    lines = (msgspec.json.decode(line, type=Line) for line in output.splitlines())
    return {line.id: bytes(line.document) for line in lines}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
