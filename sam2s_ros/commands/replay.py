"""`sam2s replay`: a recording as a camera, for those without ros2cli: the replay node with its environment."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any

import typer

from sam2s_model.recordings.stream_spec import without_password
from sam2s_model.tracker_options import typed_options
from sam2s_ros.commands.arguments import CropPart, Frames, MaskTopic, SourceSpec, Topic, line_printer
from sam2s_ros.commands.node import namespace_rules


@dataclass(frozen=True)
class ReplayOptions:
    """What the replay node is started with. image: topic; settings: NAME=VALUE of its parameters; others: `replay`"""

    source: str
    image: str = "image"
    rate: float = 0.0
    loop: bool = False
    max_frames: int = 0
    topic: str = ""
    mask_topic: str = ""
    crop: str = ""
    namespace: str = ""
    settings: Sequence[str] = ()


def replay(
    source: SourceSpec,
    image: Annotated[str, typer.Option(metavar="TOPIC", help="topic that the images go to")] = "image",
    rate: Annotated[float, typer.Option(min=0.0, max=1000.0, help="Hz; 0: the source's own")] = 0.0,
    loop: Annotated[bool, typer.Option("--loop", help="begin again at the end")] = False,
    frames: Frames = 0,
    topic: Topic = "",
    mask_topic: MaskTopic = "",
    crop: CropPart = "",
    namespace: Annotated[str, typer.Option(help="of the node and its topics")] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="any parameter of the replay node; repeatable"),
    ] = None,
) -> None:
    """Play a recording as a camera in the graph of this ROS_DOMAIN_ID. Until its end, or Ctrl-C.

    Then, from another shell: sam2s node, with the same --image.
    """
    from rich.console import Console

    from sam2s_ros.processes.dds import environment

    command = replay_command(
        ReplayOptions(source, image, rate, loop, frames, topic, mask_topic, crop, namespace, tuple(settings or ()))
    )
    prepared = environment()
    domain = prepared.get("ROS_DOMAIN_ID") or "0"
    line_printer(Console())(f"{without_password(source)} as a camera in domain {domain}, images on {image}")
    sys.stdout.flush()
    os.execve(command[0], command, prepared)  # signals and exit code are the node's own


def replay_command(options: ReplayOptions) -> list[str]:
    """Return the command line of the node, which ends with its source, and with 2 for one that it cannot open.

    Raises ConfigError for a parameter that there is not, or a wrong value.
    """
    from sam2s_ros.processes.arguments import parameter_argument
    from sam2s_ros.processes.dds import share_directory
    from sam2s_ros.replay.node import ReplayConfig

    known = {field.name: field.default for field in fields(ReplayConfig)} | {"use_sim_time": False}
    names = [field.name for field in fields(options) if field.name in known]
    given: dict[str, Any] = {name: getattr(options, name) for name in names}
    values = {"exit_at_end": True, **given, **typed_options(options.settings, known)}
    words = ["--ros-args", "--params-file", str(share_directory() / "config" / "replay.yaml")]
    for name, value in values.items():
        words += parameter_argument(name, value)
    words += ["-r", f"image:={options.image}", *namespace_rules(options.namespace)]
    return [sys.executable, "-m", "sam2s_ros.replay.node", *words]
