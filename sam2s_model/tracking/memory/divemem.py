"""Diverse long-term memory: SAM2S's DiveMem (arXiv 2511.16618 sec. 3): remember different views for hours."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sam2s_model.tracking.memory.bank import EMPTY
from sam2s_model.tracking.memory.evidence import SIGNATURE_GRID, Evidence
from sam2s_model.tracking.memory.layout import PolicyState
from sam2s_model.tracking.memory.policy import Policy, Selection
from sam2s_model.tracking.memory.view import BankView


@dataclass(frozen=True)
class DiveMem(Policy):
    """The prompted frames for ever, a few diverse long-term frames, and the short window, complete unless pruned.

    Frames with the object and a predicted IoU above `min_iou` are candidates. When there are `buffer` of them, the one
    whose image is least like that of the newest long-term frame (of the first prompted one if there is none) becomes a
    long-term frame, in place of the oldest, and the others are forgotten. Likeness is the cosine of image features;
    here of a 4 x 4 grid of their means (`Evidence.signature`), since the paper does not say over what.

    Frames without the object stay in the short window: the paper credits that for much of its lead over policies
    without training. A long-term frame that is still in the short window is attended to once, as training has it.
    Long-term frames have the embedding of their own where the checkpoint has one, otherwise that of prompted frames,
    and no object pointers (ReSurgSAM2, its predecessor). A model without their embedding can run it all the same.

    A late prompt forgets the long-term frames and candidates that are not older than it; what those had displaced does
    not return.

    long_term: N_l; consecutive: a frame that is no candidate empties the buffer, which the paper leaves open
    """

    long_term: int = 4
    buffer: int = 5
    min_iou: float = 0.95
    consecutive: bool = False

    @property
    def kept(self) -> tuple[tuple[str, int], ...]:
        return ("long_term", self.long_term), ("buffer", self.buffer)

    @property
    def states(self) -> tuple[PolicyState, ...]:
        length = SIGNATURE_GRID**2 * self.config.dim
        return (
            PolicyState("first_signature", (length,), dtype=None),
            PolicyState("long_term_signatures", (self.long_term, length), dtype=None),
            PolicyState("buffer_signatures", (self.buffer, length), dtype=None),
        )

    @property
    def max_frames(self) -> int:
        return super().max_frames + self.long_term

    def select(self, view: BankView, now: int) -> Selection:
        prompted = self.prompted_frames(view, now)
        frames = view.frames("long_term")
        order = torch.where(view.time(now) - frames > self.window, frames, EMPTY)
        pushed = view.max_tracked(now) // self.buffer  # the host's bound
        long_term = self.kept_frames(view, "long_term", order, pushed, self.long_term_code)
        return self.selection(view, now, prompted, long_term, self.pruned_window(view, now, prompted))

    def remember(self, view: BankView, evidence: Evidence) -> None:
        accepted = evidence.outputs.present & (evidence.outputs.iou > self.min_iou)
        if self.consecutive:
            view.empty("buffer", ~accepted[:, None].expand(-1, self.buffer))
        waiting = (view.frames("buffer") != EMPTY).sum(1)  # candidates are in order, from the first slot on
        slot = waiting.clamp(max=self.buffer - 1)
        view.keep("buffer", slot, accepted, evidence)
        view.write_state_slot("buffer_signatures", slot, evidence.signature.expand(len(view), -1), accepted)
        full = accepted & (waiting + 1 >= self.buffer)
        chosen = self._least_like(view)
        oldest = view.frames("long_term").argmin(1)  # empty ones first
        view.move(("buffer", chosen), ("long_term", oldest), full)
        moved = view.state("buffer_signatures").take_along_dim(chosen[:, None, None], dim=1)[:, 0]
        view.write_state_slot("long_term_signatures", oldest, moved, full)
        view.empty("buffer", full[:, None].expand(-1, self.buffer))

    def prompted(self, view: BankView, evidence: Evidence) -> None:
        if (view.first_prompted() == evidence.frame).all():  # on the host: one object is prompted at a time
            view.write_state("first_signature", evidence.signature)

    def _least_like(self, view: BankView) -> Tensor:
        """(N,): the candidate that is least like the newest long-term frame."""
        frames, signatures = view.frames("long_term"), view.state("long_term_signatures")
        newest, at = frames.max(1)
        reference = signatures.take_along_dim(at[:, None, None], dim=1)[:, 0]
        reference = torch.where((newest == EMPTY)[:, None], view.state("first_signature"), reference)
        return (view.state("buffer_signatures").float() @ reference.float()[:, :, None])[:, :, 0].argmin(1)
