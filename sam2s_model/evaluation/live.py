"""Masks that came while a recording was played: which frame they are of, when they were there, and how good they were.

Two questions are asked of them. *Delivered*: how well do masks fit the frame they are of, on the frames that have any?
*Streaming* (Li et al., "Towards Streaming Perception", ECCV 2020, arXiv 2005.10420, section 3): how well do the newest
masks that had arrived when a frame was shown fit that frame? Latency and dropped frames cost accuracy there. All times
are ns of one clock.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice

import numpy as np

from sam2s_model.evaluation.follow import Step
from sam2s_model.evaluation.protocol import EvaluationProtocol
from sam2s_model.recordings.recording import Frame, Recording, Truth
from sam2s_model.tracks import Tracks


@dataclass(frozen=True)
class Delivery:
    """The masks of one frame, as they came.

    stamp: of their frame; received, finished: when the frame reached the tracker and when the masks were ready
    arrived: when the masks were here; tracks: makes the tracks, which are kept compressed
    """

    stamp: int
    received: int
    finished: int
    arrived: int
    tracks: Callable[[], Tracks]


@dataclass(frozen=True)
class GivenPrompt:
    """An object that was prompted while the recording was played.

    label, object_id: in the ground truth, and the tracker's; frame: index of the frame it was prompted on
    asked, answered: when the prompt was sent, and when its last answer came
    """

    label: int
    object_id: int
    frame: int
    asked: int
    answered: int


@dataclass
class LiveLog:
    """What happened while a recording was played.

    shown: index of each frame that was published -> its stamp, which is when that was
    deliveries: in the order in which they arrived
    prompts: in the order in which they were given; answers: frame index -> the tracks of the last answer there
    """

    shown: dict[int, int] = field(default_factory=dict)
    deliveries: list[Delivery] = field(default_factory=list)
    prompts: list[GivenPrompt] = field(default_factory=list)
    answers: dict[int, Tracks] = field(default_factory=dict)


def newest_arrived(times: Sequence[int], deliveries: Sequence[Delivery]) -> list[Delivery | None]:
    """Find for each time the newest frame's delivery among those that had arrived by then; None before the first."""
    arrived = sorted(deliveries, key=lambda delivery: delivery.arrived)
    newest = list(accumulate(arrived, _newer))
    ends = [bisect_right(arrived, at, key=lambda delivery: delivery.arrived) for at in times]
    return [newest[end - 1] if end else None for end in ends]


def _newer(best: Delivery, one: Delivery) -> Delivery:
    return one if one.stamp > best.stamp else best


def live_steps(
    recording: Recording, log: LiveLog, protocol: EvaluationProtocol
) -> Iterator[tuple[Frame, Step | None, Step | None]]:
    """Yield (frame, delivered, streaming) of each frame that was shown, in order.

    delivered: with the frame's own masks and the objects that they know; None for a frame that was dropped
    streaming: with the newest masks that had arrived when the frame was shown, and all objects that were prompted on an
        earlier frame, whether or not the masks know them yet; None for a frame that is not annotated
    """
    by_stamp = {delivery.stamp: delivery for delivery in log.deliveries}
    newest = dict(zip(log.shown, newest_arrived(list(log.shown.values()), log.deliveries), strict=True))
    for frame in islice(recording, protocol.frames or None):
        if frame.index in newest:
            own = by_stamp.get(log.shown[frame.index])
            yield frame, _delivered(frame, own, log), _streaming(frame, newest[frame.index], log)


def _delivered(frame: Frame, delivery: Delivery | None, log: LiveLog) -> Step | None:
    if delivery is None:
        return None
    before = delivery.tracks()
    prompted = tuple(prompt.label for prompt in log.prompts if prompt.frame == frame.index)
    tracks = log.answers[frame.index] if prompted else before
    known = {prompt.label: prompt.object_id for prompt in log.prompts if prompt.object_id in before.object_ids}
    here = {prompt.label: prompt.object_id for prompt in log.prompts if prompt.label in prompted}
    seconds = (delivery.finished - delivery.received) * 1e-9
    return Step(frame=frame, tracks=tracks, before=before, ids={**known, **here}, prompted=prompted, seconds=seconds)


def _streaming(frame: Frame, newest: Delivery | None, log: LiveLog) -> Step | None:
    if frame.truth is None:
        return None
    tracks = newest.tracks() if newest else Tracks.empty(0, *frame.image.shape[:2])
    ids = {prompt.label: prompt.object_id for prompt in log.prompts if prompt.frame < frame.index}
    return Step(frame=frame, tracks=tracks, before=tracks, ids=ids, prompted=(), seconds=0.0)


class PackedTruth:
    """The ground truth of a frame in some kB. visible: objects with any pixel"""

    def __init__(self, truth: Truth):
        self.visible = frozenset(label for label, mask in truth.masks.items() if mask.any())
        self._complete = truth.complete
        self._masks = {label: _pack(mask) for label, mask in truth.masks.items()}
        self._void = None if truth.void is None else _pack(truth.void)
        self._size = next((mask.shape for mask in truth.masks.values()), (0, 0))

    def unpack(self) -> Truth:
        masks = {label: self._unpack(packed) for label, packed in self._masks.items()}
        return Truth(masks, None if self._void is None else self._unpack(self._void), self._complete)

    def _unpack(self, packed: bytes) -> np.ndarray:
        height, width = self._size
        bits = np.frombuffer(zlib.decompress(packed), np.uint8)
        return np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool)


def prompt_frames(recording: Recording, protocol: EvaluationProtocol) -> dict[int, PackedTruth]:
    """Map index to ground truth for all frames that objects can be prompted on, without their images."""
    packed = {f.index: PackedTruth(f.truth) for f in islice(recording, protocol.frames or None) if f.truth}
    return {index: truth for index, truth in packed.items() if truth.visible}


def _pack(mask: np.ndarray) -> bytes:
    return zlib.compress(np.packbits(mask).tobytes(), 1)
