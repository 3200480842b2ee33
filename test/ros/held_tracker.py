"""tracker_node whose steps begin, and then wait for as long as the file $HOLD exists: a hang that a test can end."""

from __future__ import annotations

import os
import sys
import time

from sam2s_model.tracker import Tracker
from sam2s_ros import tracker_node

step = Tracker.step


def held_step(tracker, stamp, image):
    while os.path.exists(os.environ["HOLD"]):
        time.sleep(0.005)
    return step(tracker, stamp, image)


Tracker.step = held_step

if __name__ == "__main__":
    sys.exit(tracker_node.main())
