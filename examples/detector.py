"""Find instruments in a camera's images and hand the boxes to the tracker, which makes objects of those it has not.

    sam2s node --image /camera/image_raw --device cpu --set detections_in=boxes
    python3 examples/detector.py --ros-args -r image:=/camera/image_raw -r detections:=/tracker/detections_in

`find` looks for what is bright and without colour, as metal in tissue is. Put a network in its place: it gets a picture
and returns boxes, class names and scores. With a YOLO of ultralytics:

    found = model(image[..., ::-1], verbose=False)[0].boxes
    return [(b, model.names[int(c)], float(s)) for b, c, s in zip(found.xyxy.tolist(), found.cls, found.conf)]

The boxes go out with the header of the image that was searched, however long the search took: the tracker compares them
with where its objects were on that image. Which is of which object is decided there; see docs/topics.md, "Detections".
"""

from __future__ import annotations

from contextlib import suppress

import cv2
import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image

from sam2s_ros.interfaces.image_codec import decode
from sam2s_ros.msg import DetectedBox, DetectedBoxes

GREY = 70  # saturation, of 255, below which there is no colour
DARK = 30  # value, of 255, below which it is the border of the endoscope's field
LEAST = 0.01  # share of the picture that an instrument fills


def find(image: np.ndarray) -> list[tuple[list[float], str, float]]:
    """Boxes x0, y0, x1, y1 in px, class names ("": not known) and scores 0..1. image: (H, W, 3) uint8 RGB."""
    _, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    metal = ((saturation < GREY) & (value > DARK)).astype(np.uint8)
    side = max(3, round(image.shape[0] / 40)) | 1
    metal = cv2.morphologyEx(metal, cv2.MORPH_CLOSE, np.ones((side, side), np.uint8))
    metal = cv2.morphologyEx(metal, cv2.MORPH_OPEN, np.ones((side, side), np.uint8))
    _, _, parts, _ = cv2.connectedComponentsWithStats(metal)
    found = []
    for x, y, width, height, area in parts[1:].tolist():
        if area >= LEAST * metal.size:
            share = area / (width * height)  # how much of its box it fills: a streak of light fills little
            found.append(([x, y, x + width - 1, y + height - 1], "", min(1.0, 0.5 + share / 2)))
    return found


class Detector(Node):
    def __init__(self):
        super().__init__("detector")
        self.period = 1e9 / self.declare_parameter("rate", 2.0).value  # of searches: tracking is the tracker's job
        self.searched = 0
        self.boxes = self.create_publisher(DetectedBoxes, "detections", 1)
        self.create_subscription(Image, "image", self.on_image, qos_profile_sensor_data)

    def on_image(self, msg: Image) -> None:
        now = self.get_clock().now().nanoseconds
        if 0 <= now - self.searched < self.period:
            return
        self.searched = now
        found = [DetectedBox(box=box, class_name=name, score=score) for box, name, score in find(decode(msg))]
        self.boxes.publish(DetectedBoxes(header=msg.header, boxes=found))


if __name__ == "__main__":
    rclpy.init()
    with suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(Detector())
