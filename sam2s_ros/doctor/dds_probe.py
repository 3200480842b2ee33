"""Send images from one process to another and count: `python -m sam2s_ros.doctor.dds_probe send|receive SECONDS`.

The doctor runs both ends, each prints one line of JSON when it ends. Best effort, 1280x720 bgr8, 30 Hz.
"""

from __future__ import annotations

import array
import json
import sys
import time

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

HEIGHT, WIDTH, RATE = 720, 1280, 30.0
QOS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
TOPIC = "doctor/image"
DISCOVERY = 10.0  # s to wait for the other end
QUIET = 1.0  # s without an image after which the receiver ends


def send_images(seconds: float) -> dict:
    """Publish at RATE for this long, on an absolute schedule. Returns sent, and 0 when nobody listens."""
    node = Node("doctor_sender")
    publisher = node.create_publisher(Image, TOPIC, QOS)
    message = Image(height=HEIGHT, width=WIDTH, encoding="bgr8", step=WIDTH * 3)
    message.data = array.array("B", bytes(HEIGHT * WIDTH * 3))
    pixels = np.frombuffer(message.data, np.uint8)
    deadline = time.monotonic() + DISCOVERY
    while publisher.get_subscription_count() == 0:
        if time.monotonic() > deadline:
            return dict(sent=0)
        time.sleep(0.02)
    time.sleep(0.3)  # the other end may learn of us a little later
    count = round(seconds * RATE)
    begin = time.monotonic()
    for index in range(count):
        time.sleep(max(0.0, begin + index / RATE - time.monotonic()))
        pixels[:] = index % 256  # every page is written, as a camera does
        message.header.stamp = node.get_clock().now().to_msg()
        publisher.publish(message)
    time.sleep(QUIET / 2)  # a publisher that is gone takes what is on its way with it
    return dict(sent=count)


def receive_images(seconds: float) -> dict:
    """Count the images that arrive and their ages, until they end."""
    node = Node("doctor_receiver")
    ages: list[float] = []
    last = [time.monotonic() + DISCOVERY]

    def on_image(message: Image) -> None:
        stamp = message.header.stamp.sec + message.header.stamp.nanosec * 1e-9
        ages.append((node.get_clock().now().nanoseconds * 1e-9 - stamp) * 1e3)
        last[0] = time.monotonic()

    node.create_subscription(Image, TOPIC, on_image, QOS)
    latest = time.monotonic() + DISCOVERY + seconds + 5.0
    # before the first image, wait as long as the sender takes to find us and to lose them all
    while time.monotonic() < min(latest, last[0] + (QUIET if ages else seconds + QUIET)):
        rclpy.spin_once(node, timeout_sec=0.1)
    return dict(received=len(ages), median_age_ms=round(float(np.median(ages)), 2) if ages else None)


def main() -> int:
    role, seconds = sys.argv[1], float(sys.argv[2])
    rclpy.init()
    print(json.dumps(dict(send=send_images, receive=receive_images)[role](seconds)))
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
