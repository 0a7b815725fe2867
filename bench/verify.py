"""Verify: a destination compared with the host, beside a bare loop that reads both.

The bare loop loads the same objects, a fresh transaction for every few thousand, renders, encodes
and digests them, reads the same rows of the same index, with the text that it is searched by, and
digests these too, since a digest is what there is to compare. It looks at no track, no lease, no
exclusion, and could say nothing of what changes meanwhile. The quick look is given as a rate.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import transaction

from livesync.destinations.sqlite import SQLiteAgent
from livesync.manager import SyncManager
from livesync.upkeep.verify import verify

from .catalogue import CatalogueHost, document, fill, install, opened, record, talk_ids, without_fsync
from .rows import Row, check
from .timing import median_ratio, timed

TITLE = "verify: an sqlite index compared with the host, beside a bare loop that reads and digests both"
QUICK = {"objects": 300, "repeats": 1}

_LIMIT = 0.7
_QUICK_LIMIT = 150_000
_AGENT = "bench"
_CHUNK = 5000


def measure(objects: int = 100_000, repeats: int = 3) -> list[Row]:
    """Return the rates of both, their ratio, and the rate of the quick look.

    Args:
        objects: How many there are.
        repeats: How often, the two sides in turn.
    """
    ids = talk_ids(objects)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        path = Path(name) / "index.sqlite"
        with without_fsync(), opened(Path(name) / "Data.fs") as db:
            fill(db, ids)
            install(db, SQLiteAgent(_AGENT, path=os.fspath(path)))
            record(db, ids, 1000)
            manager = transaction.TransactionManager()
            stored = SyncManager.get(db.open(transaction_manager=manager).root())
            stored.agents[_AGENT].run(stored, CatalogueHost())  # type: ignore[attr-defined]
            manager.begin()
            ours, bare, quick = [], [], []
            for _ in range(repeats):
                ours.append(timed(lambda: _verify(stored, objects, quick=False)).wall_s)
                bare.append(timed(lambda: _bare(db, path, objects)).wall_s)
                quick.append(timed(lambda: _verify(stored, objects, quick=True)).wall_s)
            manager.abort()
    return [
        Row("bare loop", objects / median(bare), "objects/s"),
        Row("verify", objects / median(ours), "objects/s"),
        Row("verify's rate to the loop's", median_ratio(bare, ours), at_least=_LIMIT),
        Row("verify --quick", objects / median(quick), "rows/s", at_least=_QUICK_LIMIT),
    ]


def _verify(stored: SyncManager, objects: int, quick: bool) -> None:
    with verify(stored, _AGENT, CatalogueHost(), quick=quick) as found:
        check(not found.differs, "verify found differences where there are none")
        check(found.held == objects, f"{found.held} rows read in place of {objects}")


def _bare(db: Any, path: Path, objects: int) -> None:
    encode = msgspec.json.Encoder(order="deterministic").encode
    manager = transaction.TransactionManager(explicit=True)
    count = 0
    with closing(db.open(transaction_manager=manager)) as connection, closing(sqlite3.connect(path)) as index:
        rows = index.execute(
            "SELECT d.object_id, d.position, d.document, f.text FROM documents d"
            " JOIN documents_fts f ON f.rowid = d.rowid ORDER BY d.object_id"
        )
        after = None
        while True:
            manager.begin()
            talks = connection.root()["talks"]
            chunk = []
            for talk_id, talk in talks.items(after, excludemin=after is not None):
                chunk.append((talk_id, _digest(encode(document(talk)))))
                if len(chunk) == _CHUNK:
                    break
            manager.abort()
            connection.cacheGC()
            for (talk_id, digest), row in zip(chunk, rows, strict=False):
                check((talk_id, digest) == (row[0], _digest(row[2].encode())), f"{talk_id} differs")
            if not chunk:
                break
            count += len(chunk)
            after = chunk[-1][0]
    check(count == objects, f"{count} objects in place of {objects}")


def _digest(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()
