"""Child process: kill a run, or an export, at each of its steps, and look at what a fresh one makes of it.

Arguments: a directory, ``sqlite``, ``file``, the URL of a server that keeps what is posted or the dsn of
a PostgreSQL server, and ``run`` or ``export``. Every attempt is a process of its own, forked from this
one, which opens the database anew; the first of each pair kills itself with SIGKILL at its k-th step. k
grows until one ends by itself. Prints JSON: how many steps there were, and what was wrong after which of
them.
"""

import functools
import json
import os
import signal
import sys
import traceback
from pathlib import Path

import psycopg
import requests
import transaction
from syshost import Site, rows_of_sqlite
from ZODB.FileStorage import FileStorage

import livesync.delivery.slices
import livesync.destinations.file
import livesync.upkeep.export
from livesync.destinations.file import FileAgent, FileUploader
from livesync.destinations.http import HTTPAgent, HTTPUploader
from livesync.destinations.postgres import PostgresAgent, PostgresUploader
from livesync.destinations.sqlite import SQLiteAgent, SQLiteUploader

#: The steps. What is on the disk after one is what is there before the next, so each counts once, and the
#: end of a run is the last; only after a vote something happens that is none of these.
WHERE = (
    (transaction.Transaction, "commit"),
    (FileStorage, "tpc_vote"),
    (SQLiteUploader, "begin_slice"),
    (SQLiteUploader, "_upload_batch"),
    (SQLiteUploader, "end_slice"),
    (SQLiteUploader, "sweep"),
    (FileUploader, "_upload_batch"),
    (FileUploader, "end_slice"),
    (HTTPUploader, "_upload_batch"),
    (HTTPUploader, "end_slice"),
    (PostgresUploader, "begin_slice"),
    (PostgresUploader, "_upload_batch"),
    (PostgresUploader, "end_slice"),
    (PostgresUploader, "sweep"),
    (livesync.destinations.file, "_give_name"),
)


def die_at(step):
    """Let this process kill itself when it comes to a step: before what ``WHERE`` names, or after a vote."""
    passed = [0]

    def pass_by():
        passed[0] += 1
        if passed[0] == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(function):
        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            pass_by()
            result = function(*args, **kwargs)
            if function.__name__ == "tpc_vote":
                pass_by()
            return result

        return wrapped

    for owner, name in WHERE:
        setattr(owner, name, wrap(getattr(owner, name)))


