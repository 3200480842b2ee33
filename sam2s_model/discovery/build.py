"""A prototype bank from recordings with ground truth: masks, or boxes that the model makes masks of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.device import as_tensor, upload
from sam2s_model.discovery.features import background_features, masked_features
from sam2s_model.discovery.prototypes import BACKGROUND, PrototypeBank
from sam2s_model.errors import PrototypeError, SourceError
from sam2s_model.network.image_features import ImageFeatures
from sam2s_model.network.model import Sam2Model
from sam2s_model.network.prompt_encoder import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT
from sam2s_model.paths import expanded
from sam2s_model.recordings.files import FileRecording
from sam2s_model.recordings.layouts import open_layout, recognise_layout
from sam2s_model.recordings.open import open_recording
from sam2s_model.recordings.recording import Frame, IndexedRecording, Recording
from sam2s_model.recordings.sequences import frame_sequences
from sam2s_model.training.datasets.boxes import Box, read_boxes

LEAST_AREA = 0.0005  # share of the image, of a mask that is learnt from
UNKNOWN_STEP = 10  # one frame in so many, of a recording whose length is not known


@dataclass(frozen=True)
class Confirmation:
    """A recording that says what is where. boxes: their files by the stems of images; None: it has masks

    class_name: of all its objects, "": that which the recording says
    frames: indices of those that may be learnt from, of a recording that is read by index; None: all
    """

    recording: Recording
    boxes: Mapping[str, Path] | None = None
    class_name: str = ""
    frames: Sequence[int] | None = None

    def boxes_of(self, frame: Frame) -> list[Box]:
        """Read the boxes of a frame, whose name may be written in another way than its file's. Raises SourceError."""
        assert self.boxes is not None and isinstance(self.recording, IndexedRecording)
        return read_boxes(self.boxes[self.recording.stem(frame.index)])


@dataclass
class Built:
    """What a bank was made of. regions: of each class; skipped: regions that were too small, or had no class"""

    bank: PrototypeBank
    frames: int = 0
    regions: Counter[str] = field(default_factory=Counter)
    skipped: int = 0


def learn(bank: PrototypeBank, coarse: Tensor, masks: Tensor, names: Sequence[str], void: Tensor | None = None) -> None:
    """Take in a frame of which all objects are known.

    coarse: (1, dim, h, w); masks: (N, H, W) bool; names: N; void: (H, W) bool, what may be anything
    """
    for name, features in zip(names, masked_features(coarse, masks), strict=True):
        bank.add(name, features[None])
    known = masks.any(0) if void is None else masks.any(0) | void
    bank.add(BACKGROUND, background_features(coarse, known))


def open_confirmed(spec: str) -> list[Confirmation]:
    """Open a source with masks, or a folder with frames/ and boxes/ (YOLO's lines), or with subfolders of that kind.

    Returns at least one. Raises SourceError for one that has neither, or no images.
    """
    path = expanded(spec)
    if path.is_dir() and (any(path.glob("boxes/")) or any(path.glob("*/boxes/"))):
        confirmed = [
            Confirmation(
                FileRecording(found.name, path.name, found.images, None, spec=spec), _box_files(found.images[0])
            )
            for found in frame_sequences(path)
            if found.images
        ]
        if not confirmed:
            raise SourceError(f"{spec} has boxes/, and no image in frames/: expected one for each file of boxes")
        return confirmed
    if path.is_dir() and recognise_layout(path):
        return [Confirmation(recording) for recording in open_layout(path)]
    recording = open_recording(spec)
    if not recording.has_masks:
        raise SourceError(
            f"{spec} has no masks: expected frames/ and masks/, frames/ and boxes/, or a data set with masks"
        )
    return [Confirmation(recording)]


def _box_files(image: Path) -> dict[str, Path]:
    return {file.stem: file for file in sorted((image.parents[1] / "boxes").glob("*.txt"))}


