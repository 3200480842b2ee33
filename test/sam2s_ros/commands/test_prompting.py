"""Prompts of the command line: text, ground truth, and what is wrong with them."""

from __future__ import annotations

import numpy as np
import pytest

from sam2s_model.errors import ConfigError, RequestError, SourceError
from sam2s_model.prompting.prompt_script import PromptEntry, PromptScript
from sam2s_model.recordings.open import open_recording
from sam2s_model.recordings.recording import Frame, Truth
from sam2s_ros.commands.arguments import PromptOptions
from sam2s_ros.commands.label_sets import check_classes, label_set_file, open_label_set
from sam2s_ros.commands.prompting import first_frame, first_prompts, plan_prompts

SOURCE = open_recording("scene:?width=64&height=64&frames=1")


def frame(mask: np.ndarray | None = None) -> Frame:
    truth = None if mask is None else Truth.of_labels(mask)
    return Frame(0, 1, "0", np.zeros((64, 64, 3), np.uint8), truth)


def test_boxes_and_points_are_one_object_each():
    prompts, labels = first_prompts(SOURCE, frame(), PromptOptions(box=("1,2,30,40", "0,0,64,64"), point=("5.5,6",)))
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
    prompts, labels = first_prompts(SOURCE, frame(mask), PromptOptions(box=("1,2,30,40",)))
    assert len(prompts) == 1 and labels == [0]


def test_several_points_are_one_object_and_a_number_adds_to_an_earlier_one():
    given = PromptOptions(box=("1,2,30,40",), points=("5,6;7,8;-9,10", "1:-3,4", "2:11,12"))
    prompts, _ = first_prompts(SOURCE, frame(), given)
    assert len(prompts) == 2 and prompts[0].box.tolist() == [1, 2, 30, 40]
    assert prompts[0].points.tolist() == [[3, 4]] and prompts[0].point_labels.tolist() == [0]
    assert prompts[1].points.tolist() == [[5, 6], [7, 8], [11, 12], [9, 10]]
    assert prompts[1].point_labels.tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize(("names", "each"), [(("a",), ["a", "a"]), (("a", "b"), ["a", "b"]), ((), ["", ""])])
def test_a_class_is_of_all_objects_or_of_one_each(names, each):
    prompts, _ = first_prompts(SOURCE, frame(), PromptOptions(point=("1,2", "3,4"), class_name=names))
    assert [prompt.class_name for prompt in prompts] == each


def test_a_file_says_it_all(tmp_path):
    path = tmp_path / "prompts.yaml"
    path.write_text(
        "prompts:\n- {frame: 0, object: 4, class: a, box: [1, 2, 30, 40]}\n- {frame: 9, object: 4, not_on: [[3, 4]]}\n"
    )
    plan = plan_prompts(SOURCE, frame(np.full((64, 64), 3, np.uint8)), PromptOptions(prompts=path))
    assert [entry.place for entry in plan.script.entries] == ["object 4 on frame 0", "object 4 on frame 9"]
    assert plan.truth_labels == {}
    with pytest.raises(ConfigError, match="was given with others"):
        plan_prompts(SOURCE, frame(), PromptOptions(prompts=path, point=("1,2",)))
    path.write_text("prompts:\n- {frame: 2, box: [1, 2, 30, 40]}\n")
    with pytest.raises(SourceError, match="no prompt on the first frame"):
        first_prompts(SOURCE, frame(), PromptOptions(prompts=path))


@pytest.mark.parametrize(
    ("given", "error", "expected"),
    [
        (dict(box=["1,2,3"]), ConfigError, "--box 1,2,3: expected x0,y0,x1,y1, in px"),
        (dict(box=["a,b,c,d"]), ConfigError, "--box a,b,c,d: expected"),
        (dict(point=["1;2"]), ConfigError, "--point 1;2: expected x,y, in px"),
        (dict(points=["1,2;3"]), ConfigError, '--points 1,2;3: expected "x,y;x,y;-x,y"'),
        (dict(points=["2:1,2"]), ConfigError, "--points 2:1,2: expected .* there are 0 objects before it"),
        (dict(points=["-1,2"]), RequestError, "all of them negative"),
        (dict(box=["10,10,500,20"]), RequestError, "outside the image: expected 0 <= x <= 64"),
        (dict(box=["20,20,10,30"]), RequestError, "is empty"),
        (dict(box=["nan,0,1,1"]), RequestError, "not finite"),
        (dict(point=["64,3"]), RequestError, "outside the image: expected 0 <= x <= 63"),
        (dict(point=["1,2"] * 3, class_name=["a", "b"]), ConfigError, "--class was given 2 times: expected once, or 3"),
    ],
)
def test_bad_prompts(given, error, expected):
    with pytest.raises(error, match=expected):
        first_prompts(SOURCE, frame(), PromptOptions(**{name: tuple(values) for name, values in given.items()}))


def test_an_unknown_class_names_the_label_sets_that_have_it():
    script = PromptScript([PromptEntry(1, frame=0, class_name="grasper")])
    with pytest.raises(RequestError, match="'grasper' is not in label set 'generic': .*--label-set .*cholecseg8k"):
        check_classes(script, open_label_set(label_set_file("")))
    check_classes(script, open_label_set(label_set_file("cholecseg8k")))
    with pytest.raises(ConfigError, match="no label set cholecseg8 .did you mean cholecseg8k"):
        label_set_file("cholecseg8")


@pytest.mark.parametrize(
    ("mask", "reason"), [(None, "has no masks"), (np.zeros((64, 64), np.uint8), "shows no object")]
)
def test_nothing_to_track(mask, reason):
    with pytest.raises(SourceError, match=f"{reason}, so nothing says what to track: give --box"):
        first_prompts(SOURCE, frame(mask))


def test_first_frame():
    assert first_frame(SOURCE).index == 0
    with pytest.raises(SourceError, match="no readable frame from 3 on: it has 1 frames"):
        first_frame(SOURCE, 3)
