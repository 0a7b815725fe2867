"""Versions of documents, beside git with a file a document (its command line, and pygit2).

The same documents and edits, generated and real, in one run. "First touch" means that the connection's cache
was emptied before; the operating system's is warm. Of each document it is the median of three, so that the
95th percentile is of documents and not of turns of other processes, which are as long as twenty reads. pygit2
comes with the extra ``bench``; without it its figures are missing.
"""

from __future__ import annotations

import gc
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import transaction
from BTrees.OOBTree import OOBTree

from livesync.versions.diffs.threeway import ABSENT

from .catalogue import opened
from .edits import Document, Edits, document_id, edited, generated, real
from .gits import Git, PyGit, has_pygit2
from .history_store import CACHE, Made, Objects, Store
from .rows import Row, check
from .timing import median_ratio, timed

TITLE = "history: versions of documents, beside git and pygit2"
QUICK = {"documents": 120, "versions": 6, "changes": 8, "long": 40, "samples": 10}


def measure(
    documents: int = 10_000,
    versions: int = 100,
    changes: int = 100,
    long: int = 2_000,
    samples: int = 300,
) -> list[Row]:
    """Return times and sizes of both.

    Args:
        documents: How many generated ones.
        versions: How many after the first.
        changes: Documents that each version edits.
        long: Changes of the one document that has many.
        samples: How many documents are read.
    """
    rows = []
    if not has_pygit2():
        rows.append(Row("pygit2 is not installed (extra bench): figures that are missing", 4))
    for edits in generated(documents, versions, changes), real(versions, changes):
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            rows += _beside_git(Path(directory), edits, samples)
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        rows += _long(Path(directory), long)
    return rows


# -- beside git ----------------------------------------------------------------------------------------


def _beside_git(directory: Path, edits: Edits, samples: int) -> list[Row]:
    git = Git(directory / "git", edits)
    pygit = PyGit(directory / "pygit", git.files) if has_pygit2() else None
    with opened(directory / "Data.fs", cache_size=CACHE) as db:
        connection = db.open(transaction_manager=transaction.TransactionManager())
        tree = connection.root()["talks objects"] = OOBTree()
        store = Store(connection, directory / "Data.fs", Objects(tree))
        store.host_commit(edits.first)
        try:
            return _compared(store, git, pygit, edits, samples)
        finally:
            store.manager.abort()
            connection.close()


def _compared(store: Store, git: Git, pygit: PyGit | None, edits: Edits, samples: int) -> list[Row]:
    name = edits.name
    git.write(edits.first)
    first = {"git": git.commit("first"), "ours": store.version(store.collection.init)}
    if pygit is not None:
        pygit.commit(edits.first, "first")
    times: dict[str, list[float]] = {"git": [], "pygit2": [], "ours": [], "host": []}
    for number, version in enumerate(edits.versions, 1):
        message = f"version {number}"
        git.write(version)
        times["git"].append(git.commit(message) * 1000)
        if pygit is not None:
            times["pygit2"].append(pygit.commit(version, message) * 1000)
        times["host"].append(store.host_commit(version) * 1000)
        register = lambda: store.collection.register(message)  # noqa: B023, E731
        times["ours"].append(store.version(register) * 1000)
    found = {side: median(each) for side, each in times.items() if each}
    changes = round(median(len(version) for version in edits.versions))
    about = f"{name}, {len(edits.first):,} documents"
    rows = [
        Row(f"{about}: the first version", first["ours"], "s"),
        Row("  git", first["git"], "s"),
        Row(f"{name}: register {changes} changed documents", found["ours"], "ms"),
        Row("  ratio to git's add + commit", found["ours"] / found["git"], at_most=0.2),
    ]
    if pygit is not None:
        rows.append(Row("  ratio to pygit2", found["ours"] / found["pygit2"], at_most=0.4))
    rows.append(Row("  ratio to the application's commit of them", found["ours"] / found["host"], at_most=3))
    rows += _reads(store, pygit, edits, samples)
    rows += _ways(store, git, edits)
    git.gc()
    rows += [
        Row(f"{name}: bytes of all versions", store.bytes / 1e6, "MB"),
        Row("  ratio to git's repository after gc", store.bytes / git.size(), at_most=1),
        Row("  ratio to git's packed objects alone", store.bytes / git.size("objects")),
    ]
    return rows


def _states(edits: Edits, number: int) -> dict[str, Document]:
    """Return all documents of a version."""
    now: dict[str, Any] = dict(edits.first)
    for version in edits.versions[:number]:
        now |= version
    return {one: value for one, value in now.items() if value is not None}


