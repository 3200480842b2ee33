"""What encodings cost is measured on messages that are decoded, of every encoding."""

from __future__ import annotations

import numpy as np
import pytest

from sam2s_ros.interfaces import image_codec
from sam2s_ros.interfaces.codec_costs import costs, message_of


@pytest.mark.parametrize("encoding", image_codec.ENCODINGS)
def test_every_message_is_one_of_its_encoding(encoding):
    picture = np.arange(12 * 16 * 3, dtype=np.uint8).reshape(12, 16, 3)
    assert image_codec.decode(message_of(encoding, picture)).shape == picture.shape


def test_every_encoding_is_measured():
    found = costs((128, 96), runs=1)
    assert set(found) == {*image_codec.ENCODINGS, "jpeg", "png", "out: mono8"} and all(ms > 0 for ms in found.values())