@torch.inference_mode()
def build_bank(
    model: Sam2Model,
    confirmed: Sequence[Confirmation],
    *,
    frames: int = 12,
    class_name: str = "",
    box_classes: Mapping[int, str] | None = None,
    on_recording: Callable[[str], Any] = lambda name: None,
) -> Built:
    """Learn from some frames of each recording, evenly spread.

    frames: of each recording; class_name: of all objects, "": that which the recording says
    box_classes: name of each value of boxes, 1 + YOLO's number
    Raises PrototypeError where nothing says a class, or nothing was found to learn from.
    """
    built = Built(PrototypeBank(model.config.dim))
    for one in confirmed:
        on_recording(one.recording.name)
        for frame in spread(one, frames):
            features = model.encode_image(model.prepare_image(as_tensor(frame.image)))
            kept, masks, void, skipped = objects_of(model, one, frame, features, class_name, box_classes)
            learn(built.bank, features.coarse, masks, kept, void)
            built.skipped += skipped
            built.frames += 1
            built.regions.update(kept)
    if not built.regions:
        raise PrototypeError(f"no object of at least {LEAST_AREA:.2%} of the image was found in {built.frames} frames")
    return built


def objects_of(
    model: Sam2Model,
    one: Confirmation,
    frame: Frame,
    features: ImageFeatures,
    class_name: str = "",
    box_classes: Mapping[int, str] | None = None,
) -> tuple[list[str], Tensor, Tensor, int]:
    """Return what a frame confirms: class names N, masks (N, H, W) bool, void (H, W) bool, and how many were too small.

    Arguments are as of `build_bank`. Raises PrototypeError where nothing says a class.
    """
    class_name = class_name or one.class_name
    if one.boxes is not None:
        values, masks, void = _of_boxes(model, features, one.boxes_of(frame), frame.image.shape[:2])
    else:
        values, masks, void = _of_truth(frame, model.device)
    named = {**one.recording.classes, **(box_classes or {})} if one.boxes is not None else one.recording.classes
    names = {value: class_name or named.get(value, "") for value in set(values)}
    if nameless := sorted(value for value, name in names.items() if not name):
        raise PrototypeError(
            f"{one.recording.name} does not say of which class object {nameless[0]} is: give the class of all "
            "(--class), or of boxes their label set (--label-set)"
        )
    large = masks.flatten(1).float().mean(1) >= LEAST_AREA
    kept = [names[value] for value, is_large in zip(values, large.tolist(), strict=True) if is_large]
    return kept, masks[large], void | masks[~large].any(0), int((~large).sum())


def spread(one: Confirmation, count: int) -> Iterator[Frame]:
    """Yield some annotated frames of a recording, evenly spread, or all, where there are no more."""
    recording = one.recording
    if isinstance(recording, IndexedRecording):
        known = [
            i
            for i in (range(recording.length) if one.frames is None else one.frames)
            if (recording.is_annotated(i) if one.boxes is None else recording.stem(i) in one.boxes)
        ]
        places = np.linspace(0, len(known) - 1, min(count, len(known))).round().astype(int)
        yield from (recording.frame(known[i]) for i in np.unique(places))
        return
    step = max(1, recording.length // count) if recording.length else UNKNOWN_STEP
    left = count
    for frame in recording:
        if left and frame.truth is not None and frame.index % step == 0:
            left -= 1
            yield frame


def _of_truth(frame: Frame, device: torch.device) -> tuple[list[int], Tensor, Tensor]:
    """Return values N, masks (N, H, W) bool and void (H, W) bool of a frame with masks."""
    assert frame.truth is not None
    shown = {value: mask for value, mask in frame.truth.masks.items() if mask.any()}
    empty = np.zeros((0, *frame.image.shape[:2]), bool)
    void = frame.truth.void if frame.truth.void is not None else np.zeros(frame.image.shape[:2], bool)
    return list(shown), upload(np.stack([*shown.values()]) if shown else empty, device), upload(void, device)


def _of_boxes(
    model: Sam2Model, features: ImageFeatures, boxes: Sequence[Box], size: tuple[int, int]
) -> tuple[list[int], Tensor, Tensor]:
    """Return the same of a frame with boxes: masks that the model makes of them; the rest of a box may be anything."""
    side = model.image_size
    void = np.zeros(size, bool)
    for box in boxes:
        (x0, y0), (x1, y1) = box.corners * size[::-1]
        void[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] = True
    if not boxes:
        return [], torch.zeros(0, *size, dtype=torch.bool, device=model.device), upload(void, model.device)
    corners = upload(np.stack([box.corners * side for box in boxes]).astype(np.float32), model.device)
    labels = upload(np.array([[BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]] * len(boxes)), model.device)
    made = model.decode(
        model.without_memory(features, len(boxes)), features, points=corners, point_labels=labels, multimask=False
    )
    masks = F.interpolate(made.logits, size=size, mode="bilinear")[:, 0] > 0
    return [box.value for box in boxes], masks, upload(void, model.device)
