"""Every encoding against a picture whose RGB is known; everything malformed is refused by name."""

import array

import cv2
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from sam2s_model.errors import ImageError
from sam2s_ros.interfaces import image_codec
from sam2s_ros.interfaces.image_codec import ENCODINGS

RED, GREEN, BLUE, GREY = (200, 30, 40), (30, 200, 40), (20, 40, 210), (90, 90, 90)


def picture(height=32, width=48):
    """Four flat quarters, smooth enough for encodings that share colour between pixels."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[: height // 2, : width // 2] = RED
    rgb[: height // 2, width // 2 :] = GREEN
    rgb[height // 2 :, : width // 2] = BLUE
    rgb[height // 2 :, width // 2 :] = GREY
    return rgb


def message(rows, encoding, height, width, *, padding=0, bigendian=False):
    """rows: (R, bytes of a row) uint8."""
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xAB)
    msg = Image(encoding=encoding, height=height, width=width, step=rows.shape[1], is_bigendian=int(bigendian))
    msg.data = array.array("B", rows.tobytes())
    return msg


def encode(rgb, encoding, *, bigendian=False):
    """(R, bytes of a row) uint8, written from the definition of each encoding."""
    height, width = rgb.shape[:2]
    grey = rgb[..., 0]
    opaque = np.full((height, width, 1), 255, np.uint8)
    if encoding.startswith("bayer"):
        grey = np.zeros((height, width), np.uint8)
        for place, letter in enumerate(encoding[6:10]):
            y, x = divmod(place, 2)
            grey[y::2, x::2] = rgb[y::2, x::2, "rgb".index(letter)]
    if encoding.endswith("16") or encoding.startswith("16UC"):
        samples = {
            "rgb16": rgb, "bgr16": rgb[..., ::-1], "16UC3": rgb[..., ::-1], "rgba16": np.dstack((rgb, opaque)),
            "bgra16": np.dstack((rgb[..., ::-1], opaque)), "16UC4": np.dstack((rgb[..., ::-1], opaque)),
        }.get(encoding, grey)  # fmt: skip
        return (
            np.ascontiguousarray((samples.astype(np.uint16) << 8 | 0x5A).astype(">u2" if bigendian else "<u2"))
            .view(np.uint8)
            .reshape(height, -1)
        )
    if encoding.startswith("bayer"):
        return grey
    if encoding in ("yuv422", "uyvy", "yuv422_yuy2", "yuyv", "nv12", "nv21", "nv24"):
        y, u, v = _yuv(rgb)
        if encoding == "nv24":
            return np.vstack((y, np.stack((u, v), -1).reshape(2 * height, width)))
        if encoding in ("nv12", "nv21"):
            pair = (u, v) if encoding == "nv12" else (v, u)
            return np.vstack((y, np.stack([c[::2, ::2] for c in pair], -1).reshape(height // 2, width)))
        chroma = np.where(np.arange(width) % 2 == 0, u, v)
        pair = (chroma, y) if encoding in ("yuv422", "uyvy") else (y, chroma)
        return np.stack(pair, -1).reshape(height, -1)
    table = {
        "rgb8": rgb,
        "bgr8": rgb[..., ::-1],
        "rgba8": np.dstack((rgb, opaque)),
        "bgra8": np.dstack((rgb[..., ::-1], opaque)),
        "mono8": grey,
        "8UC1": grey,
        "8UC3": rgb[..., ::-1],
        "8UC4": np.dstack((rgb[..., ::-1], opaque)),
    }
    return np.ascontiguousarray(table[encoding]).reshape(height, -1)


def _yuv(rgb):
    """BT.601, studio range."""
    r, g, b = (rgb[..., i].astype(float) for i in range(3))
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = 128 - 0.148 * r - 0.291 * g + 0.439 * b
    v = 128 + 0.439 * r - 0.368 * g - 0.071 * b
    return (np.clip(np.round(c), 0, 255).astype(np.uint8) for c in (y, u, v))


def _padded_nv24(rows, padding):
    height, width = rows.shape[0] // 3, rows.shape[1]
    luma = np.pad(rows[:height], ((0, 0), (0, padding)))
    chroma = np.pad(rows[height:].reshape(height, 2 * width), ((0, 0), (0, 2 * padding)))
    return np.vstack((luma, chroma.reshape(2 * height, width + padding)))


@pytest.mark.parametrize("padding", [0, 5, 64])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_p16_every_encoding_gives_the_picture(encoding, padding):
    rgb, rows = picture(), encode(picture(), encoding)
    if encoding == "nv24" and padding:  # its rows of chroma are twice as long, and padded at their end
        rows = _padded_nv24(rows, padding)
        padding = 0
    msg = message(rows, encoding, *rgb.shape[:2], padding=padding)
    got = image_codec.to_rgb(msg)
    assert got.shape == rgb.shape and got.dtype == np.uint8 and got.flags.c_contiguous
    gray = encoding in ("mono8", "8UC1", "mono16", "16UC1")
    expected = np.repeat(rgb[..., :1], 3, 2) if gray else rgb
    inner = np.ones(rgb.shape[:2], bool)
    if encoding.startswith("bayer"):  # colours of neighbours mix at the edges of the quarters
        inner[[0, 1, -2, -1]] = inner[:, [0, 1, -2, -1]] = False
        inner[14:18] = inner[:, 22:26] = False
    tolerance = 3 if encoding.startswith(("yuv", "yuy", "uyvy", "nv")) else 0
    assert np.abs(got.astype(int) - expected)[inner].max() <= tolerance


@pytest.mark.parametrize("encoding", [name for name, kind in ENCODINGS.items() if kind.wide])
def test_p16_both_byte_orders_of_16_bits(encoding):
    rgb = picture()
    little, big = (
        image_codec.to_rgb(message(encode(rgb, encoding, bigendian=order), encoding, *rgb.shape[:2], bigendian=order))
        for order in (False, True)
    )
    np.testing.assert_array_equal(little, big)


@pytest.mark.parametrize("padding", [0, 7])
def test_p16_rgb8_and_bgr8_of_one_picture_are_identical(padding):
    rgb = np.random.default_rng(0).integers(0, 256, (31, 47, 3), np.uint8)
    one, other = (
        image_codec.to_rgb(message(encode(rgb, encoding), encoding, 31, 47, padding=padding))
        for encoding in ("rgb8", "bgr8")
    )
    np.testing.assert_array_equal(one, rgb)
    np.testing.assert_array_equal(other, rgb)


def test_rgb8_and_mono8_are_views():
    rgb = picture()
    msg = message(encode(rgb, "rgb8"), "rgb8", *rgb.shape[:2])
    assert np.shares_memory(image_codec.to_rgb(msg), np.frombuffer(msg.data, np.uint8))
    msg = message(encode(rgb, "mono8"), "mono8", *rgb.shape[:2])
    assert np.shares_memory(image_codec.to_gray(msg), np.frombuffer(msg.data, np.uint8))


@pytest.mark.parametrize(
    "change, said",
    [
        (dict(encoding="rgb9"), "encoding 'rgb9' is not supported: expected one of rgb8, bgr8"),
        (dict(encoding=""), "encoding '' is not supported"),
        (dict(encoding="32FC1"), "encoding '32FC1' is not supported"),
        (dict(height=0), "image size 48x0: expected 1 to 16384"),
        (dict(width=0), "image size 0x32"),
        (dict(width=2**32 - 1), "image size 4294967295x32"),
        (dict(step=143), "step 143 of a rgb8 image 48 px wide: expected at least 144 bytes"),
        (dict(step=0), "step 0"),
        (dict(step=2**32 - 1), "image data has 4608 bytes: expected 137438953440"),
        (dict(height=33), "image data has 4608 bytes: expected 4752 for 48x33 rgb8 with step 144"),
        (dict(data=array.array("B")), "image data has 0 bytes: expected 4608"),
        (dict(encoding="nv12", step=48, width=47), "image size 47x32: encoding nv12 needs an even size"),
        (dict(encoding="yuv422", width=47), "needs an even size"),
        (dict(encoding="bayer_rggb8", height=31), "needs an even size"),
    ],
)
def test_p17_malformed_images_are_refused_by_name(change, said):
    msg = message(encode(picture(), "rgb8"), "rgb8", 32, 48)
    for name, value in change.items():
        setattr(msg, name, value)
    for function in (image_codec.check_image, image_codec.to_rgb):
        with pytest.raises(ImageError) as caught:
            function(msg)
        assert said in str(caught.value)


ANY_IMAGE = given(
    encoding=st.sampled_from([*ENCODINGS, "", "rgb", "64FC1"]),
    height=st.one_of(st.integers(0, 12), st.integers(0, 2**32 - 1)),
    width=st.one_of(st.integers(0, 12), st.integers(0, 2**32 - 1)),
    step=st.one_of(st.integers(0, 80), st.integers(0, 2**32 - 1)),
    bigendian=st.integers(0, 255),
    data=st.binary(max_size=800),
)


def decode_any(encoding, height, width, step, bigendian, data):
    msg = Image(encoding=encoding, height=height, width=width, step=step, is_bigendian=bigendian)
    msg.data = array.array("B", data)
    try:
        rgb = image_codec.to_rgb(msg)
    except ImageError as error:
        assert str(error)
    else:
        assert rgb.shape == (height, width, 3) and rgb.dtype == np.uint8 and rgb.flags.c_contiguous


@ANY_IMAGE
@settings(max_examples=500)
def test_p17_any_image_decodes_or_raises_image_error(**image):
    decode_any(**image)


@pytest.mark.full
@ANY_IMAGE
@settings(max_examples=10_000)
def test_p17_any_of_10000_images_decodes_or_raises_image_error(**image):
    decode_any(**image)


def compressed(data, form="jpeg"):
    return CompressedImage(format=form, data=array.array("B", bytes(data)))


@pytest.mark.parametrize("extension, tolerance", [(".png", 0), (".jpg", 6)])
def test_p16_compressed_images_give_the_picture(extension, tolerance):
    rgb = picture(64, 96)
    _, data = cv2.imencode(extension, rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])
    got = image_codec.decode_compressed(compressed(data.tobytes()))
    flat = np.ones(rgb.shape[:2], bool)  # jpeg rings at the edges of the quarters
    flat[24:40] = flat[:, 40:56] = False
    assert got.shape == rgb.shape and got.flags.c_contiguous
    assert np.abs(got.astype(int) - rgb)[flat].max() <= tolerance


@pytest.mark.parametrize(
    "data, said",
    [
        (b"", "is empty: expected jpeg or png data"),
        (b"BM not a jpeg", "starts with 42 4d 20"),
        (b"\x00\x00\x00\x01\x67video", "is a part of a video, which shows something else"),
        (b"\xff\xd8\xff\xe0", "does not decode"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "does not decode"),
    ],
)
def test_p17_broken_compressed_images_are_refused(data, said):
    with pytest.raises(ImageError, match="compressed image of format 'jpeg'") as caught:
        image_codec.decode_compressed(compressed(data))
    assert said in str(caught.value)


@given(st.data())
@settings(max_examples=100)
def test_p17_damaged_jpegs_decode_or_raise_image_error(data):
    _, good = cv2.imencode(".jpg", picture(16, 16))
    damaged = bytearray(good.tobytes())
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(0, len(damaged)))]
    try:
        assert image_codec.decode_compressed(compressed(damaged)).ndim == 3
    except ImageError as error:
        assert str(error)


@pytest.mark.parametrize("encoding", ["mono8", "rgb8", "bgr8"])
def test_to_message_and_back(encoding):
    rgb = picture()
    pixels = encode(rgb, encoding).reshape(32, 48, -1).squeeze()
    header = Header(frame_id="endoscope")
    msg = image_codec.to_message(pixels[:, ::2], header, encoding)  # not contiguous
    assert (msg.height, msg.width, msg.encoding, msg.header) == (32, 24, encoding, header)
    assert msg.step * msg.height == len(msg.data) and isinstance(msg.data, array.array)
    back = image_codec.to_gray(msg) if encoding == "mono8" else image_codec.to_rgb(msg)
    np.testing.assert_array_equal(back, rgb[:, ::2, 0] if encoding == "mono8" else rgb[:, ::2])


@pytest.mark.parametrize(
    "pixels, encoding",
    [
        (np.zeros((4, 4), np.float32), "mono8"),
        (np.zeros((4, 4, 3), np.uint8), "mono8"),
        (np.zeros((4, 4), np.uint8), "rgb8"),
        (np.zeros((0, 4), np.uint8), "mono8"),
        (np.zeros((4, 4, 3), np.uint8), "nv12"),
    ],
)
def test_to_message_refuses_what_does_not_fit(pixels, encoding):
    with pytest.raises(ImageError, match=encoding):
        image_codec.to_message(pixels, Header(), encoding)


@pytest.mark.parametrize(
    "form, said",
    [
        ("h264", "is a part of a video"),
        ("H.265; something", "decode the video to sensor_msgs/msg/Image in a node before this one"),
        ("16UC1; compressedDepth png", "holds distances and not a picture"),
        ("webp", "starts with 52 49 46 46"),
    ],
)
def test_p16_formats_that_are_not_read_are_named_as_what_they_are(form, said):
    with pytest.raises(ImageError, match=f"compressed image of format '{form}'") as caught:
        image_codec.check_compressed(compressed(b"RIFF more", form))
    assert said in str(caught.value)


@pytest.mark.parametrize("wide, extension", [(False, ".png"), (True, ".png"), (False, ".jpg")])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_p46_a_compressed_mosaic_is_a_picture_in_colour(pattern, wide, extension):
    """As image_transport compresses bayer_*: the sensor's own samples, which look grey where the format is not read."""
    rgb, encoding = picture(64, 96), f"bayer_{pattern}{16 if wide else 8}"
    mosaic = encode(rgb, encoding)
    mosaic = mosaic.view("<u2") if wide else mosaic
    data = cv2.imencode(extension, mosaic, [cv2.IMWRITE_JPEG_QUALITY, 100])[1]
    got = image_codec.decode_compressed(compressed(data.tobytes(), f"{encoding}; {extension[1:]} compressed "))
    flat = np.ones(rgb.shape[:2], bool)
    flat[24:40] = flat[:, 40:56] = False
    flat[[0, -1]] = flat[:, [0, -1]] = False
    assert got.shape == rgb.shape and np.abs(got.astype(int) - rgb)[flat].max() <= (0 if extension == ".png" else 12)


@pytest.mark.parametrize(
    "form",
    [
        "rgb8; png compressed rgb8",
        "rgb8; png compressed bgr8",
        "bgr8; png compressed bgr8",
        "png",
        "rgb8; png compressed ",
    ],
)
def test_p46_the_order_of_colours_that_the_format_names_is_heeded(form):
    rgb = picture()
    stored_as_bgr = rgb if "compressed rgb" in form else rgb[..., ::-1]
    data = cv2.imencode(".png", stored_as_bgr)[1].tobytes()
    np.testing.assert_array_equal(image_codec.decode_compressed(compressed(data, form)), rgb)


def test_a_jpeg_has_the_colours_and_is_smaller_with_less_quality():
    header, pixels = Header(frame_id="endoscope"), picture(64, 96)
    good, poor = (image_codec.to_jpeg(pixels, header, quality) for quality in (95, 10))
    assert good.header == header and len(poor.data) < len(good.data) < pixels.nbytes
    np.testing.assert_allclose(image_codec.decode(good)[16::32, 24::48].astype(int), pixels[16::32, 24::48], atol=12)
