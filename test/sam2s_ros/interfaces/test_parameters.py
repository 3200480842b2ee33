"""Parameters, YAML file and dataclasses are one table; what is out of range is refused with the reason."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import rclpy
import yaml
from rclpy.node import Node
from rclpy.parameter import Parameter

from sam2s_model.config import TrackerConfig, check_options, option
from sam2s_model.errors import ConfigError
from sam2s_ros.interfaces.parameters import TRACKER, NodeConfig, Parameters

YAML = Path(__file__).parents[3] / "config" / "tracker.yaml"


@pytest.fixture
def node():
    context = rclpy.Context()
    rclpy.init(context=context)
    made = []

    def make(**values):
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        made.append(Node("tracker", context=context, parameter_overrides=overrides, enable_rosout=False))
        return made[-1]

    yield make
    for one in made:
        one.destroy_node()
    rclpy.shutdown(context=context)


def test_yaml_is_the_defaults_with_a_comment_each():
    table = yaml.safe_load(YAML.read_text())["/**"]["ros__parameters"]
    defaults = {name: field.default for name, field in TRACKER.specs().items()}
    assert table == defaults
    assert {k: type(v) for k, v in table.items()} == {k: type(v) for k, v in defaults.items()}
    assert list(table) == list(defaults)
    for line in YAML.read_text().splitlines():
        name = line.split(":")[0].strip()
        if name in defaults:
            assert f"  # {TRACKER.specs()[name].metadata['doc']}" in line


def test_the_values_for_a_cpu_are_parameters_and_differ_from_the_defaults():
    table = yaml.safe_load(YAML.with_name("tracker_cpu.yaml").read_text())["/**"]["ros__parameters"]
    assert set(table) == {"device", "max_output_age", "step_timeout", "service_timeout", "hang_exit"}
    config = NodeConfig(**table)
    assert config.device == "cpu" and all(
        value > getattr(NodeConfig(), name) for name, value in table.items() if name != "device"
    )
    assert {type(value) for name, value in table.items() if name != "device"} == {float}


def test_no_name_is_in_both_dataclasses():
    both = set(NodeConfig.__dataclass_fields__) & set(TrackerConfig.__dataclass_fields__)
    assert not both
    assert TRACKER.live <= set(TRACKER.specs())


def test_p30_every_parameter_has_a_description_and_every_number_a_range(node):
    made = node()
    assert TRACKER.declare(made) == (NodeConfig(), TrackerConfig())
    for name, field in TRACKER.specs().items():
        described = made.describe_parameter(name)
        assert described.description == field.metadata["doc"] != ""
        if isinstance(field.default, float):
            assert len(described.floating_point_range) == 1
        elif isinstance(field.default, int) and not isinstance(field.default, bool):
            assert len(described.integer_range) == 1


def test_given_values_are_read(node):
    config, tracking = TRACKER.declare(node(checkpoint="a.pt", input_timeout=2.0, max_objects=3, device="cuda:1"))
    assert (config.checkpoint, config.input_timeout, config.device, tracking.max_objects) == ("a.pt", 2.0, "cuda:1", 3)


@pytest.mark.parametrize(
    "given, said",
    [
        (dict(heartbeat_rate=0.0), "heartbeat_rate: expected float from 0.1 to 100.0"),
        (dict(heartbeat_rate="fast"), "heartbeat_rate: expected float"),
        (dict(image_size=-1), "image_size: expected int from 0 to 4096"),
        (dict(policy="lifo"), "policy is 'lifo': expected auto, fifo, efp"),
        (dict(device="gpu"), "device is 'gpu': expected auto, cpu, cuda or cuda:N"),
        (dict(max_objects=255), "max_objects: expected int from 1 to 254"),
        (dict(overlay_alpha=float("nan")), "overlay_alpha: expected float from 0.0 to 1.0"),
    ],
)
def test_p30_bad_values_at_start_are_refused_by_name(node, given, said):
    with pytest.raises(ConfigError) as caught:
        TRACKER.declare(node(**given))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "name, value, configured, reason",
    [
        ("step_timeout", 3.0, True, None),
        ("step_timeout", 0.0, False, "step_timeout"),
        ("step_timeout", 3, False, "type"),
        ("on_size_change", "stretch", True, "on_size_change is 'stretch': expected one of 'reset', 'refuse'"),
        ("checkpoint", "b.pt", True, "checkpoint cannot change while the node is configured: run cleanup first"),
        ("checkpoint", "b.pt", False, None),
        ("max_objects", 4, True, "max_objects cannot change"),
        ("device", "gpu", False, "device is 'gpu'"),
    ],
)
def test_p30_changes(node, name, value, configured, reason):
    made, configs = node(), []
    TRACKER.declare(made)

    def on_set(changed):
        result, read = TRACKER.check_change(made, changed, fixed=configured)
        configs.append(read)
        return result

    made.add_on_set_parameters_callback(on_set)
    [result] = made.set_parameters([Parameter(name, value=value)])
    assert result.successful is (reason is None), result.reason
    if reason is None:
        config = next(c for c in configs[-1] if hasattr(c, name))
        assert getattr(config, name) == value == made.get_parameter(name).value
    else:
        assert reason in result.reason
        assert made.get_parameter(name).value == TRACKER.specs()[name].default


@dataclass(frozen=True)
class Pump:
    flow: float = option(1.0, "flow, l/min", low=0.0, high=9.0)
    fluid: str = option("water", "what flows", choices=("water", "oil"))

    def __post_init__(self):
        check_options(self)


def test_descriptors_say_what_is_fixed_and_when(node):
    tracker, pump = node(), node()
    TRACKER.declare(tracker)
    assert Parameters((Pump,), live=frozenset({"flow"})).declare(pump) == (Pump(),)
    assert [pump.describe_parameter(name).read_only for name in ("flow", "fluid")] == [False, True]
    assert pump.describe_parameter("fluid").additional_constraints == "one of water, oil"
    for name in TRACKER.specs():
        described = tracker.describe_parameter(name)
        assert not described.read_only
        assert ("fixed while the node is configured" in described.additional_constraints) == (name not in TRACKER.live)


def test_what_is_not_live_is_read_only_when_no_state_is_named(node):
    made, table, read = node(fluid="oil"), Parameters((Pump,), live=frozenset({"flow"})), []

    def on_set(changed):
        result, configs = table.check_change(made, changed)
        read.append(configs)
        return result

    assert table.declare(made) == (Pump(fluid="oil"),)
    made.add_on_set_parameters_callback(on_set)
    [refused] = made.set_parameters([Parameter("fluid", value="water")])
    [changed] = made.set_parameters([Parameter("flow", value=2.0)])
    assert not refused.successful and "read-only" in refused.reason and changed.successful
    assert read[-1] == (Pump(flow=2.0, fluid="oil"),)
