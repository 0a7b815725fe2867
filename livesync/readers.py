"""The agents and tasks of a manager: what is kept of each, and which state follows which.

It is a part of :class:`~livesync.manager.SyncManager`, in whose object all of it lies.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from BTrees.OOBTree import OOBTree

from . import leases, timetable
from .action import DATA_CHANGED, check_actions, check_object_id
from .agent import MissingAgent, State, StopReason, SyncAgent, agent_type_name, load_agent_type
from .errors import OptionError, PositionPruned, StateForbids, UnknownAgent, UnknownAgentType, UnknownTask
from .track import queue
from .track.multipointer import ListMultiPointerTrack
from .track.stored import StoredAgent, StoredTask


class Readers:
    """What a manager knows of those who follow its track, and of its periodic tasks.

    Attributes:
        track: On which the agents have their pointers.
    """

    track: ListMultiPointerTrack
    #: id -> StoredAgent
    _agents: Any
    #: id -> StoredTask, or None: there was never one.
    _tasks: Any = None

    # -- agents ----------------------------------------------------------------------------------

    @property
    def agents(self) -> Mapping[str, SyncAgent]:
        """The registered agents by id, each made anew from what is stored; loading types as needed."""
        return {agent_id: self.get_agent(agent_id) for agent_id in self._agents}

    def agent_ids(self) -> list[str]:
        """Return the ids of the registered agents, sorted."""
        return list(self._agents)

    def stored(self, agent_id: str) -> StoredAgent:
        """Return what is kept of an agent; live, within the manager's connection.

        Raises:
            UnknownAgent: There is none of this id.
        """
        found: StoredAgent | None = self._agents.get(agent_id)
        if found is None:
            raise UnknownAgent(agent_id)
        return found

    def get_agent(self, agent_id: str) -> SyncAgent:
        """Return an agent as it was registered.

        One whose type cannot be loaded, or no longer takes its options, is a :class:`MissingAgent`.

        Raises:
            UnknownAgent: There is none of this id.
        """
        stored = self.stored(agent_id)
        try:
            agent_type = load_agent_type(stored.type_name)
            return agent_type(agent_id, stored.name, stored.description, **stored.options)
        except (UnknownAgentType, OptionError) as exc:
            return MissingAgent(agent_id, stored.name, stored.description, stored.type_name, str(exc))

    def register_agent(self, agent: SyncAgent) -> None:
        """Add an agent, in state ``new``; it has no pointer until it is activated.

        Raises:
            ValueError: There is one of its id.
        """
        if agent.id in self._agents:
            raise ValueError(f"there is an agent {agent.id!r} already")
        self._agents[agent.id] = StoredAgent(
            agent_type_name(type(agent)), agent.name, agent.description, agent.given_options()
        )

    def edit_agent(
        self,
        agent_id: str,
        name: str | None = None,
        description: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> bool:
        """Change what an agent is; None leaves as it is, an option of None goes back to its default.

        Returns:
            Whether it now names another destination: it is then ``stopped: needs_export``.

        Raises:
            UnknownAgent, UnknownAgentType: There is no such agent, or its type cannot be loaded.
            OptionError: An option is unknown or has a value of a wrong form.
        """
        stored = self.stored(agent_id)
        agent_type = load_agent_type(stored.type_name)
        given = {**stored.options, **(options or {})}
        given = {key: value for key, value in given.items() if value is not None}
        agent = agent_type(agent_id, stored.name if name is None else name, stored.description, **given)
        before = {
            option.name: stored.options.get(option.name, option.default)
            for option in agent_type.declared_options()
            if option.identifies
        }
        moved = any(agent.values[key] != value for key, value in before.items())
        stored.name = agent.name
        stored.description = agent.description if description is None else description
        stored.options = agent.given_options()
        if moved and stored.state != State.NEW.value:
            self.stop_agent(agent_id, StopReason.NEEDS_EXPORT, "it names another destination now")
        return moved and stored.state != State.NEW.value

    def remove_agent(self, agent_id: str) -> None:
        """Remove an agent and its pointer; its destination stays as it is.

        Raises:
            UnknownAgent: There is none of this id.
        """
        self.stored(agent_id)
        if self.track.has_pointer(agent_id):
            self.track.remove_pointer(agent_id)
        del self._agents[agent_id]

    def activate(self, agent_id: str, from_start: bool = False, from_now: bool = False) -> None:
        """Let an agent run. A new one gets its pointer here; a paused or stopped one keeps its own.

        Args:
            from_start: A new agent's pointer stands before everything that is kept.
            from_now: A new agent's pointer stands at the last sealed position (the default).

        Raises:
            UnknownAgent: There is none of this id.
            StateForbids: An export is under way, or is what the agent needs.
        """
        stored = self.stored(agent_id)
        if stored.state == State.RECORDING.value:
            raise StateForbids(
                f"agent {agent_id!r} has an unfinished export; run: livesync agent export {agent_id}",
                agent_id=agent_id,
                state=stored.state,
            )
        if stored.state != State.NEW.value and (from_start or from_now):
            raise StateForbids(
                f"agent {agent_id!r} is {stored.state} and keeps its pointer;"
                f" to move it: livesync agent pause {agent_id}, then agent rewind {agent_id} --to P",
                agent_id=agent_id,
                state=stored.state,
            )
        if not self.track.has_pointer(agent_id):
            self.track.add_pointer(agent_id, self._start() if from_start else self._now())
        elif stored.reason == StopReason.NEEDS_EXPORT.value or self.track.pruned > self._pointer(agent_id):
            raise StateForbids(
                f"agent {agent_id!r} needs an export; run: livesync agent export {agent_id}",
                agent_id=agent_id,
                state=stored.state,
            )
        timetable.note_success(stored)  # whoever activates it wants it to run now
        # one that was paused in the middle of its export still lacks the rest of it
        become(stored, State.ACTIVE if stored.export is None else State.RECORDING)

    def pause(self, agent_id: str) -> None:
        """Keep an agent from running until it is activated again.

        Raises:
            UnknownAgent: There is none of this id.
            StateForbids: It is new, or stopped already.
        """
        stored = self.stored(agent_id)
        if stored.state == State.NEW.value:
            raise StateForbids(
                f"agent {agent_id!r} is new: there is nothing to pause", agent_id=agent_id, state=stored.state
            )
        if stored.state == State.STOPPED.value:
            raise StateForbids(
                f"agent {agent_id!r} is stopped ({stored.reason}): it does not run as it is",
                agent_id=agent_id,
                state=stored.state,
            )
        become(stored, State.PAUSED)

    def stop_agent(self, agent_id: str, reason: StopReason, detail: str = "") -> None:
        """Stop an agent on livesync's own account, with the reason."""
        become(self.stored(agent_id), State.STOPPED, reason, detail)

    def rewind(self, agent_id: str, position: int | None) -> None:
        """Move a paused agent's pointer back, or forward, on purpose (None: before everything kept).

        What it had delivered before is delivered again, with positions that its destination takes.

        Raises:
            UnknownAgent: There is none of this id.
            StateForbids: It is not paused.
            Leased: A run that began before it was paused has not ended yet.
            PositionPruned: What lies after the position is no longer kept.
            ValueError: The position is beyond the last sealed one.
        """
        stored = self.stored(agent_id)
        if stored.state != State.PAUSED.value:
            raise StateForbids(
                f"agent {agent_id!r} is {stored.state}: only a paused agent is rewound;"
                f" run: livesync agent pause {agent_id}",
                agent_id=agent_id,
                state=stored.state,
            )
        leases.check_free(agent_id, stored.lease, time.time())
        if position is None:
            position = self._start()
        if position is not None and position < self.track.pruned:
            raise PositionPruned(
                f"the track is pruned up to {self.track.pruned}: no pointer can stand at {position}",
                position=position,
                pruned=self.track.pruned,
            )
        if position is not None and position > self.track.sealed:
            raise ValueError(
                f"no pointer can stand at {position}: sealed is only what is at or before {self.track.sealed}"
            )
        stored.catching_up_to = max(stored.catching_up_to, self._pointer(agent_id), stored.attempted)
        stored.generation += 1
        self.track.move_pointer(agent_id, position)

    def set_interval(self, agent_id: str, seconds: float | None) -> None:
        """Let an agent run every so many seconds; None takes it off the schedule."""
        self.set_schedule(agent_id, seconds)

    def set_schedule(
        self, agent_id: str, interval_s: float | None = None, cron: str = "", zone: str = ""
    ) -> None:
        """Let an agent run every so many seconds, or when a cron expression says; neither: not by itself.

        Args:
            agent_id: The agent.
            interval_s: Seconds from the beginning of one run to that of the next.
            cron: Five fields, as cron has them.
            zone: The time zone of ``cron``, such as ``Europe/Rome``; "": UTC.

        Raises:
            UnknownAgent: There is none of this id.
            ValueError: The interval is not longer than 0 seconds, or both are given.
            UsageError: The expression or the zone is none, or the extra for expressions is missing.
        """
        timetable.set_schedule(self.stored(agent_id), interval_s, cron, zone, time.time())

    def enqueue(
        self, agent_id: str, object_ids: Iterable[str], words: Iterable[str] = (DATA_CHANGED,)
    ) -> int:
        """Have an agent send these objects as they will be then, apart from the track.

        Args:
            agent_id: The agent; its next runs send them.
            object_ids: The objects; those that do not exist are sent as deletes.
            words: The actions that the records carry.

        Returns:
            How many objects were queued.

        Raises:
            UnknownAgent: There is none of this id.
            StateForbids: It has no pointer yet.
            ValueError: An id or an action is none.
        """
        stored = self.stored(agent_id)
        self._check_pointer(agent_id)
        words = check_actions(words)
        count = 0
        for page in queue.pages_of(map(check_object_id, object_ids), words):
            queue.put(stored, page)
            count += len(page.ids)
        return count

    def dead_letters(self, agent_id: str) -> Mapping[str, Mapping[str, Any]]:
        """Return an agent's dead letters by object id: reason, op, position, time, attempts."""
        return self.stored(agent_id).dead  # type: ignore[no-any-return]

    # -- tasks -----------------------------------------------------------------------------------

    def task_ids(self) -> list[str]:
        """Return the ids of the periodic tasks, sorted."""
        return [] if self._tasks is None else list(self._tasks)

    def task(self, task_id: str) -> StoredTask:
        """Return what is kept of a periodic task; live, within the manager's connection.

        Raises:
            UnknownTask: There is none of this id.
        """
        found: StoredTask | None = None if self._tasks is None else self._tasks.get(task_id)
        if found is None:
            raise UnknownTask(task_id)
        return found

    def put_task(self, task_id: str, task: StoredTask) -> None:
        """Keep a periodic task; ``periodic.add_task`` checks it before.

        Raises:
            ValueError: There is one of its id.
        """
        if self._tasks is None:
            self._tasks = OOBTree()  # a manager made by an earlier release has none
        if task_id in self._tasks:
            raise ValueError(f"there is a task {task_id!r} already")
        self._tasks[task_id] = task

    def remove_task(self, task_id: str) -> None:
        """Remove a periodic task.

        Raises:
            UnknownTask: There is none of this id.
        """
        self.task(task_id)
        del self._tasks[task_id]

    # -- inside ----------------------------------------------------------------------------------

    def _start(self) -> int | None:
        return self.track.pruned if self.track.pruned >= 0 else None

    def _now(self) -> int | None:
        if self.track.sealed >= 0:
            return self.track.sealed
        # A track that was never sealed: what is on it lies before now all the same.
        return None if self.track.is_empty() else self.track.most_recent_ts()

    def _pointer(self, agent_id: str) -> int:
        position = self.track.get_pointer_timestamp(agent_id)
        return -1 if position is None else position

    def _check_pointer(self, agent_id: str) -> None:
        if not self.track.has_pointer(agent_id):
            raise StateForbids(
                f"agent {agent_id!r} has no pointer yet; run: livesync agent export {agent_id},"
                f" or livesync agent activate {agent_id} --from-now or --from-start",
                agent_id=agent_id,
                state=self.stored(agent_id).state,
            )


def become(stored: StoredAgent, state: State, reason: StopReason | None = None, detail: str = "") -> None:
    """Give an agent a state, with the reason where it is stopped."""
    stored.state = state.value
    stored.reason = "" if reason is None else reason.value
    stored.detail = detail
