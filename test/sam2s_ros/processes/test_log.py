"""What a node's parts say in its log."""

from __future__ import annotations

from rclpy.logging import get_logger

from sam2s_ros.processes.log import MAX_KINDS, WARN_EVERY, NodeLogger, UnthrottledLogger


class ListLogger(list):
    """Takes the place of a node's logger. `now`: s, what a clock says"""

    now = 1000.0

    def warning(self, sentence: str) -> None:
        self.append(sentence)


def test_warnings_of_a_kind_come_no_faster_than_one_in_five_seconds_and_nothing_else_is_left_out(capfd):
    log = NodeLogger(get_logger("test_log"))
    for number in range(3):
        log.warning(f"image {number} refused")
        log.info(f"reset {number}")
    said = capfd.readouterr().err
    assert said.count("refused") == 1 and "image 0 refused" in said
    assert [f"reset {number}" in said for number in range(3)] == [True] * 3


def test_a_warning_that_comes_for_every_image_keeps_no_other_from_the_log():
    lines = ListLogger()
    log = NodeLogger(lines, clock=lambda: lines.now)
    for number in range(300):
        log.warning(f"image {number} refused: {number / 7:.3f} s late")
        if number == 100:
            log.warning("load_objects: no object goes on: the file is cut")
        lines.now += 0.0625
    often = [line for line in lines if "refused" in line]
    assert len(often) == 4 and often[1] == f"image 80 refused: {80 / 7:.3f} s late" and WARN_EVERY == 5.0
    assert [line for line in lines if line not in often] == ["load_objects: no object goes on: the file is cut"]


def test_warnings_that_never_are_the_same_are_bounded():
    lines = ListLogger()
    log = NodeLogger(lines, clock=lambda: lines.now)
    words = ["".join("abcdefghij"[int(digit)] for digit in str(number)) for number in range(3 * MAX_KINDS)]
    for word in words:
        log.warning(f"no class {word}")
    assert len(lines) == MAX_KINDS
    lines.now += WARN_EVERY
    log.warning(f"no class {words[-1]}")
    assert lines[-1].endswith(words[-1]) and len(log._said) == 1


def test_a_log_of_lines_that_are_counted_elsewhere_leaves_none_out_whatever_they_are(capfd):
    log = UnthrottledLogger(get_logger("test_unthrottled_log"))
    for say in (log.info, log.warning, log.info, log.warning):
        say("prompted")
    assert capfd.readouterr().err.count("prompted") == 4
