"""The worker with a tracker of a few lines that obeys the same contract and writes the frame's number into the mask."""

import gc
import random
import threading
import time

import numpy as np
import pytest
from std_msgs.msg import Header

from sam2s_model.errors import ErrorCode, ImageError, RequestError, StampError
from sam2s_model.tracks import Tracks
from sam2s_ros.interfaces import messages
from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.msg import TrackerStatus
from sam2s_ros.tracker.health import Health, ImageOutcome, NodeState, TrackerSnapshot
from sam2s_ros.tracker.outputs import answer_message
from sam2s_ros.tracker.worker import Worker, WorkerFrame


class EchoTracker:
    """The label map is the image's first channel: a frame that carries its number gets it back."""

    name = "echo/none"
    object_ids, newest, revision, next_id = (), None, 0, 1

    def __init__(self, before_step=lambda: None):
        self.before_step, self.stamps, self.resets, self.thread = before_step, [], 0, threading.get_ident()

    def step(self, stamp, image):
        assert threading.get_ident() == self.thread, "a tracker belongs to the thread that made it"
        self.before_step()
        if self.stamps and stamp <= self.stamps[-1]:
            raise StampError(f"stamp {stamp} is not after {self.stamps[-1]}")
        if self.newest is not None and image.shape[:2] != self.newest.size:
            raise ImageError("another size")
        self.stamps.append(stamp)
        empty = Tracks.empty(stamp, *image.shape[:2], self.revision)
        empty.label_map[:] = image[..., 0]
        self.newest = empty
        return empty

    def reset(self):
        self.newest, self.stamps, self.resets, self.revision = None, [], self.resets + 1, self.revision + 1

    def memory_bytes(self):
        return 5

    def device_description(self):
        return "echo"


def encode(number, height=4, width=4):
    """An image whose pixels spell the number, 8 bits each."""
    image = np.zeros((height, width, 3), np.uint8)
    image[0, :4, 0] = np.frombuffer(np.uint32(number).tobytes(), np.uint8)
    return image


def decode(label_map):
    return int(np.frombuffer(label_map[0, :4].tobytes(), np.uint32)[0])


def frame(number, *, epoch=0, frame_id="cam", image=None, stamp=None):
    image = encode(number) if image is None else image
    make = image if callable(image) else lambda: image
    stamp = number if stamp is None else stamp
    return WorkerFrame(
        Header(stamp=messages.to_time(stamp), frame_id=frame_id), stamp, epoch, make, received=time.time_ns()
    )


class Bench:
    """A worker, what it delivered, and what it said."""

    def __init__(
        self,
        before_step=lambda: None,
        publishing=True,
        alive=lambda: None,
        between=lambda tracker, result: False,
        **config,
    ):
        self.health, self.results, self.events, self.troubles, self.publishing = Health(), [], [], [], publishing
        self.quarantined = []
        self.tracker = None

        def build():
            self.tracker = EchoTracker(before_step)
            return self.tracker

        self.worker = Worker(
            build,
            self.deliver,
            health=self.health,
            config=NodeConfig(**config),
            history=3,
            alive=alive,
            quarantined=self.quarantined.append,
            between=between,
            event=self.events.append,
            trouble=self.troubles.append,
        )
        self.worker.start()

    def deliver(self, result):
        if self.publishing:
            self.results.append(result)
            self.health.published(result.tracks.stamp, 0, latency=0.0, step=result.step)
        else:
            self.health.ended(ImageOutcome.DISABLED)
        return len(self.results) if self.publishing else 0

    def put(self, item):
        self.health.received()
        self.worker.put(item)

    def run(self, *frames):
        """Put frames one by one, each processed before the next; return the counts."""
        for item in frames:
            self.put(item)
            self.settle()
        return self.health.counts()

    def settle(self):
        deadline = time.monotonic() + 5
        while self.health.counts().waiting and time.monotonic() < deadline:
            time.sleep(0.0005)
        assert self.health.counts().waiting == 0


@pytest.fixture
def bench():
    made = []

    def make(*args, **kwargs):
        made.append(Bench(*args, **kwargs))
        return made[-1]

    yield make
    for one in made:
        assert one.worker.stop(5)


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
    for result, stamp in zip(b.results, stamps):
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
        if len(b.tracker.stamps) == 1 and not b.troubles:
            raise RuntimeError("boom")

    b = bench(before_step=fail)
    counts = b.run(frame(1), frame(2), frame(3))
    assert counts.by_outcome[ImageOutcome.ERROR] == 1 and counts.by_outcome[ImageOutcome.PUBLISHED] == 2
    assert b.troubles == ["the last step failed: RuntimeError: boom"]


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
    assert b.troubles == ["image refused: empty jpeg"]


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


