"""Machines: what several writers, runners and agents reach on one database, over ZEO and RelStorage.

Every writer and every runner is a process of its own. Writers change an object of their own, one a commit,
with and without livesync side by side. Runners deliver a backlog into an SQLite file for each agent.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import transaction
from ZODB.POSException import ConflictError

from livesync.action import DATA_CHANGED
from livesync.capture import Capture
from livesync.database import open_database
from livesync.destinations.sqlite import SQLiteAgent
from livesync.manager import SyncManager
from livesync.tasks import LiveSyncUpdateTask

from .catalogue import CatalogueHost, Talk, fill, install, record, talk_ids
from .drain import postgres_server
from .rows import Row, check
from .timing import timed

TITLE = "machines: writers, runners and agents on one database"
QUICK = {"commits": 12, "records": 40, "most": 2}

_WRITERS = (1, 2, 4, 8)
_RUNNERS = (1, 2, 3)


def measure(commits: int = 150, records: int = 20_000, most: int = 8) -> list[Row]:
    """Return commits a second with and without livesync, conflicts, records a second, and lag.

    Args:
        commits: Of each writer.
        records: In the backlog of each agent.
        most: The largest number of writers.
    """
    rows: list[Row] = []
    for kind, database in (("ZEO", _zeo), ("RelStorage", _relstorage)):
        with tempfile.TemporaryDirectory(prefix="bench-") as directory, database(Path(directory)) as uri:
            db = open_database(uri, create=True)
            try:
                rows += _writing(kind, db, uri, commits, [n for n in _WRITERS if n <= most])
                rows += _lag(kind, db, uri, commits, min(4, most), Path(directory))
                rows += _delivering(kind, db, uri, records, Path(directory))
            finally:
                db.close()
    return rows


@contextmanager
def _zeo(directory: Path) -> Iterator[str]:
    import ZEO

    (host, port), stop = ZEO.server(str(directory / "Data.fs"))
    try:
        yield f"zeo://{host}:{port}?wait_timeout=20"
    finally:
        stop()


@contextmanager
def _relstorage(directory: Path) -> Iterator[str]:
    with postgres_server() as dsn:
        host = dsn.split()[0].removeprefix("host=")
        yield f"postgresql://postgres@/postgres?host={host}"


# -- writing -----------------------------------------------------------------------------------------


def _writing(kind: str, db: Any, uri: str, commits: int, counts: Sequence[int]) -> list[Row]:
    with db.transaction() as connection:
        for writer in range(counts[-1]):
            connection.root()[f"writer-{writer}"] = Talk(f"writer-{writer}", "")
    install(db)
    rows = []
    expected = 0
    with _processes("write", uri, counts[-1]) as writers:
        _ask(writers, {"commits": 5, "recorded": True})  # lanes are claimed, caches filled
        expected += 5 * len(writers)
        for count in counts:
            part = writers[:count]
            rates, conflicts = {}, 0
            for recorded in False, True, True, False:  # whatever drifts meanwhile is the same for both
                began = time.perf_counter()
                answers = _ask(part, {"commits": commits, "recorded": recorded})
                seconds = time.perf_counter() - began
                rates.setdefault(recorded, []).append(count * commits / seconds)
                conflicts += sum(answer["conflicts"] for answer in answers)
                expected += count * commits * recorded
            plain, with_livesync = (sum(rates[recorded]) / 2 for recorded in (False, True))
            told = f"{kind}, {count} writers"
            rows += [
                Row(f"{told}: commits without livesync", plain, "a second"),
                Row(f"{told}: commits with livesync", with_livesync, "a second"),
                Row(f"{told}: with / without", with_livesync / plain),
                Row(f"{told}: conflicts", conflicts, at_most=0),
            ]
    with db.transaction() as connection:
        manager = SyncManager.get(connection.root())
        check(len(list(manager.waiting())) == expected, "actions were lost")
    return rows


def _write(db: Any, writer: int) -> None:
    """Commit as asked on standard input, and answer each time how many conflicts there were."""
    capture = Capture(CatalogueHost())
    manager = transaction.TransactionManager(explicit=True)
    connection = db.open(transaction_manager=manager)
    for line in sys.stdin:
        asked = json.loads(line)
        with capture.attached(db) if asked["recorded"] else nullcontext():
            conflicts = sum(
                not _commit(connection, manager, capture if asked["recorded"] else None, writer)
                for _ in range(asked["commits"])
            )
        print(json.dumps({"conflicts": conflicts}), flush=True)
    connection.close()


def _commit(connection: Any, manager: Any, capture: Capture | None, writer: int) -> bool:
    """Change the writer's object in one commit; False: it conflicted."""
    manager.begin()
    try:
        connection.root()[f"writer-{writer}"].number += 1
        if capture is not None:
            capture.record(f"writer-{writer}", DATA_CHANGED, connection=connection)
        manager.commit()
    except ConflictError:
        manager.abort()
        return False
    return True


# -- delivering --------------------------------------------------------------------------------------


