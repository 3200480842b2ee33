"""The camera of `sam2s soak`: publishes pictures that were drawn before, at a rate, stamped when they are sent."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from std_srvs.srv import SetBool

from sam2s_model.config import check_options, option
from sam2s_ros.interfaces.image_codec import to_message
from sam2s_ros.interfaces.messages import to_ns
from sam2s_ros.interfaces.parameters import Parameters
from sam2s_ros.processes.process import run
from sam2s_ros.processes.runnable import RunnableNode


@dataclass(frozen=True)
class CameraConfig:
    """The node's parameters."""

    pictures: str = option("", "an .npy file of (N, H, W, 3) uint8 BGR; required")
    rate: float = option(30.0, "images per second", low=0.1, high=1000.0)

    def __post_init__(self):
        check_options(self)


def picture_at(stamp: int, rate: float, pictures: int) -> int:
    """Which of the pictures a camera shows at a time, in ns: forwards, backwards, and again."""
    turn = int(stamp * rate / 1e9) % max(1, 2 * pictures - 2)
    return min(turn, 2 * pictures - 2 - turn)


class CameraNode(RunnableNode):
    """Publishes bgr8 on "image", best effort, while ~/run says so.

    The answer of ~/run: whether there is a subscriber, and the number of images sent so far.
    """

    def __init__(self):
        super().__init__("camera")
        (self._config,) = Parameters((CameraConfig,)).declare(self)
        pictures = np.load(self._config.pictures)
        self._messages = [to_message(picture, Header(frame_id="endoscope"), "bgr8") for picture in pictures]
        self._sent, self._running = 0, False
        self._images = self.create_publisher(Image, "image", qos_profile_sensor_data)
        self.create_service(SetBool, "~/run", self._run)
        self.steady_timer(1 / self._config.rate, self._publish)

    def _run(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._running = request.data
        response.success, response.message = self._images.get_subscription_count() > 0, str(self._sent)
        return response

    def _publish(self) -> None:
        if not self._running:
            return
        stamp = self.get_clock().now().to_msg()
        message = self._messages[picture_at(to_ns(stamp), self._config.rate, len(self._messages))]
        message.header.stamp = stamp
        self._images.publish(message)
        self._sent += 1


def main(args: list[str] | None = None) -> int:
    """Entry point: 0 after SIGINT, SIGTERM or a hang-up, 2 for a bad parameter."""
    return run(CameraNode, args)


if __name__ == "__main__":
    sys.exit(main())
