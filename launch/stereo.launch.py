"""Start two trackers in one process, with the weights loaded once, and the node that pairs their masks.

    ros2 launch sam2s_ros stereo.launch.py left_image:=/stereo/left/image_raw right_image:=/stereo/right/image_raw

The nodes are /left/tracker, /right/tracker and /pair, which publishes /pair/masks; with namespace:=rig, or in a group
with one, /rig/left/tracker and so on, and topics that do not begin with a slash are in it, too. An argument that is
left empty keeps the value of the parameters file, in which `/**:` is for both trackers and `/left/tracker:`
(`/rig/left/tracker:`) for one of them.
Without a checkpoint the package's default is used: sam2s_tiny on a GPU, sam2s_nano on a CPU.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from sam2s_model.config import POLICY_NAMES
from sam2s_ros.processes.dds import environment
from sam2s_ros.processes.launching import parameter_files

BOOL = ["true", "false"]
LEVELS = ["debug", "info", "warn", "error", "fatal"]
KEEP_OR_BOOL = ["", *BOOL]
# Parameters of both trackers that have an argument of the same name. Empty: the parameters file decides.
OVERRIDES = {
    "checkpoint": dict(
        description="path of the checkpoint, or a name of `sam2s checkpoint list`; empty: the package's default"
    ),
    "device": dict(description="auto, cpu, cuda or cuda:N"),
    "allow_cpu": dict(description="whether device auto may fall back to the CPU", choices=KEEP_OR_BOOL),
    "policy": dict(description="which memory is used", choices=["", "auto", *POLICY_NAMES]),
    "autostart": dict(description="whether the nodes configure and activate themselves", choices=KEEP_OR_BOOL),
}


def generate_launch_description():
    return LaunchDescription(
        [
            DeclareLaunchArgument("left_image", default_value="left/image", description="topic of the left images"),
            DeclareLaunchArgument("right_image", default_value="right/image", description="topic of the right images"),
            DeclareLaunchArgument(
                "namespace", default_value="", description="namespace of the rig: its nodes and their topics"
            ),
            DeclareLaunchArgument(
                "tolerance",
                default_value="",
                description="greatest difference of the stamps of a pair, s; empty: the node's default",
            ),
            DeclareLaunchArgument(
                "params_file",
                default_value="",
                description="YAML file with the trackers' parameters; empty: tracker.yaml, with device:=cpu also "
                "tracker_cpu.yaml",
            ),
            *(DeclareLaunchArgument(name, default_value="", **facts) for name, facts in OVERRIDES.items()),
            DeclareLaunchArgument(
                "use_sim_time", default_value="false", choices=BOOL, description="take the time from /clock"
            ),
            DeclareLaunchArgument("log_level", default_value="info", choices=LEVELS, description="least level logged"),
            OpaqueFunction(function=_environment),
            OpaqueFunction(function=_nodes),
        ]
    )


def _environment(context):
    """Set the DDS profile and the allocator's variables, each unless the user has set it."""
    present = context.environment
    return [SetEnvironmentVariable(k, v) for k, v in environment(present).items() if present.get(k) != v]


def _nodes(context):
    def value(name):
        return LaunchConfiguration(name).perform(context)

    given = {name: value(name) for name in OVERRIDES if value(name)}
    # A type for texts: otherwise one that reads like a number would become one.
    overrides = {
        name: text == "true" if text in BOOL else ParameterValue(text, value_type=str) for name, text in given.items()
    }
    clock = {"use_sim_time": value("use_sim_time") == "true"}
    pairing = {"tolerance": float(value("tolerance"))} if value("tolerance") else {}
    common = dict(
        package="sam2s_ros",
        namespace=value("namespace"),
        ros_arguments=["--log-level", value("log_level")],
        output="screen",
    )
    return [
        # Without a name: it would be given to both of its nodes.
        Node(
            executable="stereo_node",
            parameters=[*parameter_files(value("params_file"), value("device")), {**overrides, **clock}],
            remappings=[("left/image", value("left_image")), ("right/image", value("right_image"))],
            **common,
        ),
        Node(executable="pair_node", name="pair", parameters=[{**pairing, **clock}], **common),
    ]
