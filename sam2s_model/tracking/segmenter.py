"""The objects' part of a frame: decode them from memory or from a prompt, and remember the result.

All objects are one batch. Which slot of the bank is used for what is decided here and in the policy; which object is
asked for, and when, in `tracker`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.acceleration.constants import constant
from sam2s_model.config import TrackerConfig
from sam2s_model.device import upload
from sam2s_model.network.granularity import LOWEST
from sam2s_model.network.mask_decoder import Decoded, Stability
from sam2s_model.network.model import LOGITS_PER_PLACE, Conditioned, Sam2Model
from sam2s_model.network.prompt_encoder import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT
from sam2s_model.prompts import POSITIVE, Prompt
from sam2s_model.tracking.correspondence import Correspondence, Propagated
from sam2s_model.tracking.history import ProcessedFrame
from sam2s_model.tracking.memory import (
    BankLayout,
    BankView,
    Evidence,
    MemoryBank,
    Policy,
    PolicyState,
    Rows,
    StepTime,
    create_policy,
)
from sam2s_model.tracking.memory.view import EVER
from sam2s_model.tracking.outputs import Outputs, gate, predictions
from sam2s_model.tracking.part_choice import choose_part
from sam2s_model.tracking.presence import Prediction
from sam2s_model.tracking.reidentification import Reidentification, Verdict, appearance
from sam2s_model.tracking.thin import keep_thin, tube_prompt

PREVIOUS_LIMIT = 32.0  # logits of a mask that is fed back are clamped to it, as published


class Segmenter:
    """A model with a policy, and the bank it remembers in.

    policy: a name of `memory.POLICIES`
    """

    def __init__(self, model: Sam2Model, policy: str, config: TrackerConfig):
        self.model, self.config = model, config
        self.policy = create_policy(policy, model.config, config)
        self.keys = 0  # that an object's memory attention had on the last frame, padding included
        self.stability = Stability(config.stability_delta, config.stability_threshold) if config.stability else None
        self.reid = Reidentification(config, model.config.dim) if config.reidentification else None
        self.matches = None
        if self.policy.match:
            self.matches = Correspondence(self.policy.match, model, config.prompt_history, config.max_conditioning)
        notes = (
            *self.policy.notes,
            *(part_note for part in (self.reid, self.matches) if part for part_note in part.notes),
        )
        self.bank = MemoryBank(bank_layout(model, self.policy, config, notes), model.device, model.dtype)

    @property
    def generation(self) -> tuple[int, int]:
        """Counts allocations: what was captured with another one writes to memory that is no longer used."""
        return self.bank.generation, self.matches.store.generation if self.matches else 0

    def know_tracked(self, frame: int, rows: Rows | None = None) -> None:
        """Know on the host what a step of some objects, None: of all, has written: for a step that was replayed."""
        self.bank.know_tracked(rows or slice(0, len(self.bank)), frame)
        if self.matches:
            self.matches.store.newest = max(self.matches.store.newest, frame)

    def forget(self, frame: int) -> None:
        """Empty what a step that failed may have written of its frame, which no other frame needs."""
        self.bank.forget(frame)
        if self.matches:
            self.matches.store.forget(frame)

    def save(self, object_ids: Sequence[int]) -> tuple:
        """What `restore` needs: who is remembered, and a copy of what is remembered of these objects."""
        return self.bank.save(object_ids), self.matches.store.save() if self.matches else None

    def restore(self, saved: tuple) -> None:
        """Be as at `save`, when only its objects were prompted and tracked and others added since. Allocates nothing."""
        bank, frames = saved
        self.bank.restore(bank)
        if self.matches:
            self.matches.store.restore(frames)

    def clear(self) -> None:
        """Forget all objects and frames; the memory stays allocated."""
        self.bank.clear()
        if self.matches:
            self.matches.store.clear()

    def memory_bytes(self) -> int:
        """Bytes allocated on the device for what is remembered: the bank, and the frames that labels come from."""
        return self.bank.memory_bytes() + (self.matches.store.memory_bytes() if self.matches else 0)

    def track(self, frame: ProcessedFrame, object_ids: Sequence[int], clock: StepTime | None = None) -> Outputs:
        """Decode objects on a frame from what is remembered of the frames before, and remember it.

        clock: of a step that may be captured, and replayed for other frames
        """
        self.bank.clock = clock
        try:
            return self._track(frame, object_ids, frame.stamp if clock is None else clock.stamp)
        finally:
            self.bank.clock = None

    def clock(self, index: int, time: Tensor, rows: Rows | None = None) -> StepTime:
        """What a step of some objects, None: of all, that may be captured, is told of the frame `index`.

        time: (2,) int64, where its index and stamp will be
        """
        view = BankView(self.bank, rows or slice(0, len(self.bank)))
        most = view.most_prompted(index)
        wanted = ((view.count_prompted(index), most), (view.count_prompted(EVER), most))  # nor is any prompted later
        if self.policy.uses_memory:
            window, pointers = self.policy.window, self.policy.pointer_window
            wanted += (view.count_recent(index, window), window), (view.count_pointers(index, pointers), pointers)
        return StepTime(time[0], time[1], index, most, all((counts == full).all() for counts, full in wanted))

    def _track(self, frame: ProcessedFrame, object_ids: Sequence[int], stamp: int | Tensor) -> Outputs:
        rows = self.bank.rows(object_ids)
        view = BankView(self.bank, rows)
        found = self.matches.propagate(view, frame.index, frame.features.coarse) if self.matches else None
        conditioned = self._condition(frame, view)
        decoded, candidates = self._decode_tracked(conditioned.features, frame, view, found)
        present, verdict = self._present(decoded, told=self._tells_presence), None
        if self.reid:
            verdict = self.reid.judge(view, frame.features.coarse, decoded.logits, present, stamp)
            present = verdict.present
        outputs = self._outputs(object_ids, decoded, conditioned, present, verdict=verdict)
        self._learn_appearance(view, frame, outputs, stamp, verdict)
        if self.policy.uses_memory:
            memory = self.model.encode_memory(
                frame.features, outputs.logits, present, exclusive=self.config.non_overlap_memory
            )
            self.bank.drop_kept(rows, frame.index)
            self.bank.write_recent(rows, frame.index, memory, outputs.pointers)
            self.bank.write_mask(rows, frame.index, outputs.logits)
            self.policy.remember(view, _evidence(frame, outputs, memory, candidates))
        elif found:
            self.bank.write_mask(rows, frame.index, outputs.logits)
        else:  # the last mask that was seen stays the prompt
            previous = self.bank.mask(rows, frame.index - 1)
            self.bank.write_mask(rows, frame.index, torch.where(present[:, None, None, None], decoded.logits, previous))
        if found:
            self.matches.remember(view, frame.index, found, outputs.logits, outputs.iou, outputs.present)
        return outputs

    def prompt(self, frame: ProcessedFrame, object_id: int, prompt: Prompt) -> Outputs:
        """Decode an object that is in the bank on a frame from a prompt, and remember the frame as conditioning.

        On a frame on which it was tracked this is a correction: from memory, with the mask there as dense prompt.
        """
        row, rows = self.bank.row(object_id), self.bank.rows([object_id])
        view = BankView(self.bank, rows)
        conditioned = self._condition(frame, view)
        if prompt.tube and prompt.mask is not None:
            decoded = self._decode_tube(conditioned.features, frame, prompt.mask)
            scored = present = self._present(decoded, told=self.model.has_object_score)
        elif prompt.mask is not None:
            mask = self._model_sized(prompt.mask)
            decoded = self.model.decode_given_mask(frame.features, mask)
            decoded = replace(decoded, logits=keep_thin(decoded.logits))
            scored = self._present(decoded, told=self.model.has_object_score)
            present = mask.flatten(1).any(1)  # a person's mask is there
        else:
            decoded = self._decode_points(conditioned.features, frame, rows, prompt)
            scored = present = self._present(decoded, told=self.model.has_object_score)
        outputs = self._outputs((object_id,), decoded, conditioned, present, scored)
        self._learn_appearance(view, frame, outputs, frame.stamp)
        if self.policy.uses_memory:
            memory = self.model.encode_memory(
                frame.features, outputs.logits, present, binarise=self.config.binarise_prompted
            )
            self.bank.drop_kept(rows, frame.index)
            slot = self.bank.write_conditioning(row, frame.index, memory[0], outputs.pointers[0])
            self.policy.prompted(view, _evidence(frame, outputs, memory))
            if self.matches:
                self.matches.prompted(view, slot, frame.index, frame.features.coarse, outputs.logits)
        elif self.matches:
            self._match_prompted(row, frame, outputs.logits)
        self.bank.write_mask(rows, frame.index, outputs.logits)
        return outputs

    def take_over(self, other: Segmenter, newest: ProcessedFrame | None) -> None:
        """Go on with the objects of another policy, which had them on the newest frame; this one's bank is empty."""
        matched = bool(self.matches and other.matches)
        notes = (*(self.reid.notes if self.reid else ()), *(self.matches.notes if matched else ()))
        self.bank.adopt(other.bank, notes)
        if matched:
            self.matches.store = other.matches.store
        if not len(self.bank):
            return
        view, logits = (
            BankView(self.bank, slice(0, len(self.bank))),
            self.bank.mask(slice(0, len(self.bank)), newest.index),
        )
        if self.policy.uses_memory and not other.policy.uses_memory:
            self._condition_on(newest, logits)
        if self.matches and not matched:
            self.matches.start(view, newest.index, newest.features.coarse, logits)
        if self.matches and not self.policy.uses_memory:
            for row, mask in enumerate(logits.split(1)):
                self._match_prompted(row, newest, mask)

    def _condition_on(self, newest: ProcessedFrame, logits: Tensor) -> None:
        """Take all objects' masks on a frame for prompts."""
        side = self.model.image_size
        present = (logits > 0).flatten(1).any(1)
        masks = (F.interpolate(logits, size=(side, side), mode="bilinear") > 0).float()
        pointers = self.model.pointer(self.model.decode_given_mask(newest.features, masks).token, present)
        memory = self.model.encode_memory(newest.features, logits, present, binarise=self.config.binarise_prompted)
        for row in range(len(self.bank)):
            self.bank.write_conditioning(row, newest.index, memory[row], pointers[row])

    def _match_prompted(self, row: int, frame: ProcessedFrame, logits: Tensor) -> None:
        """Remember the labels of a prompted frame where nothing else is remembered. logits: (1, 1, h, w)"""
        layout = self.bank.layout
        nothing = (logits.new_zeros(shape) for shape in ((layout.tokens, layout.memory_dim), layout.dim))
        slot = self.bank.write_conditioning(row, frame.index, *nothing)
        self.matches.prompted(
            BankView(self.bank, slice(row, row + 1)), slot, frame.index, frame.features.coarse, logits
        )

    def predictions(self, outputs: Outputs, prompted: Prompt | None = None) -> list[Prediction]:
        """The outputs on the host, which waits for the device here."""
        return predictions(self.summary(outputs, prompted).cpu(), prompted is not None)

    def summary(self, outputs: Outputs, prompted: Prompt | None = None) -> Tensor:
        """(N, 5 + K) fp32: all that is said of each object but its mask, as `predictions` takes it."""
        score = outputs.object_logit.sigmoid()
        given = prompted is not None and prompted.mask is not None and not prompted.tube
        of_a_person = given or (prompted is not None and not self.model.has_object_score)
        if not self._tells_presence or of_a_person:
            score = outputs.iou
        columns = (score, outputs.iou, outputs.present.float(), outputs.similarity, outputs.rejected.float())
        if not outputs.class_logits.shape[1]:
            return torch.stack(columns, dim=1)
        asked = (outputs.class_logits != 0).any(1, keepdim=True)  # whether there was a memory
        classes = outputs.class_logits.softmax(1) * asked
        return torch.cat((torch.stack(columns, dim=1), classes), dim=1)

    @property
    def _tells_presence(self) -> bool:
        """Whether there is a score of presence, of the decoder's head or of correspondences."""
        return self.model.has_object_score or bool(self.matches)

    def _condition(self, frame: ProcessedFrame, view: BankView) -> Conditioned:
        """The frame's features conditioned on the memories of some rows, where there are any."""
        if not self.policy.uses_memory:
            return Conditioned(self.model.without_memory(frame.features, len(view)), None)
        chosen = self.policy.select(view, frame.index)
        split = self.model.config.dim // self.model.config.memory_dim
        self.keys = chosen.spatial.columns.shape[1] * self.model.memory_tokens + chosen.pointer_columns.shape[1] * split
        if not self.keys:
            return Conditioned(self.model.without_memory(frame.features, len(view)), None)
        return self.model.with_memory(
            frame.features,
            view.memories(chosen.spatial.columns),
            chosen.spatial.codes,
            view.pointers(chosen.pointer_columns),
            chosen.ages,
            chosen.allowed,
            None if chosen.short is None else (view.memories(chosen.short.columns), chosen.short.codes),
        )

    def _decode_tracked(
        self, features: Tensor, frame: ProcessedFrame, view: BankView, found: Propagated | None
    ) -> tuple[Decoded, Tensor | None]:
        """Decode without a person's prompt, and the candidate masks (N, 3, h, w) for policies that compare them."""
        if found is not None:
            return self._decode_matched(features, frame, found), None
        if not self.policy.uses_memory:
            return self._decode_previous(features, frame, view), None
        multimask = self.config.multimask_tracking
        if not self.policy.uses_candidates:
            return self.model.decode(features, frame.features, multimask=multimask, stability=self.stability), None
        found = self.model.candidates(features, frame.features)
        chosen = self.policy.choose(view, found.logits[:, 1:], found.iou[:, 1:]) + 1
        if not multimask:
            stays = (
                self.stability.stable(found.logits[:, 0])
                if self.stability
                else torch.ones_like(chosen, dtype=torch.bool)
            )
            chosen = torch.where(stays, 0, chosen)
        return found.taken(chosen), found.logits[:, 1:]

    def _decode_matched(self, features: Tensor, frame: ProcessedFrame, found: Propagated) -> Decoded:
        """Decode from what was propagated, and from memory where there is one: the mask that both believe in most."""
        own = self.model.candidates(features, frame.features) if self.policy.uses_memory else None
        return self.matches.decode(features, frame.features, found, own)

    def _decode_previous(self, features: Tensor, frame: ProcessedFrame, view: BankView) -> Decoded:
        """Decode from the masks of the frame before, for the policy without memory."""
        corners, dense = self.policy.prompts(self.bank.mask(view.rows, frame.index - 1), self.model.image_size)
        labels = _box_labels(device=corners.device).expand(len(corners), -1)
        return self.model.decode(
            features,
            frame.features,
            points=corners,
            point_labels=labels,
            mask_logits=dense,
            multimask=False,
            stability=self.stability,
        )

    def _decode_points(self, features: Tensor, frame: ProcessedFrame, rows: Rows, prompt: Prompt) -> Decoded:
        points, labels = self._encoded_points(prompt, frame.size)
        previous = None
        if self.bank.has_mask(rows, frame.index):
            previous = self.bank.mask(rows, frame.index).clamp(-PREVIOUS_LIMIT, PREVIOUS_LIMIT)
        if prompt.granularity:
            return self._decode_granular(features, frame, prompt, points, labels, previous)
        return self.model.decode(
            features,
            frame.features,
            points=points,
            point_labels=labels,
            mask_logits=previous,
            multimask=self.config.multimask_prompts and points.shape[1] <= 1,
            stability=self.stability,
        )

    def _decode_tube(self, features: Tensor, frame: ProcessedFrame, mask: np.ndarray) -> Decoded:
        """Decode a vessel or a suture from the skeleton of its mask."""
        size = self.bank.layout.logits
        points, labels, dense = tube_prompt(mask, size, self.model.image_size, self.model.device)
        return self.model.decode(
            features, frame.features, points=points, point_labels=labels, mask_logits=dense, multimask=False
        )

    def _decode_granular(
        self,
        features: Tensor,
        frame: ProcessedFrame,
        prompt: Prompt,
        points: Tensor,
        labels: Tensor,
        previous: Tensor | None,
    ) -> Decoded:
        """Decode as much as is asked for: by the model's own token, or approximately."""
        if self.model.config.granularity:
            asked = points.new_full((1,), max(prompt.granularity, LOWEST))
            return self.model.decode(
                features, frame.features, points=points, point_labels=labels, mask_logits=previous, multimask=False,
                granularity=asked,
            )  # fmt: skip
        found = self.model.candidates(features, frame.features, points, labels, previous)
        places = np.zeros((0, 2), np.int64)
        if prompt.points is not None:
            size = np.array(found.logits.shape[:1:-1]) / np.array(frame.size[::-1])
            places = ((prompt.points[prompt.point_labels == POSITIVE] + 0.5) * size).astype(np.int64)
        return choose_part(found, prompt.granularity, places)

    def _encoded_points(self, prompt: Prompt, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """(1, P, 2), px of the model input, and (1, P): the box's corners, then the clicks."""
        points, labels = np.zeros((0, 2), np.float32), np.zeros(0, np.int64)
        if prompt.box is not None:
            points, labels = prompt.box.reshape(2, 2), np.array([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT])
        if prompt.points is not None:
            points = np.concatenate((points, prompt.points))
            labels = np.concatenate((labels, prompt.point_labels))
        scaled = points * (self.model.image_size / np.array(size[::-1])).astype(np.float32)
        return upload(scaled[None], self.model.device), upload(labels[None], self.model.device)

    def _model_sized(self, mask: np.ndarray) -> Tensor:
        """(H, W) bool -> (1, 1, S, S), 0 and 1."""
        full = upload(mask[None, None], self.model.device).float()
        size = (self.model.image_size, self.model.image_size)
        return (F.interpolate(full, size=size, mode="bilinear", antialias=True) >= 0.5).float()

    def _present(self, decoded: Decoded, *, told: bool) -> Tensor:
        """(N,) bool: the published gate, object score > 0; where there is no score or no gate, a mask that is not empty.

        told: whether `decoded` has a score: of the decoder's head, if the checkpoint has it, or of correspondences
        """
        if told and self.config.object_score_gating:
            return decoded.object_logit > 0
        return (decoded.logits > 0).flatten(1).any(1)

    def _outputs(
        self,
        object_ids: Sequence[int],
        decoded: Decoded,
        conditioned: Conditioned,
        present: Tensor,
        scored: Tensor | None = None,
        verdict: Verdict | None = None,
    ) -> Outputs:
        """scored: presence that decides about the pointer, where it is not the mask's."""
        pointers = self.model.pointer(decoded.token, present if scored is None else scored)
        logits = gate(decoded.logits, present)
        if (class_logits := conditioned.class_logits) is None:
            class_logits = logits.new_zeros(len(logits), self.model.config.num_classes)
        return Outputs(
            tuple(object_ids),
            logits,
            decoded.iou,
            decoded.object_logit,
            pointers,
            present,
            class_logits.float(),
            torch.full_like(decoded.iou, torch.nan) if verdict is None else verdict.similarity,
            torch.zeros_like(present) if verdict is None else verdict.rejected,
        )

    def _learn_appearance(
        self,
        view: BankView,
        frame: ProcessedFrame,
        outputs: Outputs,
        stamp: int | Tensor,
        verdict: Verdict | None = None,
    ) -> None:
        if self.reid:
            seen = verdict.appearances if verdict else appearance(frame.features.coarse, outputs.logits)
            self.reid.learn(view, seen, outputs.logits, outputs.iou, outputs.present, stamp)


@constant
def _box_labels(device=None) -> Tensor:  # -> (2,)
    return torch.tensor([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT], device=device)


def bank_layout(model: Sam2Model, policy: Policy, config: TrackerConfig, notes: tuple[PolicyState, ...]) -> BankLayout:
    """The slots that a policy needs. The rings are the same for all policies with memory, so that one can follow another."""
    h, w = model.grid
    remembers = policy.uses_memory
    # Every frame of the history can be prompted, and then needs what preceded it. One more, because a step that
    # fails may have overwritten the oldest.
    masks = config.prompt_history + 1
    return BankLayout(
        conditioning=config.max_conditioning if remembers or policy.match else 0,
        recent=policy.window + masks if remembers else 0,
        recent_pointers=policy.pointer_window + masks if remembers else 0,
        masks=masks,
        tokens=model.memory_tokens if remembers else 0,
        memory_dim=model.config.memory_dim,
        dim=model.config.dim if remembers else 0,
        logits=(LOGITS_PER_PLACE * h, LOGITS_PER_PLACE * w),
        kept=policy.kept,
        notes=notes,
    )


def _evidence(frame: ProcessedFrame, outputs: Outputs, memory: Tensor, candidates: Tensor | None = None) -> Evidence:
    return Evidence(
        frame.index,
        outputs.logits,
        outputs.iou,
        outputs.object_logit,
        outputs.present,
        memory,
        outputs.pointers,
        frame.features.coarse,
        candidates,
    )
