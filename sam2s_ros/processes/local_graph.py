"""A graph of this package's nodes that nobody else sees, of which this process is part."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sam2s_ros.processes.dds import free_domain, local_environment
from sam2s_ros.processes.graph import Graph

LOAD_TIMEOUT = 180.0  # s for the tracker to load a checkpoint and warm up
GRAPH_TIMEOUT = 30.0  # s for the processes to find one another
STEP_TIMEOUT = 60.0  # s that one frame may take; a slow CPU is not an error
DRAIN_TIMEOUT = 90.0  # s after the last frame
QUIET = 1.0  # s in which nothing changes any more: what is on its way has arrived
SETTLE = 0.5  # s after the ends of a topic have found one another, until both know it

# Parameters of a tracker that is measured: masks of a slow one are counted, not dropped, and it is waited for.
PATIENT: dict[str, Any] = dict(
    step_timeout=STEP_TIMEOUT, service_timeout=STEP_TIMEOUT, hang_exit=STEP_TIMEOUT, max_output_age=0.0
)


@contextmanager
def local_graph(folder: Path) -> Iterator[Graph]:
    """Open a graph in a domain of its own, and end it. Import rclpy only inside: it reads the environment set here.

    folder: for the log and the parameters of each process
    """
    environment = local_environment(free_domain())
    os.environ.update(environment)
    with Graph(folder, environment) as graph:
        yield graph
