"""What `sam2s eval` reads: data sets by their layout, and everything else that can be replayed, with ground truth."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sam2s_model.errors import SourceError
from sam2s_model.evaluation.layouts import open_layout, recognise_layout
from sam2s_model.evaluation.numbered import NumberedMasks
from sam2s_model.evaluation.recording import Frame, Recording, Truth
from sam2s_model.paths import expanded
from sam2s_model.recordings.sequences import without_masks
from sam2s_ros.replay.sources import Frame as SourceFrame, FrameSource, open_source

MOST_FRAMES = 10**9  # a larger number is a stamp in ns


@dataclass(frozen=True)
class Source:
    """One SOURCE of the command line.

    data_set: its name in the report, "" for the folder's or file's own
    layout: of a folder, or "auto"; topic, mask_topic: of a bag
    truth: folder of masks of a video (by frame number) or of a bag (by stamp); "" for none
    mask_values: how values of masks are read, see `mask_values.decide`
    """

    spec: str
    data_set: str = ""
    layout: str = "auto"
    topic: str = ""
    mask_topic: str = ""
    truth: str = ""
    mask_values: str = "auto"


def open_recordings(source: Source) -> list[Recording]:
    """The recordings of a source, at least one, all with ground truth.

    Raises SourceError or ConfigError, one sentence that names the path and what would be right.
    """
    path = expanded(source.spec)
    if source.layout != "auto" or (path.is_dir() and recognise_layout(path)):
        for option, value in (
            ("--truth", source.truth),
            ("--topic", source.topic),
            ("--mask-topic", source.mask_topic),
        ):
            if value:
                raise SourceError(f"{option} {value} was given, but {source.spec} is a folder with masks of its own")
        found = open_layout(path, source.layout, source.mask_values)
    else:
        found = [StreamRecording(source)]
    for recording in found:
        recording.data_set = source.data_set or recording.data_set
    return found


def left_out(source: Source) -> str:
    """A line on the recordings of a folder that have images and no masks, or the other way round; "" where there are none."""
    path = expanded(source.spec)
    names = without_masks(path) if path.is_dir() else []
    some = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f"{source.spec}: {len(names)} folders have images or masks alone, and are left out: {some}" if names else ""


class StreamRecording(Recording):
    """A video, a bag or the procedural scene, with its own masks or with those of a folder.

    A mask of the folder that belongs to no frame is odd, see `Recording`.
    """

    def __init__(self, source: Source):
        """Raises SourceError when it cannot be read or has no ground truth."""
        self._source: FrameSource = open_source(
            source.spec, topic=source.topic, mask_topic=source.mask_topic, mask_values=source.mask_values
        )
        if not source.truth and not self._source.has_masks:
            hint = "--mask-topic, or --truth with a folder of masks by stamp" if self._source.kind == "bag" else (
                "--truth with a folder of masks by frame number" if self._source.kind == "video" else "frames/ and masks/ in it"
            )  # fmt: skip
            raise SourceError(f"{source.spec} has no ground truth to evaluate with: expected {hint}")
        by_stamp = self._source.kind == "bag"
        frames = None if by_stamp else self._source.length
        self._masks = NumberedMasks(source.truth, source.mask_values, frames) if source.truth else None
        name = source.spec.replace("=", "") if self._source.kind == "scene" else Path(source.spec).stem
        name = re.sub(r"[^\w.-]+", "_", name)
        super().__init__(
            name, name, self._source.fps, self._source.class_names or (self._masks.classes if self._masks else {})
        )
        self.length = self._source.length

    def describe_masks(self) -> str:
        said = self._masks.describe() if self._masks else self._source.masks_said
        return "; ".join(filter(None, [said, *self._source.notes]))

    def _frames(self) -> Iterator[Frame]:
        self.describe_masks()  # what can be no masks is refused as a whole, not frame by frame
        left = set(self._masks.numbers) if self._masks else set()
        numbers: list[int] = []
        try:
            for frame in self._source:
                number = frame.stamp_ns if self._source.kind == "bag" else frame.index
                left.discard(number)
                numbers.append(number)
                yield Frame(frame.index, frame.stamp_ns, frame.name, frame.image, self._truth(frame, number))
            for number in sorted(left):
                self._note_odd(f"mask {number} belongs to no frame{self._nearest(number, numbers)}")
        finally:
            self.odd = [*self._source.odd, *self.odd]
            self.odd_count += self._source.odd_count

    def _nearest(self, number: int, numbers: list[int]) -> str:
        """Where the nearest frame is, for the sentence on a mask that belongs to none."""
        nearest = self._masks.nearest(number, numbers)
        if nearest is None:
            return ""
        if self._source.kind != "bag":
            return f": the nearest is {nearest}" + (
                ", a mask is named by its frame's number" if number > MOST_FRAMES else ""
            )
        if number < MOST_FRAMES:
            return f": it is named by a number, and a bag's masks are by their frame's stamp in ns, such as {nearest}"
        return f": the nearest is {abs(number - nearest) * 1e-6:.6g} ms away"

    def _truth(self, frame: SourceFrame, number: int) -> Truth | None:
        if self._masks is None:
            return None if frame.mask is None else Truth.of_labels(frame.mask)
        try:
            return self._masks.truth(number, frame.image.shape[:2])
        except SourceError as error:
            self._note_odd(str(error))
            return None
