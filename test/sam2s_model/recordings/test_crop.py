"""A part of every picture: halves of stereo pictures, rectangles, with their truth; videos of 10 and 12 bits."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from sam2s_model.errors import ConfigError
from sam2s_model.recordings.crop import Crop
from sam2s_model.recordings.open import open_recording
from sam2s_ros.commands.cli import main
from sam2s_ros.replay.node import ReplayConfig

SCENE = "scene:?width=96&height=80&frames=3&seed=1"


@pytest.mark.parametrize(
    "text, columns, rows",
    [("left", (0, 48), (0, 80)), ("right", (48, 96), (0, 80)), ("10,20,30,40", (10, 40), (20, 60))],
)
def test_images_and_truth_are_cut_alike(text, columns, rows):
    whole, part = open_recording(SCENE), open_recording(SCENE, crop=text)
    window = slice(*rows), slice(*columns)
    assert part.size == (rows[1] - rows[0], columns[1] - columns[0])
    assert (part.length, part.fps, part.kind, part.has_masks) == (3, whole.fps, "scene", True)
    for one, cut in zip(whole, part, strict=True):
        np.testing.assert_array_equal(cut.image, one.image[window])
        np.testing.assert_array_equal(cut.truth.labels, one.truth.labels[window])
        assert cut.image.flags.c_contiguous and (cut.index, cut.stamp_ns) == (one.index, one.stamp_ns)
    assert "boxes, points and masks are in its pixels" in part.describe()


def test_both_halves_of_an_odd_width_are_of_one_size():
    left, right = (Crop(half).of((10, 7)) for half in ("left", "right"))
    assert (left[1], right[1]) == (slice(0, 3), slice(4, 7))


@pytest.mark.parametrize(
    "text, said",
    [
        ("middle", "crop is 'middle': expected left, right or x,y,w,h in px"),
        ("1,2,3", "crop is '1,2,3': expected left, right or"),
        ("1,2,0,4", "expected left, right or"),
        ("-1,2,3,4", "expected left, right or"),
        ("90,0,10,10", "crop is 90,0,10,10: expected a rectangle inside the 96x80 picture"),
    ],
)
def test_what_is_no_part_is_said(text, said, capsys):
    with pytest.raises(ConfigError, match=said):
        open_recording(SCENE, crop=text)
    assert main(["track", SCENE, f"--crop={text}"]) == 2
    assert said in capsys.readouterr().err


def test_track_and_replay_take_it(tmp_path):
    small = ("--checkpoint", "sam2s_pico", "--image-size", "64", "--device", "cpu", "--output", str(tmp_path / "out"))
    assert main(["track", SCENE, "--crop", "right", "--box", "5,5,40,60", *small]) == 0
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (48, 80)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["source"]["crop"] == "right"
    assert ReplayConfig(crop="left").crop == "left"
    with pytest.raises(ConfigError, match="crop is 'up'"):
        ReplayConfig(crop="up")


@pytest.mark.parametrize(
    "pixels, codec",
    [
        ("gray12le", "ffv1"),
        ("gbrp12le", "ffv1"),
        ("yuv420p12le", "ffv1"),
        ("yuv422p10le", "prores_ks"),
        ("rgb48le", "ffv1"),
    ],
)
def test_a_video_of_10_or_12_bits_is_shown_in_all_its_range(tmp_path: Path, pixels, codec):
    """From black to white in 12 bits; rgb48le has them in the lower bits of 16, as cameras write it."""
    ramp = np.tile(np.linspace(0, 4095, 64).astype(np.uint16)[:, None], (48, 1, 3))
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        wide = av.VideoFrame.from_ndarray(ramp if pixels == "rgb48le" else ramp << 4, format="rgb48le")
        container.mux(stream.encode(wide if pixels == "rgb48le" else wide.reformat(format=pixels)))
        container.mux(stream.encode())
    [frame] = open_recording(path)
    assert frame.image.dtype == np.uint8
    error = frame.image.astype(int) - np.linspace(0, 255, 64)[:, None].round()
    assert abs(error).max() <= 4
