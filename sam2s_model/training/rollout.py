"""Run a model through clips as the tracker does, but batched over the objects of several clips, and differentiable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.network.image_features import Conditioned, ImageFeatures
from sam2s_model.network.model import ABSENT_LOGIT, Sam2Model
from sam2s_model.network.prompt_encoder import given_logits
from sam2s_model.tracking.memory.matching import Matching
from sam2s_model.tracking.previous_mask import PREVIOUS_LIMIT
from sam2s_model.tracking.propagation import Propagated, agreement, label_prompts
from sam2s_model.training.clip import Clip
from sam2s_model.training.config import TrainConfig
from sam2s_model.training.distillation import AskTeacher, TeacherAnswer
from sam2s_model.training.losses import FrameLosses, frame_losses
from sam2s_model.training.objects import Objects, ObjectTruth
from sam2s_model.training.prompting import Plan, draw_correction, draw_first_prompt
from sam2s_model.training.propagated import propagate, spoil


@dataclass(frozen=True)
class Roles:
    """The roles of a batch of clips' frames for those after them.

    names: "conditional", "long" or "short" for each frame, see `sampling.roles`
    longest_gap: most frames that may lie between the first frame and the others, which the clips do not say
    """

    names: tuple[str, ...]
    longest_gap: int = 0


@dataclass(frozen=True)
class FrameAnswer:
    """The mask that a frame is left with. logits: (N, 1, h, w); token: (N, dim); object_logit: (N,)"""

    logits: Tensor
    token: Tensor
    object_logit: Tensor


@dataclass(frozen=True)
class Memory:
    """The memory of one frame.

    frame: its place in the clip; role: see `Roles`; spatial: (N, tokens, memory_dim); pointer: (N, dim)
    """

    frame: int
    role: str
    spatial: Tensor
    pointer: Tensor


def events(plan: Plan, length: int, clicks: int) -> int:
    """Count an object's comparisons with the truth: one for each click, and each frame but one that is given."""
    return length - (plan.kind in ("mask", "labels")) + clicks * len(plan.corrected)


def encode_clips(model: Sam2Model, clips: Sequence[Clip], learn: bool = True) -> ImageFeatures:
    """Encode K clips of T frames, K * T in one batch, clip by clip. Images are of the model's size.

    learn: keep what the image encoder's gradients need
    """
    images = torch.from_numpy(np.concatenate([clip.images for clip in clips])).to(model.device)
    prepared = torch.cat([model.prepare_image(image) for image in images])
    with torch.set_grad_enabled(learn):
        return model.encode_image(prepared.contiguous(memory_format=torch.channels_last))


