"""Whatever happens, in whatever order: after a last run each destination holds what its audience may see."""

import contextlib
import itertools
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from syshost import Crash, IndexAgent, NodeHost, PathHost, RowsAgent, Site, TwinAgent, below, faults
from ZODB.FileStorage import FileStorage
from ZODB.POSException import UndoError

import livesync.delivery.slices as slices
import livesync.upkeep.export as exporting
from livesync.delivery.record import Outcome, Verdict
from livesync.errors import BatchRefused, RetryLater, ServiceRefuses, StateForbids

AGENTS = ("twin", "index", "rows")

_serial = itertools.count()


def partial_verdicts(batch):
    """Accept every other record; say "not now" of the rest."""
    return [
        Verdict(record.object_id, Outcome.NOT_NOW if index % 2 else Outcome.ACCEPTED)
        for index, record in enumerate(batch)
    ]


def refuse_together(batch):
    """Refuse a batch of several; a record that is alone would rightly become a dead letter."""
    if len(batch) > 1:
        raise BatchRefused("too large")


FAULTS = {
    "crash before": ("batch", Crash()),
    "crash after sending": ("sent", Crash()),
    "crash before the end": ("ending", Crash()),
    "crash before acknowledge": ("ended", Crash()),
    "not now": ("batch", RetryLater(reason="busy")),
    "halve": ("batch", refuse_together),
    "refuses": ("batch", ServiceRefuses("401")),
    "partial": ("batch", partial_verdicts),
}

number = st.integers(0, 30)
host_steps = st.tuples(
    st.sampled_from(
        ["add", "add", "add", "edit", "remove", "move", "move", "private", "public", "hidden", "shown"]
    ),
    number,
    number,
)
transactions = st.tuples(
    st.sampled_from(["commit", "commit", "commit", "abort", "savepoint"]),
    st.lists(host_steps, min_size=1, max_size=4),
)
steps = st.one_of(
    transactions,
    transactions,
    st.tuples(st.just("undo"), st.integers(0, 3)),
    st.tuples(st.just("collect"), number),
    st.tuples(st.just("run"), st.sampled_from(AGENTS)),
    st.tuples(st.just("run"), st.sampled_from(AGENTS)),
    st.tuples(st.just("failing run"), st.sampled_from(AGENTS), st.sampled_from(sorted(FAULTS))),
    st.tuples(st.just("meddled run"), st.sampled_from(AGENTS), transactions),
    st.tuples(st.just("export"), st.sampled_from(AGENTS)),
    st.tuples(st.just("failing export"), st.sampled_from(AGENTS), st.sampled_from(sorted(FAULTS))),
    st.tuples(st.just("rewind"), st.sampled_from(AGENTS)),
    st.tuples(st.just("prune"), st.booleans()),
)


