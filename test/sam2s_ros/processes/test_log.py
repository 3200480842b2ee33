"""What a node's parts say in its log."""

from __future__ import annotations

from rclpy.logging import get_logger

from sam2s_ros.processes.log import NodeLogger


def test_warnings_come_no_faster_than_one_in_five_seconds_and_nothing_else_is_left_out(capfd):
    log = NodeLogger(get_logger("test_log"))
    for number in range(3):
        log.warning(f"image {number} refused")
        log.info(f"reset {number}")
    said = capfd.readouterr().err
    assert said.count("refused") == 1 and "image 0 refused" in said
    assert [f"reset {number}" in said for number in range(3)] == [True] * 3
