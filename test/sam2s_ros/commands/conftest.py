"""A checkpoint with random weights, for commands that track."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def pico_checkpoint(tmp_path_factory):
    """A complete checkpoint of the smallest model."""
    import torch

    from sam2s_model.config import PICO
    from sam2s_model.network.model import Sam2Model

    torch.set_num_threads(1)  # of the commands that run in this process
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint") / "random.pt"
    torch.save({"model": Sam2Model(PICO, 64).state_dict()}, path)
    return path


@pytest.fixture
def track(pico_checkpoint):
    """Run `sam2s track` with it in this process; returns the exit code."""
    from sam2s_ros.commands.cli import main

    options = ["--checkpoint", pico_checkpoint, "--model", "sam2s_pico", "--image-size", 64, "--device", "cpu"]

    def run(*arguments: object) -> int:
        return main([str(part) for part in ("track", *arguments, *options)])

    return run