@pytest.mark.parametrize(
    "second, said",
    [
        (dict(image=encode(2, 6, 8)), "the image is 8x6 of frame_id 'cam' instead of 4x4 of 'cam'"),
        (dict(frame_id="other"), "the image is 4x4 of frame_id 'other' instead of 4x4 of 'cam'"),
    ],
)
def test_p18_a_change_of_size_or_frame_id_follows_the_policy(bench, second, said):
    b = bench(on_size_change="reset")
    assert b.run(frame(1), frame(2, **second), frame(3, **second)).by_outcome[ImageOutcome.PUBLISHED] == 3
    assert b.tracker.resets == 1 and b.events == [f"{said}: all objects were dropped, prompt again"]

    b = bench(on_size_change="refuse")
    counts = b.run(frame(1), frame(2, **second), frame(3))
    assert (counts.by_outcome[ImageOutcome.PUBLISHED], counts.by_outcome[ImageOutcome.IMAGE]) == (2, 1)
    assert b.tracker.resets == 0 and said in b.troubles[0]


def test_p18_a_refused_stream_is_taken_up_after_forget_stream(bench):
    b = bench(on_size_change="refuse")
    b.run(frame(5))
    b.worker.request(lambda tracker: (tracker.reset(), b.worker.forget_stream()), timeout=5)
    assert b.run(frame(2, image=encode(2, 6, 8), epoch=1)).by_outcome[ImageOutcome.PUBLISHED] == 2
    assert b.tracker.resets == 1 and b.events == []  # nothing is dropped twice


def test_p02_a_new_epoch_resets_and_stamps_begin_anew(bench):
    b = bench()
    assert b.run(frame(10**9), frame(5, epoch=1), frame(6, epoch=1)).by_outcome[ImageOutcome.PUBLISHED] == 3
    assert b.tracker.resets == 1 and b.events == [
        "stamps jumped back to 0.000000005: all objects were dropped, prompt again"
    ]


def test_p02_an_epoch_whose_first_frame_was_dropped_still_resets(bench):
    held, entered = threading.Event(), threading.Event()
    b = bench(before_step=lambda: (entered.set(), held.wait(5)))
    b.put(frame(100))
    assert entered.wait(5)
    b.put(frame(5, epoch=1))
    b.put(frame(6, epoch=1))
    held.set()
    b.settle()
    assert [r.frame.stamp for r in b.results] == [100, 6] and b.tracker.resets == 1


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


def test_a_request_runs_in_the_thread_and_brings_the_view(bench):
    b = bench()
    b.run(frame(7))
    thread, view = b.worker.request(lambda tracker: threading.get_ident(), timeout=5)
    assert thread == b.tracker.thread != threading.get_ident()
    assert view.newest.stamp == view.frames[-1].stamp == messages.to_ns(view.frames[-1].header.stamp) == 7
    assert (view.model, view.device, view.memory_bytes) == ("echo/none", "echo", 5)


def test_the_view_of_a_request_has_the_sequence_of_its_frame(bench):
    b = bench()
    view = lambda: b.worker.request(lambda tracker: None, timeout=5)[1]  # noqa: E731
    assert view().frames == ()
    b.run(frame(1), frame(2))
    before = view()
    b.run(frame(3))
    assert (before.frames[-1].sequence, view().frames[-1].sequence) == (2, 3) and before.newest.stamp == 2
    assert answer_message(before.newest, before).sequence == 2
    b.publishing = False
    b.run(frame(4))
    assert view().frames[-1].sequence == 0  # not published, so there is no message of it


def test_p20_the_answer_of_a_late_prompt_is_of_its_frame(bench):
    b = bench()
    for number in range(1, 5):
        b.run(frame(number, frame_id="cam"))
    _, view = b.worker.request(lambda tracker: None, timeout=5)
    assert [f.stamp for f in view.frames] == [2, 3, 4], "as many as can be prompted"
    msg = answer_message(Tracks.empty(3, 4, 4), view)
    assert msg.header == Header(stamp=messages.to_time(3), frame_id="cam") and msg.sequence == 3
    assert 0 < messages.to_ns(msg.received) <= messages.to_ns(msg.finished)
    b.run(frame(5, image=encode(5, height=6)))
    assert [f.stamp for f in b.worker.request(lambda tracker: None, timeout=5)[1].frames] == [5], "another stream"


def test_an_answer_without_a_header_has_the_stamp():
    msg = answer_message(Tracks.empty(7, 6, 8), TrackerSnapshot())
    assert msg.header == Header(stamp=messages.to_time(7)) == msg.label_image.header and msg.sequence == 0


def test_p04_the_view_is_renewed_when_a_request_raises(bench):
    b = bench()

    def use_up_an_id(tracker):
        tracker.next_id = 5
        raise RequestError(ErrorCode.INVALID_PROMPT, "the second of two")

    with pytest.raises(RequestError, match="the second of two"):
        b.worker.request(use_up_an_id, timeout=5)
    assert b.worker.view.next_id == 5


