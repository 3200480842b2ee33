"""What the worker's tracker cannot be built from."""

import pytest

from sam2s_model.config import TrackerConfig
from sam2s_model.errors import ConfigError, Sam2sError
from sam2s_model.semantics import GENERIC
from sam2s_ros.parameters import NodeConfig
from sam2s_ros.worker import build_tracker


@pytest.mark.parametrize(
    "config, said",
    [
        (NodeConfig(), "checkpoint is empty: give a path"),
        (NodeConfig(checkpoint="/no/such.pt", device="cpu"), "checkpoint '/no/such.pt' does not exist"),
        (
            NodeConfig(checkpoint="sam2s_pico", device="cpu", precision="int8", compile=True),
            "compile is true, but precision is 'int8', which torch cannot compile: expected fp32, bf16 or fp16",
        ),
    ],
)
def test_build_tracker_says_what_is_wrong(config, said):
    with pytest.raises(Sam2sError, match=said):
        build_tracker(config, TrackerConfig(), GENERIC)


def test_p15_the_cpu_instead_of_cuda_needs_to_be_allowed(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # the same answer on every machine
    with pytest.raises(ConfigError, match="set allow_cpu to true, or device to cpu"):
        build_tracker(NodeConfig(checkpoint="a.pt"), TrackerConfig(), GENERIC)
