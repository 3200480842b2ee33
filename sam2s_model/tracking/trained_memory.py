"""The trained memory of SAM2: it conditions features on what the policy chooses of the bank, and remembers frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.config import TrackerConfig
from sam2s_model.network.image_features import Conditioned
from sam2s_model.network.mask_decoder import Decoded, Stability
from sam2s_model.network.memory_keys import CachedKeys
from sam2s_model.network.model import Sam2Model
from sam2s_model.tracking.history import ProcessedFrame
from sam2s_model.tracking.memory import BankView, Evidence, MemoryBank, Policy
from sam2s_model.tracking.memory.stand_ins import copy_memory
from sam2s_model.tracking.outputs import Outputs


class TrainedMemory:
    """What the network was trained for, with a policy that decides about the slots of the bank."""

    def __init__(self, model: Sam2Model, policy: Policy, bank: MemoryBank, config: TrackerConfig):
        self.model, self.policy, self.bank, self.config = model, policy, bank, config
        # (object id, prompted frame) -> the frame whose mask its memory is of instead, see `take_for_prompts`
        self.stand_ins: dict[tuple[int, int], int] = {}

    def condition(self, view: BankView, frame: ProcessedFrame) -> tuple[Conditioned | None, int]:
        """Condition the frame's features on the memories of some rows. Returns them, None without any, and the keys.

        The keys are counted as the attention sees them, padding included: a function of the shapes alone.
        """
        if not view.remembers(frame.index):  # a policy may choose from slots that are all empty, and no key is NaN
            return None, 0
        chosen = self.policy.select(view, frame.index)
        split = self.model.config.dim // self.model.config.memory_dim
        keys = chosen.spatial.columns.shape[1] * self.model.memory_tokens + chosen.pointer_columns.shape[1] * split
        if not keys:
            return None, 0
        cached = None
        if self.bank.layout.key_width:
            columns, codes = chosen.spatial.columns, chosen.spatial.codes
            cached = CachedKeys(self.bank.keys, view.index, columns, codes, self.model.time_codes)
        conditioned = self.model.with_memory(
            frame.features,
            view.memories(chosen.spatial.columns),
            chosen.spatial.codes,
            view.pointers(chosen.pointer_columns),
            chosen.ages,
            chosen.allowed,
            None if chosen.short is None else (view.memories(chosen.short.columns), chosen.short.codes),
            cached if chosen.spatial.columns.shape[1] else None,
        )
        return conditioned, keys

    def decode(
        self, view: BankView, frame: ProcessedFrame, features: Tensor, stability: Stability | None
    ) -> tuple[Decoded, Tensor | None]:
        """Decode conditioned features. Returns the masks, and all (N, 3, h, w) for policies that compare them."""
        multimask = self.config.multimask_tracking
        if not self.policy.uses_candidates:
            return self.model.decode(features, frame.features, multimask=multimask, stability=stability), None
        made = self.model.candidates(features, frame.features)
        chosen = self.policy.choose(view, made.logits[:, 1:], made.iou[:, 1:]) + 1
        if not multimask:
            everywhere = torch.ones_like(chosen, dtype=torch.bool)
            stays = stability.stable(made.logits[:, 0]) if stability else everywhere
            chosen = torch.where(stays, 0, chosen)
        return made.taken(chosen), made.logits[:, 1:]

    def remember(self, view: BankView, frame: ProcessedFrame, outputs: Outputs, candidates: Tensor | None) -> None:
        """Remember a tracked frame."""
        memory = self.model.encode_memory(
            frame.features, outputs.logits, outputs.present, exclusive=self.config.non_overlap_memory
        )
        self.bank.drop_kept(view.rows, frame.index, view.step)
        kept = self.as_kept(memory)
        self.bank.write_recent(view.rows, frame.index, kept, outputs.pointers, view.step)
        self.policy.remember(view, _evidence(frame, outputs, memory, kept, candidates))

    def prompted(self, view: BankView, row: int, frame: ProcessedFrame, outputs: Outputs) -> int:
        """Remember a frame that one object was prompted on. Returns its conditioning slot."""
        memory = self.model.encode_memory(
            frame.features, outputs.logits, outputs.present, binarise=self.config.binarise_prompted
        )
        self.bank.drop_kept(view.rows, frame.index)
        kept = self.as_kept(memory)
        slot = self.bank.write_conditioning(row, frame.index, kept[0], outputs.pointers[0])
        self._correct_stand_ins(self.bank.ids[row], frame.index, slot)
        self.policy.prompted(view, _evidence(frame, outputs, memory, kept, None))
        return slot

    def prompted_before(
        self, row: int, frame: ProcessedFrame, logits: Tensor, iou: Tensor, score: Tensor, present: Tensor
    ) -> None:
        """Tell the policy again of a frame that one object was prompted on, when what came before it has changed.

        Of one that is still remembered. logits: (1, 1, h, w); iou, score, present: (1,), as they were
        """
        bank, slot = self.bank, self.bank.conditioning_slot_of(row, frame.index)
        if slot is None:
            return
        rows, places = slice(row, row + 1), slice(slot, slot + 1)
        outputs = Outputs(
            object_ids=(bank.ids[row],),
            logits=logits,
            iou=iou,
            object_logit=torch.logit(score, eps=1e-6),
            pointers=bank.pointers[rows, slot],
            present=present,
            class_logits=logits.new_zeros(1, self.model.config.num_classes),
            similarity=torch.full_like(iou, torch.nan),
            rejected=torch.zeros_like(present),
        )
        bank.drop_kept(rows, frame.index)
        memory, kept = bank.memories[rows, places][:, 0], bank.spatial[rows, places][:, 0]
        self.policy.prompted(BankView(bank, rows), _evidence(frame, outputs, memory, kept, None))

    def take_for_prompts(self, rows: list[int], frame: ProcessedFrame, logits: Tensor) -> list[int]:
        """Take some objects' masks on a frame, (N, 1, h, w), for prompts. Returns the conditioning slot of each.

        An object that has prompted frames already, without memories, has this memory for each of them, until it is
        prompted on the frame or before.
        """
        side = self.model.image_size
        present = (logits > 0).flatten(1).any(1)
        masks = (F.interpolate(logits, size=(side, side), mode="bilinear") > 0).float()
        pointers = self.model.pointer(self.model.decode_given_mask(frame.features, masks).token, present)
        memory = self.as_kept(
            self.model.encode_memory(frame.features, logits, present, binarise=self.config.binarise_prompted)
        )
        slots = []
        for row, spatial, pointer in zip(rows, memory, pointers, strict=True):
            prompted = self.bank.prompted_frames(row) or [frame.index]
            others = {(self.bank.ids[row], index): frame.index for index in prompted if index != frame.index}
            self.stand_ins.update(others)
            slots.append([self.bank.write_conditioning(row, index, spatial, pointer) for index in prompted][0])
        return slots

    def _correct_stand_ins(self, object_id: int, frame: int, slot: int) -> None:
        """Put the memory of a prompted frame in place of those of a mask that was tracked there or later."""
        self.stand_ins.pop((object_id, frame), None)
        for (other_id, prompted), tracked in self.stand_ins.items():
            if other_id == object_id and tracked >= frame:
                copy_memory(self.bank, object_id, slot, prompted)
                self.stand_ins[other_id, prompted] = frame  # a value alone: the keys stay as they are

    def as_kept(self, memory: Tensor) -> Tensor:
        """Memories (N, tokens, memory_dim), as the bank keeps them: where keys are cached, with theirs after them."""
        if not self.bank.layout.key_width:
            return memory
        return torch.cat((memory.to(self.bank.dtype), self.model.memory_keys(memory)), dim=-1)


def _evidence(
    frame: ProcessedFrame, outputs: Outputs, memory: Tensor, kept: Tensor, candidates: Tensor | None
) -> Evidence:
    return Evidence(
        frame=frame.index,
        outputs=outputs,
        spatial=memory,
        kept=kept,
        features=frame.features.coarse,
        candidates=candidates,
    )
