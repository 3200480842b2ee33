"""Fixtures of the model's tests: a small model with random weights, and moving squares to show it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sam2s_model.config import PICO, ModelConfig
from sam2s_model.network.model import Sam2Model


@pytest.fixture(scope="session")
def model() -> Sam2Model:
    """A complete SAM2-family model at 128 px, random but always the same, in which objects are always present.

    It has half of sam2s_pico's image blocks, a stage or more of each kind: steps take a third less time.
    """
    return _random_model(replace(PICO, stages=(1, 1, 2, 1), global_blocks=(3,)), seed=1)


@pytest.fixture(scope="session")
def known_model() -> Sam2Model:
    """The same with all of sam2s_pico's blocks: what is saved of it is recognised."""
    return _random_model(PICO, seed=0)


def _random_model(config: ModelConfig, seed: int) -> Sam2Model:
    torch.manual_seed(seed)
    network = Sam2Model(config, image_size=128).eval().requires_grad_(False)
    # Random weights put logits near zero; spread them so that masks are neither empty nor full.
    for mlp in network.sam_mask_decoder.output_hypernetworks_mlps:
        mlp.layers[-1].weight *= 8
    network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(4.0)
    network.maskmem_tpos_enc.normal_()
    for block in network.memory_encoder.fuser.layers:
        block.gamma.uniform_(0.2, 0.6)
    return network


@pytest.fixture(scope="session")
def frames() -> list[np.ndarray]:
    """12 frames of 120 x 160: a bright square that moves over noise."""
    rng = np.random.default_rng(0)
    background = rng.integers(0, 80, (120, 160, 3), dtype=np.uint8)
    out = []
    for i in range(12):
        image = background.copy()
        image[30 + 2 * i : 60 + 2 * i, 20 + 4 * i : 60 + 4 * i] = (220, 180, 60)
        out.append(image)
    return out
