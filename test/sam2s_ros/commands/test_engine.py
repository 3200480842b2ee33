"""What tracks, of all commands: options of the tracker, a node's parameters, and the model."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam2s_model.config import TrackerConfig
from sam2s_model.errors import CheckpointError, ConfigError
from sam2s_ros.commands.cli import main
from sam2s_ros.commands.engine import EngineOptions
from sam2s_ros.interfaces.parameters import NodeConfig


def test_options_reach_the_tracker_and_the_node():
    adapter = Path("adapter.safetensors")
    options = ("max_objects=4", "stability_delta=1")
    engine = EngineOptions(Path("sam2s_pico"), image_size=64, adapter=adapter, option=options)
    assert engine.tracker_config() == TrackerConfig(max_objects=4, stability_delta=1.0)
    assert engine.tracker_config(max_objects=9, fill_holes=2) == TrackerConfig(
        max_objects=4, stability_delta=1.0, fill_holes=2
    )
    parameters = engine.parameters()
    tracking = {name: parameters.pop(name) for name in ("max_objects", "stability_delta")}
    assert TrackerConfig(**tracking) == engine.tracker_config() and type(tracking["stability_delta"]) is float
    node = NodeConfig(**parameters)
    assert (node.checkpoint, node.image_size, node.allow_cpu, node.encoder) == ("sam2s_pico", 64, True, "")
    assert node.adapter == "adapter.safetensors"


def test_the_model():
    assert EngineOptions(Path("sam2s_pico"), image_size=64, device="cpu").load().image_size == 64
    with pytest.raises(CheckpointError, match="no.safetensors"):
        EngineOptions(Path("sam2s_pico"), image_size=64, device="cpu", adapter=Path("no.safetensors")).load()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("max_object=4", r"option is 'max_object' \(did you mean max_objects\?\): expected one of "),
        ("max_objects", "option is 'max_objects': expected max_objects=VALUE, by default 16"),
        ("max_objects=four", "option max_objects is 'four': expected a whole number"),
        ("max_objects=true", "option max_objects is 'true': expected a whole number"),
        ("stability=1", "option stability is '1': expected true or false"),
        ("stability_delta=[", "option stability_delta is '\\[': expected a number"),
        ("max_objects=0", "max_objects is 0: expected at least 1"),
        ("pruning=best", "pruning is 'best': expected one of 'policy'"),
    ],
)
def test_an_option_that_is_none_is_refused_at_once(given, said, tmp_path, capsys):
    with pytest.raises(ConfigError, match=said):
        EngineOptions(option=(given,))
    output = tmp_path / "out"
    assert main(["track", "scene:?frames=2", "--option", given, "--output", str(output)]) == 2
    assert given.partition("=")[0] in capsys.readouterr().err and not output.exists()


@pytest.mark.parametrize("command", ["eval", "track"])
def test_an_adapter_that_is_not_there_is_named(command, tmp_path, capsys):
    options = ["--checkpoint", "sam2s_pico", "--device", "cpu", "--output", str(tmp_path / "out")]
    missing = tmp_path / "no.safetensors"
    assert main([command, "scene:?frames=2&width=96&height=64", *options, "--adapter", str(missing)]) == 2
    said = "".join(capsys.readouterr().err.split())
    assert f"'{missing}'doesnotexist" in said
