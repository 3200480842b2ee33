"""Start the tracker node with the environment that large images need.

    ros2 launch sam2s_ros tracker.launch.py image:=/camera/image_raw
    ros2 launch sam2s_ros tracker.launch.py device:=cpu                    # without a GPU
    ros2 launch sam2s_ros tracker.launch.py console:=true                  # and the page http://127.0.0.1:8765

An argument that is left empty keeps the value of the parameters file. Without a checkpoint the package's default is
used: sam2s_tiny on a GPU, sam2s_nano on a CPU.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue

from sam2s_model.config import POLICY_NAMES
from sam2s_ros.processes.dds import environment
from sam2s_ros.processes.launching import parameter_files

BOOL = ["true", "false"]
LEVELS = ["debug", "info", "warn", "error", "fatal"]
KEEP_OR_BOOL = ["", *BOOL]
# Parameters of the node that have an argument of the same name. Empty: the parameters file decides.
OVERRIDES = {
    "checkpoint": dict(
        description="path of the checkpoint, or a name of `sam2s checkpoint list`; empty: the package's default"
    ),
    "device": dict(description="auto, cpu, cuda or cuda:N"),
    "allow_cpu": dict(description="whether device auto may fall back to the CPU", choices=KEEP_OR_BOOL),
    "policy": dict(description="which memory is used", choices=["", "auto", *POLICY_NAMES]),
    "autostart": dict(description="whether the node configures and activates itself", choices=KEEP_OR_BOOL),
}


def generate_launch_description():
    return LaunchDescription(
        [
            DeclareLaunchArgument("image", default_value="image", description="topic of the camera's images"),
            DeclareLaunchArgument(
                "params_file",
                default_value="",
                description="YAML file with the node's parameters; empty: tracker.yaml, with device:=cpu also "
                "tracker_cpu.yaml",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="namespace of the node and its topics"),
            *(DeclareLaunchArgument(name, default_value="", **facts) for name, facts in OVERRIDES.items()),
            DeclareLaunchArgument(
                "use_sim_time", default_value="false", choices=BOOL, description="take the time from /clock"
            ),
            DeclareLaunchArgument("log_level", default_value="info", choices=LEVELS, description="least level logged"),
            DeclareLaunchArgument(
                "respawn", default_value="false", choices=BOOL, description="start the node again when it ends"
            ),
            DeclareLaunchArgument(
                "console", default_value="false", choices=BOOL, description="start the page to see, click and correct"
            ),
            DeclareLaunchArgument(
                "console_host",
                default_value="127.0.0.1",
                description="address of the page; another one asks for a token",
            ),
            DeclareLaunchArgument("console_port", default_value="8765", description="port of the page"),
            OpaqueFunction(function=_environment),
            OpaqueFunction(function=_tracker),
            OpaqueFunction(function=_console),
        ]
    )


def _environment(context):
    """Set the DDS profile and the allocator's variables, each unless the user has set it."""
    present = context.environment
    return [SetEnvironmentVariable(k, v) for k, v in environment(present).items() if present.get(k) != v]


def _tracker(context):
    def value(name):
        return LaunchConfiguration(name).perform(context)

    given = {name: value(name) for name in OVERRIDES if value(name)}
    # A type for texts: otherwise one that reads like a number would become one.
    overrides = {
        name: text == "true" if text in BOOL else ParameterValue(text, value_type=str) for name, text in given.items()
    }
    return [
        LifecycleNode(
            package="sam2s_ros",
            executable="tracker_node",
            name="tracker",
            namespace=value("namespace"),
            parameters=[
                *parameter_files(value("params_file"), value("device")),
                {**overrides, "use_sim_time": value("use_sim_time") == "true"},
            ],
            remappings=[("image", value("image"))],
            ros_arguments=["--log-level", value("log_level")],
            output="screen",
            respawn=value("respawn") == "true",
            respawn_delay=1.0,
        )
    ]


def _console(context):
    """The page, in a process of its own. It finds the tracker by itself."""

    def value(name):
        return LaunchConfiguration(name).perform(context)

    if value("console") != "true":
        return []
    return [
        Node(
            package="sam2s_ros",
            executable="console_node",
            name="console",
            namespace=value("namespace"),
            parameters=[
                {
                    "host": ParameterValue(value("console_host"), value_type=str),
                    "port": ParameterValue(value("console_port"), value_type=int),
                    "use_sim_time": value("use_sim_time") == "true",
                }
            ],
            ros_arguments=["--log-level", value("log_level")],
            output="screen",
        )
    ]
