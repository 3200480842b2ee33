"""What the launch files share."""

from __future__ import annotations

from sam2s_model.errors import ConfigError
from sam2s_model.paths import expanded
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


def clock_parameters(use_sim_time: str) -> list[dict[str, bool]]:
    """Return the parameter use_sim_time as one more source of parameters; none for "": what the file says holds."""
    return [{"use_sim_time": use_sim_time == "true"}] if use_sim_time else []
