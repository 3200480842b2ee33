"""Steer towards an instrument while its mask can be relied on; otherwise stand still. One object, one camera.

    python3 examples/controller.py --ros-args -p object_id:=1 -r masks:=/tracker/masks -r command:=/robot/servo

To see it: `sam2s demo --keep-going` in one shell; in another the line with `export` that the demo prints, then this,
with `-p max_age:=2.0` on a CPU, where masks are of an image longer ago. Without a ROS distribution: .venv/bin/python.
The command is sent at a fixed rate, not when masks arrive: silence must stop the robot, too.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress

import rclpy
from geometry_msgs.msg import TwistStamped
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.time import Time

from sam2s_ros.msg import TrackedMasks, TrackedObject


def target(
    masks: TrackedMasks | None, object_id: int, now: Time, max_age: float, silence: float
) -> tuple[TrackedObject | None, str]:
    """The object to steer to, or None and why the robot must stand still.

    max_age: s since the image was taken; silence: s since the masks came, of a clock that nothing stops: with
    use_sim_time and without /clock, `now` stands still, and no image grows older
    """
    if masks is None:
        return None, "no masks so far"
    age = (now - Time.from_msg(masks.header.stamp, clock_type=now.clock_type)).nanoseconds / 1e9
    if not abs(age) <= max_age:  # NaN; of the future, too: then the clocks do not agree, and no age is known
        return None, f"the newest masks are of {age:.2f} s ago: limit {max_age:g} s"
    if not silence <= max_age:
        return None, f"the newest masks came {silence:.2f} s ago: limit {max_age:g} s"
    if masks.late:
        return None, "the newest masks came too late"
    found = next((o for o in masks.objects if o.object_id == object_id), None)
    if found is None:
        return None, f"object {object_id} is not tracked"
    if found.state != TrackedObject.STATE_TRACKED:  # OCCLUDED, LOST, SUSPECT, and whatever may be added
        return None, f"object {object_id} is in state {found.state}, not TRACKED"
    return found, ""


def reason(why: str) -> str:
    """What is said, without the age that grows in it."""
    return re.sub(r"-?\d+\.\d+ s ago", "long ago", why)


class Controller(Node):
    def __init__(self):
        super().__init__("controller")
        self.object_id = self.declare_parameter("object_id", 1).value
        self.max_age = self.declare_parameter("max_age", 0.3).value
        self.masks, self.came = None, 0.0
        self.why = None  # it stands still; "" while it moves, None before the first command
        self.command = self.create_publisher(TwistStamped, "command", 1)
        self.create_subscription(TrackedMasks, "masks", self.on_masks, 1)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # a timer of the node's clock ends with /clock
        self.create_timer(1 / self.declare_parameter("rate", 50.0).value, self.steer, clock=steady)

    def on_masks(self, masks: TrackedMasks) -> None:
        self.masks, self.came = masks, time.monotonic()

    def steer(self) -> None:
        command, now = TwistStamped(), self.get_clock().now()
        found, why = target(self.masks, self.object_id, now, self.max_age, time.monotonic() - self.came)
        if found is not None:  # from the image's centre to the object's, -1..1; a real robot needs a real control law
            image = self.masks.label_image
            command.twist.linear.x = 2 * (found.centroid_x + 0.5) / image.width - 1
            command.twist.linear.y = 2 * (found.centroid_y + 0.5) / image.height - 1
        if self.why is None or reason(why) != reason(self.why):  # each one, but not anew for each age
            self.get_logger().warning(f"standing still: {why}" if why else "moving")
        self.why, command.header.stamp = why, now.to_msg()
        self.command.publish(command)


if __name__ == "__main__":
    rclpy.init()
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(Controller())
