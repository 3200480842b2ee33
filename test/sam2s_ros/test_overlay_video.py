"""Videos that open, closed or not."""

from __future__ import annotations

import subprocess
import sys

import av
import numpy as np

from sam2s_model.recordings.open import open_recording
from sam2s_ros import overlay_video
from sam2s_ros.overlay_video import OverlayVideo

KILLED = """
import os, sys
from pathlib import Path
import numpy as np
from sam2s_ros.overlay_video import OverlayVideo
video = OverlayVideo(Path(sys.argv[1]), 25.0, 96, 128)
for number in range(int(sys.argv[2])):
    video.write(np.full((96, 128, 3), 2 * number, np.uint8))
os._exit(9)
"""


def brightness(path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.to_ndarray(format="rgb24").mean()) for frame in container.decode(video=0)]


def test_p42_a_video_that_was_not_closed_opens_up_to_its_last_pictures(tmp_path):
    path = tmp_path / "cut.mp4"
    subprocess.run([sys.executable, "-c", KILLED, str(path), "100"])
    found = brightness(path)
    assert 100 - round(25 * overlay_video.FRAGMENT) - 1 <= len(found) <= 100
    assert np.abs(np.array(found) - 2 * np.arange(len(found))).max() < 8
    assert len(list(open_recording(str(path)))) == len(found)


def test_a_closed_one_has_all_pictures_its_length_and_key_frames_to_jump_to(tmp_path, monkeypatch):
    for name, since in (("new.mp4", overlay_video.HYBRID_SINCE), ("old.mp4", (10**6, 0))):
        monkeypatch.setattr(overlay_video, "HYBRID_SINCE", since)  # as with FFmpeg 7.0 and before
        video = OverlayVideo(tmp_path / name, 25.0, 96, 128)
        for number in range(120):
            video.write(np.full((96, 128, 3), 2 * number, np.uint8))
        video.close()
        assert len(brightness(tmp_path / name)) == 120 and len(list(open_recording(str(tmp_path / name)))) == 120
        with av.open(str(tmp_path / name)) as container:
            assert container.duration == 4_800_000
            assert sum(packet.is_keyframe for packet in container.demux(video=0)) >= 2