class World:
    """A site, its three agents, and how each step is carried out."""

    def __init__(self, directory, host):
        self.site = Site(directory / "Data.fs", host=host)
        self.key = f"property {next(_serial)}"
        small = {"batch_size": 3, "max_attempts": 3}
        self.agents = {
            "twin": TwinAgent("twin", key=f"{self.key} twin", audience="staff", **small),
            "index": IndexAgent("index", key=f"{self.key} index", path=str(directory / "i.sqlite"), **small),
            "rows": RowsAgent("rows", key=f"{self.key} rows", **small),
        }
        for agent in self.agents.values():
            self.site.add_agent(agent)
        self.names = itertools.count()

    def alter(self, store, what, which, where):
        nodes = list(below(store.top))
        at = nodes[which % len(nodes)] if nodes else None
        if what == "add" or at is None:
            parent = nodes[where % len(nodes)] if nodes and where % 3 else None
            taken = (store.top if parent is None else parent).children
            name = f"t{which % 5}"  # few names, so that paths are used again
            store.add(parent, name if name not in taken else f"u{next(self.names)}", f"Title {which}")
        elif what == "edit":
            store.edit(at, f"Edited {next(self.names)}")
        elif what == "remove":
            store.remove(at)
        elif what == "move":
            parent = nodes[where % len(nodes)] if where % 3 else None
            if parent is at or parent in list(below(at)):
                return
            name = f"t{where % 5}"
            taken = (store.top if parent is None else parent).children
            store.move(at, parent, name if name not in taken else f"u{next(self.names)}")
        elif what in ("private", "public"):
            store.set_private(at, what == "private")
        else:
            store.set_hidden(at, what == "hidden")

    def transaction(self, kind, changes):
        with self.site.change() as store:
            half = len(changes) // 2
            for change in changes[:half]:
                self.alter(store, *change)
            savepoint = self.site.transactions.savepoint() if kind == "savepoint" else None
            for change in changes[half:]:
                self.alter(store, *change)
            if savepoint is not None:
                savepoint.rollback()
            if kind == "abort":
                raise _Abort
            self.site.transactions.get().note("an edit")

    def carry_out(self, kind, *rest):
        if kind in ("commit", "abort", "savepoint"):
            with contextlib.suppress(_Abort):
                self.transaction(kind, *rest)
        else:
            getattr(self, kind.replace(" ", "_"))(*rest)

    def undo(self, back):
        undoable = self.site.undoable("an edit")
        if len(undoable) > back:
            try:
                self.site.undo(undoable[back])
            except UndoError:
                self.site.transactions.abort()

    def collect(self, at):
        with self.site.change():
            self.site.manager.collect(1_000_000_000 if at % 2 else None)

    def _state(self, agent_id):
        return self.site.state(agent_id)

    def run(self, agent_id):
        state, reason = self._state(agent_id)
        if state == "recording" or reason == "needs_export":
            self.export(agent_id)
        self.site.run(agent_id)

    def failing_run(self, agent_id, fault):
        faults(f"{self.key} {agent_id}").plan(FAULTS[fault])
        with contextlib.suppress(Crash, RetryLater, ServiceRefuses, StateForbids):
            self.site.run(agent_id)
        faults(f"{self.key} {agent_id}").points.clear()

    def meddled_run(self, agent_id, meddling):
        """A run during which a host transaction is committed, after the run has read its slice."""
        if meddling[0] == "commit":
            faults(f"{self.key} {agent_id}").plan(("beginning", lambda batch: self.transaction(*meddling)))
        self.run(agent_id)
        faults(f"{self.key} {agent_id}").points.clear()

    def export(self, agent_id):
        self.site.export(agent_id)

    def failing_export(self, agent_id, fault):
        faults(f"{self.key} {agent_id}").plan(FAULTS[fault])
        with contextlib.suppress(Crash, RetryLater, ServiceRefuses):
            self.site.export(agent_id)
        faults(f"{self.key} {agent_id}").points.clear()

    def rewind(self, agent_id):
        if self._state(agent_id)[0] != "active":
            return
        with self.site.change():
            manager = self.site.manager
            manager.pause(agent_id)
            manager.rewind(agent_id, None)
            manager.activate(agent_id)

    def prune(self, leave_behind):
        # a service that cannot sweep keeps what it was never told to delete: it is not left behind
        if self._state("rows")[0] == "active":
            self.run("rows")
        with self.site.change():
            self.site.manager.prune(leave_behind=leave_behind and self.site.manager.track.lag("rows") == 0)


class _Abort(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("host", [NodeHost, PathHost])
def test_the_destinations_end_as_the_host_is(host):
    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(steps, max_size=25), st.sampled_from([4, 10_000]))
    def agree(story, slice_size):
        with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
            patch.setattr(slices, "SLICE_SIZE", slice_size)
            patch.setattr(exporting, "CHUNK_SIZE", slice_size)
            # nothing here survives a power cut anyway, and this is most of the time
            patch.setattr(sys.modules[FileStorage.__module__], "fsync", lambda descriptor: None)
            world = World(Path(directory), host())
            try:
                for step in story:
                    world.carry_out(*step)
                for agent_id in AGENTS:
                    world.run(agent_id)
                world.site.assert_equal(*AGENTS)
            finally:
                world.site.close()

    agree()
