"""The names that adapters have in published state dicts: DD-SAM2's, and LoRA as DD-SAM2 and UnSAMv2 write it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from sam2s_model.errors import CheckpointError

DILATED = re.compile(r"^image_encoder\.trunk\.blocks\.(\d+)\.adapter\.((?:pw1|dw2_1|dw2_2|pw2)\.0\.(?:weight|bias))$")
LOW_RANK = re.compile(r"^(.+)\.(?:(lora_down\.weight|lora_A)|(lora_up\.weight|lora_B))$")
WRAPPED = re.compile(r"^(.+)\.(?:original|original_layer)\.(weight|bias)$")
"""A layer beside whose weights such a LoRA lies."""


@dataclass(frozen=True)
class LowRankPair:
    """down: (r, d_in); up: (d_out, r)"""

    down: Tensor
    up: Tensor

    @property
    def rank(self) -> int:
        return len(self.down)


def split(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Divide a state dict into what the model has, under its names there, and the adapters."""
    adapters = {name: value for name, value in state.items() if DILATED.match(name) or LOW_RANK.match(name)}
    changed = {match[1] for match in map(LOW_RANK.match, adapters) if match}
    rest = {}
    for name, value in state.items():
        if name not in adapters:
            around = WRAPPED.match(name)
            rest[f"{around[1]}.{around[2]}" if around and around[1] in changed else name] = value
    return rest, adapters


def dilated_blocks(adapters: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Find the tensors of each block's dilated adapter, under their names in it."""
    blocks: dict[int, dict[str, Tensor]] = {}
    for name, value in adapters.items():
        if match := DILATED.match(name):
            blocks.setdefault(int(match[1]), {})[match[2]] = value
    return dict(sorted(blocks.items()))


def low_rank_pairs(adapters: Mapping[str, Tensor], path: object) -> dict[str, LowRankPair]:
    """Find the two matrices beside each changed layer, by its name.

    Raises CheckpointError for one without the other, and for ranks that differ.
    """
    halves: dict[str, dict[str, Tensor]] = {}
    for name, value in adapters.items():
        if match := LOW_RANK.match(name):
            halves.setdefault(match[1], {})["down" if match[2] else "up"] = value
    for layer, half in halves.items():
        if len(half) < 2:
            raise CheckpointError(
                f"{path} has half of a LoRA at {layer}: {next(iter(half))} alone, expected down and up"
            )
        down, up = half["down"], half["up"]
        if down.ndim != 2 or up.ndim != 2 or len(down) != up.shape[1]:
            raise CheckpointError(
                f"{path}: the LoRA at {layer} is {tuple(down.shape)}, {tuple(up.shape)}: expected (r, d_in), (d_out, r)"
            )
    return {layer: LowRankPair(**half) for layer, half in halves.items()}


def described(adapters: Mapping[str, Tensor], path: object) -> str:
    """Say in words which adapters there are. Raises CheckpointError as `low_rank_pairs` does."""
    pairs, blocks = low_rank_pairs(adapters, path), dilated_blocks(adapters)
    ranks = " and ".join(map(str, sorted({pair.rank for pair in pairs.values()})))
    said = [f"LoRA of rank {ranks} at {len(pairs)} layers"] if pairs else []
    return " and ".join(said + ([f"dilated adapters after {len(blocks)} blocks"] if blocks else []))