class Rollout:
    """The objects of a batch of clips, from their first frame to the last.

    encoded: from `encode_clips`; teacher: asked about the first frame's prompts, or None
    """

    def __init__(
        self,
        model: Sam2Model,
        clips: Sequence[Clip],
        encoded: ImageFeatures,
        objects: Objects,
        plan: Plan,
        roles: Roles,
        config: TrainConfig,
        teacher: AskTeacher | None = None,
    ):
        self.model, self.config, self.teacher = model, config, teacher
        self.objects, self.plan, self.roles = objects, plan, roles
        self.length = len(clips[0])
        self.truth = ObjectTruth(clips, objects, config.loss.stride, model.device)
        self.rows = torch.tensor(objects.rows, device=model.device)
        self._encoded = encoded
        self._owner = torch.tensor(objects.owner, device=model.device)
        gaps = [math.exp(rng.uniform(0, math.log(roles.longest_gap + 1))) - 1 for rng in objects.draws]
        self._gaps = torch.tensor(gaps, device=model.device).round()
        self._memories: list[Memory] = []

    def run(self) -> FrameLosses:
        """Return the losses of all frames, see `events`; there must be at least one object, and one comparison."""
        labels = self._labels() if self.plan.kind == "labels" else None
        total = self._first() if labels is None else None
        for t in range(1, self.length):
            losses = self._track(t) if labels is None else self._follow(labels, t)
            total = losses if total is None else total + losses
        assert total is not None  # a single frame whose prompt is a mask has no events
        return total

    def _first(self) -> FrameLosses | None:
        model, n = self.model, len(self.objects)
        features = self._features(0)
        if self.plan.kind == "mask":
            mask = self.truth.full(0)
            given = model.decode_given_mask(features, mask)
            self._remember(0, features, FrameAnswer(given.logits, given.token, given.object_logit))
            return None
        drawn = [
            draw_first_prompt(rng, self.plan.kind, self.truth.on_host(row, 0)[0], self.config.prompts.box_jitter)
            for row, rng in enumerate(self.objects.draws)
        ]
        points, labels = (torch.from_numpy(np.stack(part)).to(model.device) for part in zip(*drawn, strict=True))
        plain = model.without_memory(features, n)
        soft = self.teacher(points, labels) if self.teacher else None
        losses, answer = self._decode(0, plain, features, points, labels, teacher=soft.masks if soft else None)
        if 0 in self.plan.corrected and self.plan.hard and self.teacher and soft:
            more, answer = self._disagree(plain, features, answer, self.teacher, soft, (points, labels))
            losses = losses + more
        elif 0 in self.plan.corrected:
            more, answer = self._correct(0, plain, features, answer, (points, labels), None)
            losses = losses + more
        if self.length > 1:
            self._remember(0, features, answer)
        return losses

    def _track(self, t: int) -> FrameLosses:
        features = self._features(t)
        conditioned = condition(self.model, features, self._memories, t, self.roles, self._gaps)
        losses, answer = self._decode(t, conditioned.features, features, class_logits=conditioned.class_logits)
        if t in self.plan.corrected:
            more, answer = self._correct(t, conditioned.features, features, answer, None, conditioned.class_logits)
            losses = losses + more
        if t + 1 < self.length:
            self._remember(t, features, answer)
        return losses

    def _labels(self) -> Tensor:
        """Return the labels of the first frame, (N, 1, 4h, 4w) fp32 0..1, some of them spoiled."""
        masks = given_logits(self.truth.full(0), self.model.grid)[:, 0] > 0
        told = [
            spoil(rng, mask) if rng.random() < self.config.prompts.spoiled else mask.astype(np.float32)
            for rng, mask in zip(self.objects.draws, masks.cpu().numpy(), strict=True)
        ]
        return torch.from_numpy(np.stack(told))[:, None].to(self.model.device)

    def _follow(self, labels: Tensor, t: int) -> FrameLosses:
        """Decode a frame from the first one's labels, as `match` does. The mask that it would take learns."""
        model, matching = self.model, Matching()
        first, features = self._features(0), self._features(t)
        found = [
            propagate(first.coarse[i : i + 1], features.coarse[i : i + 1], labels[i : i + 1], matching)
            for i in range(len(labels))
        ]
        maps = Propagated.of(found[0].tokens, torch.cat([one.maps for one in found]), matching)
        corners, kinds, dense = label_prompts(maps, matching, model.config.stride)
        made = model.candidates(model.without_memory(features, len(labels)), features, corners, kinds, dense)
        with torch.no_grad():
            taken = (agreement(maps, made.logits, matching) * made.iou).argmax(1)
        row = torch.arange(len(taken), device=taken.device), taken
        truth, valid = self.truth.masks(t)
        valid = valid & maps.inside.flatten(1).any(1)[:, None, None]  # without a map there is nothing to decode
        with torch.autocast(model.device.type, enabled=False):
            return frame_losses(
                made.logits[row][:, None], made.iou[row][:, None], made.object_logit, truth, valid, self.config.loss
            )

    def _decode(
        self,
        t: int,
        conditioned: Tensor,
        features: ImageFeatures,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        mask_logits: Tensor | None = None,
        class_logits: Tensor | None = None,
        teacher: Tensor | None = None,
    ) -> tuple[FrameLosses, FrameAnswer]:
        """Decode a frame.

        As published, three masks compete while there is at most one point; the one expected to fit best is kept.
        """
        found = self.model.candidates(conditioned, features, points, labels, mask_logits)
        several = points is None or points.shape[1] <= 1
        part = slice(1, None) if several else slice(0, 1)
        truth, valid = self.truth.masks(t)
        with torch.autocast(self.model.device.type, enabled=False):
            losses = frame_losses(
                found.logits[:, part], found.iou[:, part], found.object_logit, truth, valid, self.config.loss,
                class_logits, self.rows, teacher,
            )  # fmt: skip
        kept = torch.arange(len(truth), device=truth.device), found.iou[:, part].argmax(1)
        return losses, FrameAnswer(
            found.logits[:, part][kept][:, None], found.tokens[:, part][kept], found.object_logit
        )

    def _correct(
        self,
        t: int,
        conditioned: Tensor,
        features: ImageFeatures,
        answer: FrameAnswer,
        given: tuple[Tensor, Tensor] | None,
        class_logits: Tensor | None,
    ) -> tuple[FrameLosses, FrameAnswer]:
        """Click on errors, one after the other; each time all points so far and the last mask are the prompt.

        given: points and labels of the frame so far; None: it has none
        """
        total = None
        for _ in range(self.config.prompts.clicks):
            points, labels = self._clicks(t, answer)
            if given is not None:
                points, labels = torch.cat((given[0], points), dim=1), torch.cat((given[1], labels), dim=1)
            given = points, labels
            previous = answer.logits.detach().clamp(-PREVIOUS_LIMIT, PREVIOUS_LIMIT)
            losses, answer = self._decode(t, conditioned, features, points, labels, previous, class_logits)
            total = losses if total is None else total + losses
        assert total is not None  # no plan corrects without clicks
        return total, answer

    def _disagree(
        self,
        plain: Tensor,
        features: ImageFeatures,
        answer: FrameAnswer,
        teacher: AskTeacher,
        told: TeacherAnswer,
        given: tuple[Tensor, Tensor],
    ) -> tuple[FrameLosses, FrameAnswer]:
        """Click where student and teacher differ on the first frame; the prompt of both is all points so far, no mask.

        told: the teacher's answer to what was given, points and labels
        """
        points, labels = given
        total = None
        for _ in range(self.config.prompts.clicks):
            own, best = self._shown(answer.logits[:, 0]), self._shown(told.best - 0.5)
            drawn = [
                draw_correction(rng, mine, theirs, np.ones_like(mine))
                for rng, mine, theirs in zip(self.objects.draws, own, best, strict=True)
            ]
            clicks = torch.from_numpy(np.stack([place for place, _ in drawn]))[:, None].to(points.device)
            kinds = torch.tensor([label for _, label in drawn], device=points.device)[:, None]
            points, labels = torch.cat((points, clicks), dim=1), torch.cat((labels, kinds), dim=1)
            told = teacher(points, labels)
            losses, answer = self._decode(0, plain, features, points, labels, teacher=told.masks)
            total = losses if total is None else total + losses
        assert total is not None  # as above
        return total, answer

    def _shown(self, logits: Tensor) -> np.ndarray:
        """Return the masks (N, S, S) bool of logits (N, h, w), at the clips' size."""
        size = (self.model.image_size, self.model.image_size)
        return (F.interpolate(logits.detach().float()[:, None], size=size, mode="bilinear")[:, 0] > 0).cpu().numpy()

    def _clicks(self, t: int, answer: FrameAnswer) -> tuple[Tensor, Tensor]:
        present = (answer.object_logit > 0).cpu().numpy()
        shown = self._shown(answer.logits[:, 0]) & present[:, None, None]
        drawn = []
        for row, (rng, predicted) in enumerate(zip(self.objects.draws, shown, strict=True)):
            mask, valid = self.truth.on_host(row, t)
            drawn.append(draw_correction(rng, np.zeros_like(mask) if self.plan.from_truth else predicted, mask, valid))
        points = torch.from_numpy(np.stack([place for place, _ in drawn]))[:, None]
        labels = torch.tensor([label for _, label in drawn])[:, None]
        return points.to(self.model.device), labels.to(self.model.device)

    def _remember(self, t: int, features: ImageFeatures, answer: FrameAnswer) -> None:
        """Encode a frame for those after it. A mask that was given is there, whatever the object score says."""
        scored = answer.object_logit > 0
        if self.config.rollout.forced_presence:
            scored = self.truth.full(t).flatten(1).any(1)
        given = t == 0 and self.plan.kind == "mask"
        present = torch.ones_like(scored) if given else scored
        logits = torch.where(present[:, None, None, None], answer.logits, ABSENT_LOGIT)
        role = "conditional" if t in self.plan.corrected else self.roles.names[t]
        spatial = self.model.encode_memory(features, logits, present)
        self._memories.append(Memory(t, role, spatial, self.model.pointer(answer.token, scored)))

    def _features(self, t: int) -> ImageFeatures:
        rows, e = self._owner * self.length + t, self._encoded
        return ImageFeatures(e.coarse[rows], e.middle[rows], e.fine[rows])


