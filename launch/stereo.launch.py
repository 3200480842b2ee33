"""Start two trackers in one process, with the weights loaded once, and the node that pairs their masks.

    ros2 launch sam2s_ros stereo.launch.py left_image:=/stereo/left/image_raw right_image:=/stereo/right/image_raw

The nodes are /left/tracker, /right/tracker and /pair, which publishes /pair/masks. With namespace:=rig, or in a group
that has a namespace, they are /rig/left/tracker and so on, and so are topics that do not begin with a slash.

An argument that is left empty keeps the value of the parameters file, in which `/**:` is for both trackers and
`/left/tracker:` (`/rig/left/tracker:`) for one of them. Without a checkpoint the package's default is used: sam2s_tiny
on a GPU, sam2s_nano on a CPU.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch_ros.actions import Node

from sam2s_ros.processes.launch_arguments import (
    common_clock,
    number,
    set_environment,
    tracker_arguments,
    tracker_parameters,
    value_of,
)


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
            *tracker_arguments(),
            OpaqueFunction(function=set_environment),
            OpaqueFunction(function=_nodes),
        ]
    )


def _nodes(context):
    tolerance = value_of(context, "tolerance")
    pairing = [{"tolerance": number("tolerance", tolerance, float)}] if tolerance else []
    common = dict(
        package="sam2s_ros",
        namespace=value_of(context, "namespace"),
        ros_arguments=["--log-level", value_of(context, "log_level")],
        output="screen",
    )
    follows = common_clock(context, "left/tracker", "right/tracker")
    images = [(f"{side}/image", value_of(context, f"{side}_image")) for side in ("left", "right")]
    return [
        # Without a name: it would be given to both of its nodes.
        Node(executable="stereo_node", parameters=tracker_parameters(context), remappings=images, **common),
        Node(executable="pair_node", name="pair", parameters=[*pairing, *follows], **common),
    ]
