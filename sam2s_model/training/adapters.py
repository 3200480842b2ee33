"""A model that learns an adapter: its layers, what is frozen, and what the file holds."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.utils import parametrize

from sam2s_model.adapters.layers import DilatedAdapter, LowRank
from sam2s_model.errors import ConfigError
from sam2s_model.network.image_encoder.hiera import Hiera, HieraBlock
from sam2s_model.network.model import Sam2Model
from sam2s_model.training.adapter_config import AdapterConfig

DILATED = re.compile(r"image_encoder\.trunk\.blocks\.\d+\.adapter\.")
LOW_RANK = re.compile(r"^(.+)\.parametrizations\.weight\.0\.(lora_down|lora_up)$")


def add_adapter(model: Sam2Model, config: AdapterConfig) -> int:
    """Give a model the layers that are to be learnt, and freeze all others; return how many numbers they have.

    They begin so that the model is as it was. Raises ConfigError for a model that has no place for them.
    """
    if config.kind == "dilated":
        trunk = model.image_encoder.trunk
        if not isinstance(trunk, Hiera):
            raise ConfigError(
                f"adapter.kind is 'dilated', and the image encoder of {model.name} has no blocks of Hiera: "
                "expected 'lora'"
            )
        if config.blocks > len(trunk.blocks):
            raise ConfigError(f"adapter.blocks is {config.blocks}: {model.name} has {len(trunk.blocks)}")
        for block in list(trunk.blocks)[: config.blocks]:
            assert isinstance(block, HieraBlock)
            block.adapter = DilatedAdapter(block.width)
    else:
        for layer in _linear(model, config.projections):
            beside = LowRank(layer.in_features, layer.out_features, config.rank, config.alpha)
            parametrize.register_parametrization(layer, "weight", beside)
    learning = 0
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(is_of_adapter(name))
        learning += parameter.numel() * parameter.requires_grad
    return learning


def _linear(model: Sam2Model, endings: tuple[str, ...]) -> list[nn.Linear]:
    layers: dict[str, nn.Linear] = {}
    for ending in endings:
        found = {
            name: layer
            for name, layer in model.named_modules()
            if isinstance(layer, nn.Linear) and (name == ending or name.endswith(f".{ending}"))
        }
        if not found:
            raise ConfigError(f"adapter.projections has {ending!r}: no linear layer of {model.name} ends in it")
        layers |= found
    return list(layers.values())


def is_of_adapter(name: str) -> bool:
    return bool(DILATED.match(name) or LOW_RANK.match(name))


def adapter_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take what such a model has learnt out of its state dict, under published names."""
    out = {}
    for name, value in state.items():
        if match := LOW_RANK.match(name):
            out[f"{match[1]}.{match[2]}.weight"] = value
        elif DILATED.match(name):
            out[name] = value
    return out