def condition(
    model: Sam2Model, features: ImageFeatures, memories: Sequence[Memory], now: int, roles: Roles, gaps: Tensor
) -> Conditioned:
    """Condition the features of frame `now` on memories, coded as the tracker's policies do.

    gaps: (N,) frames between the first frame and the others that the clip does not show
    Long-term frames have an embedding of their own, or that of prompted ones in a model without (ReSurgSAM2); they
    have no object pointers, since they are older than those are kept. A model with SLM-SAM2's second attention sees the
    newest frame there, whatever it is to the first one.
    """
    config = model.config
    window, prompted = config.num_memories - 1, config.num_memories - 1
    code = {"conditional": prompted, "long": config.num_memories if config.long_term_embedding else prompted}
    seen = [m for m in memories if m.role != "short" or now - m.frame <= window]
    codes = torch.tensor([code.get(m.role, now - m.frame - 1) for m in seen], device=gaps.device)
    pointed = [
        m for m in memories if m.role == "conditional" or (m.role == "short" and now - m.frame < config.max_pointers)
    ]
    unseen = [1.0 if m.frame == 0 else 0.0 for m in pointed]
    ages = torch.tensor([float(now - m.frame) for m in pointed], device=gaps.device)
    ages = ages[None] + gaps[:, None] * torch.tensor(unseen, device=gaps.device)
    short = None
    if config.short_attention:
        newest = memories[-1]
        newest_code = torch.tensor([prompted if newest.role == "conditional" else 0], device=gaps.device)
        short = newest.spatial[:, None], newest_code.expand(len(gaps), -1)
    return model.with_memory(
        features,
        torch.stack([m.spatial for m in seen], dim=1),
        codes.expand(len(gaps), -1),
        torch.stack([m.pointer for m in pointed], dim=1),
        ages,
        None,
        short,
    )
