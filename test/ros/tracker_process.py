"""A tracker process in a real graph, and what tests ask of it."""

from __future__ import annotations

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState as GetLifecycleState
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from sam2s_ros.interfaces import image_codec, messages
from sam2s_ros.msg import Prompt, TrackedMasks, TrackerStatus
from sam2s_ros.srv import AddPrompts, GetState, RemoveObjects

DROPS = ("dropped_overload", "dropped_stamp", "dropped_image", "dropped_disabled", "dropped_error", "dropped_late")
BOX = Prompt(box=[10.0, 12.0, 34.0, 36.0])


class TrackerProcess:
    """A tracker process and everything it publishes."""

    def __init__(self, graph, process):
        self.graph, self.process = graph, process
        self.masks = graph.collect(TrackedMasks, "tracker/masks")
        self.label_images = graph.collect(Image, "tracker/label_image")
        self.semantic_images = graph.collect(Image, "tracker/semantic_image")
        self.statuses = graph.collect(TrackerStatus, "tracker/status")
        self.diagnostics = graph.collect(DiagnosticArray, "/diagnostics")
        graph.wait_until(
            lambda: self.statuses and self.statuses[-1].state == TrackerStatus.STATE_WAITING or not process.running(),
            60,
            lambda: f"the node to be active:\n{process.output}",
        )
        assert process.running(), process.output

    def masks_of(self, stamp):
        return self.graph.wait_until(
            lambda: self.masks.of(stamp), 20, lambda: f"masks of {stamp}:\n{self.process.output}\n{self.status()}"
        )

    def status(self):
        return self.graph.call(GetState, "tracker/get_tracker_state").status

    def prompt(self, *prompts, stamp=0):
        return self.graph.call(
            AddPrompts, "tracker/add_prompts", AddPrompts.Request(stamp=messages.to_time(stamp), prompts=prompts)
        )

    def remove(self, *ids):
        return self.graph.call(RemoveObjects, "tracker/remove_objects", RemoveObjects.Request(object_ids=ids))

    def reset(self):
        return self.graph.call(Trigger, "tracker/reset")

    def settled(self):
        """The status once no image is on its way, with its counters checked."""

        def none_waits():
            status = self.status()
            return status if status.waiting == 0 else None

        status = self.graph.wait_until(none_waits, 20, lambda: "the mailbox to be empty")
        assert status.received == status.published + sum(getattr(status, name) for name in DROPS)
        return status


def lifecycle(graph, name="tracker"):
    return graph.call(GetLifecycleState, f"{name}/get_state", GetLifecycleState.Request()).current_state.id


def transition(graph, number):
    return graph.call(
        ChangeState, "tracker/change_state", ChangeState.Request(transition=Transition(id=number))
    ).success


def mask_prompt(height=48, width=64, **kwargs):
    mask = np.zeros((height, width), np.uint8)
    mask[12:36, 10:34] = 255
    return Prompt(mask=image_codec.to_message(mask, Header(), "mono8"), **kwargs)
