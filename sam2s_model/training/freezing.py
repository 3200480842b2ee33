"""What stays as it is: weights by the beginnings of their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import nn

from sam2s_model.errors import ConfigError
from sam2s_model.network.model import MEMORY_PARTS, Sam2Model

IMAGE_HALF = "image_half"


def freeze(model: Sam2Model, names: Sequence[str]) -> int:
    """Keep weights from learning; return how many parameters stay trainable.

    names: beginnings of names in the state dict, such as "image_encoder" or "sam_prompt_encoder.mask_downscaling"; or
        "image_half", all that makes masks from prompts without memory
    Batch normalisation that lies in a frozen part keeps its statistics, too.
    Raises ConfigError for a name that no weight begins with, and when nothing is left.
    """
    chosen: set[str] = set()
    for name in names:
        found = {key for key, _ in model.named_parameters() if _begins(key, name)}
        if not found:
            tops = sorted({key.split(".")[0] for key, _ in model.named_parameters()})
            raise ConfigError(
                f"freeze names {name!r}: expected image_half or the beginning of a weight's name: {', '.join(tops)}"
            )
        chosen |= found
    for key, parameter in model.named_parameters():
        parameter.requires_grad_(key not in chosen)
    left = sum(p.numel() for p in model.parameters() if p.requires_grad)
    if not left:
        raise ConfigError(f"freeze is {', '.join(names)}: expected that something is left to learn")
    return left


def _begins(key: str, name: str) -> bool:
    if name == IMAGE_HALF:
        return not key.startswith(MEMORY_PARTS)
    return key == name or key.startswith(name.rstrip(".") + ".")


@runtime_checkable
class LearnsStatistics(Protocol):
    """An image encoder whose batch normalisation is told whether it learns."""

    def learn_statistics(self, wanted: bool) -> None: ...


def train_mode(model: Sam2Model, learn_statistics: bool) -> None:
    """Set a model to training, but what is frozen to evaluation.

    learn_statistics: batch normalisation uses those of the batch and keeps their running mean
    """
    model.train()
    trunk = model.image_encoder.trunk
    if isinstance(trunk, LearnsStatistics):
        trunk.learn_statistics(learn_statistics)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and not module.weight.requires_grad:
            module.eval()
