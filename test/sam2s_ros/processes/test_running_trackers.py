"""How long a command waits for the trackers that it is to look at."""

from __future__ import annotations

import threading
import time

import pytest

from sam2s_model.errors import ConfigError
from sam2s_ros.msg import TrackerStatus
from sam2s_ros.processes import running_trackers
from sam2s_ros.processes.running_trackers import RunningTrackers

FIRST, SECOND = "/waited/first", "/waited/second"


def test_a_tracker_that_is_named_is_waited_for_also_when_there_is_another(monkeypatch):
    monkeypatch.setattr(running_trackers, "SETTLE", 0.05)
    with RunningTrackers("waiting") as running:

        def appear(name: str) -> None:
            running.node.create_publisher(TrackerStatus, f"{name}/status", 1)

        appear(FIRST)
        assert FIRST in running.names(5.0, [FIRST])
        with pytest.raises(ConfigError, match=f"there is no tracker {SECOND}"):
            running.the_one(SECOND, 0.1)
        later, began = threading.Timer(0.3, appear, [SECOND]), time.monotonic()
        later.start()
        assert running.the_one(SECOND.removeprefix("/"), 20.0) == SECOND
        assert time.monotonic() - began < 15.0, "it waits no longer than it must"
        later.join()
