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


@dataclass(frozen=True)
class ClassPromptLosses:
    """Of a step: their sum, Dice on the class's mask, NT-Xent on the prototypes; gradient: its length."""

    loss: float
    dice: float
    contrast: float
    gradient: float


class ClassPromptTraining:
    """Prototypes and prompt encoder that learn on samples of a frozen model, with Adam.

    tokens: of each class; batch: frames of a step, each asked for one of its classes; clip: longest gradient
    """

    def __init__(
        self,
        model: Sam2Model,
        samples: Sequence[ClassSample],
        names: Sequence[str],
        *,
        learning_rate: float = 1e-3,
        weight_decay: float = WEIGHT_DECAY,
        clip: float = math.inf,
        tokens: int = 2,
        batch: int = 4,
        seed: int = 0,
    ):
        self.model, self.samples, self.names, self.clip, self.batch = model, samples, tuple(names), clip, batch
        self.steps = 0
        self._generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.prompts = ClassPrompts(len(names), model.config.decoder_width, model.grid[0], tokens).to(model.device)
            prototypes = self.prompts.class_embeddings.weight
            prototypes.data.copy_(F.normalize(prototypes.data, dim=1))
        self.parameters = [value for name, value in self.prompts.named_parameters() if "pn_cls" not in name]
        self.optimizer = torch.optim.Adam(self.parameters, lr=learning_rate, weight_decay=weight_decay)

    def step(self, learning_rate: float | None = None) -> ClassPromptLosses:
        """Do one update, at another rate where one is given. Raises PrototypeError when the loss is no number."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr"] if learning_rate is None else learning_rate
        losses, seen, rows = [], [], []
        for _ in range(self.batch):
            sample = self.samples[self._below(len(self.samples))]
            row = sorted(sample.masks)[self._below(len(sample.masks))]
            asked = torch.tensor([row], device=self.model.device)
            decoded = decode_class(self.model, sample.features, self.prompts, asked)
            mask = sample.masks[row]
            losses.append(dice_loss(decoded.logits, mask[None], torch.ones_like(mask)[None])[0, 0])
            inside = F.adaptive_avg_pool2d(mask[None, None], sample.features.grid)[0, 0]
            plain = self.model.for_decoder(sample.features.coarse)[0].float()
            seen.append((plain * inside).sum((1, 2)) / inside.sum().clamp(min=1e-6))
            rows.append(row)
        prototypes = self.prompts.class_embeddings.weight
        contrast = nt_xent(prototypes, torch.stack(seen), torch.tensor(rows, device=self.model.device))
        dice = torch.stack(losses).mean()
        loss = dice + contrast
        value = loss.item()
        if not math.isfinite(value):
            rate = self.optimizer.param_groups[0]["lr"]
            raise PrototypeError(f"the loss is {value} at step {self.steps}: try a lower learning rate than {rate}")
        self.optimizer.zero_grad()
        loss.backward()
        length = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.clip))
        self.optimizer.step()
        self.steps += 1
        return ClassPromptLosses(value, dice.item(), contrast.item(), length)

    def _below(self, limit: int) -> int:
        return int(torch.randint(limit, (1,), generator=self._generator))

    def learnt(self) -> LearntClasses:
        """Return what was learnt, as it is now."""
        prompts = ClassPrompts(len(self.names), self.model.config.decoder_width, self.model.grid[0], self._tokens)
        prompts.load_state_dict(self.prompts.state_dict())
        return LearntClasses(prompts.eval().requires_grad_(False), self.names, self.model)

    @property
    def _tokens(self) -> int:
        return self.prompts.encoder.sparse_fc_2.out_channels

    def state_dict(self) -> dict[str, Any]:
        """Return all that a run goes on from."""
        return dict(
            prompts=self.prompts.state_dict(), optimizer=self.optimizer.state_dict(), steps=self.steps,
            generator=self._generator.get_state(), names=list(self.names),
        )  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state. Raises PrototypeError for one of other classes."""
        if tuple(state["names"]) != self.names:
            raise PrototypeError(f"the run is of {', '.join(state['names'])}, the data of {', '.join(self.names)}")
        self.prompts.load_state_dict(state["prompts"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._generator.set_state(state["generator"])
        self.steps = state["steps"]


def train_class_prompts(
    model: Sam2Model,
    samples: Sequence[ClassSample],
    names: Sequence[str],
    *,
    steps: int = 300,
    learning_rate: float = 1e-3,
    seed: int = 0,
    on_step: Callable[[int, float], Any] = lambda step, loss: None,
) -> LearntClasses:
    """Train prototypes and prompt encoder; the model stays as it is.

    Raises PrototypeError when the loss is no number.
    """
    training = ClassPromptTraining(model, samples, names, learning_rate=learning_rate, seed=seed)
    for step in range(steps):
        on_step(step, training.step().loss)
    return training.learnt()
