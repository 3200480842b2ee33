"""A rosbag2 recording (sqlite3 or mcap), read with `rosbags`: no ROS installation is needed."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from sam2s_model.errors import ImageError, SourceError
from sam2s_model.recordings.bag_help import ZSTD, what_helps
from sam2s_model.recordings.bag_masks import MaskStream
from sam2s_model.recordings.image_files import PROBED, common_size
from sam2s_model.recordings.mask_files import describe_reading
from sam2s_model.recordings.mask_values import MaskReading, MaskStatistics, decide
from sam2s_model.recordings.pixels import ImageReader, to_gray
from sam2s_model.recordings.recording import Frame, Recording, Truth
from sam2s_model.recordings.tracked_masks import TRACKED_MASKS, types_of
from sam2s_model.recordings.video_stream import VideoReader

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
VIDEOS = ("FFMPEGPacket", "CompressedVideo")  # messages whose pictures need those before them
VIDEO_HELPS = (
    "play the bag through a node that decodes it (`ros2 run image_transport republish`), or that sends its parts as "
    f"{COMPRESSED} of format h264, and record that"
)
TYPES = get_typestore(Stores.ROS2_JAZZY)  # both messages are the same in every distribution since Foxy
OWN_FILES = ("metadata.yaml", "*.db3*", "*.mcap*")  # in the folder of a bag; also those that are compressed
RATED = 48  # images whose stamps say the rate
TIME_JUMP_NS = 10**9  # as the node's parameter time_jump: stamps that go back further are of a clock that was set


class BagRecording(Recording):
    """One topic of images (Image or CompressedImage), and optionally one of masks with the same stamps.

    Masks are mono8 images, or a tracker's TrackedMasks. Stamps are the header stamps, or the recording times of a bag
    whose headers have none. An image whose stamp repeats, or is at most a second before the previous one, is left out;
    where stamps step back further, as when a clock is set, they are counted on from there. Masks may be anywhere in the
    bag, as long as they are in the order of the images. Compressed images may be parts of one video, as H.264 cameras
    send them.

    Raises SourceError when the bag cannot be read or has no such topic; it names the topics there are.
    """

    kind = "bag"

    def __init__(
        self,
        name: str,
        spec: str,
        path: Path,
        *,
        topic: str = "",
        mask_topic: str = "",
        mask_values: str = "auto",
    ):
        super().__init__(name, spec=spec)
        self._path, self._cut, self._summary = path, "", ""
        with self._opened() as reader:
            self.mask_topic = _topic(spec, reader, mask_topic, what="masks") if mask_topic else ""
            self.topic = _topic(spec, reader, topic, besides=self.mask_topic, what="images")
            self.length = reader.topics[self.topic].msgcount
        if not self.length:
            raise SourceError(f"{spec} has no message on topic {self.topic!r}: expected at least one image")
        self.has_masks = bool(self.mask_topic)
        self.fps, self._size = self._probe()
        self._mask_stamps: Counter[int] = Counter()  # how many masks have it
        if self.has_masks:
            self._reading, self._summary = self._decide_reading(mask_values)

    def _own_files(self) -> list[Path]:
        """Return the bag's own files: results may lie in its folder."""
        if not self._path.is_dir():
            return [self._path]
        return sorted({path for name in OWN_FILES for path in self._path.glob(name)})

    def _mask_summary(self) -> str:
        return self._summary

    def _frames(self) -> Iterator[Frame]:
        masks = MaskStream(self._messages((self.mask_topic,)) if self.mask_topic else iter(()), self._mask_stamps)
        reader = VideoReader()
        index, offset, header = 0, 0, 0  # offset: from the headers' stamps to those of the frames, ns
        stamps: list[int] = []  # of images, to say how far a mask without one is from the nearest
        for _, stamp, message in self._messages((self.topic,)):
            name, position = f"{index:06d}", index
            index += 1
            mask = masks.take(stamp)
            if header and stamp <= header:
                if header - stamp <= TIME_JUMP_NS:
                    reader.skip(message)
                    self._note_odd(
                        f"frame {name} has stamp {stamp} ns, not after {header} ns of the frame before it", image=True
                    )
                    continue
                offset = header + offset + round(1e9 / self.fps) - stamp
                back = (header - stamp) * 1e-9
                self._note_of_pass(f"stamps step back by {back:.6g} s at frame {name}: from there they are counted on")
            header = stamp
            image = self._rgb_of(name, message, reader)
            if image is None or not self._fits(name, image):
                continue
            bisect.insort(stamps, stamp)
            truth = self._fitting(self._truth_of(stamp, mask), name, self.size) if mask is not None else None
            yield Frame(position, stamp + offset, name, image, truth, stamp if offset else 0)
        for stamp in masks.rest():
            self._note_odd(f"mask of stamp {stamp} {_why_lost(stamp, stamps)}")

    def _messages(self, topics: tuple[str, ...] = ()) -> Iterator[tuple[str, int, Any]]:
        """(topic, header stamp in ns, message) in the order of recording. topics: none are those of images and masks"""
        with self._opened() as reader:
            connections = [c for c in reader.connections if c.topic in (topics or (self.topic, self.mask_topic))]
            messages = reader.messages(connections)
            types = types_of(reader) if any(c.msgtype == TRACKED_MASKS for c in connections) else TYPES
            while True:
                data = None
                try:
                    connection, recorded, data = next(messages)
                    message: Any = types.deserialize_cdr(data, connection.msgtype)  # whose class the types make
                    if connection.msgtype == TRACKED_MASKS:
                        message = message.label_image
                except StopIteration:
                    return
                except Exception as error:  # rosbags lets struct, sqlite3, zstd and its own errors through
                    self._cut = f"the bag cannot be read any further ({type(error).__name__}: {error})"
                    if data is not None and bytes(data[:4]) == ZSTD:
                        self._cut = (
                            "its messages are compressed (zstd), and no metadata.yaml says so: give the folder with "
                            "it; it has to say compression_format: zstd and compression_mode: MESSAGE"
                        )
                    self._note_odd(self._cut, image=topics != (self.mask_topic,))
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
        """Return frames per second, by the stamps of the first images, and (H, W), the commonest size of a few."""
        stamps: list[int] = []
        reason = "it has no image"
        sizes: list[tuple[int, int]] = []
        assumed: list[str] = []
        reader = VideoReader(say=assumed.append)
        for _, stamp, message in self._messages((self.topic,)):
            stamps.append(stamp)
            if len(sizes) == PROBED:
                if len(stamps) >= RATED:
                    break
                continue
            try:
                sizes.append(reader.read(message).shape[:2])
            except ImageError as error:
                reason = str(error)
        if not sizes:
            raise SourceError(f"{self.spec}: no image on topic {self.topic!r} can be decoded ({self._cut or reason})")
        self.notes += assumed
        return _rate(stamps), common_size(sizes)

    def _decide_reading(self, how: str) -> tuple[MaskReading, str]:
        """Decide how the values of all masks are read; return that, and a line that says it. Raises SourceError."""
        parts = []
        self._mask_stamps.clear()
        for _, stamp, message in self._messages((self.mask_topic,)):
            self._mask_stamps[stamp] += 1
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

    def _rgb_of(self, name: str, message, reader: ImageReader) -> np.ndarray | None:
        try:
            return reader.read(message)
        except ImageError as error:
            self._note_odd(f"frame {name} cannot be decoded ({error})", image=True)
            return None

    def _truth_of(self, stamp: int, message: Any) -> Truth | None:
        try:
            return Truth.of_labels(self._reading.labels(to_gray(message)))
        except ImageError as error:
            self._note_odd(f"the mask of stamp {stamp} cannot be decoded ({error})")
            return None


