"""`sam2s console`: the console's node with the options of the command line as its parameters."""

from __future__ import annotations

import os
from typing import Any

from sam2s_ros.processes.arguments import parameter_argument
from sam2s_ros.processes.dds import environment


def run_console(**parameters: Any) -> int:
    """Serve until a signal. Returns the exit code.

    parameters: of `ConsoleConfig`, by name; the environment gets the DDS profile for large images, where it has none
    """
    os.environ.update(environment())  # read when the node's participant is made
    from sam2s_ros.console.node import main

    rules = [part for name, value in parameters.items() for part in parameter_argument(name, value)]
    return main(["sam2s console", "--ros-args", *rules])
