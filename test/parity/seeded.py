"""Random weights for the parity tests: always the same for a seed, and none of them idle.

Freshly made networks hide most of their paths: tables are zero, layer scales are 1e-6, attention is flat and scores
sit near their thresholds. Here every table holds noise, attention prefers some keys, and scores are spread out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

TABLE = re.compile(r"(_embed|_window|_spatial|_enc|_ptr|_tokens?|_matrix|latents\w*|point_embeddings\.\d+)(\.weight)?$")
GAINS = (
    (re.compile(r"\.(q_proj|k_proj|to_q|qkv|to_kv)\.weight$"), 1.6),  # attention that prefers some keys
    (re.compile(r"output_hypernetworks_mlps\.\d\.layers\.2\.weight$"), 4.0),  # mask logits of some units
    (re.compile(r"iou_prediction_head\.layers\.2\.weight$"), 3.0),  # candidates whose predicted IoUs differ
    (re.compile(r"pred_obj_score_head\.layers\.2\.weight$"), 8.0),  # object scores away from 0
)


def seeded_weights(shapes: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """fp32 tensors of the names and shapes of a state dict with published names; no other of its values is used."""
    generator = torch.Generator().manual_seed(seed)
    return {name: _draw(name, shapes[name], generator) for name in sorted(shapes)}


def _draw(name: str, like: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(like.shape, generator=generator)
    if name.endswith("num_batches_tracked"):
        return torch.zeros_like(like)
    if name.endswith("running_var"):
        return 1 + 0.3 * noise.abs()
    if TABLE.search(name):
        return 0.7 * noise
    if name.endswith(".gamma"):
        return 0.5 * noise
    if noise.dim() < 2:  # of a normalisation, or a bias
        return 0.1 * noise + (1.0 if name.endswith("weight") else 0.0)
    gain = next((value for pattern, value in GAINS if pattern.search(name)), 1.0)
    return gain * noise / noise[0].numel() ** 0.5
