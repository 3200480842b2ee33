"""What a node's parts say in its log."""

from __future__ import annotations

from rclpy.logging import get_logger

from sam2s_ros.processes.log import NodeLogger, UnthrottledLogger


def test_warnings_come_no_faster_than_one_in_five_seconds_and_nothing_else_is_left_out(capfd):
    log = NodeLogger(get_logger("test_log"))
    for number in range(3):
        log.warning(f"image {number} refused")
        log.info(f"reset {number}")
    said = capfd.readouterr().err
    assert said.count("refused") == 1 and "image 0 refused" in said
    assert [f"reset {number}" in said for number in range(3)] == [True] * 3


def test_a_log_of_lines_that_are_counted_elsewhere_leaves_none_out_whatever_they_are(capfd):
    log = UnthrottledLogger(get_logger("test_unthrottled_log"))
    for say in (log.info, log.warning, log.info, log.warning):
        say("prompted")
    assert capfd.readouterr().err.count("prompted") == 4
