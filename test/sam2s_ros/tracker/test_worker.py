"""The worker and its frames: which are tracked, dropped and refused, what it survives, how it starts and stops."""

import gc
import random
import threading
import time

import pytest
from echo_worker import Bench, EchoTracker, decode, frame
from said_log import SaidLog

from sam2s_model.errors import ErrorCode, ImageError, RequestError
from sam2s_ros.interfaces import messages
from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.msg import TrackerStatus
from sam2s_ros.tracker.health import Health, ImageOutcome, NodeState
from sam2s_ros.tracker.worker import Worker, WorkerFrame, WorkerLinks


def test_p01_every_mask_is_of_the_image_whose_header_it_carries(bench):
    chance = random.Random(0)
    b = bench(before_step=lambda: time.sleep(chance.random() * 2e-4))
    for number in range(1, 10_001):
        b.put(frame(number))
        if number % 3 == 0:
            time.sleep(chance.random() * 3e-4)
    b.settle()
    counts = b.health.counts()
    assert counts.received == 10_000
    assert counts.by_outcome[ImageOutcome.PUBLISHED] + counts.by_outcome[ImageOutcome.OVERLOAD] == 10_000
    assert counts.by_outcome[ImageOutcome.PUBLISHED] == len(b.results) > 100
    stamps = [messages.to_ns(r.frame.header.stamp) for r in b.results]
    assert stamps == sorted(set(stamps)) and stamps[-1] == 10_000  # the newest frame is never the one that is dropped
    for result, stamp in zip(b.results, stamps, strict=True):
        assert decode(result.tracks.label_map) == decode(result.image[..., 0]) == result.tracks.stamp == stamp


def test_p06_overload_drops_the_waiting_frame_and_counts_it(bench):
    held, entered = threading.Event(), threading.Event()
    b = bench(before_step=lambda: (entered.set(), held.wait(5)))
    b.put(frame(1))
    assert entered.wait(5)
    for number in (2, 3, 4):
        b.put(frame(number))
    assert b.health.counts().waiting == 2
    held.set()
    b.settle()
    assert [decode(r.tracks.label_map) for r in b.results] == [1, 4]
    assert b.health.counts().by_outcome[ImageOutcome.OVERLOAD] == 2


def test_p27_an_exception_in_a_step_is_counted_reported_and_survived(bench):
    def fail():
        if len(b.tracker.stamps) == 1 and not b.log.warnings:
            raise RuntimeError("boom")

    b = bench(before_step=fail)
    counts = b.run(frame(1), frame(2), frame(3))
    assert counts.by_outcome[ImageOutcome.ERROR] == 1 and counts.by_outcome[ImageOutcome.PUBLISHED] == 2
    assert b.log.warnings == ["the last step failed: RuntimeError: boom"]


def test_p27_in_quarantine_nothing_is_tried_until_a_request_that_cures(bench):
    broken = [True]

    def fail():
        if broken[0]:
            raise RuntimeError("boom")

    b = bench(before_step=fail, max_step_errors=2)
    b.run(frame(1), frame(2))
    assert len(b.quarantined) == 1 and "2 steps in a row failed (max_step_errors is 2)" in b.quarantined[0]
    broken[0] = False
    assert b.run(frame(3)).by_outcome[ImageOutcome.ERROR] == 3 and b.tracker.stamps == []
    with pytest.raises(RequestError, match="until ~/reset") as caught:
        b.worker.request(lambda tracker: None, timeout=5)
    assert caught.value.code == ErrorCode.INTERNAL
    with pytest.raises(ZeroDivisionError):
        b.worker.request(lambda tracker: 1 / 0, timeout=5, cures=True)
    assert b.worker.quarantine.reason, "the cure failed"
    b.worker.request(lambda tracker: tracker.reset(), timeout=5, cures=True)
    assert b.run(frame(4)).by_outcome[ImageOutcome.PUBLISHED] == 1


def test_an_image_that_does_not_decode_is_a_dropped_image(bench):
    def broken():
        raise ImageError("empty jpeg")

    b = bench()
    counts = b.run(frame(1, image=broken), frame(2))
    assert counts.by_outcome[ImageOutcome.IMAGE] == 1 and counts.by_outcome[ImageOutcome.PUBLISHED] == 1
    assert b.log.warnings == ["image refused: empty jpeg"]


