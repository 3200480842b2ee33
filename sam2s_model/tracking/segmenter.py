"""The objects' part of a frame: decode them from memory or from a prompt, and remember the result.

All objects are one batch. Which slot of the bank is used for what is decided here and in the policy; which object is
asked for, and when, in `tracker`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.acceleration.constants import constant
from sam2s_model.config import TrackerConfig
from sam2s_model.device import upload
from sam2s_model.network.image_features import Conditioned
from sam2s_model.network.mask_decoder import Decoded, Stability
from sam2s_model.network.model import LOGITS_PER_PLACE, Sam2Model
from sam2s_model.network.prompt_encoder import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.correspondence import Correspondence
from sam2s_model.tracking.history import ProcessedFrame
from sam2s_model.tracking.memory import (
    BankLayout,
    BankView,
    MemoryBank,
    Policy,
    PolicyState,
    Rows,
    StepTime,
    create_policy,
)
from sam2s_model.tracking.memory.view import EVER
from sam2s_model.tracking.outputs import Outputs, gate, label_image
from sam2s_model.tracking.part_choice import decode_granular
from sam2s_model.tracking.previous_mask import fed_back, previous_prompts
from sam2s_model.tracking.propagation import Propagated
from sam2s_model.tracking.reidentification import Reidentification, Verdict
from sam2s_model.tracking.thin import tube_prompt
from sam2s_model.tracking.trained_memory import TrainedMemory


class Segmenter:
    """A model with a policy, and the bank it remembers in.

    policy: a name of `memory.POLICIES`
    """

    def __init__(self, model: Sam2Model, policy: str, config: TrackerConfig):
        self.model, self.config = model, config
        self.policy = create_policy(policy, model.config, config)
        self.stability = Stability(config.stability_delta, config.stability_threshold) if config.stability else None
        self.reid = Reidentification(config, model.config.dim) if config.reidentification else None
        self.matches = None
        if self.policy.match:
            self.matches = Correspondence(self.policy.match, model, config.prompt_history, config.max_conditioning)
        states = (
            *self.policy.states,
            *(state for part in (self.reid, self.matches) if part for state in part.states),
        )
        self.bank = MemoryBank(bank_layout(model, self.policy, config, states), model.device, model.dtype)
        remembers = self.policy.uses_memory
        self.memory = TrainedMemory(model, self.policy, self.bank, config) if remembers else None

    @property
    def generation(self) -> tuple[int, int]:
        """Counts allocations: what was captured with another one writes to memory that is no longer used."""
        return self.bank.generation, self.matches.store.generation if self.matches else 0

    def mark_written(self, frame: int, rows: Rows | None = None) -> None:
        """Know on the host what a step of some objects, None: of all, has written: for a step that was replayed."""
        self.bank.mark_written(rows or slice(0, len(self.bank)), frame)
        if self.matches:
            self.matches.store.newest = max(self.matches.store.newest, frame)

    def forget(self, frame: int) -> None:
        """Empty what a step that failed may have written of its frame, which no other frame needs."""
        self.bank.forget(frame)
        if self.matches:
            self.matches.store.forget(frame)
        if self.reid:
            self.reid.go_back(BankView(self.bank, slice(0, len(self.bank))), frame)

    def save(self, object_ids: Sequence[int]) -> tuple:
        """Copy who is remembered, and what is remembered of these objects, for `restore`."""
        stand_ins = dict(self.memory.stand_ins) if self.memory else {}
        return self.bank.save(object_ids), self.matches.store.save() if self.matches else None, stand_ins

    def restore(self, saved: tuple) -> None:
        """Go back to `save`, when only its objects were prompted and tracked, others added. Allocates nothing."""
        bank, frames, stand_ins = saved
        self.bank.restore(bank)
        if self.memory:
            self.memory.stand_ins = stand_ins
        if self.matches:
            self.matches.store.restore(frames)

    def clear(self) -> None:
        """Forget all objects and frames; the memory stays allocated."""
        self.bank.clear()
        if self.memory:
            self.memory.stand_ins.clear()
        if self.matches:
            self.matches.store.clear()

    def memory_bytes(self) -> int:
        """Bytes allocated on the device for what is remembered: the bank, and the frames that labels come from."""
        return self.bank.memory_bytes() + (self.matches.store.memory_bytes() if self.matches else 0)

    def step(
        self, frame: ProcessedFrame, object_ids: Sequence[int], labels: Tensor, step: StepTime | None = None
    ) -> tuple[Outputs, Tensor, Tensor]:
        """Track objects into a frame, and compose its label image; all stays on the device.

        labels: (N,) uint8, of the objects; step: see `track`
        Returns the outputs, their summary and the label image (H, W) uint8.
        """
        outputs = self.track(frame, object_ids, step)
        label_map = label_image(outputs.logits, outputs.present, labels, frame.size, self.config.fill_holes)
        return outputs, self.summary(outputs), label_map

    def step_time(self, index: int, time: Tensor, rows: Rows | None = None) -> StepTime:
        """Describe the frame `index` to a step that may be captured.

        time: (2,) int64, where its index and stamp will be; rows: of the step's objects, None: of all
        """
        view = BankView(self.bank, rows or slice(0, len(self.bank)))
        most = view.max_prompted(index)
        wanted = [(view.count_prompted(index), most), (view.count_prompted(EVER), most)]  # nor is any prompted later
        if self.memory:
            window, pointers = self.policy.window, self.policy.pointer_window
            wanted += [(view.count_recent(index, window), window), (view.count_pointers(index, pointers), pointers)]
        complete = all((counts == full).all() for counts, full in wanted)
        return StepTime(frame=time[0], stamp=time[1], index=index, prompted=most, complete=complete)

    def track(self, frame: ProcessedFrame, object_ids: Sequence[int], step: StepTime | None = None) -> Outputs:
        """Decode objects on a frame from what is remembered of the frames before, and remember it.

        step: the time of a step that may be captured, and replayed for other frames; None: of this frame alone
        """
        rows, stamp = self.bank.rows(object_ids), frame.stamp if step is None else step.stamp
        view = BankView(self.bank, rows, step)
        found = self.matches.propagate(view, frame.index, frame.features.coarse) if self.matches else None
        conditioned, keys = self._condition(view, frame)
        decoded, candidates = self._decode_tracked(conditioned.features, frame, view, found)
        present, verdict = self._present(decoded, told=self._tells_presence), None
        if self.reid:
            verdict = self.reid.judge(view, frame.features.coarse, decoded.logits, present)
            present = verdict.present
        outputs = self._outputs(
            object_ids, decoded, conditioned.class_logits, present, present, verdict=verdict, keys=keys
        )
        if self.reid and verdict:
            self.reid.see(view, frame, outputs.logits, outputs.iou, outputs.present, stamp, verdict.appearances)
        if self.memory:
            self.memory.remember(view, frame, outputs, candidates)
        self.bank.write_mask(rows, frame.index, self._mask_to_keep(view, frame, decoded, outputs), step)
        if self.matches and found:
            self.matches.remember(view, frame.index, found, outputs.logits, outputs.iou, outputs.present)
        return outputs

    def _mask_to_keep(self, view: BankView, frame: ProcessedFrame, decoded: Decoded, outputs: Outputs) -> Tensor:
        """Choose the logits to keep of a frame: if they are the next prompt, the last ones that showed the object."""
        if self.memory or self.matches:
            return outputs.logits
        previous = self.bank.mask(view.rows, frame.index - 1, view.step)
        return torch.where(outputs.present[:, None, None, None], decoded.logits, previous)

    def prompt(self, frame: ProcessedFrame, object_id: int, prompt: Prompt) -> Outputs:
        """Decode an object that is in the bank on a frame from a prompt, and remember the frame as conditioning.

        On a frame on which it was tracked this is a correction: from memory, with the mask there as dense prompt.
        """
        row, rows = self.bank.row(object_id), self.bank.rows([object_id])
        view = BankView(self.bank, rows)
        conditioned, keys = self._condition(view, frame)
        if prompt.tube and prompt.mask is not None:
            decoded = self._decode_tube(conditioned.features, frame, prompt.mask)
            scored = present = self._present(decoded, told=self.model.has_object_score)
        elif prompt.mask is not None:
            mask = self._model_sized(prompt.mask)
            decoded = self.model.decode_given_mask(frame.features, mask)
            scored = self._present(decoded, told=self.model.has_object_score)
            present = mask.flatten(1).any(1)  # a person's mask is there
        else:
            decoded = self._decode_points(conditioned.features, frame, rows, prompt)
            scored = present = self._present(decoded, told=self.model.has_object_score)
        outputs = self._outputs((object_id,), decoded, conditioned.class_logits, present, scored, keys=keys)
        self.go_back(frame, [object_id])
        if self.reid:
            self.reid.see(view, frame, outputs.logits, outputs.iou, outputs.present, frame.stamp)
        slot = self.memory.prompted(view, row, frame, outputs) if self.memory else None
        if self.matches:
            self.match_prompted(row, frame, outputs.logits, slot)
        self.bank.write_mask(rows, frame.index, outputs.logits)
        return outputs

    def match_prompted(self, row: int, frame: ProcessedFrame, logits: Tensor, slot: int | None = None) -> None:
        """Remember the labels of a prompted frame. logits: (1, 1, h, w)

        slot: of its trained memory; None: there is none, and a slot is chosen
        """
        assert self.matches is not None
        if slot is None:
            layout = self.bank.layout
            nothing = logits.new_zeros(layout.tokens, layout.memory_dim), logits.new_zeros(layout.dim)
            slot = self.bank.write_conditioning(row, frame.index, *nothing)
        view = BankView(self.bank, slice(row, row + 1))
        self.matches.prompted(view, slot, frame.index, frame.features.coarse, logits)

    def summary(self, outputs: Outputs, prompted: Prompt | None = None) -> Tensor:
        """Summarise the outputs, see `Outputs.summary`, with the score of presence that there is, or else the IoU."""
        given = prompted is not None and prompted.mask is not None and not prompted.tube
        of_a_person = given or (prompted is not None and not self.model.has_object_score)
        scored = self._tells_presence and not of_a_person
        return outputs.summary(outputs.object_logit.sigmoid() if scored else outputs.iou)

    @property
    def _tells_presence(self) -> bool:
        """Whether there is a score of presence, of the decoder's head or of correspondences."""
        return self.model.has_object_score or bool(self.matches)

    def _condition(self, view: BankView, frame: ProcessedFrame) -> tuple[Conditioned, int]:
        """Condition the frame's features on memories, where there are any. Returns them, and the number of keys."""
        conditioned, keys = self.memory.condition(view, frame) if self.memory else (None, 0)
        return conditioned or Conditioned(self.model.without_memory(frame.features, len(view)), None), keys

    def _decode_tracked(
        self, features: Tensor, frame: ProcessedFrame, view: BankView, found: Propagated | None
    ) -> tuple[Decoded, Tensor | None]:
        """Decode without a person's prompt, and the candidate masks (N, 3, h, w) for policies that compare them."""
        if self.matches and found is not None:  # of both kinds of masks, the one that is believed in most
            own = self.model.candidates(features, frame.features) if self.memory else None
            return self.matches.decode(features, frame.features, found, own), None
        if self.memory:
            return self.memory.decode(view, frame, features, self.stability)
        return self._decode_previous(features, frame, view), None

    def _decode_previous(self, features: Tensor, frame: ProcessedFrame, view: BankView) -> Decoded:
        """Decode from the masks of the frame before, where nothing else is remembered."""
        previous = self.bank.mask(view.rows, frame.index - 1, view.step)
        corners, dense = previous_prompts(previous, self.model.image_size)
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
            previous = fed_back(self.bank.mask(rows, frame.index))
        if prompt.granularity:
            return decode_granular(self.model, features, frame, prompt, points, labels, previous)
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

    def _encoded_points(self, prompt: Prompt, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """(1, P, 2), px of the model input, and (1, P): the box's corners, then the clicks."""
        points: np.ndarray = np.zeros((0, 2), np.float32)
        labels: np.ndarray = np.zeros(0, np.int64)
        if prompt.box is not None:
            points, labels = prompt.box.reshape(2, 2), np.array([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT])
        if prompt.points is not None:
            points = np.concatenate((points, prompt.points))
            labels = np.concatenate((labels, np.asarray(prompt.point_labels)))
        scaled = points * (self.model.image_size / np.array(size[::-1])).astype(np.float32)
        return upload(scaled[None], self.model.device), upload(labels[None], self.model.device)

    def _model_sized(self, mask: np.ndarray) -> Tensor:
        """(H, W) bool -> (1, 1, S, S), 0 and 1."""
        full = upload(mask[None, None], self.model.device).float()
        size = (self.model.image_size, self.model.image_size)
        return (F.interpolate(full, size=size, mode="bilinear", antialias=True) >= 0.5).float()

    def _present(self, decoded: Decoded, *, told: bool) -> Tensor:
        """Decide which objects are there, (N,) bool, by the published gate: object score > 0; or by masks, not empty.

        told: whether `decoded` has a score, of the decoder's head or of correspondences; otherwise, and without gating,
            the mask decides
        """
        if told and self.config.object_score_gating:
            return decoded.object_logit > 0
        return (decoded.logits > 0).flatten(1).any(1)

    def _outputs(
        self,
        object_ids: Sequence[int],
        decoded: Decoded,
        class_logits: Tensor | None,
        present: Tensor,
        scored: Tensor,
        *,
        verdict: Verdict | None = None,
        keys: int = 0,
    ) -> Outputs:
        """Put the outputs together. present: of the masks; scored: presence that decides about the pointers."""
        if class_logits is None:
            class_logits = decoded.logits.new_zeros(len(decoded.logits), self.model.config.num_classes)
        return Outputs(
            object_ids=tuple(object_ids),
            logits=gate(decoded.logits, present),
            iou=decoded.iou,
            object_logit=decoded.object_logit,
            pointers=self.model.pointer(decoded.token, scored),
            present=present,
            class_logits=class_logits.float(),
            similarity=torch.full_like(decoded.iou, torch.nan) if verdict is None else verdict.similarity,
            rejected=torch.zeros_like(present) if verdict is None else verdict.rejected,
            keys=keys,
        )

    def go_back(self, frame: ProcessedFrame, object_ids: Sequence[int]) -> None:
        """Know objects by what was seen of them before a frame, on which they are prompted or tracked again."""
        if self.reid:
            self.reid.go_back(BankView(self.bank, self.bank.rows(object_ids)), frame.index)

    def put_back(self, frame: int) -> None:
        """Remember a prompted frame again that gave way to an earlier one, now that objects are tracked up to it."""
        self.bank.put_back(frame)
        if self.matches:
            self.matches.put_back(self.bank, frame)

    def learn_again(self, frame: ProcessedFrame, object_ids: Sequence[int]) -> None:
        """Learn from a frame whose masks stay, on which objects were prompted, when what came before it has changed."""
        if not self.reid and not self.memory:
            return
        view, found = BankView(self.bank, self.bank.rows(object_ids)), [frame.predictions[i] for i in object_ids]
        masks = self.bank.mask(view.rows, frame.index)
        iou = upload(np.array([one.predicted_iou for one in found], np.float32), self.model.device)
        present = upload(np.array([one.present for one in found]), self.model.device)
        self.go_back(frame, object_ids)
        if self.reid:
            self.reid.see(view, frame, masks, iou, present, frame.stamp)
        if self.memory:
            score = upload(np.array([one.score for one in found], np.float32), self.model.device)
            for i, object_id in enumerate(object_ids):
                of_it = slice(i, i + 1)
                told = masks[of_it], iou[of_it], score[of_it], present[of_it]
                self.memory.prompted_before(self.bank.row(object_id), frame, *told)


@constant
def _box_labels(device=None) -> Tensor:  # -> (2,)
    return torch.tensor([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT], device=device)


def bank_layout(model: Sam2Model, policy: Policy, config: TrackerConfig, states: tuple[PolicyState, ...]) -> BankLayout:
    """Lay out the slots that a policy needs.

    The rings are the same for all policies with memory, so that one can follow another.
    """
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
        key_width=model.memory_attention.key_width if remembers and config.cache_keys else 0,
        kept=policy.kept,
        states=states,
    )
