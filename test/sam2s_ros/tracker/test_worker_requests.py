"""Requests to the worker: what they bring back, and when they are refused."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from echo_worker import EchoTracker, encode, frame
from std_msgs.msg import Header

from sam2s_model.errors import ErrorCode, RequestError
from sam2s_model.tracks import Tracks
from sam2s_ros.interfaces import messages
from sam2s_ros.tracker.health import ImageOutcome, TrackerSnapshot
from sam2s_ros.tracker.outputs import answer_message


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


def test_p11_a_request_that_waits_when_a_step_hangs_is_refused_as_soon_as_that_is_known(bench):
    held, entered, effects = threading.Event(), threading.Event(), []
    b = bench(before_step=lambda: (entered.set(), held.wait(60)), step_timeout=0.4)
    b.put(frame(1))
    assert entered.wait(5)
    assert b.worker.busy() < 0.4
    began = time.monotonic()
    with pytest.raises(RequestError, match="has worked on one image .* nothing was changed") as caught:
        b.worker.request(lambda tracker: effects.append("late"), timeout=60)
    assert caught.value.code == ErrorCode.TIMEOUT and time.monotonic() - began < 30
    held.set()
    b.settle()
    b.worker.request(lambda tracker: effects.append("after"), timeout=5)
    assert effects == ["after"]


def test_p11_a_request_that_takes_longer_than_step_timeout_itself_is_answered(bench):
    b = bench(step_timeout=0.05)
    assert b.worker.request(lambda tracker: time.sleep(0.4) or "done", timeout=5)[0] == "done"


def test_a_request_waits_for_another_one_and_for_discovery_however_long_they_take(bench):
    """That they take longer than step_timeout is no reason to give it up: it has service_timeout."""
    held, entered = threading.Event(), threading.Event()

    def hold(*_) -> bool:
        entered.set()
        held.wait(10)
        return False

    b = bench(between=hold, step_timeout=0.4)
    with ThreadPoolExecutor() as pool:
        for begin in (lambda: pool.submit(b.worker.request, hold, 10), lambda: b.put(frame(1))):
            begin()
            assert entered.wait(5)
            waiting = pool.submit(b.worker.request, lambda tracker: "answered", 10)
            time.sleep(0.8)
            held.set()
            assert waiting.result(5)[0] == "answered"
            held.clear()
            entered.clear()
        held.set()


@pytest.mark.parametrize("of", ["discovery", "a request", "preparation"])
def test_what_is_no_image_may_take_longer_than_step_timeout_before_a_request_comes(bench, monkeypatch, of):
    held, entered = threading.Event(), threading.Event()

    def hold(*_) -> bool:
        entered.set()
        held.wait(10)
        return False

    if of == "preparation":
        monkeypatch.setattr(EchoTracker, "prepare", hold)
    b = bench(between=hold if of == "discovery" else lambda *_: False, step_timeout=0.05, max_output_age=0.0)
    with ThreadPoolExecutor() as pool:
        pool.submit(b.worker.request, hold, 10) if of == "a request" else b.put(frame(1))
        assert entered.wait(5)
        time.sleep(0.2)
        busy = b.worker.busy()
        waiting = pool.submit(b.worker.request, lambda tracker: "answered", 10)
        time.sleep(0.1)
        held.set()
        assert waiting.result(5)[0] == "answered"
    assert busy is not None and busy > 0.05, "the watchdog learns of it"
    assert b.worker.stop(5) and b.worker.busy() is None


def test_what_a_request_raises_comes_back_also_where_it_is_a_timeout(bench):
    b = bench()

    def time_out(tracker):
        raise TimeoutError("of a download")

    with pytest.raises(TimeoutError, match="of a download"):
        b.worker.request(time_out, timeout=5)


def test_p11_while_a_step_is_longer_than_step_timeout_requests_are_refused_at_once(bench):
    held, entered = threading.Event(), threading.Event()
    b = bench(before_step=lambda: (entered.set(), held.wait(60)), step_timeout=0.05)
    b.put(frame(1))
    assert entered.wait(5)
    time.sleep(0.1)
    began = time.monotonic()
    with pytest.raises(
        RequestError, match=r"has worked on one image for \d\.\d s \(step_timeout is 0\.05 s\)"
    ) as caught:
        b.worker.request(lambda tracker: None, timeout=60)
    assert caught.value.code == ErrorCode.TIMEOUT and time.monotonic() - began < 30
    assert b.worker.busy() > 0.05
    held.set()
    b.settle()
    assert b.worker.request(lambda tracker: "fine", timeout=5)[0] == "fine"