def test_p21_errors_of_a_request_come_back_and_the_worker_goes_on(bench):
    b = bench()

    def refuse(tracker):
        raise RequestError(ErrorCode.UNKNOWN_OBJECT, "no such object")

    with pytest.raises(RequestError, match="no such object"):
        b.worker.request(refuse, timeout=5)
    with pytest.raises(ZeroDivisionError):
        b.worker.request(lambda tracker: 1 / 0, timeout=5)
    assert b.run(frame(1)).by_outcome[ImageOutcome.PUBLISHED] == 1


def test_p21_a_request_that_timed_out_before_it_began_never_takes_effect(bench):
    held, entered, effects = threading.Event(), threading.Event(), []
    b = bench(before_step=lambda: (entered.set(), held.wait(5)), step_timeout=60.0)
    b.put(frame(1))
    assert entered.wait(5)
    with pytest.raises(RequestError, match=r"no answer within 0\.05 s .*nothing was changed") as caught:
        b.worker.request(lambda tracker: effects.append("late"), timeout=0.05)
    assert caught.value.code == ErrorCode.TIMEOUT
    held.set()
    b.settle()
    b.worker.request(lambda tracker: effects.append("after"), timeout=5)
    assert effects == ["after"]


def test_p21_a_request_that_timed_out_after_it_began_says_so(bench):
    b, held = bench(), threading.Event()
    with pytest.raises(RequestError, match="it has begun and may still take effect"):
        b.worker.request(lambda tracker: held.wait(5), timeout=0.05)
    held.set()


def test_p11_while_a_step_is_longer_than_step_timeout_requests_are_refused_at_once(bench):
    held, entered = threading.Event(), threading.Event()
    b = bench(before_step=lambda: (entered.set(), held.wait(5)), step_timeout=0.05)
    b.put(frame(1))
    assert entered.wait(5)
    time.sleep(0.1)
    began = time.monotonic()
    with pytest.raises(
        RequestError, match=r"has worked on one image for 0\.\d s \(step_timeout is 0\.05 s\)"
    ) as caught:
        b.worker.request(lambda tracker: None, timeout=5)
    assert caught.value.code == ErrorCode.TIMEOUT and time.monotonic() - began < 2
    assert b.worker.busy() > 0.05
    held.set()
    b.settle()
    assert b.worker.request(lambda tracker: "fine", timeout=5)[0] == "fine"


def test_what_build_raises_comes_out_of_start():
    def build():
        raise FileNotFoundError("no such checkpoint")

    worker = Worker(build, lambda result: True, health=Health(), config=NodeConfig(), event=print, trouble=print)
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
    assert b.worker.stop(0.1) is False and b.worker.stopped and time.monotonic() - began < 3
    client.join(5)
    assert said == [(ErrorCode.NOT_ACTIVE, "the tracker was stopped before it answered")]
    assert b.health.counts().by_outcome[ImageOutcome.DISABLED] == 1  # the one that waited
    b.put(frame(3))
    assert b.health.counts().by_outcome[ImageOutcome.DISABLED] == 2
    with pytest.raises(RequestError, match="the tracker is stopped"):
        b.worker.request(lambda tracker: None, timeout=1)
    held.set()
    assert b.worker.stop(5) is True
    assert b.health.counts().waiting == 0


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

    monkeypatch.setattr(EchoTracker, "prepare", prepare, raising=False)
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
    assert [line for line in b.troubles if "left to them from here on: RuntimeError: CUDA error" in line]


def test_p47_discovery_runs_between_frames_that_are_in_time(bench):
    """Not after one that was late, nor while another waits, and what it did to the tracker is seen at once."""
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


def test_p47_discovery_waits_while_an_image_waits(bench):
    held, seen = threading.Event(), []
    b = bench(before_step=lambda: held.wait(5), between=lambda tracker, result: seen.append(result.frame.stamp))
    b.put(frame(1))
    wait_for(lambda: b.worker.busy() is not None)
    b.put(frame(2))
    held.set()
    b.settle()
    wait_for(lambda: seen)
    assert seen == [2]


def test_p47_discovery_that_fails_is_said_and_images_go_on(bench):
    def between(tracker, result):
        raise RuntimeError("injected")

    b = bench(between=between)
    b.run(frame(1), frame(2))
    wait_for(lambda: len(b.troubles) == 2)
    assert b.troubles[0] == "discovery failed: RuntimeError: injected" and len(b.results) == 2
    assert b.worker.busy() is None


def wait_for(predicate):
    deadline = time.monotonic() + 5
    while not predicate() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert predicate()
