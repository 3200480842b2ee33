"""One slot, newest wins; every frame ends exactly once; requests go first."""

import threading

import hypothesis.strategies as st
from hypothesis import given, settings

from sam2s_ros.tracker.health import Health, ImageOutcome
from sam2s_ros.tracker.mailbox import Mailbox

EVENTS = st.lists(
    st.sampled_from(["put", "put", "put", "take", "take", "discard", "refuse stamp", "refuse image", "fail", "close"]),
    max_size=60,
)


@given(EVENTS)
@settings(max_examples=300)
def test_p06_received_is_published_plus_dropped_plus_waiting(events):
    mailbox, health, expected_newest, number = Mailbox(), Health(), None, 0
    for event in events:
        if event == "put":
            number += 1
            health.received()
            lost = mailbox.put(number)
            if lost is not None:
                health.ended(ImageOutcome.DISABLED if mailbox.closed else ImageOutcome.OVERLOAD)
                assert lost == (number if mailbox.closed else expected_newest)
            expected_newest = None if mailbox.closed else number
        elif event in ("take", "fail"):
            frame = mailbox.take(timeout=0)
            assert frame == expected_newest
            expected_newest = None
            if frame is not None and event == "take":
                health.published(frame, 0, latency=0.1, step=0.1)
            elif frame is not None:
                health.ended(ImageOutcome.ERROR, "raised")
        elif event == "discard":
            if mailbox.discard() is not None:
                health.ended(ImageOutcome.DISABLED)
            expected_newest = None
        elif event.startswith("refuse"):
            health.received()
            health.ended(ImageOutcome.STAMP if event.endswith("stamp") else ImageOutcome.IMAGE, "refused")
        else:
            _, frame = mailbox.close()
            if frame is not None:
                health.ended(ImageOutcome.DISABLED)
            expected_newest = None
        counts = health.counts()
        # `waiting` of the counters is derived, that of the mailbox is real
        assert counts.waiting == len(mailbox)
        assert counts.received == counts.by_outcome[ImageOutcome.PUBLISHED] + counts.dropped + len(mailbox)


def test_requests_go_before_the_frame_in_their_order():
    mailbox = Mailbox()
    mailbox.put("frame")
    assert mailbox.ask("first") and mailbox.ask("second")
    assert [mailbox.take(0), mailbox.take(0), mailbox.take(0), mailbox.take(0)] == ["first", "second", "frame", None]


def test_a_frame_and_a_request_each_wake_the_waiting_thread():
    for leave in (Mailbox.put, Mailbox.ask):
        mailbox, got = Mailbox(), []
        thread = threading.Thread(target=lambda mailbox=mailbox, got=got: got.append(mailbox.take(timeout=10)))
        thread.start()
        leave(mailbox, "item")
        thread.join(5)
        assert got == ["item"]


def test_close_wakes_returns_what_waited_and_refuses_the_rest():
    mailbox, got = Mailbox(), []
    thread = threading.Thread(target=lambda: got.append(mailbox.take(timeout=10)))
    thread.start()
    assert mailbox.close() == ([], None)
    thread.join(5)
    assert got == [None]
    assert mailbox.put("late") == "late"
    assert not mailbox.ask("late")

    mailbox = Mailbox()
    mailbox.put("frame")
    mailbox.ask("request")
    assert mailbox.close() == (["request"], "frame")
    assert mailbox.take() is None


def test_with_threads_every_frame_is_taken_or_returned():
    mailbox, lost, taken = Mailbox(), [], []

    def camera(first):
        lost.extend(frame for i in range(2000) if (frame := mailbox.put(first + i)) is not None)

    def worker():
        while (frame := mailbox.take()) is not None:
            taken.append(frame)

    reader = threading.Thread(target=worker)
    cameras = [threading.Thread(target=camera, args=(1 + k * 10_000,)) for k in range(2)]
    for thread in (reader, *cameras):
        thread.start()
    for thread in cameras:
        thread.join()
    _, left = mailbox.close()
    reader.join(5)
    everything = sorted(lost + taken + ([left] if left is not None else []))
    assert everything == sorted([*range(1, 2001), *range(10_001, 12_001)])
