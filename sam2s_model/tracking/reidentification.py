"""Is what comes back the object that went? Its appearance is compared with that of its confident frames.

The idea is in SurgicalSAM's prototypes and in ReMeDI-SAM3's re-identification: masked average pooling of image features
and a cosine. Here the mean feature of the whole image is taken off first, since all places of an endoscope's picture
are alike in what they have in common, and the cosine of two instruments would be close to 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.acceleration import kernels
from sam2s_model.acceleration.constants import constant
from sam2s_model.config import TrackerConfig
from sam2s_model.device import upload
from sam2s_model.tracking.history import ProcessedFrame
from sam2s_model.tracking.memory import BankView, PolicyState

RING = "past_"  # before the name of a state: what it was after each of the newest frames
MEMORY = 200  # frames after which a prototype forgets as fast as it learns


@dataclass(frozen=True)
class Verdict:
    """Of N objects on one frame.

    asked: (N,) bool, whether an object was LOST and something appeared; similarity: (N,) cosine, NaN where not asked
    accepted: (N,) bool, it is the same object; False where not asked
    rejected: (N,) bool, it was asked and is another; present: (N,) bool, as given, but for those
    appearances: (N, dim), of the masks that were judged
    """

    asked: Tensor
    similarity: Tensor
    rejected: Tensor
    present: Tensor
    appearances: Tensor

    @property
    def accepted(self) -> Tensor:
        return self.asked & ~self.rejected


class Reidentification:
    """Keeps a prototype of each object in the bank. It allows what it has no prototype to compare with.

    It also keeps what it knew after each of the newest frames, since one that is prompted late, or tracked again, goes
    on from what was known before it.

    dim: of the image features
    states: what is known of each object, and then the rings of what was known
    """

    def __init__(self, config: TrackerConfig, dim: int):
        self.config = config
        known = (
            PolicyState("prototype", (dim,)),
            PolicyState("prototype_frames", (), torch.int64),
            PolicyState("stamps", (2,), torch.int64),  # ns, of the last frame that showed it, and of the last
        )
        # those of the history, the one before, and one that a step which fails may have written
        ring = config.prompt_history + 2
        self.states = (*known, *(PolicyState(RING + one.name, (ring, *one.shape), one.dtype) for one in known))
        self._known = tuple(one.name for one in known)

    def judge(self, view: BankView, features: Tensor, logits: Tensor, present: Tensor) -> Verdict:
        """Compare what appears of objects that were lost on the last frame on which they were tracked.

        What was seen there was not lost, however long ago that is.
        features: (1, dim, h, w); logits: (N, 1, ., .); present: (N,) bool
        """
        limit = round(self.config.lost_after * 1e9)
        if kernels.serves(logits) and _whole_cells(features, logits):
            states = (view.bank.states[name] for name in self._known)
            told = features, logits, present, view.index, *states
            appears, similarity, asked, rejected, remains = kernels.judge(*told, limit, self.config.min_similarity)
            return Verdict(asked=asked, similarity=similarity, rejected=rejected, present=remains, appearances=appears)
        visible, tracked = view.state("stamps").unbind(1)
        lost = tracked - visible > limit
        asked = lost & present & (view.state("prototype_frames") > 0)
        appears = appearance(features, logits)
        similarity = F.cosine_similarity(appears, view.state("prototype"), dim=1)
        rejected = asked & ~(similarity >= self.config.min_similarity)
        return Verdict(
            asked=asked,
            similarity=torch.where(asked, similarity, torch.nan),
            rejected=rejected,
            present=present & ~rejected,
            appearances=appears,
        )

    def learn(
        self,
        view: BankView,
        frame: int,
        appearances: Tensor,
        logits: Tensor,
        iou: Tensor,
        present: Tensor,
        stamp: int | Tensor,
    ) -> None:
        """Add a frame's appearances (N, dim) to the prototypes of the objects that are surely there.

        What is known after it is remembered. frame: its index; stamp: ns
        logits: (N, 1, ., .); iou: (N,), predicted; present: (N,) bool
        """
        if kernels.serves(logits):
            states = (view.bank.states[prefix + name] for prefix in ("", RING) for name in self._known)
            when = view.bank.time(frame, view.step), _on_device(stamp, view)
            told = appearances, logits, iou, present, view.index, *when, *states
            kernels.learn(*told, self.config.confident_iou, MEMORY)
            return
        seen = present & (logits > 0).flatten(1).any(1)
        confident = seen & (iou >= self.config.confident_iou)
        frames, prototype = view.state("prototype_frames"), view.state("prototype")
        learnt = prototype.lerp(appearances, (frames + 1).clamp(max=MEMORY).reciprocal()[:, None])
        view.write_state("prototype", torch.where(confident[:, None], learnt, prototype))
        view.write_state("prototype_frames", frames + confident)
        of_frame = seen[:, None] | _tracked(device=seen.device)
        view.write_state("stamps", torch.where(of_frame, stamp, view.state("stamps")))
        for name in self._known:
            view.bank.write_state_ring(RING + name, view.rows, frame, view.bank.states[name][view.rows], view.step)

    def see(
        self,
        view: BankView,
        frame: ProcessedFrame,
        logits: Tensor,
        iou: Tensor,
        present: Tensor,
        stamp: int | Tensor,
        appearances: Tensor | None = None,
    ) -> None:
        """Learn from a frame, as `learn` does. appearances: where they are known"""
        seen = appearance(frame.features.coarse, logits) if appearances is None else appearances
        self.learn(view, frame.index, seen, logits, iou, present, stamp)

    def go_back(self, view: BankView, frame: int) -> None:
        """Know what was known before a frame: of an object that was not tracked then, nothing."""
        for name in self._known:
            ring = view.bank.states[RING + name]
            view.write_state(name, ring[view.rows, (frame - 1) % ring.shape[1]])

    def start(self, view: BankView, prototype: Tensor | None, frames: int, visible: int, tracked: int) -> None:
        """Begin with what is known of objects from elsewhere.

        prototype: (dim,), the mean of `frames`; visible, tracked: stamps, ns, as of the last frames
        """
        stamps = upload(np.array([visible, tracked]), view.bank.device)
        values = (0.0 if prototype is None else prototype.to(view.bank.device), frames, stamps)
        for name, value in zip(self._known, values, strict=True):
            view.bank.states[name][view.rows] = value
            view.bank.states[RING + name][view.rows] = value


@constant
def _tracked(device=None) -> Tensor:
    """(2,): which of an object's stamps a frame sets that does not show it."""
    return torch.tensor([False, True], device=device)


def _on_device(stamp: int | Tensor, view: BankView) -> Tensor:
    return stamp if isinstance(stamp, Tensor) else torch.full((), stamp, dtype=torch.int64, device=view.bank.device)


def _whole_cells(features: Tensor, logits: Tensor) -> bool:
    """Tell whether masks have as many cells along each side of each place of the features."""
    (h, w), (rows, columns) = features.shape[-2:], logits.shape[-2:]
    return rows % h == 0 and columns == w * (rows // h)


def appearance(features: Tensor, logits: Tensor) -> Tensor:
    """Pool features (1, dim, h, w) inside mask logits (N, 1, ., .) -> (N, dim) of length 1, less the image's mean."""
    inside = F.adaptive_avg_pool2d((logits > 0).float(), (features.shape[-2], features.shape[-1]))
    features = features.float() - features.float().mean((2, 3), keepdim=True)
    return F.normalize(torch.einsum("nhw,chw->nc", inside[:, 0], features[0]), dim=1)
