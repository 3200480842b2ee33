"""The tracker: four calls, `prompt`, `step`, `remove`, `reset`. The loop of SAM2 for a live stream.

Image features are computed once a frame, everything after that is one batch over the objects, and what is remembered
has a fixed size. One thread owns a tracker; it is not thread-safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.config import TrackerConfig
from sam2s_model.device import as_tensor, describe_device
from sam2s_model.errors import ErrorCode, ImageError, RequestError, StampError
from sam2s_model.field import endoscope_field
from sam2s_model.mask_decoder import Decoded
from sam2s_model.memory import POLICIES, BankLayout, MemoryBank, choose_policy
from sam2s_model.model import ABSENT_LOGIT, STRIDE, ImageFeatures, Sam2Model
from sam2s_model.presence import TrackedObject, describe_frame
from sam2s_model.prompt_encoder import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT
from sam2s_model.prompts import Prompt
from sam2s_model.semantics import GENERIC, LabelSet
from sam2s_model.tracks import MAX_LABEL, Tracks


@dataclass(frozen=True)
class PromptResult:
    """stamp: ns, of the frame the prompts were applied to; object_ids: one for each prompt; tracks: that frame, anew."""

    stamp: int
    object_ids: tuple[int, ...]
    tracks: Tracks


@dataclass(frozen=True)
class _PromptedMemory:
    """What a prompt leaves behind. logits (1, 1, h, w); spatial (area, memory_dim) and pointer (dim,), None without memory."""

    logits: Tensor
    score: float
    predicted_iou: float
    present: bool
    spatial: Tensor | None = None
    pointer: Tensor | None = None


@dataclass
class _Frame:
    """The newest frame. index counts processed frames; field: (H, W) bool, or None where none is asked for."""

    index: int
    stamp: int
    size: tuple[int, int]
    features: ImageFeatures
    field: np.ndarray | None
    tracks: Tracks | None = None


class Tracker:
    """Track objects through a stream of images.

    model: from `checkpoint.load_model`; policy: "auto" (fifo, or none for a checkpoint without memory), "fifo", "none"
    first_id: the first object id to give, so that a tracker that follows another gives no id twice
    Raises ConfigError when the checkpoint cannot run the policy.
    """

    def __init__(
        self,
        model: Sam2Model,
        policy: str = "auto",
        config: TrackerConfig = TrackerConfig(),
        label_set: LabelSet = GENERIC,
        first_id: int = 1,
    ):
        self.model = model
        self.policy_name = choose_policy(policy, model.has_memory)
        self.policy = POLICIES[self.policy_name](model.config)
        self.config = config
        self.label_set = label_set
        self.revision = 0
        h, w = model.grid
        layout = BankLayout(
            conditioning=config.max_conditioning if self.policy.uses_memory else 0,
            recent=self.policy.recent_slots,
            recent_pointers=self.policy.pointer_slots,
            area=h * w,
            memory_dim=model.config.memory_dim,
            dim=model.config.dim,
            logits=(h * STRIDE // 4, w * STRIDE // 4),
        )
        self._bank = MemoryBank(layout, model.device, model.dtype)
        self._objects: dict[int, TrackedObject] = {}
        self._next_id = first_id
        self._frame: _Frame | None = None

    @property
    def name(self) -> str:
        """Model and policy, "sam2_hiera_tiny/none"."""
        return f"{self.model.name}/{self.policy_name}"

    @property
    def object_ids(self) -> tuple[int, ...]:
        return tuple(sorted(self._objects))

    @property
    def next_id(self) -> int:
        """The id that the next new object will have."""
        return self._next_id

    @property
    def newest(self) -> Tracks | None:
        """The newest frame's tracks, with all prompts in effect; None before the first frame."""
        return self._frame.tracks if self._frame else None

    @torch.inference_mode()
    def step(self, stamp: int, image: np.ndarray) -> Tracks:
        """Track all objects into the next frame.

        stamp: ns, greater than the previous; image: (H, W, 3) uint8 RGB, of the size of the frames before
        Raises StampError or ImageError; the tracker is then as it was.
        """
        self._check(stamp, image)
        index = self._frame.index + 1 if self._frame else 0
        features = self.model.encode_image(self.model.prepare_image(as_tensor(image)))
        field = endoscope_field(image) if self.config.field_of_view == "auto" else None
        frame = _Frame(index, stamp, image.shape[:2], features, field)
        if self._objects:
            decoded = self._propagate(frame)
            self._remember_step(frame, decoded, self._present(decoded))
        frame.tracks = self._compose(frame, new_frame=True)
        self._frame = frame
        return frame.tracks

    @torch.inference_mode()
    def prompt(self, stamp: int, prompts: Sequence[Prompt]) -> PromptResult:
        """Start or correct objects on the newest frame. All prompts take effect, or none.

        stamp: ns, of the newest frame, or 0 for it
        Raises RequestError with its code; nothing is changed then.
        """
        frame = self._requested_frame(stamp)
        prompts = [p.validated(*frame.size) for p in prompts]
        class_labels = self._check_prompts(prompts)
        # All that can fail, for want of memory say, is done before anything is changed.
        memories = [self._prompted_memory(frame, p) for p in prompts]
        self._bank.reserve(len(self._bank) + sum(not p.object_id for p in prompts))
        ids = []
        for prompt, class_label, memory in zip(prompts, class_labels, memories):
            object_id = prompt.object_id or self._new_object(frame)
            known = self._objects[object_id]
            if class_label is not None:
                known.class_label = class_label
            known.prompted()
            self._remember_prompt(frame, object_id, memory)
            ids.append(object_id)
        self.revision += 1
        frame.tracks = self._compose(frame, new_frame=False)
        return PromptResult(frame.stamp, tuple(ids), frame.tracks)

    @torch.inference_mode()
    def remove(self, object_ids: Sequence[int]) -> Tracks | None:
        """Stop tracking objects; returns the newest frame without them. Raises RequestError; nothing is changed then."""
        if not len(object_ids):
            raise RequestError(ErrorCode.EMPTY_REQUEST, "no object ids were given: expected at least one")
        for object_id in object_ids:
            self._check_known(object_id)
        for object_id in set(object_ids):
            self._bank.remove(object_id)
            del self._objects[object_id]
        self.revision += 1
        if self._frame:
            self._frame.tracks = self._compose(self._frame, new_frame=False)
        return self.newest

    @torch.inference_mode()
    def reset(self) -> None:
        """Forget all objects and frames. Ids go on counting: none is ever given twice."""
        self._bank.clear()
        self._objects.clear()
        self._frame = None
        self.revision += 1

    def warm_up(self, height: int, width: int) -> None:
        """Run one throw-away frame with one object, so that the first real frame is as fast as the others.

        Raises RequestError when objects are tracked already.
        """
        if self._frame:
            raise RequestError(ErrorCode.INTERNAL, "warm_up was called on a tracker that is in use: call it first")
        next_id, revision = self._next_id, self.revision
        image = np.zeros((height, width, 3), np.uint8)
        self.step(1, image)
        self.prompt(0, [Prompt(box=np.array([0, 0, width / 2, height / 2], np.float32))])
        self.step(2, image)
        self.reset()
        self._next_id, self.revision = next_id, revision

    def memory_bytes(self) -> int:
        """Bytes that the memory bank and the newest frame's features take on the device."""
        total = self._bank.memory_bytes()
        if self._frame:
            f = self._frame.features
            total += sum(t.numel() * t.element_size() for t in (f.coarse, f.middle, f.fine))
        return total

    def device_description(self) -> str:
        return describe_device(self.model.device)

    # ---- one frame

    def _check(self, stamp: int, image: np.ndarray) -> None:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ImageError(f"image is {image.dtype} {image.shape}: expected uint8 (H, W, 3), RGB")
        if stamp <= 0:
            raise StampError(f"stamp is {stamp} ns: expected more than 0")
        if self._frame and stamp <= self._frame.stamp:
            raise StampError(f"stamp {stamp} ns is not after the previous one, {self._frame.stamp} ns")
        if self._frame and image.shape[:2] != self._frame.size:
            (h, w), (h0, w0) = image.shape[:2], self._frame.size
            raise ImageError(f"image is {w}x{h}, but the stream is {w0}x{h0}: reset the tracker to change the size")

    def _propagate(self, frame: _Frame) -> Decoded:
        """Decode all objects, in row order, from memory or from their previous masks."""
        if self.policy.uses_memory:
            conditioned = self._condition(frame, slice(0, len(self._bank)))
            return self.model.decode(conditioned, frame.features, multimask=True)
        logits = self._bank.logits[: len(self._bank)]
        corners, dense = self.policy.prompts(logits, self.model.image_size)
        labels = torch.tensor([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT], device=corners.device).expand(len(logits), -1)
        features = self.model.without_memory(frame.features, len(logits))
        return self.model.decode(
            features, frame.features, points=corners, point_labels=labels, mask_logits=dense, multimask=False
        )

    def _condition(self, frame: _Frame, rows: slice) -> Tensor:
        """(B, dim, h, w): the frame's features conditioned on the memories of some rows."""
        bank, device = self._bank, self.model.device
        chosen = self.policy.select(
            bank.frames[rows], bank.pointer_frames[rows], bank.layout.conditioning, frame.index
        )
        batch = len(chosen.codes)
        if not len(chosen.slots):
            return self.model.without_memory(frame.features, batch)
        allowed = np.concatenate((chosen.allowed, chosen.pointer_allowed), axis=1)
        return self.model.with_memory(
            frame.features,
            bank.spatial[rows][:, torch.from_numpy(chosen.slots).to(device)],
            torch.from_numpy(chosen.codes).to(device),
            bank.pointers[rows][:, torch.from_numpy(chosen.pointer_slots).to(device)],
            torch.from_numpy(chosen.ages.astype(np.float32)).to(device),
            None if allowed.all() else torch.from_numpy(allowed).to(device),
        )

    def _present(self, decoded: Decoded) -> Tensor:
        """(N,) bool: the published gate, object score > 0; without the head, a mask that is not empty."""
        if self.model.has_object_score:
            return decoded.object_logit > 0
        return (decoded.logits > 0).flatten(1).any(1)

    def _remember_step(self, frame: _Frame, decoded: Decoded, present: Tensor) -> None:
        bank, model, n = self._bank, self.model, len(self._bank)
        if self.policy.uses_memory:
            logits = gate(decoded.logits, present)
            bank.write_recent(
                frame.index,
                model.encode_memory(frame.features, logits, present),
                model.pointer(decoded.token, present),
            )
            bank.logits[:n] = logits
        else:  # the last mask that was seen stays the prompt
            bank.logits[:n] = torch.where(present[:, None, None, None], decoded.logits, bank.logits[:n])
        score = decoded.object_logit.sigmoid() if model.has_object_score else decoded.iou
        numbers = torch.stack((score, decoded.iou, present.float())).cpu().numpy()
        for row, object_id in enumerate(bank.ids):
            self._objects[object_id].observe(*numbers[:, row])

    # ---- prompts

    def _requested_frame(self, stamp: int) -> _Frame:
        if self._frame is None:
            raise RequestError(ErrorCode.NO_IMAGE, "no image has been processed yet: wait for the first one")
        if stamp not in (0, self._frame.stamp):
            raise RequestError(
                ErrorCode.UNKNOWN_STAMP,
                f"stamp {stamp} ns is not remembered: expected {self._frame.stamp} ns, the newest image's, or 0 for it",
            )
        return self._frame

    def _check_prompts(self, prompts: Sequence[Prompt]) -> list:
        """The class of each prompt, None to keep it. Raises RequestError."""
        if not prompts:
            raise RequestError(ErrorCode.EMPTY_REQUEST, "no prompts were given: expected at least one")
        corrected = [p.object_id for p in prompts if p.object_id]
        for object_id in corrected:
            self._check_known(object_id)
            if corrected.count(object_id) > 1:
                raise RequestError(
                    ErrorCode.INVALID_PROMPT, f"object {object_id} has several prompts in one request: give it one"
                )
        total = len(self._objects) + len(prompts) - len(corrected)
        if total > self.config.max_objects:
            raise RequestError(
                ErrorCode.TOO_MANY_OBJECTS,
                f"the request would make {total} objects: expected at most max_objects = {self.config.max_objects}",
            )
        return [None if p.object_id and not p.class_name else self.label_set.by_name(p.class_name) for p in prompts]

    def _check_known(self, object_id: int) -> None:
        if object_id not in self._objects:
            known = ", ".join(map(str, self.object_ids)) or "none"
            raise RequestError(ErrorCode.UNKNOWN_OBJECT, f"object {object_id} is not tracked: tracked are {known}")

    def _decode_prompt(self, frame: _Frame, prompt: Prompt) -> tuple[Decoded, Tensor | None]:
        """Decode one prompt, and its mask at the model's size when it has one. Changes nothing."""
        model, size = self.model, self.model.image_size
        if prompt.mask is not None:
            mask = torch.from_numpy(prompt.mask).to(model.device)[None, None].float()
            mask = (F.interpolate(mask, size=(size, size), mode="bilinear", antialias=True) >= 0.5).float()
            return model.decode_given_mask(frame.features, mask), mask
        points, labels = self._encoded_points(prompt, frame.size)
        conditioned, previous = model.without_memory(frame.features, 1), None
        if prompt.object_id:  # a correction: from memory, with the mask to be corrected as dense prompt
            row = self._bank.row(prompt.object_id)
            if self.policy.uses_memory:
                conditioned = self._condition(frame, slice(row, row + 1))
            previous = self._bank.logits[row : row + 1].clamp(-32, 32)
        multimask = points.shape[1] <= 1
        decoded = model.decode(
            conditioned, frame.features, points=points, point_labels=labels, mask_logits=previous, multimask=multimask
        )
        return decoded, None

    def _encoded_points(self, prompt: Prompt, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """(1, P, 2), px of the model input, and (1, P): the box's corners, then the clicks."""
        points, labels = np.zeros((0, 2), np.float32), np.zeros(0, np.int64)
        if prompt.box is not None:
            points, labels = prompt.box.reshape(2, 2), np.array([BOX_TOP_LEFT, BOX_BOTTOM_RIGHT])
        if prompt.points is not None:
            points = np.concatenate((points, prompt.points))
            labels = np.concatenate((labels, prompt.point_labels))
        height, width = size
        scaled = points * np.array([self.model.image_size / width, self.model.image_size / height], np.float32)
        device = self.model.device
        return torch.from_numpy(scaled)[None].to(device), torch.from_numpy(labels)[None].to(device)

    def _new_object(self, frame: _Frame) -> int:
        object_id, self._next_id = self._next_id, self._next_id + 1
        taken = {known.label for known in self._objects.values()}
        label = next(v for v in range(1, MAX_LABEL + 1) if v not in taken)
        self._objects[object_id] = TrackedObject(object_id, label, self.label_set.classes[0], frame.stamp)
        self._bank.add(object_id)
        return object_id

    def _prompted_memory(self, frame: _Frame, prompt: Prompt) -> _PromptedMemory:
        """Decode one prompt and encode its memory. Changes nothing."""
        model = self.model
        decoded, mask = self._decode_prompt(frame, prompt)
        scored = self._present(decoded)
        present = scored if mask is None else torch.ones_like(scored)  # a person's mask is there
        logits = gate(decoded.logits, present)
        score = decoded.iou if mask is not None or not model.has_object_score else decoded.object_logit.sigmoid()
        result = _PromptedMemory(logits, float(score), float(decoded.iou), bool(present))
        if not self.policy.uses_memory:
            return result
        seen = logits if mask is None else mask * 20 - 10
        spatial = model.encode_memory(frame.features, seen, present)[0]
        return replace(result, spatial=spatial, pointer=model.pointer(decoded.token, scored)[0])

    def _remember_prompt(self, frame: _Frame, object_id: int, memory: _PromptedMemory) -> None:
        row = self._bank.row(object_id)
        self._bank.logits[row] = memory.logits[0]
        if memory.spatial is not None:
            self._bank.write_conditioning(row, frame.index, memory.spatial, memory.pointer)
        self._objects[object_id].observe(memory.score, memory.predicted_iou, memory.present)

    # ---- output

    def _compose(self, frame: _Frame, new_frame: bool) -> Tracks:
        """Masks at the image's size, through the logits, without overlap: the greatest logit wins."""
        height, width = frame.size
        label_map = np.zeros((height, width), np.uint8)
        if self._objects:
            known = [self._objects[object_id] for object_id in self._bank.ids]
            logits = self._bank.logits[: len(known)]
            logits = F.interpolate(logits, size=(height, width), mode="bilinear")[:, 0]
            present = torch.tensor([o.present for o in known], device=logits.device)
            best, owner = gate(logits, present).max(0)
            labels = torch.tensor([o.label for o in known], dtype=torch.uint8, device=logits.device)
            label_map = torch.where(best > 0, labels[owner], 0).cpu().numpy()
        objects = [self._objects[object_id] for object_id in self.object_ids]
        return describe_frame(frame.stamp, label_map, frame.field, objects, self.config, self.revision, new_frame)


def gate(logits: Tensor, present: Tensor) -> Tensor:
    """Mask logits (N, ...) with those of absent objects set to -1024, as published."""
    return torch.where(present.reshape(-1, *[1] * (logits.dim() - 1)), logits, ABSENT_LOGIT)