def test_a_refusal_in_the_worker_is_an_error_in_the_status_until_masks_go_out_again(bench):
    def broken():
        raise ImageError("empty jpeg")

    def state():
        at = NodeState(now=1, at=1.0, view=b.worker.view, busy=None, active=True, enabled=True)
        return b.health.status(at, NodeConfig(input_timeout=60.0))

    b = bench()
    for number, image, wanted in ((1, None, "RUNNING"), (2, broken, "ERROR"), (3, None, "RUNNING")):
        b.health.accepted(number, 1)
        b.run(frame(number, image=image))
        assert state().state == getattr(TrackerStatus, f"STATE_{wanted}"), (number, state().message)
        assert ("since stamp 0.000000001: empty jpeg" in state().message) == (wanted == "ERROR")


def test_p30_a_change_takes_effect_between_frames(bench):
    held, entered = threading.Event(), threading.Event()
    b = bench(before_step=lambda: (entered.set(), held.wait(5)), max_output_age=1.0)
    b.put(frame(1))
    assert entered.wait(5)
    b.worker.config = NodeConfig(max_output_age=2.0)
    held.set()
    b.settle()
    b.run(frame(2))
    assert [r.config.max_output_age for r in b.results] == [1.0, 2.0]


def test_p10_the_thread_says_that_it_is_alive_between_steps_only(bench):
    held, entered, alive = threading.Event(), threading.Event(), []
    b = bench(before_step=lambda: (entered.set(), held.wait(5)), alive=lambda: alive.append(threading.get_ident()))
    deadline = time.monotonic() + 10
    while len(alive) < 3 and time.monotonic() < deadline:  # without a frame
        time.sleep(0.01)
    assert set(alive) == {b.tracker.thread} and len(alive) >= 3
    b.put(frame(1))
    assert entered.wait(5)
    count = len(alive)
    time.sleep(0.3)
    assert len(alive) == count
    held.set()
    b.settle()
    b.worker.request(lambda tracker: None, timeout=5)
    assert len(alive) > count


def test_what_was_there_before_the_tracker_is_left_out_of_garbage_collections(bench):
    gc.unfreeze()
    bench()
    assert gc.get_freeze_count() > 10_000


def test_discard_drops_only_the_waiting_frame(bench):
    held, entered = threading.Event(), threading.Event()
    b = bench(before_step=lambda: (entered.set(), held.wait(5)))
    b.put(frame(1))
    assert entered.wait(5)
    b.put(frame(2))
    b.worker.discard()
    held.set()
    b.settle()
    assert len(b.results) == 1 and b.health.counts().by_outcome[ImageOutcome.DISABLED] == 1


def test_what_build_raises_comes_out_of_start():
    def build():
        raise FileNotFoundError("no such checkpoint")

    worker = Worker(build, Bench, WorkerLinks(Health(), SaidLog()), config=NodeConfig())
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        worker.start()
    assert worker.stop(5)


def test_stop_right_after_start_ends_without_an_error(monkeypatch):
    raised = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    for _ in range(20):
        assert Bench().worker.stop(5)
    assert raised == []


def test_p29_stop_has_a_time_limit_and_refuses_what_waits():
    held, entered, said = threading.Event(), threading.Event(), []
    b = Bench(before_step=lambda: (entered.set(), held.wait(10)), step_timeout=60.0)
    b.put(frame(1))
    assert entered.wait(5)
    b.put(frame(2))

    def ask():
        try:
            b.worker.request(lambda tracker: None, timeout=30)
        except RequestError as error:
            said.append((error.code, str(error)))

    client = threading.Thread(target=ask)
    client.start()
    while len(b.worker._mailbox._requests) == 0:
        time.sleep(0.001)
    began = time.monotonic()
    assert not b.worker.stopped
    assert b.worker.stop(0.1) is False and b.worker.stopped and time.monotonic() - began < 15
    client.join(5)
    assert said == [(ErrorCode.NOT_ACTIVE, "the tracker was stopped before it answered")]
    assert b.health.counts().by_outcome[ImageOutcome.DISABLED] == 1  # the one that waited
    b.put(frame(3))
    assert b.health.counts().by_outcome[ImageOutcome.DISABLED] == 2
    with pytest.raises(RequestError, match="the tracker is stopped"):
        b.worker.request(lambda tracker: None, timeout=1)
    assert b.closed == [], "it may still do something"
    held.set()
    assert b.worker.stop(5) is True
    assert b.health.counts().waiting == 0 and b.closed == [b.tracker.thread]