def _rate(stamps: Sequence[int]) -> float:
    """Return images per second: what most distances say, whatever is lost, paused, or of other topics in the bag."""
    gaps = [after - before for before, after in pairwise(stamps) if after > before]
    return 1e9 / float(np.median(gaps)) if gaps else 1.0


def _why_lost(stamp: int, stamps: list[int]) -> str:
    """stamps: of the images, ascending"""
    at = bisect.bisect(stamps, stamp)
    away = min((abs(other - stamp) for other in stamps[max(0, at - 1) : at + 1]), default=None)
    if away is None:
        return "has no image"
    if away == 0:
        return "comes in another order than its image"
    return f"belongs to no image: the nearest is {away * 1e-6:.6g} ms away"


def _topic(spec: str, reader: Reader, wanted: str, *, besides: str = "", what: str) -> str:
    """Return the topic to read. Raises SourceError naming the image topics there are."""
    types = (IMAGE, TRACKED_MASKS) if what == "masks" else (IMAGE, COMPRESSED)
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
        videos = sorted((c.topic, c.msgtype) for c in reader.connections if c.msgtype.rpartition("/")[2] in VIDEOS)
        tracked = sorted(c.topic for c in reader.connections if c.msgtype == TRACKED_MASKS)
        what = "".join(f"; {topic} has what was tracked: `sam2s export masks` reads it" for topic in tracked[:1])
        what += "".join(f"; {topic} is a video of {kind}: {VIDEO_HELPS}" for topic, kind in videos[:1])
        raise SourceError(f"{spec} has no image topic: its topics are: {others}{what}")
    raise SourceError(f"{spec} has {len(found)} image topics, give one of them as topic: {names}")
