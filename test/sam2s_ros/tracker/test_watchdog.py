"""The watchdog gives up once, and only on what takes too long, or on what only another process helps."""

import pytest

from sam2s_ros.tracker.watchdog import BROKEN, HUNG, Watchdog


@pytest.mark.parametrize(
    "times, limit, gives_up", [([None, 0.5, 1.0, None], 1.0, 0), ([0.5, 1.5, 2.5], 1.0, 1), ([99.0], 0.0, 0)]
)
def test_p11_it_gives_up_once_and_only_on_what_takes_too_long(times, limit, gives_up):
    said, left = [], iter(times)
    dog = Watchdog(lambda: next(left), lambda: "", lambda: limit, lambda why, code: said.append((why, code)))
    for _ in times:
        dog.check()
    assert (
        said == [("a step or a request has taken 1.5 s so far (hang_exit is 1 s): the process ends", HUNG)][:gives_up]
    )


def test_p27_it_gives_up_once_where_only_another_process_helps_and_that_is_wanted():
    said, limits = [], iter([0.0, 0.0, 10.0, 10.0])
    dog = Watchdog(lambda: None, lambda: "the GPU is lost", lambda: next(limits), lambda *given: said.append(given))
    dog.check(), dog.check()
    assert said == []
    dog.check(), dog.check()
    assert said == [("the GPU is lost: the process ends", BROKEN)]