@pytest.mark.parametrize("of", ["a step", "a request", "discovery", "preparation"])
def test_p27_where_only_another_process_helps_no_request_cures(bench, monkeypatch, of):
    def fail(*_):
        raise RuntimeError("CUDA error: unspecified launch failure")

    if of == "preparation":
        monkeypatch.setattr(EchoTracker, "prepare", fail)
    between = fail if of == "discovery" else lambda *_: False
    b = bench(before_step=fail if of == "a step" else lambda: None, between=between, max_output_age=0.0)
    if of == "a request":
        with pytest.raises(RuntimeError, match="unspecified launch failure"):
            b.worker.request(fail, timeout=5)
    else:
        b.run(frame(1))
    wait_for(lambda: b.quarantined)
    [why] = b.quarantined
    assert "cannot use the GPU any more (RuntimeError: CUDA error: unspecified launch failure)" in why
    with pytest.raises(RequestError, match="cannot use the GPU any more"):
        b.worker.request(lambda tracker: tracker.reset(), timeout=5, cures=True)
    before = list(b.tracker.stamps)
    b.run(frame(2))
    assert b.tracker.stamps == before and b.tracker.resets == 0 and b.quarantined == [why]


def test_a_tracker_prepares_its_next_steps_while_nothing_waits(bench, monkeypatch):
    prepared, begun, go = [], threading.Event(), threading.Event()

    def prepare(tracker):
        assert threading.get_ident() == tracker.thread
        prepared.append(tracker.stamps[-1])
        if len(prepared) == 2:
            raise RuntimeError("CUDA error")

    def before_step():
        begun.set()
        assert go.wait(5)

    monkeypatch.setattr(EchoTracker, "prepare", prepare)
    b = bench(before_step)
    b.put(frame(1))
    assert begun.wait(5)
    b.put(frame(2))  # it waits while the first is tracked
    go.set()
    b.settle()
    for number in (3, 4, 5):
        b.run(frame(number))
        deadline = time.monotonic() + 5
        while len(prepared) < min(2, number - 1) and time.monotonic() < deadline:
            time.sleep(0.001)
    assert prepared == [2, 3], "not while the second waited, and not after it had failed"
    assert [line for line in b.log.warnings if "left to them from here on: RuntimeError: CUDA error" in line]


def test_p47_discovery_runs_between_frames_that_are_in_time(bench):
    """Not after one that was late, and what it did to the tracker is seen at once."""
    seen = []

    def between(tracker, result):
        seen.append((result.frame.stamp, len(b.results)))
        tracker.revision += 1
        return True

    b = bench(between=between, max_output_age=10.0)
    b.run(frame(1), frame(2))
    wait_for(lambda: len(seen) == 2)
    assert seen == [(1, 1), (2, 2)], "a frame is published before discovery looks at it"
    wait_for(lambda: b.worker.view.revision == 2)
    late = frame(3)
    b.put(WorkerFrame(**{**vars(late), "arrived": late.arrived - 11}))
    b.settle()
    b.run(frame(4))
    wait_for(lambda: len(seen) == 3)
    assert seen[-1][0] == 4


def test_p28_p47_discovery_does_not_look_at_a_frame_that_was_not_published(bench):
    """The node was deactivated, or switched off, while it was tracked."""
    seen = []
    b = bench(between=lambda tracker, result: seen.append(result.frame.stamp))
    b.publishing = False
    b.run(frame(1), frame(2))
    b.publishing = True
    b.run(frame(3))
    wait_for(lambda: seen)
    assert seen == [3]


def test_p47_images_that_come_while_discovery_looks_replace_one_another(bench):
    entered, held, seen = threading.Event(), threading.Event(), []

    def between(tracker, result):
        seen.append(result.frame.stamp)
        entered.set()
        return held.wait(5)

    b = bench(between=between)
    b.put(frame(1))
    assert entered.wait(5)
    for number in (2, 3, 4):
        b.put(frame(number))
    held.set()
    b.settle()
    assert [messages.to_ns(r.frame.header.stamp) for r in b.results] == [1, 4]
    assert b.health.counts().by_outcome[ImageOutcome.OVERLOAD] == 2


def test_p47_discovery_that_fails_is_said_and_images_go_on(bench):
    def between(tracker, result):
        raise RuntimeError("injected")

    b = bench(between=between)
    b.run(frame(1), frame(2))
    wait_for(lambda: len(b.log.warnings) == 2)
    assert b.log.warnings[0] == "discovery failed: RuntimeError: injected" and len(b.results) == 2
    assert b.worker.busy() is None


def wait_for(predicate):
    deadline = time.monotonic() + 5
    while not predicate() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert predicate()
