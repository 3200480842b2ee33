"""Stamps of videos: times that begin anew, stray ones, and what has none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from sam2s_model.recordings.open import open_recording
from sam2s_model.recordings.video import FrameTimes, with_next_time

MS = 1_000_000


def steps(times, fps: float = 25.0, *, ahead: bool = True) -> tuple[list[float], list[str]]:
    """Ms between the stamps of frames with these times, s, and what was noted."""
    notes: list[str] = []
    own = FrameTimes(fps, notes.append)
    following = [*times[1:], None] if ahead else [None] * len(times)
    stamps = [own.stamp(time, i, then) for i, (time, then) in enumerate(zip(times, following, strict=True))]
    assert stamps[0] == 1_000_000_000
    return [round(step, 3) for step in np.diff(stamps) / MS], notes


@pytest.mark.parametrize("frames", [50, 10])  # parts of 2 s, and of less than a second
@pytest.mark.parametrize("ahead", [True, False])
def test_parts_whose_times_begin_anew_go_on(frames, ahead):
    part = [1.4 + 0.04 * i for i in range(frames)]
    found, notes = steps(part * 5, ahead=ahead)
    assert found == [40.0] * (5 * frames - 1)
    back = 0.04 * (frames - 1)
    assert notes == [f"times step back by {back:.2f} s at frame {frames:06d}: from there they are counted on"]


def test_a_stray_time_costs_itself_alone():
    times = [0.04 * i for i in range(6)]
    for stray in (95400.0, -3.0, -0.3, 0.5):
        found, notes = steps([*times[:2], stray, *times[3:]])
        assert found == [40.0] * 5 and len(notes) == 1 and "the time of frame 000002 is" in notes[0]
    found, notes = steps([95400.0, *times[1:]])  # the first of all
    assert found == [40.0] * 5 and "step back by 95400 s at frame 000001" in notes[0]


def test_real_gaps_stay_and_repeated_times_keep_the_order():
    assert steps([0.0, 0.04, 20.04, 20.08]) == ([40.0, 20000.0, 40.0], [])
    assert steps([0.0, 10.0, 20.0], fps=0.1) == ([10000.0, 10000.0], [])
    assert steps([0.0, 0.4, 0.8]) == ([400.0, 400.0], [])
    found, notes = steps([0.0, 0.04, 0.04, 0.02, 0.08])
    assert found == [40.0, 0.0, 0.0, 40.0] and not notes


def test_frames_without_a_time_are_counted():
    assert steps([None] * 4) == ([40.0] * 3, [])
    assert steps([5.0, None, 5.08]) == ([40.0, 40.0], [])


def test_each_frame_knows_the_time_of_the_next_and_sentences_stay_in_their_place():
    a, b, c = (SimpleNamespace(time=time) for time in (0.0, 1.0, 2.0))
    assert list(with_next_time([a, "damaged", b, c, "cut"])) == [
        (a, 1.0), ("damaged", 1.0), (b, 2.0), (c, None), ("cut", None),
    ]  # fmt: skip


def test_a_transport_stream_of_two_parts(tmp_path: Path):
    """As `cat` puts them together."""
    part = tmp_path / "part.ts"
    with av.open(str(part), "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", 25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(40):
            frame = av.VideoFrame.from_ndarray(np.full((72, 64), 20 + 5 * i, np.uint8), format="yuv420p")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    both = tmp_path / "both.ts"
    both.write_bytes(part.read_bytes() * 2)
    recording = open_recording(str(both))
    stamps = [frame.stamp_ns for frame in recording]
    assert len(stamps) >= 78 and set(np.diff(stamps) // MS) == {40}
    assert any("times step back by" in note for note in recording.notes)
