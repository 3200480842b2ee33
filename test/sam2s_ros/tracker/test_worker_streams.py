"""A worker's streams: another size, frame_id or time, and what is left of the former one."""

import threading

import pytest
from echo_worker import encode, frame

from sam2s_ros.tracker.health import ImageOutcome


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
    assert b.tracker.resets == 1 and b.log.infos == [f"{said}: all objects were dropped, prompt again"]

    b = bench(on_size_change="refuse")
    counts = b.run(frame(1), frame(2, **second), frame(3))
    assert (counts.by_outcome[ImageOutcome.PUBLISHED], counts.by_outcome[ImageOutcome.IMAGE]) == (2, 1)
    assert b.tracker.resets == 0 and said in b.log.warnings[0]


def test_p18_a_refused_stream_is_taken_up_after_forget_stream(bench):
    b = bench(on_size_change="refuse")
    b.run(frame(5))
    b.worker.request(lambda tracker: (tracker.reset(), b.worker.forget_stream()), timeout=5)
    assert b.run(frame(2, image=encode(2, 6, 8), epoch=1)).by_outcome[ImageOutcome.PUBLISHED] == 2
    assert b.tracker.resets == 1 and b.log.infos == []  # nothing is dropped twice


def test_p02_a_new_epoch_resets_and_stamps_begin_anew(bench):
    b = bench()
    assert b.run(frame(10**9), frame(5, epoch=1), frame(6, epoch=1)).by_outcome[ImageOutcome.PUBLISHED] == 3
    assert b.tracker.resets == 1 and b.log.infos == [
        "stamps jumped back to 0.000000005: all objects were dropped, prompt again"
    ]


@pytest.mark.parametrize("second", [dict(image=encode(2, 6, 8)), dict(epoch=1)], ids=["size", "jump back"])
def test_when_the_first_step_of_another_stream_fails_nothing_of_the_former_one_is_shown(bench, second):
    def fail():
        if b.tracker.resets:
            raise RuntimeError("boom")

    b = bench(before_step=fail)
    b.run(frame(10))
    assert b.worker.view.newest is not None and len(b.worker.view.frames) == 1
    assert b.run(frame(2, **second)).by_outcome[ImageOutcome.ERROR] == 1
    view = b.worker.view
    assert (view.newest, view.frames, view.revision) == (None, (), 1)


def test_whoever_keeps_something_of_a_stream_is_told_that_another_one_begins(bench):
    begun = []
    b = bench(anew=lambda: begun.append(threading.get_ident()))
    b.run(frame(10), frame(11))
    assert begun == [b.tracker.thread], "the first one"
    b.run(frame(12, image=encode(12, 6, 8)), frame(13, image=encode(13, 6, 8)))
    b.run(frame(2, image=encode(2, 6, 8), epoch=1))
    assert len(begun) == 3
    b.worker.request(lambda tracker: b.worker.forget_stream(), timeout=5)
    assert begun == 4 * [b.tracker.thread]


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
