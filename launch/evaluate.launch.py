"""Evaluate the tracker node on recordings that are played to it: `sam2s eval live`, which starts all that it needs.

    ros2 launch sam2s_ros evaluate.launch.py source:=/path/to/bag mask_topic:=/truth rate:="1 4"

The launch ends with the evaluation; Ctrl-C ends both, with the report of what there is. An argument that is left empty
keeps the default of `sam2s eval live`.
"""

import shlex

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch.substitutions import LaunchConfiguration

from sam2s_model.tracking.policies import POLICY_HELP
from sam2s_ros.processes.dds import share_directory

REPORT_TIMEOUT = "120"  # s that the report may take after Ctrl-C
# Options of `sam2s eval live` that have an argument of the same name. Those in SEVERAL take values with spaces between.
OPTIONS = {
    "rate": dict(description="speed, 1 is the recording's own; several: a report for each"),
    "checkpoint": dict(
        description="path of the checkpoint, or a name of `sam2s checkpoint list`; empty: the package's default"
    ),
    "output": dict(description="folder for the reports, one a rate"),
    "topic": dict(description="image topic of a bag"),
    "mask_topic": dict(description="topic of a bag with mono8 ground-truth label images"),
    "truth": dict(description="folder of masks, named by a video's frame numbers or a bag's stamps"),
    "only": dict(description="names of the recordings to take"),
    "frames": dict(description="frames of a recording at most"),
    "prompt": dict(description="what each object begins with", choices=["", "mask", "box", "clicks"]),
    "policy": dict(description=POLICY_HELP),
    "image_size": dict(description="side of the network's input, px"),
    "device": dict(description="auto, cpu, cuda or cuda:N"),
}
SEVERAL = ("rate", "only")


def generate_launch_description():
    return LaunchDescription(
        [
            DeclareLaunchArgument("source", description="data sets, videos, bags or scene:?..., with spaces between"),
            *(DeclareLaunchArgument(name, default_value="", **facts) for name, facts in OPTIONS.items()),
            DeclareLaunchArgument("arguments", default_value="", description="further ones for `sam2s eval live`"),
            OpaqueFunction(function=_evaluation),
        ]
    )


def _evaluation(context):
    def words(name):
        return shlex.split(LaunchConfiguration(name).perform(context))

    program = share_directory().parents[1] / "bin" / "sam2s"
    command = [str(program), "eval", "live", *words("source")]
    for name in OPTIONS:
        text = LaunchConfiguration(name).perform(context)
        values = words(name) if name in SEVERAL else [text] * bool(text)
        command += [part for value in values for part in (f"--{name.replace('_', '-')}", value)]
    return [
        ExecuteProcess(
            cmd=[*command, *words("arguments")], name="evaluation", output="screen", sigterm_timeout=REPORT_TIMEOUT
        )
    ]
