"""How long a node that follows a graph waits for the processes of its graph."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

WAITS = """
import time
from pathlib import Path
from sam2s_ros.processes.graph import Graph
from sam2s_ros.processes.graph_client import GraphClient
client = GraphClient(Graph(Path({folder!r}), {{}}))
end = time.monotonic() + {comes}
print("waits", flush=True)  # it may be stopped at once
client._wait(lambda: time.monotonic() > end, 1.5, "what comes")
print("came")
"""


@pytest.mark.parametrize("stopped, comes, came", [(3.0, 3.5, True), (0.0, 3.5, False)])
def test_p37_a_wait_that_is_stopped_and_continued_is_not_over(stopped, comes, came, tmp_path):
    """Longer than it would wait. What does not come while it runs is a time-out as ever."""
    process = subprocess.Popen(
        [sys.executable, "-c", WAITS.format(comes=comes, folder=str(tmp_path))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "waits\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(stopped)
    process.send_signal(signal.SIGCONT)
    out, error = process.communicate(timeout=30)
    assert (out == "came\n", "TimeoutError: waited 1.5 s for what comes" in error) == (came, not came), error
