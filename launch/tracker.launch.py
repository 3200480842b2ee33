"""Start the tracker node with the environment that large images need.

    ros2 launch sam2s_ros tracker.launch.py image:=/camera/image_raw
    ros2 launch sam2s_ros tracker.launch.py device:=cpu                    # without a GPU
    ros2 launch sam2s_ros tracker.launch.py console:=true                  # and the page http://127.0.0.1:8765
    ros2 launch sam2s_ros tracker.launch.py click:=/tracker/overlay_mouse_left    # and clicks of rqt_image_view

An argument that is left empty keeps the value of the parameters file. Without a checkpoint the package's default is
used: sam2s_tiny on a GPU, sam2s_nano on a CPU.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue

from sam2s_ros.processes.launch_arguments import (
    BOOL,
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
            DeclareLaunchArgument("image", default_value="image", description="topic of the camera's images"),
            DeclareLaunchArgument(
                "click", default_value="", description="topic of a viewer's clicks, such as /tracker/overlay_mouse_left"
            ),
            DeclareLaunchArgument("namespace", default_value="", description="namespace of the node and its topics"),
            *tracker_arguments(),
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
            OpaqueFunction(function=set_environment),
            OpaqueFunction(function=_nodes),
        ]
    )


def _nodes(context):
    """Read all arguments before anything starts: a launch that fails leaves what it has started running."""
    return [*_tracker(context), *_console(context)]


def _tracker(context):
    click = value_of(context, "click")
    return [
        LifecycleNode(
            package="sam2s_ros",
            executable="tracker_node",
            name="tracker",
            namespace=value_of(context, "namespace"),
            parameters=tracker_parameters(context),
            remappings=[("image", value_of(context, "image")), *([("~/click", click)] if click else [])],
            ros_arguments=["--log-level", value_of(context, "log_level")],
            output="screen",
            respawn=value_of(context, "respawn") == "true",
            respawn_delay=1.0,
        )
    ]


def _console(context):
    """Start the page, in a process of its own. It finds the tracker by itself."""
    if value_of(context, "console") != "true":
        return []
    return [
        Node(
            package="sam2s_ros",
            executable="console_node",
            name="console",
            namespace=value_of(context, "namespace"),
            parameters=[
                {
                    "host": ParameterValue(value_of(context, "console_host"), value_type=str),
                    "port": number("console_port", value_of(context, "console_port"), int),
                },
                *common_clock(context, "tracker"),
            ],
            ros_arguments=["--log-level", value_of(context, "log_level")],
            output="screen",
        )
    ]
