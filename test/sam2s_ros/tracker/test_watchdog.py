"""The watchdog gives up once, and only on what takes too long."""

import pytest

from sam2s_ros.tracker.watchdog import HUNG, Watchdog


@pytest.mark.parametrize(
    "times, limit, gives_up", [([None, 0.5, 1.0, None], 1.0, 0), ([0.5, 1.5, 2.5], 1.0, 1), ([99.0], 0.0, 0)]
)
def test_p11_it_gives_up_once_and_only_on_what_takes_too_long(times, limit, gives_up):
    said, left = [], iter(times)
    dog = Watchdog(lambda: next(left), lambda: limit, lambda why, code: said.append((why, code)))
    for _ in times:
        dog.check()
    assert (
        said == [("a step or a request has taken 1.5 s so far (hang_exit is 1 s): the process ends", HUNG)][:gives_up]
    )
