"""What the node says of its own accord: each state once, the first drop of each cause, prompts; never without end."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from said_log import SaidLog

from sam2s_model.errors import ErrorCode, RequestError
from sam2s_ros.interfaces.parameters import TRACKER
from sam2s_ros.interfaces.status_text import DROP_CAUSES
from sam2s_ros.msg import TrackerStatus
from sam2s_ros.tracker.event_log import PERIOD, REQUESTS_A_PERIOD, STATES_A_PERIOD, EventLog
from sam2s_ros.tracker.health import ImageOutcome

RUNNING, STALE, ERROR = TrackerStatus.STATE_RUNNING, TrackerStatus.STATE_STALE_INPUT, TrackerStatus.STATE_ERROR


class Said:
    """An event log with a clock of the test's own."""

    def __init__(self):
        self.log, self.now = SaidLog(), 100.0
        self.events = EventLog(self.log, lambda: self.now)

    def beat(self, state: int = RUNNING, after: float = 0.1, **counts: int) -> None:
        self.now += after
        self.events.status(TrackerStatus(state=state, message="1 object", **counts))


@pytest.fixture
def said() -> Said:
    return Said()


def test_each_change_of_state_is_said_once_and_as_loud_as_it_is(said):
    for state in (RUNNING, RUNNING, STALE, STALE, RUNNING):
        said.beat(state)
    assert said.log.infos == ["RUNNING: 1 object"] * 2 and said.log.warnings == ["STALE_INPUT: 1 object"]


def test_a_state_that_flaps_does_not_fill_the_log_and_the_last_one_is_said(said):
    for i in range(100):
        said.beat((RUNNING, ERROR)[i % 2])
    assert len(said.log.infos) + len(said.log.warnings) == STATES_A_PERIOD
    said.beat(STALE, after=PERIOD)
    unsaid = 100 - STATES_A_PERIOD
    assert said.log.warnings[-1] == f"STALE_INPUT: 1 object (after {unsaid} changes that were not said)"


@pytest.mark.parametrize("cause", DROP_CAUSES)
def test_the_first_drop_of_each_cause_is_said_with_what_to_change(said, cause):
    said.beat()
    said.beat(**{cause: 1})
    lines = said.log.infos + said.log.warnings
    assert f"first image dropped ({cause}): " in lines[-1] and DROP_CAUSES[cause].advice in lines[-1]
    said.beat(**{cause: 50})
    assert len(said.log.infos + said.log.warnings) == len(lines), "not at every beat"
    said.beat(after=PERIOD, **{cause: 80})
    [more] = (
        (said.log.infos + said.log.warnings)[len(lines) :]
        if not DROP_CAUSES[cause].expected
        else [line for line in said.log.infos if " more " in line]
    )
    assert more.startswith("79 more images dropped in 60 s") and f"({cause}, 80 in all)" in more


def test_after_a_configure_drops_are_counted_anew(said):
    said.beat(dropped_late=7)
    said.beat()
    said.beat(dropped_late=1)
    assert sum("first image dropped (dropped_late)" in line for line in said.log.warnings) == 2


def test_every_cause_is_explained_and_the_parameters_that_are_named_exist():
    assert set(DROP_CAUSES) == {outcome.value for outcome in ImageOutcome if outcome is not ImageOutcome.PUBLISHED}
    words = {word.strip(",;") for cause in DROP_CAUSES.values() for word in cause.advice.split() if "_" in word}
    assert {word for word in words if "/" not in word} <= set(TRACKER.specs()), words


def test_prompts_and_refusals_are_said_and_a_flood_of_them_is_counted(said):
    tracks = SimpleNamespace(class_names=("grasper",), index=lambda _: 0)
    answer = SimpleNamespace(stamp=12 * 10**9, object_ids=(3,), tracks=tracks)
    said.events.prompted(answer, "~/click")
    assert said.log.infos == ["~/click: object 3 (grasper) prompted on the image 12.000000000"]
    for _ in range(REQUESTS_A_PERIOD + 5):
        said.events.refused(RequestError(ErrorCode.NO_IMAGE, "no image so far"), "~/add_prompts")
    assert said.log.warnings == ["~/add_prompts refused, NO_IMAGE: no image so far"] * REQUESTS_A_PERIOD
    said.now += PERIOD
    said.events.refused(RequestError(ErrorCode.NO_IMAGE, "no image so far"), "~/add_prompts")
    assert said.log.warnings[-1].endswith("(5 more such lines were left out before)")
