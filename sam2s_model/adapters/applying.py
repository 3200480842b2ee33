"""Put an adapter on a model, strictly. LoRA is merged, which is exact; dilated adapters stay layers of their own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sam2s_model.adapters.layers import DilatedAdapter, merged
from sam2s_model.adapters.names import dilated_blocks, low_rank_pairs
from sam2s_model.errors import CheckpointError
from sam2s_model.network.image_encoder.hiera import Hiera, HieraBlock
from sam2s_model.network.model import Sam2Model


def apply_adapter(network: Sam2Model, tensors: Mapping[str, Tensor], alpha: float, path: object) -> None:
    """Add dilated adapters to a model, and merge LoRA into its layers. Raises CheckpointError for what does not fit."""
    for index, values in dilated_blocks(tensors).items():
        block = _hiera_block(network, index, path)
        layer = DilatedAdapter(block.width)
        wanted = {name: tuple(value.shape) for name, value in layer.state_dict().items()}
        found = {name: tuple(value.shape) for name, value in values.items()}
        if wrong := [name for name in wanted if found.get(name) != wanted[name]]:
            raise CheckpointError(
                f"{path} does not fit {network.name}: the adapter of block {index} has {wrong[0]} "
                f"{found.get(wrong[0], 'nowhere')}, expected {wanted[wrong[0]]}"
            )
        layer.load_state_dict(values)
        block.adapter = layer.to(device=network.device, dtype=network.dtype).eval().requires_grad_(False)
    for name, pair in low_rank_pairs(tensors, path).items():
        linear = _linear(network, name, path)
        _check_pair(name, tuple(linear.weight.shape), (len(pair.up), pair.down.shape[1]), path, network.name)
        weight = merged(linear.weight, pair.down, pair.up, alpha).to(linear.weight.dtype)
        linear.weight = nn.Parameter(weight, requires_grad=False)


def merge_into(
    state: Mapping[str, Tensor], tensors: Mapping[str, Tensor], alpha: float, path: object, name: str
) -> dict[str, Tensor]:
    """Merge LoRA into the weights of a state dict, those in fp32. Raises CheckpointError for what cannot be merged."""
    if blocks := dilated_blocks(tensors):
        raise CheckpointError(
            f"{path} has dilated adapters after {len(blocks)} blocks, which no weights of {name} can stand for: "
            "give it as --adapter where the model runs"
        )
    out = dict(state)
    for layer, pair in low_rank_pairs(tensors, path).items():
        weight = out.get(f"{layer}.weight")
        if weight is None:
            raise CheckpointError(f"{path} does not fit {name}: there is no {layer}.weight for its LoRA")
        _check_pair(layer, tuple(weight.shape), (len(pair.up), pair.down.shape[1]), path, name)
        out[f"{layer}.weight"] = merged(weight, pair.down, pair.up, alpha)
    return out


def replace_tensors(network: Sam2Model, tensors: Mapping[str, Tensor], path: object) -> None:
    """Take the tensors of the model that a file has beside its adapter, where they differ from the base's."""
    own = network.state_dict()
    wrong = [name for name, value in tensors.items() if name not in own or own[name].shape != value.shape]
    if wrong:
        raise CheckpointError(
            f"{path} does not fit {network.name}: {len(wrong)} of its tensors are not in it or have another shape, "
            f"the first is {wrong[0]}"
        )
    changed = {}
    for name, value in tensors.items():
        value = value.to(device=own[name].device, dtype=own[name].dtype)
        if not torch.equal(value, own[name]):
            changed[name] = value
    network.load_state_dict(changed, strict=False, assign=True)
    network.missing = tuple(name for name in network.missing if name not in tensors)


def _hiera_block(network: Sam2Model, index: int, path: object) -> HieraBlock:
    trunk = network.image_encoder.trunk
    if not isinstance(trunk, Hiera) or index >= len(trunk.blocks):
        there = f"{len(trunk.blocks)} blocks" if isinstance(trunk, Hiera) else "no blocks of Hiera"
        raise CheckpointError(f"{path} has an adapter after block {index} of Hiera, and {network.name} has {there}")
    block = trunk.blocks[index]
    assert isinstance(block, HieraBlock)
    return block


def _linear(network: Sam2Model, name: str, path: object) -> nn.Linear:
    try:
        layer = network.get_submodule(name)
    except AttributeError:
        layer = None
    if not isinstance(layer, nn.Linear):
        raise CheckpointError(f"{path} does not fit {network.name}: there is no linear layer {name} for its LoRA")
    return layer


def _check_pair(layer: str, shape: tuple[int, ...], found: tuple[int, int], path: object, model: str) -> None:
    if shape != found:
        raise CheckpointError(
            f"{path} does not fit {model}: the LoRA at {layer} is for {found}, and the weight is {shape}"
        )
