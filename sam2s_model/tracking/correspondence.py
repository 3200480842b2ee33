"""Where does each place of a frame come from? Labels follow the most similar features, and prompt the mask decoder.

The steps are those of `memory.match`: `propagate` before a frame is decoded, `decode` and `remember` after it. All
objects are one batch: the affinity does not know them, only what is summed with it does (`propagation`).
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.acceleration.constants import constant
from sam2s_model.network.image_features import ImageFeatures
from sam2s_model.network.mask_decoder import Candidates, Decoded
from sam2s_model.network.model import Sam2Model
from sam2s_model.tracking.memory import BankView, FrameStore, MemoryBank, PolicyState
from sam2s_model.tracking.memory.bank import EMPTY
from sam2s_model.tracking.memory.frame_store import older_columns
from sam2s_model.tracking.memory.matching import Matching
from sam2s_model.tracking.propagation import (
    FINER,
    Propagated,
    agreement,
    label_prompts,
    neighbours,
    patched,
    small,
    unit_tokens,
    unpatched,
)

MIN_BELIEF = 0.2  # in the mask of an object that is there: its agreement with its map, times its predicted IoU
MIN_SUPPORT = 0.22  # of the mask, by prompted and older frames; right ones had 0.23 at least, see docs/match.md
FOUND_SUPPORT = 0.3  # the same where it was lost, and for a frame that is to support others: false ones had up to 0.27
MIN_TRUST = 0.05  # of a frame on which an object was not found: it is hardly listened to, and not forgotten


class Correspondence:
    """Keeps frames in a `FrameStore`, and the objects' label maps of them in the bank, as states.

    history: newest frames that can still be prompted; conditioning: most prompted frames of an object
    """

    def __init__(self, matching: Matching, model: Sam2Model, history: int, conditioning: int):
        self.matching, self.model, self.conditioning = matching, model, conditioning
        h, w = self.grid = model.grid
        ring = matching.newest + history + 1
        self.store = FrameStore(
            matching,
            ring=ring,
            conditioning=conditioning,
            places=h * w,
            dim=model.config.dim,
            device=model.device,
            dtype=model.dtype,
        )
        slots = conditioning + ring + matching.older
        self.states = (
            PolicyState("labels", (slots, h * w, FINER * FINER), None),
            PolicyState("label_frames", (slots,), torch.int64, EMPTY),
            PolicyState("label_trust", (slots,)),
        )

    @property
    def frames(self) -> int:
        """Count the frames that each place is compared with, slots that hold nothing among them."""
        return self.store.slots

    # ---- before a frame is decoded

    def propagate(self, view: BankView, frame: int, coarse: Tensor) -> Propagated:
        """Propagate the labels of a view's rows to a frame, from earlier ones. coarse: (1, dim, h, w)"""
        tokens = unit_tokens(coarse).to(self.model.dtype)
        time = view.time(frame)
        entries = self.store.entries(time)
        columns, trust = self._labels_of(view, entries.frames, entries.columns, time)
        weights, places = neighbours(tokens, entries.tokens, self.grid, self.matching)
        labels = view.bank.states["labels"][view.index[:, None], columns].float()  # (N, E, places, cells)
        # a value that is masked may be anything
        labels = labels.masked_fill_(trust[..., None, None] <= 0, 0.0)
        lost = trust[:, -self.matching.newest] == MIN_TRUST
        trust = trust * _voters(len(entries.frames), self.matching.newest, device=trust.device)  # (2, N, E)
        table = (labels * trust[..., None, None]).permute(2, 3, 0, 1, 4).flatten(2).flatten(0, 1)
        votes = F.embedding_bag(places, table, per_sample_weights=weights.flatten(1), mode="sum")
        asked = weights.sum(2) @ trust.flatten(0, 1).T  # (places, 2 N)
        share = votes.unflatten(1, (2 * len(view), -1)) / asked.clamp(min=1e-12)[..., None]
        maps, lasting = unpatched(share.transpose(0, 1), self.grid).chunk(2)
        lasting = torch.where(trust[1].any(1)[:, None, None, None], lasting, 1.0)
        return Propagated.of(tokens, maps, self.matching, lasting, lost)

    def _labels_of(self, view: BankView, frames: Tensor, columns: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """Find each object's label map of each of E frames, (N, E), and how far to trust it, 0 where there is none."""
        held = view.bank.states["label_frames"][view.rows]  # (N, slots)
        n, prompted = len(held), len(frames) - len(columns)
        # a prompted frame is in whichever slot the object has for it
        same = held[:, None, : self.conditioning] == frames[None, :prompted, None]
        own = same.to(torch.uint8).argmax(2)  # the first slot where there is none
        columns = torch.cat((own, columns.expand(n, -1)), dim=1)
        there = (held.gather(1, columns) == frames) & (frames != EMPTY) & (frames < time)
        # ... and not again as one of the newest or of the older ones
        twice = (frames[prompted:, None] == frames[:prompted]) & same.any(2)[:, None]
        there = there & ~F.pad(twice.any(2), (prompted, 0))
        trust = view.bank.states["label_trust"][view.rows].gather(1, columns)
        return columns, torch.where(there, trust, 0.0).nan_to_num()

    # ---- masks

    def decode(
        self, conditioned: Tensor, features: ImageFeatures, found: Propagated, own: Candidates | None = None
    ) -> Decoded:
        """Choose for each object the mask that agrees most with its map and that the mask decoder expects most of.

        conditioned: (N, decoder_width, h, w), for the decoder; own: masks that were decoded from a trained memory, to
        choose from as well. An object is there where its map has a mask that agrees with it and that lasting frames
        support, or the memory says so.
        """
        corners, labels, dense = label_prompts(found, self.matching, self.model.config.stride)
        made = self.model.candidates(conditioned, features, corners, labels, dense)
        if own is not None:
            made = own.joined(made)
        belief, chosen = (agreement(found, made.logits, self.matching) * made.iou).max(1)
        decoded = made.taken(chosen)
        score = torch.minimum(self.score(found, belief), self.support(found, decoded.logits))
        there = torch.logit(score, eps=1e-4)
        return replace(decoded, object_logit=there if own is None else torch.maximum(own.object_logit, there))

    @staticmethod
    def score(found: Propagated, belief: Tensor) -> Tensor:
        """Score (N,) 0..1 that an object is there.

        belief: (N,), in its mask; at `MIN_BELIEF` the score is 0.5. Without a map it is 0.
        """
        score = (belief / (2 * MIN_BELIEF)).clamp(max=1)
        return torch.where(found.inside.flatten(1).any(1), score, 0.0)

    def support(self, found: Propagated, logits: Tensor) -> Tensor:
        """Score (N,) 0..1 how far lasting frames say, too, that masks, logits (N, 1, 4h, 4w), are of their objects.

        The share of their votes, at `MIN_SUPPORT` 0.5, and at `FOUND_SUPPORT` where the object was lost. Where one
        leaves the picture, what the newest frames know of it slides onto the tissue at the border, which stays where it
        is and is found again on each next frame: they alone would follow it for ever.
        """
        if found.lasting is None or found.lost is None:
            return logits.new_ones(len(logits))
        least = found.lost * (FOUND_SUPPORT - MIN_SUPPORT) + MIN_SUPPORT
        return (_share(found.lasting, small((logits > 0).float())) / (2 * least)).clamp(max=1)

    # ---- after a frame was decoded

    def start(self, view: BankView, frame: int, coarse: Tensor, logits: Tensor) -> None:
        """Begin with masks that were found without correspondences. logits: (N, 1, 4h, 4w), of absent objects gated"""
        masks = (logits > 0).float()
        found = Propagated(unit_tokens(coarse), small(masks), masks, masks[:, 0] > 0)
        self.remember(view, frame, found, logits, logits.new_ones(len(view)), found.inside.flatten(1).any(1))

    def remember(
        self, view: BankView, frame: int, found: Propagated, logits: Tensor, iou: Tensor, present: Tensor
    ) -> None:
        """Keep a tracked frame. logits: (N, 1, 4h, 4w); iou: (N,), predicted; present: (N,) bool

        It is trusted as far as its mask agrees with its map, times the IoU that the mask decoder expects. Among the
        older frames it has no say where lasting frames hardly support it: it would support what comes after, and a mask
        on tissue would be right for ever once it was taken for the object.
        """
        matching, time = self.matching, view.time(frame)
        trust = agreement(found, logits, self.matching)[:, 0] * iou
        self.store.remember(frame, time, found.tokens, present.any())
        mask = small((logits > 0).float() * present[:, None, None, None])
        labels = patched(matching.map_share * found.maps + (1 - matching.map_share) * mask)
        trust = torch.where(present, trust.clamp(min=MIN_TRUST), MIN_TRUST)
        slot = self.conditioning + time.remainder(self.store.ring)[None]
        self._write(view, slot, time, labels, trust, None)
        older = older_columns(matching.older, self.conditioning + self.store.ring, device=slot.device)
        if found.lasting is not None:
            trust = trust * (_share(found.lasting, mask) >= FOUND_SUPPORT)
        self._write(view, older, time, labels, trust, self.store.older_frames == time)

    def prompted(self, view: BankView, column: int, frame: int, coarse: Tensor, logits: Tensor) -> None:
        """Keep a frame that one object was prompted on, in its conditioning slot's column. logits: (1, 1, 4h, 4w)"""
        self.store.prompted(frame, unit_tokens(coarse), *self._held(view.bank, frame))
        labels, time = patched(small((logits > 0).float())), view.time(frame)
        trust = labels.new_full((len(view),), self.matching.prompted)
        self._write(view, torch.full((1,), column, device=labels.device), time, labels, trust, None)
        older = older_columns(self.matching.older, self.conditioning + self.store.ring, device=labels.device)
        self._write(view, older, time, labels, trust, self.store.older_frames == time)

    def put_back(self, bank: MemoryBank, frame: int) -> None:
        """Keep a prompted frame again that has given way to an earlier one, after the bank has put it back."""
        self.store.put_back(frame, *self._held(bank, frame))

    def _held(self, bank: MemoryBank, frame: int) -> tuple[set[int], set[int]]:
        """Return the prompted frames that any object has, and of them and those laid aside the ones after a frame."""
        held = set(bank.host_frames[: len(bank), : self.conditioning].ravel().tolist())
        return held, {one for one in held.union(index for _, index in bank.aside) if one > frame}

    def _write(
        self, view: BankView, columns: Tensor, time: Tensor, labels: Tensor, trust: Tensor, where: Tensor | None
    ) -> None:
        """Write what N objects are on a frame to some columns (K,). where: (K,) bool, which of them; None: all."""
        n, k = len(view), len(columns)
        values = (labels[:, None], time.expand(n, 1), trust[:, None])
        for name, value in zip(("labels", "label_frames", "label_trust"), values, strict=True):
            store = view.bank.states[name]
            place = view.index[:, None], columns[None]
            value = value.to(store.dtype).expand(n, k, *store.shape[2:])
            if where is not None:
                value = torch.where(where.view(1, k, *[1] * (value.dim() - 2)), value, store[place])
            store.index_put_(place, value)


def _share(votes: Tensor, masks: Tensor) -> Tensor:
    """Return (N,), the mean of votes (N, 1, h, w) inside masks (N, 1, h, w) 0..1; 0 of empty ones."""
    return (masks * votes).flatten(1).sum(1) / masks.flatten(1).sum(1).clamp(min=1e-6)


@constant
def _voters(frames: int, newest: int, device=None) -> Tensor:
    """(2, 1, frames): all frames vote, and then those that are not of the newest."""
    voters = torch.ones(2, 1, frames, device=device)
    voters[1, :, frames - newest :] = 0.0
    return voters
