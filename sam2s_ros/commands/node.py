"""`sam2s node`: the tracker node with the environment and the parameters of the launch file, without ros2cli."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from sam2s_model.errors import ConfigError
from sam2s_model.tracker_options import typed_options
from sam2s_ros.commands.arguments import line_printer
from sam2s_ros.commands.engine import CHECKPOINT_HELP

QOS = "qos_overrides."


@dataclass(frozen=True)
class NodeOptions:
    """What the node is started with; "" leaves it to the parameters file, as the launch file does.

    image, click: topics; settings: NAME=VALUE of any parameter; remap: FROM:=TO
    """

    image: str = "image"
    device: str = ""
    checkpoint: str = ""
    click: str = ""
    namespace: str = ""
    params_file: str = ""
    settings: Sequence[str] = ()
    remap: Sequence[str] = ()


def node(
    image: Annotated[str, typer.Option(metavar="TOPIC", help="topic of the camera's images")] = "image",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N; cpu also gives slow steps more time")] = "",
    checkpoint: Annotated[str, typer.Option(help=CHECKPOINT_HELP)] = "",
    console: Annotated[bool, typer.Option("--console", help="serve the page http://127.0.0.1:8765 as well")] = False,
    click: Annotated[str, typer.Option(metavar="TOPIC", help="topic of a viewer's clicks")] = "",
    namespace: Annotated[str, typer.Option(help="of the node and its topics")] = "",
    params_file: Annotated[
        str, typer.Option(help="YAML file in place of tracker.yaml, on a CPU also tracker_cpu.yaml")
    ] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="any parameter, see docs/parameters.md; repeatable"),
    ] = None,
    remap: Annotated[list[str] | None, typer.Option(metavar="FROM:=TO", help="any other topic; repeatable")] = None,
) -> None:
    """Start the tracker node in the graph of this ROS_DOMAIN_ID, with what the launch file sets. Until Ctrl-C.

    Then, from another shell: sam2s prompt, sam2s status, sam2s doctor --node.
    """
    from rich.console import Console

    from sam2s_ros.processes.dds import environment

    options = NodeOptions(
        image, device, checkpoint, click, namespace, params_file, tuple(settings or ()), tuple(remap or ())
    )
    command, prepared = node_command(options), environment()
    domain = prepared.get("ROS_DOMAIN_ID") or "0"
    said = (
        f"tracker node in domain {domain}, images from {image}; ask it from another shell: sam2s prompt, sam2s status"
    )
    line_printer(Console())(said)
    if console:
        from sam2s_ros.processes.graph import end_with_parent

        rules = namespace_rules(namespace)
        page = [sys.executable, "-m", "sam2s_ros.console.node", *(["--ros-args", *rules] if rules else [])]
        subprocess.Popen(page, env=prepared, preexec_fn=end_with_parent)  # ends with the node, which replaces us
    sys.stdout.flush()
    os.execve(command[0], command, prepared)  # signals and exit code are the node's own


def node_command(options: NodeOptions) -> list[str]:
    """Return the command line of the node. Raises ConfigError for a parameter that there is not, or a wrong value."""
    from sam2s_ros.processes.arguments import parameter_argument
    from sam2s_ros.processes.launching import parameter_files

    for rule in options.remap:
        if ":=" not in rule:
            raise ConfigError(f"--remap {rule}: expected FROM:=TO")
    words = ["--ros-args"]
    for file in parameter_files(options.params_file, options.device):
        words += ["--params-file", file]
    for name, value in _parameters(options).items():
        words += parameter_argument(name, value)
    rules = [f"image:={options.image}", *([f"~/click:={options.click}"] if options.click else []), *options.remap]
    words += [word for rule in rules for word in ("-r", rule)]
    return [sys.executable, "-m", "sam2s_ros.tracker.node", *words, *namespace_rules(options.namespace)]


def namespace_rules(namespace: str) -> list[str]:
    """Return the arguments of ROS that put a node into a namespace."""
    return ["-r", f"__ns:=/{namespace.strip('/')}"] if namespace.strip("/") else []


def _parameters(options: NodeOptions) -> dict[str, Any]:
    from sam2s_ros.interfaces.parameters import TRACKER

    known: Mapping[str, Any] = {name: field.default for name, field in TRACKER.specs().items()}
    known = {**known, "use_sim_time": False}
    overrides = [text for text in options.settings if text.startswith(QOS)]
    given = {name: getattr(options, name) for name in ("device", "checkpoint") if getattr(options, name)}
    given |= typed_options([text for text in options.settings if text not in overrides], known)
    return given | dict(_override(text) for text in overrides)


def _override(text: str) -> tuple[str, Any]:
    import yaml

    name, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text}: expected NAME=VALUE")
    try:
        found = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):  # the latter for a date that is none
        found = None
    if not isinstance(found, (bool, int, float, str)):
        raise ConfigError(f"--set {text}: expected a number, true or false, or a text in place of {value!r}")
    return name, found
