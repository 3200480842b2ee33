"""Prompts of the command line: text, ground truth, and what is wrong with them."""

from __future__ import annotations

import numpy as np
import pytest

from sam2s_model.errors import ConfigError, RequestError, SourceError
from sam2s_ros.commands.prompting import first_frame, first_prompts
from sam2s_ros.replay.sources import Frame, open_source

SOURCE = open_source("scene:?width=64&height=64&frames=1")


def frame(mask: np.ndarray | None = None) -> Frame:
    return Frame(0, 1, np.zeros((64, 64, 3), np.uint8), mask, "0")


def test_boxes_and_points_are_one_object_each():
    prompts, labels = first_prompts(SOURCE, frame(), ["1,2,30,40", "0,0,64,64"], ["5.5,6"])
    assert [p.box.tolist() for p in prompts[:2]] == [[1, 2, 30, 40], [0, 0, 64, 64]]
    assert prompts[2].points.tolist() == [[5.5, 6]] and prompts[2].point_labels.tolist() == [1]
    assert labels == [0, 0, 0]


def test_ground_truth_gives_a_box_for_each_label():
    mask = np.zeros((64, 64), np.uint8)
    mask[10:20, 30:35] = 2
    mask[63, 63] = 7
    mask[:, :3] = 255
    prompts, labels = first_prompts(SOURCE, frame(mask))
    assert labels == [2, 7]
    assert [p.box.tolist() for p in prompts] == [[30, 10, 35, 20], [62, 62, 64, 64]]


@pytest.mark.parametrize("where", [(5, 7), (0, 0), (63, 63), (63, 0)])
def test_an_object_of_one_pixel_has_a_box_that_can_be_prompted(where):
    mask = np.zeros((64, 64), np.uint8)
    mask[where] = 3
    (prompt,), labels = first_prompts(SOURCE, frame(mask))
    x0, y0, x1, y1 = prompt.box
    assert (x1 - x0, y1 - y0) == (2, 2) and x0 <= where[1] < x1 and y0 <= where[0] < y1 and labels == [3]


def test_given_prompts_go_before_the_ground_truth():
    mask = np.full((64, 64), 3, np.uint8)
    prompts, labels = first_prompts(SOURCE, frame(mask), ["1,2,30,40"])
    assert len(prompts) == 1 and labels == [0]


@pytest.mark.parametrize(
    ("boxes", "points", "error", "expected"),
    [
        (["1,2,3"], [], ConfigError, "--box 1,2,3: expected x0,y0,x1,y1, in px"),
        (["a,b,c,d"], [], ConfigError, "--box a,b,c,d: expected"),
        ([], ["1;2"], ConfigError, "--point 1;2: expected x,y, in px"),
        (["10,10,500,20"], [], RequestError, "outside the image: expected 0 <= x <= 64"),
        (["20,20,10,30"], [], RequestError, "is empty"),
        (["nan,0,1,1"], [], RequestError, "not finite"),
        ([], ["64,3"], RequestError, "outside the image: expected 0 <= x <= 63"),
    ],
)
def test_bad_prompts(boxes, points, error, expected):
    with pytest.raises(error, match=expected):
        first_prompts(SOURCE, frame(), boxes, points)


@pytest.mark.parametrize(
    ("mask", "reason"), [(None, "has no masks"), (np.zeros((64, 64), np.uint8), "shows no object")]
)
def test_nothing_to_track(mask, reason):
    with pytest.raises(SourceError, match=f"{reason}, so nothing says what to track: give --box"):
        first_prompts(SOURCE, frame(mask))


def test_first_frame():
    assert first_frame(SOURCE).index == 0
