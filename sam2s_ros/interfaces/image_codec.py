"""Image messages to numpy arrays and back.

cv_bridge is not needed: what it does is the table below, and it copies where a view is enough (and its way
back, assigning `bytes` to `Image.data`, takes 3 to 8 ms for a frame that takes 0.1 to 0.5 ms here).
"""

from __future__ import annotations

import array
import math
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from sam2s_model.errors import ImageError

MAX_SIDE = 16384  # px; a malformed header must not make us allocate without bound


@dataclass(frozen=True)
class Encoding:
    """How pixels of one encoding lie in memory.

    channels: interleaved samples of a pixel
    wide: samples have 16 bits, of which the high byte is kept
    to_rgb: OpenCV's conversion to RGB; None when the samples are R, G, B
    rows: rows of `step` bytes for each row of the image (nv12: luma, then chroma at half height)
    even: width (and for nv12, bayer: height too) must be even
    """

    channels: int
    to_rgb: int | None
    wide: bool = False
    rows: Fraction = Fraction(1)
    even: tuple[int, int] = (1, 1)


_YUV422 = dict(channels=2, even=(1, 2))
_NV12 = dict(channels=1, rows=Fraction(3, 2), even=(2, 2))
_BAYER = dict(channels=1, even=(2, 2))

ENCODINGS: dict[str, Encoding] = {
    "rgb8": Encoding(3, None),
    "bgr8": Encoding(3, cv2.COLOR_BGR2RGB),
    "rgba8": Encoding(4, cv2.COLOR_RGBA2RGB),
    "bgra8": Encoding(4, cv2.COLOR_BGRA2RGB),
    "mono8": Encoding(1, cv2.COLOR_GRAY2RGB),
    "8UC1": Encoding(1, cv2.COLOR_GRAY2RGB),
    "rgb16": Encoding(3, None, wide=True),
    "bgr16": Encoding(3, cv2.COLOR_BGR2RGB, wide=True),
    "mono16": Encoding(1, cv2.COLOR_GRAY2RGB, wide=True),
    "16UC1": Encoding(1, cv2.COLOR_GRAY2RGB, wide=True),
    "yuv422": Encoding(to_rgb=cv2.COLOR_YUV2RGB_UYVY, **_YUV422),
    "uyvy": Encoding(to_rgb=cv2.COLOR_YUV2RGB_UYVY, **_YUV422),
    "yuv422_yuy2": Encoding(to_rgb=cv2.COLOR_YUV2RGB_YUY2, **_YUV422),
    "yuyv": Encoding(to_rgb=cv2.COLOR_YUV2RGB_YUY2, **_YUV422),
    "nv12": Encoding(to_rgb=cv2.COLOR_YUV2RGB_NV12, **_NV12),
    # OpenCV names a bayer pattern after its second row, ROS after its first.
    "bayer_rggb8": Encoding(to_rgb=cv2.COLOR_BayerBG2RGB, **_BAYER),
    "bayer_bggr8": Encoding(to_rgb=cv2.COLOR_BayerRG2RGB, **_BAYER),
    "bayer_gbrg8": Encoding(to_rgb=cv2.COLOR_BayerGR2RGB, **_BAYER),
    "bayer_grbg8": Encoding(to_rgb=cv2.COLOR_BayerGB2RGB, **_BAYER),
}

_MAGIC = {"jpeg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n"}


def check_image(msg: Image) -> Encoding:
    """Check an image message without touching its pixels.

    Raises ImageError for an encoding that is not in ENCODINGS, a size of zero or that the encoding does not
    allow, a step shorter than a row, or data shorter than step x rows.
    """
    encoding = ENCODINGS.get(msg.encoding)
    if encoding is None:
        raise ImageError(f"encoding {msg.encoding!r} is not supported: expected one of {', '.join(ENCODINGS)}")
    height, width = msg.height, msg.width
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise ImageError(f"image size {width}x{height}: expected 1 to {MAX_SIDE} px on each side")
    if height % encoding.even[0] or width % encoding.even[1]:
        raise ImageError(f"image size {width}x{height}: encoding {msg.encoding} needs an even size")
    row = width * encoding.channels * (2 if encoding.wide else 1)
    if msg.step < row:
        raise ImageError(f"step {msg.step} of a {msg.encoding} image {width} px wide: expected at least {row} bytes")
    needed = msg.step * math.ceil(height * encoding.rows)
    if len(msg.data) < needed:
        shape = f"{width}x{height} {msg.encoding} with step {msg.step}"
        raise ImageError(f"image data has {len(msg.data)} bytes: expected {needed} for {shape}")
    return encoding