def _add_agents(db: Any, count: int, directory: Path, name: str) -> None:
    with db.transaction() as connection:
        manager = SyncManager.get(connection.root())
        for number in range(count):
            agent_id = f"{name}{number}"
            manager.register_agent(SQLiteAgent(agent_id, path=str(directory / f"{agent_id}.sqlite")))
            manager.activate(agent_id)


def _remove_agents(db: Any) -> None:
    with db.transaction() as connection:
        manager = SyncManager.get(connection.root())
        for agent_id in list(manager.agent_ids()):
            manager.remove_agent(agent_id)


def _lag(kind: str, db: Any, uri: str, commits: int, count: int, directory: Path) -> list[Row]:
    """Let writers commit as fast as they can, with one runner beside them; return how far it is behind."""
    with db.transaction() as connection:
        root = connection.root()
        # they are the host's objects here, so that there is something to deliver
        fill_with_writers(root, count)
        SyncManager.get(root).collect()
    _add_agents(db, 1, directory, "lag")
    with _processes("write", uri, count) as writers, _processes("run", uri, 1) as runners:
        _tell(runners, {"rounds": 0})
        rate = count * commits / timed(lambda: _ask(writers, {"commits": commits, "recorded": True})).wall_s
        lag = timed(lambda: _wait_until_delivered(db)).wall_s
        _tell(runners, {"stop": True})
    _remove_agents(db)
    return [
        Row(f"{kind}, {count} writers beside a runner: commits", rate, "a second"),
        Row(f"{kind}, {count} writers beside a runner: until all is delivered after the last", lag, "s"),
    ]


def fill_with_writers(root: Any, count: int) -> None:
    """Make the writers' objects the talks of the catalogue."""
    from BTrees.OOBTree import OOBTree

    root["talks"] = OOBTree({f"writer-{writer}": root[f"writer-{writer}"] for writer in range(count)})


def _delivering(kind: str, db: Any, uri: str, records: int, directory: Path) -> list[Row]:
    ids = talk_ids(records)
    fill(db, ids)
    rows = []
    for runners in _RUNNERS:
        for agents in sorted({1, runners}):
            _add_agents(db, agents, directory, f"r{runners}a{agents}-")
            record(db, ids, per_commit=1000)
            with _processes("run", uri, runners) as processes:
                answers: list[dict[str, int]] = []
                seconds = timed(lambda: answers.extend(_ask(processes, {"rounds": 1}))).wall_s  # noqa: B023
            read = sum(answer["read"] for answer in answers)
            check(read == agents * records, f"{read} records were read in place of {agents * records}")
            told = f"{kind}, {runners} runners, {agents} agents"
            rows.append(Row(f"{told}: records delivered", read / seconds, "a second"))
            _remove_agents(db)
    return rows


def _run(db: Any, number: int) -> None:
    """Run what there is until nothing is left, or until told to stop, as asked on standard input."""
    task = LiveSyncUpdateTask(db, CatalogueHost(), only_due=False)
    asked = json.loads(sys.stdin.readline())
    read = 0
    if asked["rounds"]:
        while not _is_delivered(db):
            read += _round(task)
        print(json.dumps({"read": read}), flush=True)
        return
    stop: list[str] = []
    import threading

    threading.Thread(target=lambda: stop.append(sys.stdin.readline()), daemon=True).start()
    while not stop:
        _round(task)
        time.sleep(0.05)


def _round(task: LiveSyncUpdateTask) -> int:
    return sum(outcome.result.read for outcome in task.run(time.time()) if outcome.result is not None)


def _is_delivered(db: Any) -> bool:
    with db.transaction() as connection:
        manager = SyncManager.get(connection.root())
        left = any(agent.lag_actions for agent in manager.status().agents)
        return not left and next(manager.waiting(), None) is None


def _wait_until_delivered(db: Any) -> None:
    give_up = time.monotonic() + 300
    while not _is_delivered(db):
        check(time.monotonic() < give_up, "the runner does not catch up")
        time.sleep(0.01)


# -- processes ---------------------------------------------------------------------------------------

Process = subprocess.Popen[str]


@contextmanager
def _processes(what: str, uri: str, count: int) -> Iterator[list[Process]]:
    """Start processes that wait for orders; all are connected."""
    with ExitStack() as stack:
        processes = []
        for number in range(count):
            command = [sys.executable, "-m", "bench.machines", what, uri, str(number)]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.callback(_end, process)
            processes.append(process)
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        yield processes


def _end(process: Process) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.wait(60)
    process.stdout.close()


def _tell(processes: Sequence[Process], order: dict[str, Any]) -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()


def _ask(processes: Sequence[Process], order: dict[str, Any]) -> list[Any]:
    """Give all of them an order at once, and return their answers."""
    _tell(processes, order)
    answers = []
    for process in processes:
        assert process.stdout is not None
        answers.append(json.loads(process.stdout.readline()))
    return answers


def _main(what: str, uri: str, number: str) -> None:
    db = open_database(uri)
    print("ready", flush=True)
    {"write": _write, "run": _run}[what](db, int(number))
    db.close()


if __name__ == "__main__":
    _main(*sys.argv[1:])
