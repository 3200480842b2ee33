"""Train class prompts on a frozen model, as SurgicalSAM does: Dice on the class's mask, NT-Xent on the prototypes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.device import as_tensor
from sam2s_model.discovery.build import Confirmation, objects_of, spread
from sam2s_model.discovery.learnt import LearntClasses, decode_class
from sam2s_model.errors import PrototypeError
from sam2s_model.network.class_prompts import ClassPrompts
from sam2s_model.network.image_features import ImageFeatures
from sam2s_model.network.model import Sam2Model
from sam2s_model.training.losses import dice_loss

TEMPERATURE = 0.07  # of NT-Xent, as published
WEIGHT_DECAY = 1e-4


@dataclass(frozen=True)
class ClassSample:
    """A frame, encoded, and the masks of its classes: row -> (4h, 4w) fp32, 0 or 1."""

    features: ImageFeatures
    masks: Mapping[int, Tensor]


def nt_xent(prototypes: Tensor, features: Tensor, rows: Tensor) -> Tensor:
    """Mean NT-Xent of masked-average features (N, dim) with the prototypes (K, dim) of their classes, rows (N,) int."""
    cosines = F.normalize(features.float(), dim=1) @ F.normalize(prototypes.float(), dim=1).T
    return F.cross_entropy(cosines / TEMPERATURE, rows)


@torch.no_grad()
def class_samples(
    model: Sam2Model,
    confirmed: Sequence[Confirmation],
    *,
    frames: int,
    class_name: str = "",
    box_classes: Mapping[int, str] | None = None,
) -> tuple[list[ClassSample], tuple[str, ...]]:
    """Encode some frames of each recording once. Returns them and the names of their classes, in alphabetical order."""
    told = []
    for one in confirmed:
        for frame in spread(one, frames):
            features = model.encode_image(model.prepare_image(as_tensor(frame.image)))
            names, masks, _, _ = objects_of(model, one, frame, features, class_name, box_classes)
            told.append((features, names, masks))
    classes = tuple(sorted({name for _, names, _ in told for name in names}))
    if not classes:
        raise PrototypeError("no frame shows an object: expected at least one")
    samples = []
    for features, names, masks in told:
        size = (4 * features.grid[0], 4 * features.grid[1])
        of_class = {
            classes.index(name): F.adaptive_avg_pool2d(
                masks[[i for i, other in enumerate(names) if other == name]].any(0)[None, None].float(), size
            )[0, 0]
            for name in set(names)
        }
        if of_class:
            samples.append(ClassSample(features, of_class))
    return samples, classes


def train_class_prompts(
    model: Sam2Model,
    samples: Sequence[ClassSample],
    names: Sequence[str],
    *,
    steps: int = 300,
    learning_rate: float = 1e-3,
    tokens: int = 2,
    batch: int = 4,
    seed: int = 0,
    on_step: Callable[[int, float], Any] = lambda step, loss: None,
) -> LearntClasses:
    """Train prototypes and prompt encoder; the model stays as it is.

    tokens: of each class; batch: frames of a step, each asked for one of its classes
    Raises PrototypeError when the loss is no number.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        prompts = ClassPrompts(len(names), model.config.decoder_width, model.grid[0], tokens).to(model.device)
        prototypes = prompts.class_embeddings.weight
        prototypes.data.copy_(F.normalize(prototypes.data, dim=1))
    learns = [value for name, value in prompts.named_parameters() if "pn_cls" not in name]
    optimizer = torch.optim.Adam(learns, lr=learning_rate, weight_decay=WEIGHT_DECAY)
    for step in range(steps):
        losses, seen, rows = [], [], []
        for _ in range(batch):
            sample = samples[int(torch.randint(len(samples), (1,), generator=generator))]
            row = sorted(sample.masks)[int(torch.randint(len(sample.masks), (1,), generator=generator))]
            mask = sample.masks[row]
            decoded = decode_class(model, sample.features, prompts, torch.tensor([row], device=model.device))
            losses.append(dice_loss(decoded.logits, mask[None], torch.ones_like(mask)[None])[0, 0])
            inside = F.adaptive_avg_pool2d(mask[None, None], sample.features.grid)[0, 0]
            plain = model.for_decoder(sample.features.coarse)[0].float()
            seen.append((plain * inside).sum((1, 2)) / inside.sum().clamp(min=1e-6))
            rows.append(row)
        contrast = nt_xent(prototypes, torch.stack(seen), torch.tensor(rows, device=model.device))
        loss = torch.stack(losses).mean() + contrast
        value = loss.item()
        if not math.isfinite(value):
            raise PrototypeError(f"the loss is {value} at step {step}: try a lower learning rate than {learning_rate}")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        on_step(step, value)
    return LearntClasses(prompts.eval().requires_grad_(False), names, model)
