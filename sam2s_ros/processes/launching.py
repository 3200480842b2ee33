"""What the launch files share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from sam2s_model.errors import ConfigError
from sam2s_model.paths import expanded
from sam2s_ros.processes.arguments import is_for, sections
from sam2s_ros.processes.dds import share_directory


def existing_file(name: str, given: str) -> str:
    """Expand ~ in the path of a parameters file. name: of the argument that it was given with

    Raises ConfigError where there is no such file: launch_ros leaves out one that it cannot find, with a warning.
    """
    path = expanded(given)
    if not path.is_file():
        raise ConfigError(f"{name} {given} {'is no file' if path.exists() else 'does not exist'}: give a YAML file")
    return str(path)


def parameter_files(given: str, device: str) -> list[str]:
    """List the files with a tracker's parameters, of which the last one wins.

    Without a given file they are the defaults, on a CPU with more time.
    given: path, "" for none; device: as the launch argument says it, "" for what the file says
    Raises ConfigError where the given file does not exist.
    """
    if given:
        return [existing_file("params_file", given)]
    names = ["tracker.yaml", *(["tracker_cpu.yaml"] if device == "cpu" else [])]
    return [str(share_directory() / "config" / name) for name in names]


def full_name(namespaces: Sequence[str], name: str) -> str:
    """Return a node's full name. namespaces: from the outermost, "" for none; one with a slash in front begins anew"""
    whole = ""
    for space in namespaces:
        whole = space if space.startswith("/") else f"{whole}/{space}"
    return "/".join(["", *filter(None, f"{whole}/{name}".split("/"))])


def parameter_in_files(files: Sequence[str], node: str, name: str) -> Any:
    """Return the value that files give to a parameter of a node; None where they give none.

    files: in the order in which the node reads them; node: its full name
    A file that cannot be read gives none: the node that is given it says why.
    """
    found: dict[str, dict[str, Any]] = {}
    for file in files:
        try:
            own = sections(Path(file))
        except (OSError, yaml.YAMLError):
            continue
        for section, parameters in own.items():  # as rcl does, each keeps the place where it first stands
            found.setdefault(section, {}).update(parameters)
    given = [parameters for section, parameters in found.items() if is_for(section, node) and name in parameters]
    return given[-1][name] if given else None  # the last one, also where one before it names the node


def clock_parameters(use_sim_time: str) -> list[dict[str, bool]]:
    """Return the parameter use_sim_time as one more source of parameters; none for "": what the file says holds."""
    return [{"use_sim_time": use_sim_time == "true"}] if use_sim_time else []


def clock_in_files(files: Sequence[str], nodes: Sequence[str]) -> list[dict[str, bool]]:
    """Return use_sim_time as files say it for the first of some nodes that they say it for, as `clock_parameters`.

    nodes: full names. For a node beside them that is not given the files, whose other parameters it has not.
    """
    said = [parameter_in_files(files, node, "use_sim_time") for node in nodes]
    return [{"use_sim_time": value} for value in said if isinstance(value, bool)][:1]
