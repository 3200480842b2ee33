"""A rosbag2 recording (sqlite3 or mcap), read with `rosbags`: no ROS installation is needed."""

from __future__ import annotations

import bisect
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from sam2s_model.errors import ImageError, SourceError
from sam2s_model.recordings.image_files import PROBED, common_size
from sam2s_model.recordings.mask_files import describe_reading
from sam2s_model.recordings.mask_values import MaskReading, MaskStatistics, decide
from sam2s_model.recordings.source import Frame, FrameSource
from sam2s_ros.interfaces.image_codec import decode_compressed, to_gray, to_rgb
from sam2s_ros.replay.sources.bag_help import ZSTD, what_helps

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
WAITING_IMAGES = 8  # images held back for a mask that comes later in the bag
WAITING_MASKS = 32  # masks held back for an image that comes later
TYPES = get_typestore(Stores.ROS2_JAZZY)  # both messages are the same in every distribution since Foxy


class BagSource(FrameSource):
    """One topic of images (Image or CompressedImage), and optionally one of masks with the same stamps.

    Stamps are the header stamps, or the recording times of a bag whose headers have none; an image whose stamp is
    not after the one before is left out. An image whose mask does not follow within eight images is delivered
    without.

    Raises SourceError when the bag cannot be read or has no such topic; it names the topics there are.
    """

    kind = "bag"

    def __init__(self, spec: str, path: Path, *, topic: str = "", mask_topic: str = "", mask_values: str = "auto"):
        super().__init__(spec)
        self._path, self._cut = path, ""
        with self._opened() as reader:
            self.mask_topic = _topic(spec, reader, mask_topic, what="masks") if mask_topic else ""
            self.topic = _topic(spec, reader, topic, besides=self.mask_topic, what="images")
            self.length = reader.topics[self.topic].msgcount
        if not self.length:
            raise SourceError(f"{spec} has no message on topic {self.topic!r}: expected at least one image")
        self.has_masks = bool(self.mask_topic)
        self.fps, self.size = self._probe()
        if self.has_masks:
            self._reading, self.masks_said = self._look_at_masks(mask_values)

    def _frames(self) -> Iterator[Frame]:
        waiting: list[Frame] = []
        masks: OrderedDict[int, np.ndarray] = OrderedDict()
        index, previous = 0, 0
        stamps: list[int] = []  # of images, to say how far a mask without one is from the nearest
        answered: set[int] = set()  # stamps of frames that got their mask, and of images that are left out
        lost: list[int] = []
        for topic, stamp, message in self._messages():
            if topic == self.mask_topic:
                mask = self._labels_of(stamp, message)
                if mask is None:
                    continue
                masks[stamp] = self._reading.labels(mask)
                while len(masks) > WAITING_MASKS:
                    lost.append(masks.popitem(last=False)[0])
            else:
                name, position = f"{index:06d}", index
                index += 1
                if stamp <= previous:
                    answered.add(stamp)
                    self._note_odd(f"frame {name} has stamp {stamp} ns, not after {previous} ns of the frame before it")
                    continue
                image = self._rgb_of(name, message)
                if image is None or not self._fits(name, image):
                    answered.add(stamp)
                    continue
                previous = stamp
                stamps.append(stamp)
                waiting.append(Frame(position, stamp, image, None, name))
            while waiting and (not self.has_masks or waiting[0].stamp_ns in masks or len(waiting) > WAITING_IMAGES):
                yield self._with_mask(waiting.pop(0), masks, answered)
        for frame in waiting:
            yield self._with_mask(frame, masks, answered)
        for stamp in (s for s in (*lost, *masks) if s not in answered):
            self._note_odd(f"mask of stamp {stamp} {_why_lost(stamp, stamps)}")

    def _with_mask(self, frame: Frame, masks: OrderedDict[int, np.ndarray], answered: set[int]) -> Frame:
        mask = masks.pop(frame.stamp_ns, None)
        if mask is not None:
            answered.add(frame.stamp_ns)
            mask = self._fitting_mask(frame.name, mask)
        return Frame(frame.index, frame.stamp_ns, frame.image, mask, frame.name)

    def _messages(self, topics: tuple[str, ...] = ()) -> Iterator[tuple[str, int, object]]:
        """(topic, header stamp in ns, message) in the order of recording. topics: none are those of images and masks"""
        with self._opened() as reader:
            connections = [c for c in reader.connections if c.topic in (topics or (self.topic, self.mask_topic))]
            messages = reader.messages(connections)
            while True:
                data = None
                try:
                    connection, recorded, data = next(messages)
                    message = TYPES.deserialize_cdr(data, connection.msgtype)
                except StopIteration:
                    return
                except Exception as error:  # rosbags lets struct, sqlite3, zstd and its own errors through
                    self._cut = f"the bag cannot be read any further ({type(error).__name__}: {error})"
                    if data is not None and bytes(data[:4]) == ZSTD:
                        self._cut = (
                            "its messages are compressed (zstd), and no metadata.yaml says so: give the folder with it; it has to say "
                            "compression_format: zstd and compression_mode: MESSAGE"
                        )
                    self._note_odd(self._cut)
                    return
                stamp = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
                yield connection.topic, stamp or recorded, message

    @contextmanager
    def _opened(self) -> Iterator[Reader]:
        try:
            reader = Reader(self._path)
            reader.open()
        except Exception as error:  # as above: a damaged file ends in whatever its bytes lead to
            reason = (str(error) or type(error).__name__).rstrip(".")
            help_ = what_helps(self._path)
            raise SourceError(
                f"{self.spec} is not a readable rosbag2 recording ({reason})" + f": {help_}" * bool(help_)
            ) from error
        try:
            yield reader
        finally:
            reader.close()

    def _probe(self) -> tuple[float, tuple[int, int]]:
        """(frames per second, (H, W)): the rate from the recording times, the size that most of the first good images have."""
        with self._opened() as reader:
            seconds = reader.duration * 1e-9
        fps = (self.length - 1) / seconds if self.length > 1 and seconds > 0 else 1.0
        reason = "it has no image"
        sizes: list[tuple[int, int]] = []
        for _, _, message in self._messages((self.topic,)):
            try:
                sizes.append(_rgb(message).shape[:2])
            except ImageError as error:
                reason = str(error)
            if len(sizes) == PROBED:
                break
        if not sizes:
            raise SourceError(f"{self.spec}: no image on topic {self.topic!r} can be decoded ({self._cut or reason})")
        return fps, common_size(sizes)

    def _look_at_masks(self, how: str) -> tuple[MaskReading, str]:
        """How the values of all masks are read, and the line that says it. Raises SourceError."""
        parts = []
        for _, stamp, message in self._messages((self.mask_topic,)):
            try:
                parts.append(MaskStatistics.of(np.ascontiguousarray(to_gray(message))))
            except ImageError as error:
                parts.append(MaskStatistics.of_odd(f"the mask of stamp {stamp} cannot be decoded ({error})"))
        seen = MaskStatistics.sum(parts)
        try:
            reading = decide(seen, how)
        except SourceError as error:
            raise SourceError(f"masks on {self.mask_topic} of {self.spec}: {error}") from error
        return reading, f"{len(parts)} masks, {describe_reading(reading, seen)}"

    def _rgb_of(self, name: str, message) -> np.ndarray | None:
        try:
            return _rgb(message)
        except ImageError as error:
            self._note_odd(f"frame {name} cannot be decoded ({error})")
            return None

    def _labels_of(self, stamp: int, message) -> np.ndarray | None:
        try:
            return to_gray(message)
        except ImageError as error:
            self._note_odd(f"the mask of stamp {stamp} cannot be decoded ({error})")
            return None


