"""Follow a recording as the node would with `auto_prompt: track` and no request, and compare it with the truth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from sam2s_model.discovery.prototypes import PrototypeBank
from sam2s_model.evaluation.identities import Identities
from sam2s_model.metrics import iou
from sam2s_model.prompts import Prompt
from sam2s_model.recordings.mask_values import VOID
from sam2s_model.recordings.recording import Frame
from sam2s_model.semantics import ClassLabel, LabelSet
from sam2s_model.tracking.tracker import Tracker
from sam2s_model.tracks import LABEL_OUTSIDE, Return, Tracks
from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.tracker.auto_prompt import AutoPrompt

GOOD = 0.5  # J above which a frame counts as followed
STEP = 40_000_000  # ns between two frames that are tracked


@dataclass
class FollowedRecording:
    """What was reached on a recording.

    frames: how many were tracked; overlaps: J of all tracked pixels with all objects' of the truth, of each scored one
    objects: how many were started; events: sentences, as of the node's log; identities: who followed whom
    """

    name: str
    frames: int = 0
    overlaps: list[float] = field(default_factory=list)
    objects: int = 0
    events: list[str] = field(default_factory=list)
    identities: Identities = field(default_factory=Identities)

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


def labels_of(bank: PrototypeBank) -> LabelSet:
    """Make a label set of the classes that have prototypes, of which there must be one."""
    names = enumerate(bank.class_names, start=1)
    return LabelSet("prototypes", tuple(ClassLabel(number, name, (0, 200, 120)) for number, name in names))


def follow_from_nothing(
    tracker: Tracker,
    name: str,
    frames: Iterable[Frame],
    config: NodeConfig,
    *,
    every: int = 1,
    from_mask: bool = False,
) -> FollowedRecording:
    """Track a recording and let discovery look between frames.

    tracker: without objects, with prototypes; config: its auto_prompt, refind, recondition and discovery_every
    every: one frame of the recording in so many; from_mask: the first frame's objects are prompted with their masks,
        and with their class where there are prototypes of one alone
    Frames without truth, and the first one, are not scored.
    """
    told = FollowedRecording(name)
    auto = AutoPrompt(lambda result, found: True, told.events.append)
    first, known = tracker.next_id, tracker.discovery.bank.class_names
    for number, frame in enumerate(islice(frames, 0, None, every)):
        told.frames += 1
        tracks = tracker.step(told.frames * STEP, frame.image)
        if from_mask and not number and frame.truth is not None:
            class_name = known[0] if len(known) == 1 else ""
            masks = [mask for mask in frame.truth.masks.values() if mask.any()]
            tracks = tracker.prompt(0, [Prompt(mask=mask, class_name=class_name) for mask in masks]).tracks
        if number and frame.truth is not None:
            told.overlaps.append(overlap_of_all(tracks, frame.truth.labels))
        if frame.truth is not None:
            told.identities.add(tracks, frame.truth)
        newest_id = tracker.next_id
        looked = auto(tracker, _Frame(config, tracks))
        if looked and frame.truth is not None and (after := tracker.newest) is not None:
            told.identities.discovered(after, _discovered(tracks, after, newest_id), frame.truth)
    told.identities.close()
    told.objects = tracker.next_id - first
    return told


def overlap_of_all(tracks: Tracks, truth: np.ndarray) -> float:
    """J of all tracked pixels with those of all objects, labels (H, W); void pixels do not count."""
    found = (tracks.label_map > 0) & (tracks.label_map != LABEL_OUTSIDE)
    return iou(found, (truth > 0) & (truth != VOID), truth == VOID)


def _discovered(before: Tracks, after: Tracks, newest_id: int) -> list[int]:
    """List the objects that a look of discovery has started (ids from `newest_id` on) or prompted anew."""
    assert before.returns is not None and after.returns is not None
    told = dict(zip(before.object_ids.tolist(), before.returns.tolist(), strict=True))
    return [
        object_id
        for object_id, kind in zip(after.object_ids.tolist(), after.returns.tolist(), strict=True)
        if object_id >= newest_id or (kind in (Return.FOUND, Return.RECONDITIONED) and told.get(object_id) != kind)
    ]
