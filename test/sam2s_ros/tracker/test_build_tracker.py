"""What the worker's tracker cannot be built from."""

import pytest
from said_log import SaidLog

from sam2s_model.config import TrackerConfig
from sam2s_model.errors import ConfigError, Sam2sError
from sam2s_model.semantics import GENERIC
from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.tracker.build import build_tracker


@pytest.mark.parametrize(
    "config, said",
    [
        (NodeConfig(checkpoint="sam2s_tinny", device="cpu"), "'sam2s_tinny' does not exist: did you mean 'sam2s_tiny'"),
        (NodeConfig(checkpoint="/no/such.pt", device="cpu"), "checkpoint '/no/such.pt' does not exist"),
    ],
)
def test_build_tracker_says_what_is_wrong(config, said):
    with pytest.raises(Sam2sError, match=said):
        build_tracker(config, TrackerConfig(), GENERIC, log=SaidLog())


def test_p15_the_cpu_instead_of_cuda_needs_to_be_allowed(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # the same answer on every machine
    for config in (NodeConfig(checkpoint="a.pt"), NodeConfig()):
        with pytest.raises(ConfigError) as refusal:
            build_tracker(config, TrackerConfig(), GENERIC, log=SaidLog())
        said = str(refusal.value)
        assert "`ros2 launch sam2s_ros tracker.launch.py device:=cpu`" in said and "set allow_cpu to true" in said
        assert "\n" not in said


@pytest.mark.parametrize(
    "cuda, config, name",
    [
        (False, NodeConfig(device="cpu", image_size=64, warm_up=False, threads=1), "sam2s_nano"),
        (False, NodeConfig(allow_cpu=True, image_size=64, warm_up=False, threads=1), "sam2s_nano"),
        (True, NodeConfig(device="cpu", image_size=64, warm_up=False, threads=1), "sam2s_nano"),
    ],
)
def test_without_a_checkpoint_the_packages_default_is_taken_and_said(monkeypatch, cuda, config, name):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    log = SaidLog()
    built = build_tracker(config, TrackerConfig(), GENERIC, log=log)
    assert built.tracker.model.name == name and built.chosen == f"using {name}, the package's default on a CPU"
    assert log.infos[0] == f"no checkpoint was given: {built.chosen}" and f"{name}.safetensors sha256" in log.infos[1]


def test_with_a_checkpoint_nothing_is_said_about_the_default():
    log = SaidLog()
    config = NodeConfig(checkpoint="sam2s_tiny", device="cpu", image_size=64, warm_up=False, threads=1)
    built = build_tracker(config, TrackerConfig(), GENERIC, log=log)
    assert built.tracker.model.name == "sam2_hiera_tiny" and built.chosen == ""
    assert not any("default" in sentence for sentence in log.infos)


@pytest.mark.skipif("not __import__('torch').cuda.is_available()", reason="no CUDA device")
def test_on_a_gpu_the_default_is_tiny():
    built = build_tracker(NodeConfig(warm_up=False), TrackerConfig(), GENERIC, log=SaidLog())
    assert built.chosen == "using sam2s_tiny, the package's default on a GPU" and built.tracker.model.image_size == 512
