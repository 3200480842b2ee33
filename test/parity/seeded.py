"""Random weights for the parity tests: always the same for a seed, and none of them idle.

Freshly made networks hide most of their paths: tables are zero, layer scales are 1e-6, attention is flat, and the large
values of one part drown those of another. Here every table holds noise, attention prefers some keys, and what is added
to each other is of like size, so that a frame or a pointer more or less in memory shows in the masks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from sam2s_model.config import SAM3, ModelConfig

TABLE = re.compile(r"(_embed|_window|_spatial|_enc|_ptr|_tokens?|_matrix|latents\w*|point_embeddings\.\d+)(\.weight)?$")
GAINS = [
    (re.compile(pattern), gain)
    for pattern, gain in (
        (r"\.(qkv|to_q|to_kv)\.weight$", 1.6),  # attention that prefers some keys
        (r"\.(q_proj|k_proj)\.weight$", 1.2),  # and here not so much that differences grow from frame to frame
        (r"\.cross_attn_image\.v_proj\.weight$", 2.0),  # memory counts as much as the frame
        (r"^obj_ptr_proj\.layers\.2\.weight$", 12.0),  # and a pointer as much as a place of a memory
        (r"^obj_ptr_tpos_proj\.weight$", 6.0),
        (r"\.mask_downsampler\.encoder\.12\.weight$", 4.0),  # in a memory, the mask counts as much as the features
        (r"\.token_mixer\.conv1?\.bn\.weight$", 0.6),  # 24 blocks of RepViT that neither grow nor fade
        (r"\.channel_mixer\.conv2\.bn\.weight$", 0.8),
        (r"\.neck\.convs\.\d\.conv_[13]x[13]\.weight$", 1.4),  # features as large as those of the others
        (r"\.neck\.convs\.0\.norm_1\.weight$", 4.0),
        (r"output_hypernetworks_mlps\.\d\.layers\.2\.weight$", 2.0),  # mask logits of some units
        (r"iou_prediction_head\.layers\.2\.weight$", 3.0),  # candidates whose predicted IoUs differ
        (r"pred_obj_score_head\.layers\.2\.weight$", 8.0),  # object scores away from 0
    )
]
NARROW = {
    # windows that reach over the edge, a table that is tiled and cut, blocks of both kinds
    "sam3_narrow": replace(
        SAM3,
        embed_dim=64,
        num_heads=2,
        stages=(5,),
        global_blocks=(2, 4),
        window_spec=(7,),
        mlp_dim=144,
        position_side=5,
    ),
}
"""Models of full depth after a narrow image encoder, by their names in the tests."""


def config_of(name: str) -> ModelConfig:
    """A configuration of `sam2s_model.config`, or a narrow one."""
    return NARROW.get(name) or ModelConfig.from_name(name)


SCORE_BIAS = "sam_mask_decoder.pred_obj_score_head.layers.2.bias"


def seeded_weights(shapes: Mapping[str, Tensor], seed: int, score_bias: float = 0.0) -> dict[str, Tensor]:
    """fp32 tensors of the names and shapes of a state dict with published names; no other of its values is used.

    score_bias: object scores are greater by it, so that objects are there on some frames and not on others
    """
    generator = torch.Generator().manual_seed(seed)
    weights = {name: _draw(name, shapes[name], generator) for name in sorted(shapes)}
    weights[SCORE_BIAS] += score_bias
    return weights


def _draw(name: str, like: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(like.shape, generator=generator)
    gain = next((value for pattern, value in GAINS if pattern.search(name)), 1.0)
    if name.endswith("num_batches_tracked"):
        return torch.zeros_like(like)
    if name.endswith("running_var"):
        return 1 + 0.3 * noise.abs()
    if TABLE.search(name):
        return 0.7 * noise
    if name.endswith(".gamma"):
        return 0.5 * noise
    if noise.dim() < 2:  # of a normalisation, or a bias
        return 0.1 * noise + (gain if name.endswith("weight") else 0.0)
    return gain * noise / noise[0].numel() ** 0.5