def _why_lost(stamp: int, stamps: list[int]) -> str:
    """stamps: of the images, ascending"""
    at = bisect.bisect(stamps, stamp)
    away = min((abs(other - stamp) for other in stamps[max(0, at - 1) : at + 1]), default=None)
    if away is None:
        return "has no image"
    if away == 0:
        return f"came more than {WAITING_IMAGES} images after its image"
    return f"belongs to no image: the nearest is {away * 1e-6:.6g} ms away"


def _rgb(message) -> np.ndarray:
    return decode_compressed(message) if hasattr(message, "format") else to_rgb(message)


def _topic(spec: str, reader: Reader, wanted: str, *, besides: str = "", what: str) -> str:
    """The topic to read. Raises SourceError naming the image topics there are."""
    types = (IMAGE,) if what == "masks" else (IMAGE, COMPRESSED)
    found = sorted({c.topic for c in reader.connections if c.msgtype in types and c.topic != besides})
    names = ", ".join(found) if found else "none"
    if wanted:
        for name in (wanted, "/" + wanted):
            if name in found:
                return name
        kind = next((c.msgtype for c in reader.connections if c.topic in (wanted, "/" + wanted)), "")
        why = f" that are {' or '.join(types)}, but {kind}" if kind and kind not in types else ""
        raise SourceError(f"{spec} has no {what} on topic {wanted!r}{why}: its image topics are: {names}")
    if len(found) == 1:
        return found[0]
    if not found:
        others = ", ".join(sorted({c.topic for c in reader.connections})) or "none"
        raise SourceError(f"{spec} has no image topic: its topics are: {others}")
    raise SourceError(f"{spec} has {len(found)} image topics, give one of them: {names}")
