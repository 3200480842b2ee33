"""What stands after --ros-args on the command line of a node, and what of it is for which node."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sam2s_model.errors import ConfigError
from sam2s_model.paths import readable

FLAGS = {
    "-p": "--param", "--param": "--param", "-r": "--remap", "--remap": "--remap", "--params-file": "--params-file",
    "-e": "--enclave", "--enclave": "--enclave", "--log-level": "--log-level", "--log-config-file": "--log-config-file",
    "--log-file-name": "--log-file-name",
}  # fmt: skip
UNPRINTED = "[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]"  # of YAML, beside those that JSON escapes
NO_UTF8 = "[\ud800-\udfff]"  # how Python holds bytes that are none
RENAMES = {"__node", "__name", "__ns"}  # on the left of a remapping: the node itself


def split_arguments(args: Sequence[str]) -> tuple[list[str], list[tuple[str, str | None]]]:
    """Split arguments into (those of the program, those of ROS).

    args: as sys.argv
    Those of ROS are (flag, value): a flag that is known has its long name, and one without a value has None.
    """
    own: list[str] = []
    ros: list[tuple[str, str | None]] = []
    inside, rest = False, iter(args)
    for arg in rest:
        if arg in ("--ros-args", "--"):
            inside = arg == "--ros-args"
        elif not inside:
            own.append(arg)
        elif arg in FLAGS:
            ros.append((FLAGS[arg], next(rest, None)))
        else:
            ros.append((arg, None))
    return own, ros


def parameter_text(value: Any) -> str:
    """Write a parameter's value as ROS reads it, on a command line and in a file.

    It is JSON, of which "7" stays a text, and which YAML is but for two things: characters beyond the BMP, whose pairs
    of escapes it refuses, are left as they are; those that it does not print are escaped.
    """
    return re.sub(UNPRINTED, lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def parameter_argument(name: str, value: Any) -> list[str]:
    """Return the arguments of ROS that set a parameter."""
    return ["-p", f"{name}:={parameter_text(value)}"]


def parameters_file(parameters: Mapping[str, Any]) -> str:
    """Return the text of a file that gives a node its parameters, whatever the node is called.

    YAML's own writers leave texts bare that rcl reads as something else: 08, 1e5, nan, y.
    Raises ConfigError for a text of bytes that are no UTF-8.
    """
    lines = ["/**:", "  ros__parameters:"]
    for name, value in parameters.items():
        text = parameter_text(value)
        if re.search(NO_UTF8, text):
            raise ConfigError(f"{name} {readable(str(value))} is no UTF-8, and ROS takes no other: rename it")
        lines.append(f"    {name}: {text}")
    return "\n".join(lines) + "\n"


def join_arguments(ros: Sequence[tuple[str, str | None]]) -> list[str]:
    """Join the arguments of ROS again, the reverse of `split_arguments`."""
    return ["--ros-args", *(part for pair in ros for part in pair if part is not None)]


@dataclass(frozen=True)
class Remapping:
    """node: name that the rule is for, "" for every node; source, target: names as they are given."""

    node: str
    source: str
    target: str

    @classmethod
    def parse(cls, rule: str) -> Remapping | None:
        """Read a rule; None for what is no rule."""
        found = re.fullmatch(r"(?:(\w+):(?!=|//))?(.+?):=(.+)", rule)
        return cls(found[1] or "", found[2], found[3]) if found else None

    def __str__(self) -> str:
        return f"{self.node}{':' if self.node else ''}{self.source}:={self.target}"


def remappings(args: Sequence[str]) -> Iterator[Remapping]:
    """Yield the rules on a command line, in their order."""
    for flag, value in split_arguments(args)[1]:
        rule = Remapping.parse(value or "") if flag == "--remap" else None
        if rule is not None:
            yield rule


def parameter_nodes(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (name of a node, rule) for each parameter that is given to a node by its name: -p node:name:=value."""
    for flag, value in split_arguments(args)[1]:
        found = re.match(r"([^:=]+):(?!=)[^:=]+:=", value or "") if flag == "--param" else None
        if found:
            yield found[1], value or ""


def parameter_files(args: Sequence[str]) -> list[Path]:
    return [Path(value) for flag, value in split_arguments(args)[1] if flag == "--params-file" and value]


class RclLoader(yaml.SafeLoader):
    """Reads YAML as rcl does, to which a date is a text, also one that the calendar does not have."""

    yaml_implicit_resolvers = {
        first: [(tag, form) for tag, form in known if tag != "tag:yaml.org,2002:timestamp"]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


RclLoader.add_constructor("tag:yaml.org,2002:timestamp", yaml.SafeLoader.construct_yaml_str)


def sections(file: Path) -> dict[str, dict[str, Any]]:
    """Return the parameters in a file by the nodes that it has sections for: their names there, joined by slashes.

    Raises OSError or yaml.YAMLError for what is no such file; rcl has refused it by then.
    """
    found: dict[str, dict[str, Any]] = {}

    def walk(table: object, path: str) -> None:
        for key, value in table.items() if isinstance(table, dict) else ():
            if key == "ros__parameters":
                found[path] = value if isinstance(value, dict) else {}
            else:
                walk(value, f"{path.rstrip('/')}/{str(key).strip('/')}" if path else str(key))

    try:
        walk(yaml.load(file.read_bytes(), RclLoader), "")  # bytes: it may be UTF-16
    except (ValueError, LookupError, RecursionError) as error:  # of a tag whose value is none, of ten thousand brackets
        raise yaml.YAMLError(f"{file} cannot be read: {error}") from error
    return found


def is_for(section: str, node: str) -> bool:
    """Tell whether a section of a parameters file is for a node.

    section: its name, in which * is one part of a node's name and ** any number of parts; node: full name, "/ns/node"
    """
    parts = [part for part in section.split("/") if part]
    pattern = "".join(
        r"(?:/[^/]+)*" if part == "**" else "/" + ("[^/]+" if part == "*" else re.escape(part)) for part in parts
    )
    return re.fullmatch(pattern, node) is not None
