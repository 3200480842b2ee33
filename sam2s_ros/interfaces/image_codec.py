"""Image messages to numpy arrays and back: what `sam2s_model.recordings.pixels` reads, and how a message is filled.

Assigning `bytes` to `Image.data`, as cv_bridge does, takes 3 to 8 ms for a frame that takes 0.1 to 0.5 ms here.
"""

from __future__ import annotations

import array

import cv2
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from sam2s_model.errors import ImageError
from sam2s_model.recordings.pixels import (
    ENCODINGS,
    Encoding,
    check_compressed,
    check_image,
    decode_compressed,
    to_gray,
    to_rgb,
)

__all__ = [
    "ENCODINGS", "Encoding", "check", "check_compressed", "check_image", "decode", "decode_compressed", "to_bytes",
    "to_gray", "to_jpeg", "to_message", "to_rgb",
]  # fmt: skip


def check(msg: Image | CompressedImage) -> None:
    """Check a message of either type. Raises ImageError."""
    if isinstance(msg, CompressedImage):
        check_compressed(msg)
    else:
        check_image(msg)


def decode(msg: Image | CompressedImage) -> np.ndarray:
    """Decode a message of either type to (H, W, 3) uint8 RGB. Raises ImageError."""
    return decode_compressed(msg) if isinstance(msg, CompressedImage) else to_rgb(msg)


def to_message(pixels: np.ndarray, header: Header, encoding: str) -> Image:
    """Make an Image message of a uint8 array.

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


def to_jpeg(pixels: np.ndarray, header: Header, quality: int) -> CompressedImage:
    """Make a CompressedImage of a picture, as image_transport names it. pixels: (H, W, 3) uint8 RGB; quality: 0..100"""
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ImageError(f"a picture of {pixels.shape[1]}x{pixels.shape[0]} was not encoded as JPEG")
    msg = CompressedImage(header=header, format="rgb8; jpeg compressed bgr8")
    msg.data = to_bytes(encoded)
    return msg


def to_bytes(pixels: np.ndarray) -> array.array:
    """Copy an array's bytes into the one type that a message's `data` takes without checking each element."""
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(pixels).data.cast("B"))
    return data
