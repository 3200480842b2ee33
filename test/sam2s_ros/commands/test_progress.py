"""Lines of progress come every ten seconds, with the rate and the time left."""

from __future__ import annotations

import pytest

from sam2s_ros.commands.progress import ArchiveLines, ProgressLines, duration


def test_a_line_every_ten_seconds_with_rate_and_time_left():
    said, now = [], 0.0
    lines = ProgressLines(said.append, lambda: now)
    lines(1, 100)
    for done in range(2, 43):  # two a second
        now += 0.5
        lines(done, 100)
    assert said == ["frame 21 of 100, 2 frames/s, 0:40 left", "frame 41 of 100, 2 frames/s, 0:30 left"]


def test_the_rate_is_of_all_recordings_and_an_unknown_length_has_no_time_left():
    said, now = [], 0.0
    lines = ProgressLines(said.append, lambda: now)
    for name in ("a", "b", "c"):
        for done in range(1, 5):
            lines(done, None, name)
            now += 1.0
    assert said == ["c: frame 3, 1 frames/s"]


def test_an_archive_says_how_many_recordings_are_done_and_how_long_the_others_take():
    said, now = [], 0.0
    pace = ArchiveLines(said.append, lambda: now)
    pace(2, 8, 0)  # two were there
    for done in range(3, 9):
        now += 6.0
        pace(done, 8, 30 * (done - 2))
    assert said == [
        "4 of 8 recordings are done, 5 frames/s, 0:24 left",
        "6 of 8 recordings are done, 5 frames/s, 0:12 left",
        "8 of 8 recordings are done, 5 frames/s",
    ]


@pytest.mark.parametrize(("seconds", "text"), [(7, "0:07"), (750.2, "12:30"), (7380, "2:03:00")])
def test_durations(seconds, text):
    assert duration(seconds) == text
