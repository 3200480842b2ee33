"""Measure what it costs to decode an image message, and to make one of a label image, by encoding and size.

sam2s bench codecs
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from sam2s_model.recordings.scene import Scene, SceneConfig
from sam2s_ros.interfaces import image_codec

SIZES = {"720p": (1280, 720), "1080p": (1920, 1080)}
RUNS = 30


def costs(size: tuple[int, int], runs: int = RUNS) -> dict[str, float]:
    """Measure the median ms of decoding each encoding, jpeg and png to RGB, and of making a mono8 message.

    size: width and height, px
    """
    width, height = size
    picture = Scene(SceneConfig(width=width, height=height, frames=1))[0].image
    work: dict[str, Callable] = {}
    for name in image_codec.ENCODINGS:
        work[name] = partial(image_codec.decode, message_of(name, picture))
    for name, quality in (("jpeg", [cv2.IMWRITE_JPEG_QUALITY, 90]), ("png", [cv2.IMWRITE_PNG_COMPRESSION, 1])):
        data = cv2.imencode(f".{name}", picture[..., ::-1], quality)[1]
        message = CompressedImage(format=name, data=image_codec.to_bytes(data))
        work[name] = partial(image_codec.decode, message)
    labels = np.zeros((height, width), np.uint8)
    work["out: mono8"] = lambda: image_codec.to_message(labels, Header(), "mono8")
    return {name: _median_ms(one, runs) for name, one in work.items()}


def message_of(encoding: str, picture: np.ndarray) -> Image:
    """Make a message of that encoding with bytes of the picture; what it shows does not matter to the time.

    picture: (H, W, 3) uint8
    """
    height, width = picture.shape[:2]
    kind = image_codec.ENCODINGS[encoding]
    step = width * kind.channels * (2 if kind.wide else 1)
    data = np.resize(picture, step * int(height * kind.rows))
    return Image(height=height, width=width, encoding=encoding, step=step, data=image_codec.to_bytes(data))


def _median_ms(work: Callable, runs: int) -> float:
    spent = []
    for _ in range(runs + 1):  # the first one makes room
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return 1e3 * float(np.median(spent[1:]))


def print_codec_costs() -> None:
    """Print a table."""
    found = {name: costs(size) for name, size in SIZES.items()}
    table = Table("median ms", *found)
    for encoding in next(iter(found.values())):
        table.add_row(encoding, *(f"{of_size[encoding]:.2f}" for of_size in found.values()))
    Console().print(table)
