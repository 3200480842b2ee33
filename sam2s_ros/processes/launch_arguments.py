"""What the launch files of trackers share. Imports `launch`, which comes with a ROS distribution only."""

from __future__ import annotations

from typing import Any

from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.parameter_descriptions import ParameterValue

from sam2s_model.tracking.policies import POLICY_HELP
from sam2s_ros.processes.dds import environment
from sam2s_ros.processes.launching import clock_in_files, clock_parameters, full_name, parameter_files

BOOL = ["true", "false"]
LEVELS = ["debug", "info", "warn", "error", "fatal"]
KEEP_OR_BOOL = ["", *BOOL]
# Parameters of a tracker that have an argument of the same name. Empty: the parameters file decides.
OVERRIDES: dict[str, dict[str, Any]] = {
    "checkpoint": dict(
        description="path of the checkpoint, or a name of `sam2s checkpoint list`; empty: the package's default"
    ),
    "device": dict(description="auto, cpu, cuda or cuda:N"),
    "allow_cpu": dict(description="whether device auto may fall back to the CPU", choices=KEEP_OR_BOOL),
    "policy": dict(description=POLICY_HELP),
    "autostart": dict(description="whether a tracker configures and activates itself", choices=KEEP_OR_BOOL),
}


def tracker_arguments() -> list[DeclareLaunchArgument]:
    """Declare the arguments that every launch of trackers has."""
    return [
        DeclareLaunchArgument(
            "params_file",
            default_value="",
            description="YAML file with a tracker's parameters; empty: tracker.yaml, on a CPU also tracker_cpu.yaml",
        ),
        *(DeclareLaunchArgument(name, default_value="", **facts) for name, facts in OVERRIDES.items()),
        DeclareLaunchArgument(
            "use_sim_time", default_value="", choices=KEEP_OR_BOOL, description="take the time from /clock"
        ),
        DeclareLaunchArgument("log_level", default_value="info", choices=LEVELS, description="least level logged"),
    ]


def set_environment(context) -> list[SetEnvironmentVariable]:
    """Set the DDS profile and the allocator's variables, each unless the user has set it."""
    present = context.environment
    return [SetEnvironmentVariable(k, v) for k, v in environment(present).items() if present.get(k) != v]


def value_of(context, name: str) -> str:
    """Return an argument as it was given."""
    return LaunchConfiguration(name).perform(context)


def number(name: str, text: str, kind: type[int] | type[float]) -> int | float:
    """Read an argument that is a number. Raises ValueError, which a launch shows as its last line, when it is none."""
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{name} is {text!r}: expected {'a whole number' if kind is int else 'a number'}") from None


def clock(context) -> list[dict[str, bool]]:
    """Return the parameter use_sim_time as one more source of parameters; none where the argument is empty."""
    return clock_parameters(value_of(context, "use_sim_time"))


def node_name(context, name: str) -> str:
    """Return the full name of a node in the launch's namespace, also before the namespace is declared."""
    spaces = [context.launch_configurations.get(key, "") for key in ("ros_namespace", "namespace")]
    return full_name(spaces, name)


def common_clock(context, *trackers: str) -> list[dict[str, bool]]:
    """Return use_sim_time for a node beside trackers, so that all go by one clock: the argument, or their files'.

    trackers: their names in the launch's namespace
    """
    names = [node_name(context, name) for name in trackers]
    files = parameter_files(value_of(context, "params_file"), value_of(context, "device"))
    return clock(context) or clock_in_files(files, names)


def tracker_parameters(context) -> list[Any]:
    """Return the parameters of a tracker: files, and on top the arguments that were given."""
    given = {name: value_of(context, name) for name in OVERRIDES if value_of(context, name)}
    # A type for texts: otherwise one that reads like a number would become one.
    overrides = {
        name: text == "true" if text in BOOL else ParameterValue(text, value_type=str) for name, text in given.items()
    }
    files = parameter_files(value_of(context, "params_file"), value_of(context, "device"))
    return [*files, *([overrides] if overrides else []), *clock(context)]