def to_rgb(msg: Image) -> np.ndarray:
    """(H, W, 3) uint8 RGB, contiguous: a view of msg.data for an unpadded rgb8 image, otherwise a new array.

    16-bit samples keep their high byte. Raises ImageError as `check_image` does.
    """
    encoding = check_image(msg)
    pixels = _view(msg, encoding)
    if encoding.to_rgb is None:
        return np.ascontiguousarray(pixels)
    return cv2.cvtColor(np.ascontiguousarray(pixels), encoding.to_rgb)


def to_gray(msg: Image) -> np.ndarray:
    """(H, W) uint8 of a mono8 or 8UC1 image; a view where it is unpadded. Raises ImageError for any other."""
    if msg.encoding not in ("mono8", "8UC1"):
        raise ImageError(f"encoding {msg.encoding!r} is not supported here: expected mono8 or 8UC1")
    return np.ascontiguousarray(_view(msg, check_image(msg)))


def _view(msg: Image, encoding: Encoding) -> np.ndarray:
    """(rows, W, C) or (rows, W) uint8 view of the samples, padding left out; not contiguous if there is any."""
    rows = math.ceil(msg.height * encoding.rows)
    data = np.frombuffer(msg.data, np.uint8, count=msg.step * rows).reshape(rows, msg.step)
    row = data[:, : msg.width * encoding.channels * (2 if encoding.wide else 1)]
    if encoding.wide:
        high = 0 if msg.is_bigendian else 1
        row = row[:, high::2]
    return row if encoding.channels == 1 else row.reshape(rows, msg.width, encoding.channels)


def check_compressed(msg: CompressedImage) -> None:
    """Check the first bytes of a compressed image. Raises ImageError for what is not jpeg or png."""
    data = memoryview(msg.data)[:8].tobytes()
    if not data:
        raise ImageError(f"compressed image of format {msg.format!r} is empty: expected jpeg or png data")
    if not any(data.startswith(magic) for magic in _MAGIC.values()):
        raise ImageError(
            f"compressed image of format {msg.format!r} starts with {data.hex(' ')}: expected jpeg or png data"
        )


def decode_compressed(msg: CompressedImage) -> np.ndarray:
    """(H, W, 3) uint8 RGB, contiguous, of a jpeg or png image; an orientation tag is not applied, since the
    camera's calibration does not know of it. Raises ImageError for anything that does not decode."""
    check_compressed(msg)
    try:
        pixels = cv2.imdecode(np.frombuffer(msg.data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ImageError(f"compressed image of format {msg.format!r} does not decode: {error.err}") from error
    if pixels is None:
        raise ImageError(f"compressed image of format {msg.format!r} and {len(msg.data)} bytes does not decode")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)


def check(msg: Image | CompressedImage) -> None:
    """`check_image` or `check_compressed`, by the type of the message."""
    (check_compressed if isinstance(msg, CompressedImage) else check_image)(msg)


def decode(msg: Image | CompressedImage) -> np.ndarray:
    """`to_rgb` or `decode_compressed`, by the type of the message."""
    return (decode_compressed if isinstance(msg, CompressedImage) else to_rgb)(msg)


def to_message(pixels: np.ndarray, header: Header, encoding: str) -> Image:
    """An Image message of a uint8 array.

    pixels: (H, W) for mono8, (H, W, 3) for rgb8 or bgr8
    Raises ImageError when the array does not fit the encoding.
    """
    channels = {"mono8": 1, "rgb8": 3, "bgr8": 3}.get(encoding)
    if channels is None:
        raise ImageError(f"encoding {encoding!r} is not written: expected mono8, rgb8 or bgr8")
    expected = "(H, W)" if channels == 1 else f"(H, W, {channels})"
    shape_fits = pixels.ndim == 2 if channels == 1 else pixels.ndim == 3 and pixels.shape[2] == channels
    if pixels.dtype != np.uint8 or not shape_fits or pixels.size == 0:
        raise ImageError(f"array is {pixels.dtype} {pixels.shape}: expected uint8 {expected} for {encoding}")
    height, width = pixels.shape[:2]
    msg = Image(header=header, height=height, width=width, encoding=encoding, step=width * channels)
    msg.data = to_bytes(pixels)
    return msg


def to_bytes(pixels: np.ndarray) -> array.array:
    """The bytes of an array as the one type that a message's `data` takes without checking each element."""
    data = array.array("B")
    data.frombytes(memoryview(np.ascontiguousarray(pixels)).cast("B"))
    return data
