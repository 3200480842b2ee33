"""Follow a recording as the node would with `auto_prompt: track` and no request, and compare it with the truth."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from sam2s_model.prompts import Prompt
from sam2s_model.recordings.recording import Recording
from sam2s_model.tracking.tracker import Tracker
from sam2s_model.tracks import LABEL_OUTSIDE, Tracks
from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.tracker.auto_prompt import AutoPrompt

GOOD = 0.5  # J above which a frame counts as followed
STEP = 40_000_000  # ns between two frames that are tracked


@dataclass
class FollowedRecording:
    """What was reached on a recording. overlaps: J of all tracked pixels with all objects' of the truth, of each frame

    objects: how many were started; events: sentences, as of the node's log
    """

    name: str
    overlaps: list[float] = field(default_factory=list)
    objects: int = 0
    events: list[str] = field(default_factory=list)

    @property
    def share_good(self) -> float:
        """Share of the frames with J over 0.5."""
        return float(np.mean(np.array(self.overlaps) > GOOD)) if self.overlaps else float("nan")

    @property
    def mean(self) -> float:
        return float(np.mean(self.overlaps)) if self.overlaps else float("nan")


@dataclass(frozen=True)
class _Frame:
    config: NodeConfig
    tracks: Tracks


def follow_from_nothing(
    tracker: Tracker, recording: Recording, config: NodeConfig, *, every: int = 1, from_mask: bool = False
) -> FollowedRecording:
    """Track a recording and let discovery look between frames.

    tracker: without objects, with prototypes; config: its auto_prompt, refind, recondition and discovery_every
    every: one frame of the recording in so many; from_mask: the first frame's objects are prompted with their masks
    Frames without truth, and the first one, are not scored.
    """
    told = FollowedRecording(recording.name)
    auto = AutoPrompt(lambda result, found: None, told.events.append)
    first = tracker.next_id
    for number, frame in enumerate(islice(recording, 0, None, every)):
        tracks = tracker.step((number + 1) * STEP, frame.image)
        truth = frame.truth.labels if frame.truth is not None else None
        if from_mask and not number and frame.truth is not None:
            tracks = tracker.prompt(0, [Prompt(mask=mask) for mask in frame.truth.masks.values() if mask.any()]).tracks
        if number and truth is not None:
            found = (tracks.label_map > 0) & (tracks.label_map != LABEL_OUTSIDE)
            there = (truth > 0) & (truth != LABEL_OUTSIDE)
            either = (found | there).sum()
            told.overlaps.append(float((found & there).sum() / either) if either else 1.0)
        auto(tracker, _Frame(config, tracks))
    told.objects = tracker.next_id - first
    return told