def _reads(store: Store, pygit: PyGit | None, edits: Edits, samples: int) -> list[Row]:
    name, middle = edits.name, len(edits.versions) // 2
    collection = store.collection
    then = _states(edits, middle)
    chosen = random.Random(5).sample(sorted(then), min(samples, len(then)))
    for one in chosen:
        check(collection.read(one, middle, "main") == then[one], f"{one} is another one at {middle}")
    touched = [_touched(store, lambda: collection.read(one, middle, "main")) for one in chosen]  # noqa: B023
    warm = [_warm(lambda: collection.read(one, middle, "main")) for one in chosen]  # noqa: B023
    rows = [Row(f"{name}: one document at version {middle}, warm", median(warm), "ms")]
    if pygit is not None:
        loose = [_warm(lambda: pygit.read(one, middle)) for one in chosen]  # noqa: B023
        pygit.packed()
        packed = [_warm(lambda: pygit.read(one, middle)) for one in chosen]  # noqa: B023
        rows += [
            Row("  ratio to pygit2, packed", median(warm) / median(packed), at_most=1),
            Row("  ratio to pygit2, loose", median(warm) / median(loose)),
        ]
    changed = sorted({one for version in edits.versions for one in version})
    some = random.Random(6).sample(changed, min(samples, len(changed)))
    histories = [_touched(store, lambda: collection.history(one)) for one in some]  # noqa: B023
    logs = [store.ms(collection.get_log, True) for _ in range(min(samples, 50))]
    check(len(collection.get_log()) == len(edits.versions) + 1, "the log lacks versions")
    return [
        *rows,
        Row("  first touch, median", median(touched), "ms", at_most=0.2),
        Row("  first touch, 95th percentile", _p95(touched), "ms", at_most=0.5),
        Row(f"{name}: history of one document, first touch", median(histories), "ms", at_most=0.5),
        Row(f"{name}: log of {len(edits.versions)} versions, first touch", median(logs), "ms", at_most=0.4),
    ]


def _touched(store: Store, read: Callable[[], Any]) -> float:
    return median(store.ms(read, True) for _ in range(3))


def _warm(read: Callable[[], Any]) -> float:
    read()
    return timed(read).wall_s * 1000


def _p95(values: list[float]) -> float:
    return quantiles(values, n=20)[-1] if len(values) > 1 else values[0]


def _ways(store: Store, git: Git, edits: Edits) -> list[Row]:
    name, last = edits.name, len(edits.versions)
    middle = last // 2
    collection = store.collection
    ends = (0, "main"), (last, "main")
    changed = collection.changed(*ends)
    final = _states(edits, last)
    expected = [one for one in {**edits.first, **final} if edits.first.get(one) != final.get(one)]
    check(changed == sorted(expected), "other documents changed than those that did")
    ours = median(store.ms(lambda: collection.changed(*ends)) for _ in range(7))
    touched = median(store.ms(lambda: collection.changed(*ends), True) for _ in range(3))
    named = ("diff", "--name-only", "--no-renames", git.commits[0], git.commits[last])
    check(len(git.run(*named).split()) == len(changed), "git sees other changes")
    gits = median(timed(lambda: git.run(*named)).wall_s * 1000 for _ in range(7))
    return [
        Row(f"{name}: ids changed between the first version and the last, net, warm", ours, "ms"),
        Row("  ratio to git", ours / gits, at_most=0.5),
        Row("  first touch", touched, "ms"),
        *_checkouts(store, git, edits, last, middle),
    ]


def _checkouts(store: Store, git: Git, edits: Edits, last: int, middle: int) -> list[Row]:
    collection, working = store.collection, store.working
    then, now = _states(edits, middle), _states(edits, last)
    back = {one: then.get(one) for one in sorted({**then, **now}) if then.get(one) != now.get(one)}
    forth = {one: now.get(one) for one in back}
    own, whole, bare, gits = [], [], [], []
    for _ in range(5):
        gc.collect()  # both sides begin alike: what was left behind before is neither's
        bare.append(store.host_commit(back) * 1000)
        store.host_commit(forth)
        working.settle()
        gc.collect()
        called = timed(lambda: check(collection.checkout(middle, "main"), "no checkout")).wall_s
        own.append((called - working.seconds) * 1000)
        whole.append((called + timed(store.manager.commit).wall_s) * 1000)
        check(all(working.get(one) == (ABSENT if then.get(one) is None else then[one]) for one in back),
              "the checkout wrote other documents")  # fmt: skip
        collection.checkout(last, "main")
        store.manager.commit()
        gits.append(timed(lambda: git.run("checkout", "-q", git.commits[middle])).wall_s * 1000)
        git.run("checkout", "-q", git.commits[last])
    title = f"{edits.name}: checkout of version {middle} from {last}, {len(back):,} documents"
    return [
        Row(f"{title}: livesync's work", median(own), "ms"),
        Row("  ratio to git's checkout", median_ratio(own, gits), at_most=0.2),
        Row("  with the documents written and committed", median(whole), "ms"),
        Row("  ratio to these alone", median_ratio(whole, bare), at_most=1.4),
    ]


# -- many changes of one document -----------------------------------------------------------------------


def _long(directory: Path, long: int) -> list[Row]:
    with opened(directory / "Data.fs") as db:
        connection = db.open(transaction_manager=transaction.TransactionManager())
        store = Store(connection, directory / "Data.fs", Made(100))
        store.version(store.collection.init)
        dice = random.Random(1)
        one = document_id(50)
        for number in range(long):
            store.working.put([(one, {**edited(store.working.get(one), dice), "edit": number})])
            check(store.collection.register(f"edit {number}"), "no version was made")
            if number % 50 == 0:
                store.manager.commit()
        store.manager.commit()
        check(len(store.collection.history(one)) == long + 1, "the history lacks versions")
        took = median(store.ms(lambda: store.collection.history(one), True) for _ in range(7))
        newest = median(store.ms(lambda: store.collection.history(one, limit=50), True) for _ in range(7))
        connection.close()
    return [
        Row(f"history of a document with {long:,} changes, first touch", took, "ms", at_most=5),
        Row("  the newest 50 of them", newest, "ms"),
    ]
