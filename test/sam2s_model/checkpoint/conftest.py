"""Fixtures of the tests of checkpoint files."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sam2s_model.config import PICO
from sam2s_model.network.model import Sam2Model


@pytest.fixture(scope="session")
def state() -> dict[str, Tensor]:
    """Of the smallest model, complete, with random weights. Not to be changed."""
    torch.manual_seed(1)
    return Sam2Model(PICO).state_dict()


@pytest.fixture
def save(tmp_path):
    """Write something as a .pt file and return its path."""

    def save(content: object, name: str = "a.pt"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    return save
