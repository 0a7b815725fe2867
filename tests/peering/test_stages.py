import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livesync.peering.controller import SessionController, StageEvent
from livesync.peering.stages import Stage, Status, check_step, stages_until

STANDINGS = list(itertools.product(Stage, Status))


@given(st.sampled_from(STANDINGS), st.sampled_from(STANDINGS))
def test_no_stage_is_gone_back_to_or_skipped(now, then):
    try:
        check_step(*now, *then)
    except ValueError:
        return

    assert then[0].number - now[0].number in (0, 1)
    if then[0] is not now[0]:
        assert now[1] is Status.COMPLETED
        assert then[1] in (Status.PENDING, Status.STARTED)


def test_a_stage_that_is_completed_stays_so():
    for status in set(Status) - {Status.COMPLETED}:
        with pytest.raises(ValueError, match="does not go from queuing"):
            check_step(Stage.QUEUING, Status.COMPLETED, Stage.QUEUING, status)


@pytest.mark.parametrize("status", Status)
def test_what_is_left_begins_with_the_stage_that_is_not_completed(status):
    left = stages_until(Stage.QUEUING, status, Stage.DEQUEUING)

    assert left == tuple(Stage)[2 + (status is Status.COMPLETED) : 5]


class Context:
    transfer_id = "t"

    def __init__(self):
        self.now = (Stage.INITIALIZING, Status.PENDING)
        self.error = ""

    def standing(self):
        return self.now

    def is_long(self, stage):
        return True

    def become(self, stage, status, error=""):
        check_step(*self.now, stage, status)
        self.now, self.error = (stage, status), error


def chain(*answers):
    calls = []

    def operation(answer):
        def call(context):
            calls.append(answer)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    return calls, [operation(answer) for answer in answers]


def test_the_first_operation_that_takes_a_stage_decides():
    calls, operations = chain(False, Status.COMPLETED, Status.ERRORED)
    context = Context()

    status = SessionController({Stage.INITIALIZING: operations}).proceed_to(Stage.INITIALIZING, context)

    assert status is Status.COMPLETED
    assert calls == [False, Status.COMPLETED]
    assert context.now == (Stage.INITIALIZING, Status.COMPLETED)


def test_a_stage_that_nobody_takes_is_a_mistake():
    with pytest.raises(NotImplementedError, match="no operation takes initializing"):
        SessionController({Stage.INITIALIZING: chain(False)[1]}).proceed_to(Stage.CLEANUP, Context())


def test_a_stage_that_stays_pending_is_waited_for():
    _, pending = chain(Status.PENDING)
    later, completed = chain(Status.COMPLETED)
    context = Context()

    status = SessionController({Stage.INITIALIZING: pending, Stage.SERIALIZING: completed}).proceed_to(
        Stage.SERIALIZING, context
    )

    assert status is Status.PENDING
    assert later == []
    assert context.now == (Stage.INITIALIZING, Status.PENDING)


def test_a_stage_that_failed_says_why_and_is_run_again():
    events = []
    context = Context()
    _, broken = chain(OSError("no room\nleft"))
    _, good = chain(Status.COMPLETED)

    with pytest.raises(OSError, match="no room"):
        SessionController({Stage.INITIALIZING: broken}, [events.append]).proceed_to(Stage.CLEANUP, context)
    failed = (context.now, context.error)
    SessionController({Stage.INITIALIZING: good}, [events.append]).proceed_to(Stage.INITIALIZING, context)

    assert failed == ((Stage.INITIALIZING, Status.ERRORED), "OSError: no room left")
    assert context.now == (Stage.INITIALIZING, Status.COMPLETED)
    assert context.error == ""
    assert [event.moment for event in events] == ["started", "failed", "started", "completed"]
    assert all(isinstance(event, StageEvent) and event.transfer_id == "t" for event in events)
