"""Better semantic maps of a recording: windows of masklets, each of one class, as in SAM2 for VSS (arXiv 2512.01774).

In each window of frames a grid of points gives masks on the first one, which are tracked to the last; a masklet takes
the class that most of the base maps' pixels inside it are of, and the base maps stay elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from sam2s_model.config import TrackerConfig, check_options, option
from sam2s_model.discovery.regions import distinct
from sam2s_model.errors import SourceError
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.recordings.recording import Frame
from sam2s_model.semantic_maps.votes import ClassVotes, composed
from sam2s_model.tracking.tracker import Tracker

DEFAULTS = dict(
    discovery_grid=16, discovery_min_iou=0.6, discovery_min_stability=0.8, prompt_history=1, max_objects=64,
    reidentification=False, learn_prototypes=False,
)  # fmt: skip
"""Of the tracker's options, where they are others than its own: as in the paper, and no more memory than it takes."""


@dataclass(frozen=True)
class RefineConfig:
    """How maps are refined."""

    window: int = option(32, "frames that masklets are tracked through, from a grid on the first", low=1, high=1024)
    masklets: int = option(32, "most masklets of a window, the best ones", low=1, high=64)
    inside: float = option(0.7, "share of a mask inside a better one, from which it goes", low=0.0, high=1.0)
    min_share: float = option(
        0.5, "least share of a masklet's votes for its class: without it the base maps stay there", low=0.0, high=1.0
    )

    def __post_init__(self):
        check_options(self)


@dataclass(frozen=True, eq=False)
class Refined:
    """A frame with its base map and the refined one, (H, W) uint8. masklets: of its window"""

    frame: Frame
    base: np.ndarray
    map: np.ndarray
    masklets: int


def tracker_for_refining(model: Sam2Model, policy: str = "auto", options: TrackerConfig | None = None) -> Tracker:
    """Make the tracker of masklets. options: None for those of `DEFAULTS`"""
    return Tracker(model, policy, options or TrackerConfig(**DEFAULTS))  # type: ignore[arg-type]


def refine(
    tracker: Tracker, frames: Iterable[tuple[Frame, np.ndarray]], config: RefineConfig | None = None
) -> Iterator[Refined]:
    """Refine the base maps of frames, window by window. A window's frames are in memory at a time.

    tracker: see `tracker_for_refining`; it has no objects before and after
    frames: each with its base map, (H, W) uint8: 0 background, 255 unlabelled
    Raises SourceError for a base map that has not its image's size.
    """
    config, window = config or RefineConfig(), []
    for frame, base in frames:
        check_map(f"the map of {frame.name}", frame, base)
        window.append((frame, base))
        if len(window) == config.window:
            yield from _refined(tracker, window, config)
            window = []
    yield from _refined(tracker, window, config)


def check_map(what: str, frame: Frame, found: np.ndarray) -> None:
    """Raise SourceError for a map, (H, W), that has not the size of its frame's image. what: begin of the sentence"""
    if found.shape != frame.image.shape[:2]:
        (height, width), (rows, columns) = frame.image.shape[:2], found.shape
        raise SourceError(f"{what} is {columns}x{rows}: expected {width}x{height}, as its image")


def _refined(tracker: Tracker, window: Sequence[tuple[Frame, np.ndarray]], config: RefineConfig) -> Iterator[Refined]:
    votes = ClassVotes(memory=np.inf)
    tracked: list[tuple[np.ndarray, dict[int, int]]] = []  # label map and labels of each frame
    tracker.reset()
    for frame, base in window:
        tracks = tracker.step(frame.stamp_ns, frame.image)
        if not tracked:
            masks = masklets(tracker, config)
            if masks:
                tracks = tracker.prompt(0, [Prompt(mask=mask) for mask in masks]).tracks
        labels = dict(zip(tracks.object_ids.tolist(), tracks.labels.tolist(), strict=True))
        votes.add(tracks.label_map, labels, base)
        tracked.append((tracks.label_map, labels))
    tracker.reset()
    classes = {}
    for object_id in tracked[0][1] if tracked else ():
        value, share = votes.class_of(object_id)
        if share >= config.min_share:
            classes[object_id] = value
    for (frame, base), (label_map, labels) in zip(window, tracked, strict=True):
        own = {labels[object_id]: value for object_id, value in classes.items()}
        yield Refined(frame, base, composed(label_map, own, base), len(labels))


def masklets(tracker: Tracker, config: RefineConfig) -> list[np.ndarray]:
    """Find the masks, (H, W) bool, that a window of the tracker's newest frame begins with: the best of the grid.

    Of one that is mostly inside another the worse goes: two masklets would share its pixels.
    """
    found = tracker.discover()
    if not found:
        return []
    masks = torch.from_numpy(np.stack([one.mask for one in found]))
    score = torch.tensor([one.score * one.stability for one in found])
    kept = distinct(masks, score, tracker.config.discovery_overlap, config.inside)
    return [found[i].mask for i in kept[: min(config.masklets, tracker.config.max_objects)]]
