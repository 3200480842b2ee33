"""Videos that come in parts: each part gives its own picture, or is refused."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from sam2s_model.errors import ImageError
from sam2s_model.recordings.video_stream import VideoReader

LEVELS = [20 * i for i in range(12)]


def parts(codec: str, form: str, **options: str) -> list[SimpleNamespace]:
    """A video of grey pictures, LEVELS bright, as compressed images."""
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 64, 48, "yuv420p", Fraction(1, 30)
    encoder.options = options
    packets = []
    for number, level in enumerate(LEVELS):
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), format="rgb24")
        frame.pts = number
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    return [SimpleNamespace(format=form, data=bytes(packet)) for packet in packets]


@pytest.fixture(scope="module")
def camera():
    return parts("libx264", "h264", preset="ultrafast", tune="zerolatency", g="5")


def levels(messages, reader=None) -> list[int]:
    reader = reader or VideoReader()
    return [round(float(reader.read(message).mean())) for message in messages]


def test_p46_each_part_gives_its_own_picture(camera):
    assert np.abs(np.subtract(levels(camera), LEVELS)).max() <= 3
    assert VideoReader().read(camera[0]).shape == (48, 64, 3)


def test_a_codec_is_known_by_the_format_or_by_the_first_bytes(camera):
    for form in ("", "H.264", "rgb8; h264 compressed"):
        assert len(levels([SimpleNamespace(format=form, data=message.data) for message in camera])) == len(LEVELS)
    assert len(
        levels(parts("libx265", "hevc", preset="ultrafast", tune="zerolatency", **{"x265-params": "log-level=none"}))
    ) == len(LEVELS)


def test_parts_before_the_first_whole_picture_are_refused_and_the_rest_is_read(camera):
    reader = VideoReader()
    for message in camera[1:5]:
        with pytest.raises(
            ImageError, match="of a video of format 'h264' does not decode .*needs no other may be missing"
        ):
            reader.read(message)
    assert np.abs(np.subtract(levels(camera[5:], reader), LEVELS[5:])).max() <= 3


def test_a_part_that_is_skipped_still_counts_for_the_next(camera):
    reader = VideoReader()
    for message in camera[:4]:
        reader.skip(message)
    assert np.abs(np.subtract(levels(camera[4:], reader), LEVELS[4:])).max() <= 3


def test_pictures_that_need_later_ones_are_refused_rather_than_given_a_wrong_stamp():
    reader = VideoReader()
    with pytest.raises(ImageError, match="B-frames"):
        for message in parts("libx264", "h264", preset="medium", bf="2", g="12"):
            reader.read(message)


def test_what_is_no_video_is_read_as_ever():
    picture = np.full((4, 4, 3), 90, np.uint8)
    message = SimpleNamespace(format="png", data=cv2.imencode(".png", picture)[1].tobytes())
    reader = VideoReader()
    reader.check(message)
    np.testing.assert_array_equal(reader.read(message), picture)
