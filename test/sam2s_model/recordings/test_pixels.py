"""Pictures that would be wrong without a word: low bits, colours in an order nobody names, next to nothing in them."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from sam2s_model.errors import ImageError
from sam2s_model.recordings.image_files import read_rgb
from sam2s_model.recordings.pixels import (
    EMPTY_CONTRAST,
    ImageReader,
    contrast,
    decode_compressed,
    narrow,
    significant_bits,
    to_rgb,
)

GREY = np.linspace(0, 250, 48 * 64).astype(np.uint8).reshape(48, 64)


def raw(samples, encoding="mono16"):
    samples = np.ascontiguousarray(samples)
    return SimpleNamespace(
        encoding=encoding,
        height=samples.shape[0],
        width=samples.shape[1],
        step=samples.strides[0],
        is_bigendian=0,
        data=samples.tobytes(),
    )


def png(samples, form="mono16; png compressed "):
    return SimpleNamespace(format=form, data=cv2.imencode(".png", samples)[1].tobytes())


def shifted(bits):
    return GREY.astype(np.uint16) << (bits - 8)


@pytest.mark.parametrize(
    "brightest, bits", [(0, 10), (1023, 10), (1024, 12), (4095, 12), (4096, 14), (16384, 16), (65535, 16)]
)
def test_significant_bits_are_the_least_that_hold_the_brightest_sample(brightest, bits):
    assert significant_bits(np.array([[0, brightest]], np.uint16)) == bits


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_p46_low_bits_give_the_picture_and_not_black(bits):
    for picture in (to_rgb(raw(shifted(bits))), decode_compressed(png(shifted(bits)))):
        np.testing.assert_array_equal(picture[..., 0], GREY)
    np.testing.assert_array_equal(to_rgb(raw(shifted(bits)), bits=bits)[..., 1], GREY)


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_p46_low_bits_in_files_are_a_picture_too(tmp_path, suffix, bits):
    path = tmp_path / f"image{suffix}"
    assert cv2.imwrite(str(path), shifted(bits))
    np.testing.assert_array_equal(read_rgb(path)[..., 2], GREY)


def test_p46_bits_that_are_given_are_taken_and_what_is_beyond_is_white():
    assert narrow(np.array([0, 4095, 4096, 65535], np.uint16), 12).tolist() == [0, 255, 255, 255]
    assert narrow(np.array([3, 255], np.uint16), 8).tolist() == [3, 255]
    assert to_rgb(raw(shifted(10)), bits=16).max() == 3


def test_p46_what_was_found_stays_when_the_light_goes_and_is_said_once():
    said = []
    reader = ImageReader(say=said.append)
    for samples, brightest in ((shifted(12), 250), (shifted(10), 62), (shifted(12), 250)):
        assert reader.read(raw(samples)).max() == brightest
    assert len(said) == 1 and "brightest of the 16-bit samples is 4000: taken for 12 significant bits" in said[0]
    assert "significant_bits" in said[0]
    reader.read(raw(shifted(16)))
    assert reader.read(raw(shifted(12))).max() == 15 and len(said) == 1, (
        "more light does not make it darker than the light before"
    )


def test_p46_parameters_decide_before_anything_is_found():
    said = []
    assert ImageReader(bits=14, say=said.append).read(raw(shifted(12))).max() == 62
    colours = np.zeros((4, 4, 3), np.uint8)
    colours[..., 0] = 200
    assert ImageReader(encoding="rgb8", say=said.append).read(raw(colours, "8UC3"))[0, 0].tolist() == [200, 0, 0]
    assert ImageReader(encoding="rgb8", say=said.append).read(raw(colours, "bgr8"))[0, 0].tolist() == [200, 0, 0]
    assert not said
    with pytest.raises(ImageError, match="a bgr16 image"):
        ImageReader(encoding="bgr16").check(raw(colours, "rgb8"))


@pytest.mark.parametrize(
    "encoding, channels, kind", [("8UC3", 3, np.uint8), ("8UC4", 4, np.uint8), ("16UC3", 3, np.uint16)]
)
def test_p46_an_order_of_colours_that_is_assumed_is_said_once(encoding, channels, kind):
    pixels = np.zeros((4, 4, channels), kind)
    pixels[..., 0] = np.iinfo(kind).max
    said = []
    reader = ImageReader(say=said.append)
    for _ in range(3):
        assert reader.read(raw(pixels, encoding))[0, 0].tolist() == [0, 0, 255]
    assert len(said) == 1 and f"of encoding {encoding}" in said[0] and "image_encoding" in said[0]


def test_contrast_tells_an_empty_picture_from_one_that_shows_something():
    black = np.random.default_rng(0).integers(0, 8, (480, 640, 3), np.uint8)
    blue = np.zeros((480, 640, 3), np.uint8)
    blue[..., 2] = 230
    blue[10:20, 10:100] = 255  # the words "no signal"
    endoscope = black.copy()
    endoscope[100:300, 200:400] = np.random.default_rng(1).integers(20, 90, (200, 200, 3), np.uint8)
    assert contrast(black) <= EMPTY_CONTRAST and contrast(blue) <= EMPTY_CONTRAST
    assert contrast(endoscope) > 5 * EMPTY_CONTRAST
    assert contrast(np.full((1, 1, 3), 7, np.uint8)) == 0 and contrast(np.zeros((3, 5, 3), np.uint8)) == 0
