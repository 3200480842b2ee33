"""What the launch files share."""

from __future__ import annotations

from sam2s_ros.processes.dds import share_directory


def parameter_files(given: str, device: str) -> list[str]:
    """List the files with a tracker's parameters, of which the last one wins.

    Without a given file they are the defaults, on a CPU with more time.
    given: path, "" for none; device: as the launch argument says it, "" for what the file says
    """
    if given:
        return [given]
    names = ["tracker.yaml", *(["tracker_cpu.yaml"] if device == "cpu" else [])]
    return [str(share_directory() / "config" / name) for name in names]
