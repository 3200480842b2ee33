"""Discovery that looks again while objects are tracked: what is LOST is found, what has drifted gets a better mask.

A proposal for a LOST object must be of its class, where that has prototypes, and look like the object itself, where its
looks are known (`reidentification`). An object has drifted when a proposal that overlaps its mask is clearly better: by
predicted IoU, stability and likeness to the class together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.device import upload
from sam2s_model.discovery.discover import Proposal
from sam2s_model.discovery.features import masked_features
from sam2s_model.discovery.finder import Discovery
from sam2s_model.discovery.regions import stability
from sam2s_model.tracking.history import ProcessedFrame
from sam2s_model.tracking.presence import TrackedObject
from sam2s_model.tracking.reidentification import appearance
from sam2s_model.tracking.segmenter import Segmenter
from sam2s_model.tracks import Return, State

DRIFTED = (
    0.3,
    0.9,
)  # IoU of an object's mask with the proposal that replaces it: more is the same, less another object
BETTER = 0.1  # by how much the proposal's quality, 0..1, exceeds the mask's


@dataclass(frozen=True, eq=False)
class Rediscovered:
    """What discovery has done for an object. kind: Return.FOUND or Return.RECONDITIONED

    similarity: -1..1, of its looks with the proposal's, NaN where they are not known; gain: of quality, NaN when found
    """

    object_id: int
    proposal: Proposal
    kind: Return
    similarity: float = float("nan")
    gain: float = float("nan")


def review(
    discovery: Discovery,
    frame: ProcessedFrame,
    segmenter: Segmenter,
    objects: Mapping[int, TrackedObject],
    *,
    find: bool,
    recondition: bool,
) -> list[Rediscovered]:
    """Look at a frame again, and say what should be prompted anew. Each proposal serves one object at most.

    find: whether LOST objects are looked for; recondition: whether masks of the others are compared with proposals
    """
    tracks = frame.tracks
    if tracks is None or not len(tracks):
        return []
    proposals = discovery.look(frame)
    state_of = dict(zip(tracks.object_ids.tolist(), tracks.states.tolist(), strict=True))
    out: list[Rediscovered] = []
    if recondition:
        seen = [objects[i] for i, state in state_of.items() if state in (State.TRACKED, State.SUSPECT)]
        out += _drifted(discovery, frame, segmenter, seen, proposals)
    if find:
        lost = [objects[i] for i, state in state_of.items() if state == State.LOST]
        free = [one for one in proposals if not one.object_id and not _covered(one, tracks.label_map)]
        out += _returned(discovery, frame, segmenter, lost, free)
    return out


def _covered(one: Proposal, label_map: np.ndarray) -> bool:
    return bool((label_map[one.mask] > 0).mean() > DRIFTED[0])


def _fits(discovery: Discovery, known: TrackedObject, one: Proposal) -> bool:
    """Whether a proposal may be of an object's class."""
    name = known.class_label.name
    return one.class_name == name if known.named and name in discovery.bank.class_names else True


def _returned(
    discovery: Discovery,
    frame: ProcessedFrame,
    segmenter: Segmenter,
    lost: Sequence[TrackedObject],
    free: Sequence[Proposal],
) -> list[Rediscovered]:
    if not lost or not free:
        return []
    logits = upload(np.stack([one.mask for one in free]), segmenter.model.device)[:, None].float() - 0.5
    appears = appearance(frame.features.coarse, logits)
    pairs = []
    for known in lost:
        looks = _looks(segmenter, known.object_id)
        similar = None if looks is None else F.cosine_similarity(appears, looks[None]).tolist()
        for i, one in enumerate(free):
            by_class = known.named and bool(one.class_name) and _fits(discovery, known, one)
            if similar is None:
                if by_class:
                    pairs.append((one.margin - 2, float("nan"), known.object_id, i))
            elif similar[i] >= segmenter.config.min_similarity and _fits(discovery, known, one):
                pairs.append((similar[i], similar[i], known.object_id, i))
    out: list[Rediscovered] = []
    for _, similarity, object_id, i in sorted(pairs, key=lambda pair: -pair[0]):
        if not any(one.object_id == object_id or one.proposal is free[i] for one in out):
            out.append(Rediscovered(object_id, free[i], Return.FOUND, similarity=similarity))
    return out


def _looks(segmenter: Segmenter, object_id: int) -> Tensor | None:
    """(dim,) mean appearance of an object, None where none is known."""
    if not segmenter.reid:
        return None
    row, states = segmenter.bank.row(object_id), segmenter.bank.states
    return states["prototype"][row] if int(states["prototype_frames"][row]) else None


def _drifted(
    discovery: Discovery,
    frame: ProcessedFrame,
    segmenter: Segmenter,
    seen: Sequence[TrackedObject],
    proposals: Sequence[Proposal],
) -> list[Rediscovered]:
    tracks = frame.tracks
    out: list[Rediscovered] = []
    assert tracks is not None
    for known in seen:
        mask = tracks.mask(known.object_id)
        overlaps = {i: _iou(mask, one.mask) for i, one in enumerate(proposals) if _fits(discovery, known, one)}
        near = [i for i, overlap in overlaps.items() if DRIFTED[0] <= overlap <= DRIFTED[1]]
        if not near or max(overlaps.values()) > DRIFTED[1]:
            continue
        name = known.class_label.name if known.named else ""
        best = max(near, key=lambda i: _quality(discovery, name, proposals[i]))
        if any(one.proposal is proposals[best] for one in out):
            continue
        gain = _quality(discovery, name, proposals[best]) - _own_quality(discovery, frame, segmenter, known, name)
        if gain >= BETTER:
            out.append(Rediscovered(known.object_id, proposals[best], Return.RECONDITIONED, gain=gain))
    return out


def _quality(discovery: Discovery, name: str, one: Proposal) -> float:
    margin = max(one.margin, 0.0) if name in discovery.bank.class_names else 1.0
    return one.score * one.stability * margin


def _own_quality(
    discovery: Discovery, frame: ProcessedFrame, segmenter: Segmenter, known: TrackedObject, name: str
) -> float:
    """Judge an object's mask as proposals are judged."""
    logits = segmenter.bank.mask(segmenter.bank.rows([known.object_id]), frame.index)[:, 0].float()
    margin = torch.ones(1)
    if name in discovery.bank.class_names:
        margin = discovery.bank.likeness(name, masked_features(frame.features.coarse, logits > 0)).clamp(min=0)
    return frame.predictions[known.object_id].predicted_iou * float(stability(logits)) * float(margin)


def _iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / max((one | other).sum(), 1))


def tell_rediscovered(frame: ProcessedFrame, rediscovered: Mapping[int, Return]) -> None:
    """Say in a frame's predictions which of its objects discovery has prompted, and how."""
    for object_id, kind in rediscovered.items():
        if object_id in frame.predictions:
            frame.predictions[object_id] = replace(frame.predictions[object_id], discovered=kind)
