"""Start the replay node as a camera, and the tracker on it.

    ros2 launch sam2s_ros replay.launch.py source:=/path/to/video.mp4

All arguments of tracker.launch.py can be given too. An argument that is left empty keeps the value of the parameters
file. The launch ends when the replay node ends, for instance because its source cannot be read.
"""

from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    SetLaunchConfiguration,
    Shutdown,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from sam2s_ros.processes.dds import share_directory
from sam2s_ros.processes.launch_arguments import clock, common_clock, node_name, number, value_of
from sam2s_ros.processes.launching import existing_file, parameter_in_files

KEEP_OR_BOOL = ["", "true", "false"]
# Parameters of the replay node that have an argument of the same name, with types. Empty: the parameters file decides.
OVERRIDES = {
    "source": (str, dict(description="video, folder of images or rosbag2, /dev/videoN, a URL, or scene:?width=...")),
    "topic": (str, dict(description="image topic of a bag")),
    "mask_topic": (str, dict(description="topic of a bag with mono8 label images of the images' stamps")),
    "crop": (str, dict(description="part of each picture: left, right or x,y,w,h")),
    "rate": (float, dict(description="Hz; 0 is the source's own")),
    "loop": (bool, dict(description="begin again at the end", choices=KEEP_OR_BOOL)),
    "start_paused": (bool, dict(description="wait for ~/step or ~/set_paused", choices=KEEP_OR_BOOL)),
    "max_frames": (int, dict(description="frames published in all; 0 is no limit")),
    "wait_for_subscribers": (int, dict(description="subscribers of the images to wait for")),
    "exit_at_end": (bool, dict(description="end after the last frame", choices=KEEP_OR_BOOL)),
    "stamps": (str, dict(description="now: the node's clock; source: the source's", choices=["", "now", "source"])),
    "frame_id": (str, dict(description="frame of the images")),
    "publish_clock": (bool, dict(description="publish /clock, which the tracker then follows", choices=KEEP_OR_BOOL)),
}


def generate_launch_description():
    share = share_directory()
    tracker = PythonLaunchDescriptionSource(str(share / "launch" / "tracker.launch.py"))
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "replay_params_file",
                default_value=str(share / "config" / "replay.yaml"),
                description="YAML file with the replay node's parameters",
            ),
            *(DeclareLaunchArgument(name, default_value="", **facts) for name, (_, facts) in OVERRIDES.items()),
            OpaqueFunction(function=_prepare),
            # Before the camera: it sets the environment and declares image, namespace and log_level for both.
            IncludeLaunchDescription(tracker),
            OpaqueFunction(function=_replay),
        ]
    )


def _prepare(context):
    """Refuse wrong arguments while nothing runs yet, and have the tracker follow the camera's clock."""
    in_file = parameter_in_files([_parameters_file(context)], node_name(context, "replay"), "publish_clock")
    if _overrides(context).get("publish_clock", in_file):
        return [SetLaunchConfiguration("use_sim_time", "true")]
    return []


def _replay(context):
    def value(name):
        return LaunchConfiguration(name).perform(context)

    # The camera's stamps and the tracker's ages go by one clock. A camera that publishes it follows none, by itself.
    file = _parameters_file(context)
    own = parameter_in_files([file], node_name(context, "replay"), "use_sim_time")
    follows = common_clock(context, "tracker") if own is None else clock(context)
    return [
        Node(
            package="sam2s_ros",
            executable="replay_node",
            name="replay",
            namespace=value("namespace"),
            parameters=[file, _overrides(context), *follows],
            remappings=[("image", value("image"))],
            ros_arguments=["--log-level", value("log_level")],
            output="screen",
            on_exit=OpaqueFunction(function=_end),
        )
    ]


def _end(context):
    """End the launch with the camera; not a second time, which launch_ros reports as an error."""
    return [] if context.is_shutdown else [Shutdown(reason="the replay node ended")]


def _parameters_file(context):
    return existing_file("replay_params_file", value_of(context, "replay_params_file"))


def _overrides(context):
    given = {name: LaunchConfiguration(name).perform(context) for name in OVERRIDES}
    return {name: _typed(name, text, OVERRIDES[name][0]) for name, text in given.items() if text}


def _typed(name, text, kind):
    if kind is bool:
        return text == "true"
    if kind is str:
        return ParameterValue(text, value_type=str)  # otherwise a text that reads like a number would become one
    return number(name, text, kind)
