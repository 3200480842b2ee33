"""Pixels of image messages as arrays: raw encodings and compressed images to RGB.

Messages are read by their fields' names (`encoding`, `height`, `width`, `step`, `is_bigendian`, `data`; `format`,
`data`), so that those of ROS and those that are read from a bag without it serve alike. cv_bridge is not needed: what
it does is the table below, and it copies where a view is enough.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import cv2
import numpy as np

from sam2s_model.errors import ImageError

MAX_SIDE = 16384  # px; a malformed header must not make us allocate without bound
DEPTHS = (10, 12, 14, 16)  # significant bits of a 16-bit sample that are found by themselves
EMPTY_CONTRAST = 10  # of 255: a picture in which no channel differs more than this is next to empty


@dataclass(frozen=True)
class Encoding:
    """How pixels of one encoding lie in memory.

    channels: interleaved samples of a pixel
    wide: samples have 16 bits, of which some are significant
    to_rgb: OpenCV's conversion of the 8-bit samples to RGB; None when the samples are R, G, B; or a function
    rows: rows of `step` bytes for each row of the image (nv12: luma, then chroma at half height; nv24: chroma at full
        width, so two more)
    even: width (and for nv12, bayer: height too) must be even
    guessed: what is assumed of it that its name does not say
    """

    channels: int
    to_rgb: int | Callable[[np.ndarray], np.ndarray] | None
    wide: bool = False
    rows: Fraction = Fraction(1)
    even: tuple[int, int] = (1, 1)
    guessed: str = ""


# Studio range of BT.601, as OpenCV takes nv12 and its like: rows R, G, B; columns Y, U, V, 1.
_BT601 = np.array(
    [
        [1.164, 0.0, 1.596, -16 * 1.164 - 128 * 1.596],
        [1.164, -0.391, -0.813, -16 * 1.164 + 128 * (0.391 + 0.813)],
        [1.164, 2.018, 0.0, -16 * 1.164 - 128 * 2.018],
    ]
)


def _nv24_to_rgb(rows: np.ndarray) -> np.ndarray:
    """Convert (3 H, W) uint8, H rows of luma and 2 H of chroma, of which two make one row of U and V in turn."""
    height, width = rows.shape[0] // 3, rows.shape[1]
    chroma = rows[height:].reshape(height, width, 2)
    return cv2.transform(np.dstack((rows[:height], chroma)), _BT601)


def _yuv422(to_rgb: int) -> Encoding:
    return Encoding(2, to_rgb, even=(1, 2))


def _nv12(to_rgb: int) -> Encoding:
    return Encoding(1, to_rgb, rows=Fraction(3, 2), even=(2, 2))


def _bayer(to_rgb: int, wide: bool = False) -> Encoding:
    return Encoding(1, to_rgb, wide=wide, even=(2, 2))


_AS_OPENCV = "the order of its colours is taken for that of OpenCV, blue first"

ENCODINGS: dict[str, Encoding] = {
    "rgb8": Encoding(3, None),
    "bgr8": Encoding(3, cv2.COLOR_BGR2RGB),
    "rgba8": Encoding(4, cv2.COLOR_RGBA2RGB),
    "bgra8": Encoding(4, cv2.COLOR_BGRA2RGB),
    "mono8": Encoding(1, cv2.COLOR_GRAY2RGB),
    "8UC1": Encoding(1, cv2.COLOR_GRAY2RGB),
    "8UC3": Encoding(3, cv2.COLOR_BGR2RGB, guessed=_AS_OPENCV),
    "8UC4": Encoding(4, cv2.COLOR_BGRA2RGB, guessed=_AS_OPENCV),
    "rgb16": Encoding(3, None, wide=True),
    "bgr16": Encoding(3, cv2.COLOR_BGR2RGB, wide=True),
    "rgba16": Encoding(4, cv2.COLOR_RGBA2RGB, wide=True),
    "bgra16": Encoding(4, cv2.COLOR_BGRA2RGB, wide=True),
    "mono16": Encoding(1, cv2.COLOR_GRAY2RGB, wide=True),
    "16UC1": Encoding(1, cv2.COLOR_GRAY2RGB, wide=True),
    "16UC3": Encoding(3, cv2.COLOR_BGR2RGB, wide=True, guessed=_AS_OPENCV),
    "16UC4": Encoding(4, cv2.COLOR_BGRA2RGB, wide=True, guessed=_AS_OPENCV),
    "yuv422": _yuv422(cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": _yuv422(cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": _yuv422(cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": _yuv422(cv2.COLOR_YUV2RGB_YUY2),
    "nv12": _nv12(cv2.COLOR_YUV2RGB_NV12),
    "nv21": _nv12(cv2.COLOR_YUV2RGB_NV21),
    "nv24": Encoding(1, _nv24_to_rgb, rows=Fraction(3)),
    # OpenCV names a bayer pattern after its second row, ROS after its first.
    "bayer_rggb8": _bayer(cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": _bayer(cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": _bayer(cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": _bayer(cv2.COLOR_BayerGB2RGB),
    "bayer_rggb16": _bayer(cv2.COLOR_BayerBG2RGB, wide=True),
    "bayer_bggr16": _bayer(cv2.COLOR_BayerRG2RGB, wide=True),
    "bayer_gbrg16": _bayer(cv2.COLOR_BayerGR2RGB, wide=True),
    "bayer_grbg16": _bayer(cv2.COLOR_BayerGB2RGB, wide=True),
}

_MAGIC = {"jpeg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n"}
_VIDEO = re.compile(r"\b(h\.?26[45]|hevc|avc|av1|vp[89])\b", re.I)
_VIDEO_STARTS = (b"\x00\x00\x00\x01", b"\x00\x00\x01")  # of the parts of H.264 and H.265


def check_image(image: Any, encoding: str = "") -> Encoding:
    """Check a raw image without touching its pixels.

    encoding: taken instead of the message's own
    Raises ImageError for an encoding that is not in ENCODINGS, a size of zero or that the encoding does not
    allow, a step shorter than a row, or data shorter than step x rows.
    """
    name = encoding or image.encoding
    kind = ENCODINGS.get(name)
    if kind is None:
        raise ImageError(f"encoding {name!r} is not supported: expected one of {', '.join(ENCODINGS)}")
    height, width = image.height, image.width
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise ImageError(f"image size {width}x{height}: expected 1 to {MAX_SIDE} px on each side")
    if height % kind.even[0] or width % kind.even[1]:
        raise ImageError(f"image size {width}x{height}: encoding {name} needs an even size")
    row = width * kind.channels * (2 if kind.wide else 1)
    if image.step < row:
        raise ImageError(f"step {image.step} of a {name} image {width} px wide: expected at least {row} bytes")
    needed = image.step * math.ceil(height * kind.rows)
    if len(image.data) < needed:
        shape = f"{width}x{height} {name} with step {image.step}"
        raise ImageError(f"image data has {len(image.data)} bytes: expected {needed} for {shape}")
    return kind


def to_rgb(image: Any, *, encoding: str = "", bits: int | Callable[[np.ndarray], int] = 0) -> np.ndarray:
    """Return (H, W, 3) uint8 RGB, contiguous: a view of image.data for an unpadded rgb8 image, otherwise a new array.

    encoding: taken instead of the message's own
    bits: significant ones of a 16-bit sample, 8 to 16, of which the highest eight are kept; 0: as `significant_bits`
        finds them in this picture; or a function that says how many, of the samples
    Raises ImageError as `check_image` does.
    """
    kind = check_image(image, encoding)
    rows = _rows(image, kind)
    if kind.wide:
        samples = np.ascontiguousarray(rows).view(">u2" if image.is_bigendian else "<u2")
        rows = narrow(samples, bits(samples) if callable(bits) else bits)
    if kind.channels > 1:
        rows = rows.reshape(rows.shape[0], image.width, kind.channels)
    rows = np.ascontiguousarray(rows)
    return _converted(rows, kind.to_rgb)


def _converted(samples: np.ndarray, to_rgb: int | Callable[[np.ndarray], np.ndarray] | None) -> np.ndarray:
    if to_rgb is None:
        return samples
    return to_rgb(samples) if callable(to_rgb) else cv2.cvtColor(samples, to_rgb)


def to_gray(image: Any) -> np.ndarray:
    """Return (H, W) uint8 of a mono8 or 8UC1 image; a view where it is unpadded. Raises ImageError for any other."""
    if image.encoding not in ("mono8", "8UC1"):
        raise ImageError(f"encoding {image.encoding!r} is not supported here: expected mono8 or 8UC1")
    return np.ascontiguousarray(_rows(image, check_image(image)))


def _rows(image: Any, kind: Encoding) -> np.ndarray:
    """(rows, bytes of a row) uint8 view of the samples, padding left out; not contiguous if there is any."""
    count = math.ceil(image.height * kind.rows)
    rows = np.frombuffer(image.data, np.uint8, count=image.step * count).reshape(count, image.step)
    if kind.to_rgb is _nv24_to_rgb:  # a row of chroma is padded once, and twice as long as one of luma
        luma, chroma = rows[: image.height], rows[image.height :].reshape(image.height, 2 * image.step)
        width = image.width
        return np.vstack((luma[:, :width], np.ascontiguousarray(chroma[:, : 2 * width]).reshape(-1, width)))
    return rows[:, : image.width * kind.channels * (2 if kind.wide else 1)]


def significant_bits(samples: np.ndarray) -> int:
    """Return the smallest of DEPTHS that holds the brightest of these samples, uint16.

    Cameras of 10 and 12 bits use the lower bits of the 16.
    """
    brightest = int(samples.max(initial=0))
    return next(bits for bits in DEPTHS if brightest < 1 << bits)


def bits_said(bits: int) -> str:
    """Say that so many bits of 16 are taken for significant; "" for 0 and for all of them."""
    said = f"its 16-bit samples are taken for {bits} significant bits, by the brightest that were looked at"
    return said if 0 < bits < DEPTHS[-1] else ""


def narrow(samples: np.ndarray, bits: int = 0) -> np.ndarray:
    """Narrow uint16 samples to uint8: the highest eight of `bits` significant ones (0: as found), 255 beyond them.

    samples: contiguous in the last axis; of all 16 bits the result is a view
    """
    bits = bits or significant_bits(samples)
    if bits == 16:
        high = 0 if samples.dtype.str.startswith(">") else 1
        return samples.view(np.uint8)[..., high::2]
    narrowed = samples >> (bits - 8)
    return np.minimum(narrowed, 255, out=narrowed).astype(np.uint8)


def is_video(image: Any) -> bool:
    """Whether a compressed image is a part of a video, such as H.264, by its format or by its first bytes."""
    return _VIDEO.search(image.format) is not None or memoryview(image.data)[:4].tobytes().startswith(_VIDEO_STARTS)


def check_compressed(image: Any) -> None:
    """Check the first bytes of a compressed image. Raises ImageError for what is not jpeg or png."""
    data = memoryview(image.data)[:8].tobytes()
    if any(data.startswith(magic) for magic in _MAGIC.values()):
        return
    what = f"compressed image of format {image.format!r}"
    if not data:
        raise ImageError(f"{what} is empty: expected jpeg or png data")
    if is_video(image):
        raise ImageError(
            f"{what} is a part of a video, which shows something else when a part before it was lost: expected jpeg or "
            "png data; have the camera send one of them, or decode the video to sensor_msgs/msg/Image in a node before "
            "this one; from a bag it is read"
        )
    if "compressedDepth" in image.format:
        raise ImageError(f"{what} holds distances and not a picture: expected jpeg or png data")
    raise ImageError(f"{what} starts with {data.hex(' ')}: expected jpeg or png data")


def decode_compressed(image: Any, *, encoding: str = "", bits: int | Callable[[np.ndarray], int] = 0) -> np.ndarray:
    """Decode a jpeg or png image to (H, W, 3) uint8 RGB, contiguous.

    An orientation tag is not applied, since the camera's calibration does not know of it. What `format` says about the
    contents is heeded, as image_transport writes it: "bayer_rggb8; png compressed " holds the sensor's mosaic,
    "rgb8; jpeg compressed rgb8" has red where others have blue.
    encoding: of what was compressed, taken instead of the one in `format`; bits: as in `to_rgb`, for 16-bit png
    Raises ImageError for anything that does not decode.
    """
    check_compressed(image)
    contents, _, way = image.format.partition(";")
    mosaic = ENCODINGS.get(encoding or contents.strip()) if "bayer" in (encoding or contents) else None
    flags = cv2.IMREAD_UNCHANGED if mosaic else cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(image.data, np.uint8), flags)
    except cv2.error as error:
        raise ImageError(f"compressed image of format {image.format!r} does not decode: {error.err}") from error
    if pixels is None:
        raise ImageError(f"compressed image of format {image.format!r} and {len(image.data)} bytes does not decode")
    if pixels.dtype == np.uint16:
        pixels = np.ascontiguousarray(narrow(pixels, bits(pixels) if callable(bits) else bits))
    elif pixels.dtype != np.uint8:
        raise ImageError(
            f"compressed image of format {image.format!r} has samples of type {pixels.dtype}: expected 8 or 16 bits"
        )
    if pixels.ndim == 2:
        return _converted(pixels, mosaic.to_rgb if mosaic and min(pixels.shape) > 2 else cv2.COLOR_GRAY2RGB)
    if "compressed rgb" in way:
        return np.ascontiguousarray(pixels[..., :3])
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGB)


def contrast(picture: np.ndarray) -> int:
    """Return the range of values, 0 to 255, of the channel with the widest one, without 2 % at either end.

    picture: (H, W, 3) uint8; some thousand places are looked at. Up to EMPTY_CONTRAST it is next to empty: black, or of
    one colour.
    """
    stride = max(1, min(picture.shape[:2]) // 64)
    places = np.sort(picture[::stride, ::stride].reshape(-1, 3), axis=0)
    cut = len(places) // 50
    return int((places[-1 - cut].astype(int) - places[cut]).max())


class ImageReader:
    """Reads the images of one stream, which do not say all that must be known of them.

    encoding: of all images, "" for what each message says
    bits: significant ones of 16-bit samples; 0: found in all pictures so far, so that light makes no picture darker
    say: told, once each, what was assumed and which parameter decides otherwise
    """

    def __init__(self, *, encoding: str = "", bits: int = 0, say: Callable[[str], None] = lambda sentence: None):
        self._encoding, self._bits, self._say = encoding, bits, say
        self._found = 0
        self._guessed: set[str] = set()

    def check(self, message: Any) -> None:
        """Check a message without touching its pixels. Raises ImageError."""
        if hasattr(message, "format"):
            check_compressed(message)
        else:
            check_image(message, self._encoding)

    def read(self, message: Any) -> np.ndarray:
        """(H, W, 3) uint8 RGB, as `to_rgb` or `decode_compressed` make it. Raises ImageError."""
        if hasattr(message, "format"):
            return decode_compressed(message, encoding=self._encoding, bits=self._depth)
        name = self._encoding or message.encoding
        pixels = to_rgb(message, encoding=self._encoding, bits=self._depth)
        guessed = "" if self._encoding else ENCODINGS[name].guessed
        if guessed and name not in self._guessed:
            self._guessed.add(name)
            self._say(f"of encoding {name} {guessed}: set the parameter image_encoding if it is another")
        return pixels

    def _depth(self, samples: np.ndarray) -> int:
        if self._bits or self._found == DEPTHS[-1]:
            return self._bits or self._found
        found = significant_bits(samples)
        if found > self._found:
            self._found = found
            if found < DEPTHS[-1]:
                self._say(
                    f"the brightest of the 16-bit samples is {samples.max()}: taken for {found} significant bits; "
                    "set the parameter significant_bits if there are more"
                )
        return self._found