def in_a_process(function, *args):
    """Return the wait status of a process that did ``function``; its traceback goes to our stderr."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function(*args)
            status = 0
        except BaseException:  # noqa: BLE001 - the end of a process
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitpid(pid, 0)[1]


def prepare(directory, agent, what):
    """Make a database with an agent and something of every kind to deliver."""
    site = Site(directory / "Data.fs")
    site.add_agent(agent, how="from_start" if what == "run" else None)
    with site.change() as store:
        for name in "series", "shown", "away", "box":
            container = store.add(None, name, name)
            for number in range(3):
                store.add(container, f"talk-{number}", f"{name} {number}")
        store.top.children["shown"].private = True
    if what == "run":
        site.run(agent.id)
    with site.change() as store:
        broken = store.add(None, "broken", "Has no document")
        broken.broken = True
        store.add(None, "gone", "Sent, and removed before the next run")
    with site.change() as store:
        store.set_private(store.top.children["series"], True)
        store.set_private(store.top.children["shown"], False)
    with site.change() as store:
        store.remove(store.top.children["away"])
        store.move(store.top.children["box"].children["talk-1"], None, "moved")
    with site.change() as store:
        site.transactions.get().note("to undo")
        store.edit(store.top.children["box"], "Undone")
    for number in range(6):
        with site.change() as store:
            store.edit(store.top.children["box"].children["talk-2"], f"Edited {number}")
            store.add(store.top.children["box"], f"late-{number}", "Late")
    site.undo(site.undoable("to undo")[0])
    site.close()


def attempt(directory, agent_id, what, step):
    """Run or export in this process, killed at ``step`` (0: never)."""
    site = Site(directory / "Data.fs")
    if step:
        die_at(step)
    if what == "export" and site.state(agent_id)[0] != "active":
        site.export(agent_id)
    site.run(agent_id)
    os._exit(0)


def remove_one(directory):
    site = Site(directory / "Data.fs")
    with site.change() as store:
        store.remove(store.top.children["gone"])
    site.close()


def rows_of_files(directory):
    """Return id -> (position, document) as one who reads the files in the order of their names has it."""
    rows = {}
    for path in sorted(directory.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            if record["position"] >= rows.get(record["id"], (-1, None))[0]:
                rows[record["id"]] = (record["position"], record.get("document"))
    return {key: row for key, row in rows.items() if row[1] is not None}


def rows_of_server(url):
    return {
        key: tuple(row) for key, row in requests.get(url, timeout=10).json().items() if row[1] is not None
    }


def rows_of_postgres(dsn, table):
    with psycopg.connect(dsn) as connection:
        return {
            object_id: (position, document)
            for object_id, position, document in connection.execute(
                f"SELECT object_id, position, document FROM {table}"
            )
        }


def faults_after(directory, agent, rows):
    """Return what differs between host and destination."""
    site = Site(directory / "Data.fs")
    found, expected = {key: document for key, (_, document) in rows.items()}, site.expected()
    wrong = [
        f"{key}: {found.get(key)} in place of {expected.get(key)}"
        for key in sorted(found.keys() | expected.keys())
        if found.get(key) != expected.get(key)
    ]
    with site.looking():
        manager = site.manager
        broken = manager.dead_letters(agent.id).keys()
        if list(broken) != [site.store.top.children["broken"].uid]:
            wrong.append(f"dead letters: {list(broken)}")
        if manager.status().agents[0].lag_actions:
            wrong.append(f"lag: {manager.status().agents[0].lag_actions}")
        if max(position for position, _ in rows.values()) > manager.track.sealed:
            wrong.append("a position beyond what is sealed")
        if manager.stored(agent.id).state != "active":
            wrong.append(f"state {manager.stored(agent.id).state}: {manager.stored(agent.id).detail}")
    site.close()
    return wrong


def main(directory, kind, what):
    # A killed process loses nothing that it has written: only a power cut does.
    sys.modules[FileStorage.__module__].fsync = lambda descriptor: None
    livesync.delivery.slices.SLICE_SIZE = 7
    livesync.upkeep.export.CHUNK_SIZE = 7
    failures, step = {}, 0
    while True:
        step += 1
        here = directory / str(step)
        here.mkdir()
        if kind == "sqlite":
            agent = SQLiteAgent("a", path=str(here / "index.sqlite"), batch_size=3)
            rows = functools.partial(rows_of_sqlite, here / "index.sqlite")
        elif kind == "file":
            agent = FileAgent("a", directory=str(here / "out"), batch_size=3)
            rows = functools.partial(rows_of_files, here / "out")
        elif "dbname=" in kind:
            table = f"{what}_{step}"
            agent = PostgresAgent("a", dsn=kind, table=table, batch_size=3)
            rows = functools.partial(rows_of_postgres, kind, table)
        else:
            url = f"{kind}/{what}/{step}"
            agent = HTTPAgent("a", url=url, batch_size=3)
            rows = functools.partial(rows_of_server, url)
        assert in_a_process(prepare, here, agent, what) == 0
        killed = in_a_process(attempt, here, agent.id, what, step)
        assert in_a_process(remove_one, here) == 0
        again = in_a_process(attempt, here, agent.id, what, 0)
        wrong = [f"the fresh process ended with {again}"] if again else faults_after(here, agent, rows())
        if wrong:
            failures[step] = wrong
        if not os.WIFSIGNALED(killed):
            print(json.dumps({"steps": step - 1, "ended": killed, "failures": failures}))
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
