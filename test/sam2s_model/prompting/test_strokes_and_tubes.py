"""Lines as prompts: points along strokes, places on skeletons, clDice, and lines that no step eats."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from sam2s_model.errors import RequestError
from sam2s_model.metrics import cl_dice, dice
from sam2s_model.prompting.strokes import Stroke, points_of
from sam2s_model.prompting.tubes import skeleton, tube_places, widened
from sam2s_model.prompts import Prompt
from sam2s_model.recordings.scene import Scene, SceneConfig
from sam2s_model.tracking.holes import fill_holes
from sam2s_model.tracking.outputs import compose
from sam2s_model.tracking.thin import keep_thin, tube_prompt
from sam2s_model.tracking.tracker import Tracker

pytest.importorskip("skimage", reason="scikit-image is not installed: pip install 'sam2s_ros[tubes]'")


def tree() -> np.ndarray:
    """A Y, 3 px wide: a trunk from (32, 60) to (32, 30) and two arms."""
    mask = np.zeros((64, 64), np.uint8)
    for end in ((32, 60), (8, 6), (56, 6)):
        cv2.line(mask, (32, 30), end, 1, 3)
    return mask > 0


def test_points_lie_at_equal_distances_along_a_stroke():
    corner = np.array([[0, 0], [30, 0], [30, 10]], np.float32)
    (points,) = points_of([corner], 100, 100)
    np.testing.assert_allclose(points, [[0, 0], [8, 0], [16, 0], [24, 0], [30, 2], [30, 10]], atol=1e-5)
    long = np.array([[0, 0], [900, 0]])
    assert len(points_of([long], 100, 1000)[0]) == 8, "however long"
    assert [len(line) for line in points_of([long, long, long[:, ::-1] / 300], 100, 1000)] == [3, 3, 1], "all together"
    np.testing.assert_array_equal(points_of([np.array([[5, 6], [5, 6]])], 100, 100)[0], [[5, 6]])
    np.testing.assert_array_equal(points_of([long, long / 90], 1000, 1000)[1], [[5, 0]])


def test_strokes_are_points_beside_the_others():
    strokes = (Stroke(np.array([[10, 10], [10, 40]])), Stroke(np.array([[60, 20]]), 0))
    prompt = Prompt(points=np.array([[1.0, 2.0]]), point_labels=np.array([1]), strokes=strokes).validated(100, 100)
    assert prompt.points[0].tolist() == [1, 2] and prompt.points[-1].tolist() == [60, 20]
    assert prompt.point_labels.tolist() == [1] + [1] * 5 + [0] and prompt.strokes == ()


def test_strokes_say_where_the_object_is():
    strokes = (Stroke(np.array([[10, 10], [10, 40]])),)
    prompt = Prompt(class_name="vessel", strokes=strokes)
    assert prompt.gives_place and not prompt.asks_for_class and not Prompt(2, "vessel", strokes=strokes).only_names
    assert Prompt(class_name="vessel").asks_for_class and Prompt(2, "vessel").only_names
    for more in ({"tube": True}, {"granularity": 0.5}):  # of what, if all of a class are to be found
        assert not Prompt(class_name="vessel", **more).asks_for_class
        with pytest.raises(RequestError, match="no points, no strokes, no box and no mask"):
            Prompt(class_name="vessel", **more).validated(100, 100)


def test_strokes_along_a_tube_are_its_skeleton():
    tree = tuple(Stroke(np.array([[32, 30], end])) for end in ((32, 60), (8, 6), (56, 6)))
    across = Stroke(np.array([[20, 45], [44, 45]]), 0)
    prompt = Prompt(strokes=(across, *tree), tube=True).validated(64, 64)
    assert prompt.points is None and prompt.tube and not prompt.mask[45].any(), "one that is not on it cuts"
    assert prompt.mask[30, 32] and prompt.mask[59, 32] and prompt.mask[7, 9] and prompt.mask.sum() < 400
    with pytest.raises(RequestError, match="9 strokes: expected at most 8, or tube true"):
        Prompt(strokes=(across,) * 9).validated(64, 64)
    with pytest.raises(RequestError, match="the mask is empty"):
        Prompt(strokes=(across,), tube=True).validated(64, 64)
    with pytest.raises(RequestError, match="has a mask and also points"):
        Prompt(strokes=tree, tube=True, box=np.array([1, 1, 60, 60])).validated(64, 64)


@pytest.mark.parametrize("stroke, words", [
    (Stroke(np.zeros((0, 2))), r"points of shape \(0, 2\): expected \(V, 2\), V from 1"),
    (Stroke(np.array([[1.0, 2.0], [1.0, 200.0]])), r"point \(1, 200\) is outside the image"),
    (Stroke(np.array([[1.0, np.nan]])), "is outside the image"),
    (Stroke([["a", "b"]]), "points of a stroke .* are no numbers"),
    (Stroke(np.array([[1.0, 2.0]]), 7), "point label 7: expected 1"),
    (Stroke(np.array([[1.0, 2.0]]), 0), "all of them negative"),
])  # fmt: skip
def test_what_is_no_stroke_is_refused(stroke, words):
    with pytest.raises(RequestError, match=words):
        Prompt(strokes=(stroke,)).validated(100, 100)
    with pytest.raises(RequestError, match="tube is true without mask and strokes"):
        Prompt(points=np.array([[1.0, 2.0]]), point_labels=[1], tube=True).validated(100, 100)


def test_a_tree_is_told_by_its_branching_and_the_middles_of_its_arms():
    lines = skeleton(tree())
    places = tube_places(lines)
    assert len(places) == 4 and all(lines[y, x] for x, y in places)
    expected = np.array([[32, 30], [32, 45], [20, 18], [44, 18]])
    distances = np.hypot(*(places[:, None] - expected[None]).transpose(2, 0, 1))
    assert (distances.min(0) <= 3).all() and distances[0].argmin() == 0, "the branch point first"
    assert len(tube_places(lines, most=2)) == 2
    dot = np.zeros((8, 8), bool)
    dot[3, 5] = True
    assert tube_places(skeleton(dot)).tolist() == [[5, 3]]
    ring = cv2.circle(np.zeros((40, 40), np.uint8), (20, 20), 12, 1, 2) > 0
    assert len(tube_places(skeleton(ring))) >= 1, "a line without ends"


def test_the_dense_prompt_is_the_skeleton_at_the_tubes_width():
    mask = tree()
    wide = widened(skeleton(mask), mask)
    assert dice(wide, mask) > 0.85
    points, labels, dense = tube_prompt(mask, (32, 32), 128, torch.device("cpu"))
    assert (
        points.shape == (1, 4, 2)
        and labels.tolist() == [[1] * 4]
        and points[0, 0].tolist() == pytest.approx([64, 60], abs=6)
    )
    assert dense.shape == (1, 1, 32, 32) and dense.max() <= 10 and dense.min() == -10
    assert cl_dice(cv2.resize((dense[0, 0] > 0).numpy().astype(np.uint8), (64, 64)) > 0, mask) > 0.9


def test_a_tube_and_strokes_prompt_the_tracker(model, frames):
    tracker = Tracker(model, "fifo")
    tracker.step(1, frames[0])
    mask = np.zeros(frames[0].shape[:2], bool)
    mask[20:100, 40:43] = True
    stroke = Stroke(np.array([[20.0, 30.0], [60.0, 60.0]]))
    ids = tracker.prompt(0, [Prompt(mask=mask, tube=True), Prompt(strokes=(stroke,)), Prompt(mask=mask)]).object_ids
    decoded, _, given = tracker.outputs.logits
    assert not torch.equal(decoded, given), "the tube's mask is the model's"
    clicks = Prompt(strokes=(stroke,)).validated(120, 160)
    again = tracker.prompt(0, [Prompt(points=clicks.points, point_labels=clicks.point_labels)]).object_ids
    outputs = dict(zip(tracker.outputs.object_ids, tracker.outputs.logits, strict=True))
    torch.testing.assert_close(outputs[ids[1]], outputs[again[0]], atol=1e-4, rtol=1e-4)


def test_cl_dice_is_blind_to_width_and_sees_a_cut():
    mask = tree()
    wide = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    assert cl_dice(wide, mask) > 0.95 > dice(wide, mask)
    cut = mask.copy()
    cut[40:] = False
    own, true = skeleton(cut), skeleton(mask)
    precision, recall = (own & mask).sum() / own.sum(), (true & cut).sum() / true.sum()
    assert cl_dice(cut, mask) == pytest.approx(2 * precision * recall / (precision + recall)) and recall < 0.85
    empty = np.zeros_like(mask)
    assert (cl_dice(empty, empty), cl_dice(empty, mask), cl_dice(mask, empty)) == (1.0, 0.0, 0.0)


def test_lines_2_px_wide_pass_hole_filling_and_composition():
    line = np.zeros((128, 128), np.uint8)
    cv2.polylines(line, [np.array([[10, 10], [60, 30], [118, 110]])], False, 1, 1)
    logits = torch.from_numpy(np.where(line > 0, 4.0, -4.0)).float()[None, None]
    ground = torch.full_like(logits, -4.0)
    ground[..., 40:90, 5:50] = 1.0  # another object, less sure, that it crosses
    both = fill_holes(torch.cat((logits, ground)), 8)
    labels = compose(both, torch.tensor([True, True]), torch.tensor([1, 2], dtype=torch.uint8), (256, 256)).numpy()
    assert cl_dice(labels == 1, cv2.resize(line, (256, 256), interpolation=cv2.INTER_NEAREST) > 0) > 0.95


def test_a_given_line_that_is_narrower_than_a_pixel_of_the_masks_stays(model):
    """Two px of 640 are 0.8 px of 256: where they lie across two, neither is covered by half."""
    covered = torch.full((1, 1, 16, 16), -10.0)
    covered[..., 4:6, :] = 20 * 0.4 - 10
    kept = keep_thin(covered)
    assert (kept[..., 4:6, :] > 0).all() and (kept[..., :4, :] < 0).all() and (kept[..., 6:, :] < 0).all()
    wide = torch.full((1, 1, 16, 16), -10.0)
    wide[..., 4:8, :], wide[..., 8, :] = 10.0, -2.0
    assert torch.equal(keep_thin(wide), wide), "the outline of what is wide stays as it is"


@pytest.mark.parametrize("thin, name, class_id", [("vessels", "vessel", 7), ("suture", "suture", 8)])
def test_a_scene_with_a_thin_structure(thin, name, class_id):
    scene, plain = (Scene(SceneConfig(width=320, height=256, frames=3, seed=3, thin=t)) for t in (thin, ""))
    row = scene.objects[-1]
    assert (row.label, row.class_name, row.class_id) == (3, name, class_id) and len(plain.objects) == 2
    frame, without = scene[1], plain[1]
    mask = frame.labels == 3
    state = frame.objects[-1]
    assert state.area == mask.sum() > 300 and state.whole_area >= state.area
    assert np.array_equal(np.where(mask, 0, frame.labels), without.labels), "what is in front covers it"
    there = np.abs(frame.image.astype(int) - without.image).sum(2)
    assert there[mask].mean() > 20 * max(
        0.5, there[~cv2.dilate(mask.astype(np.uint8), np.ones((25, 25))).astype(bool)].mean()
    )
    widths = 2 * cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 3)[skeleton(mask)]
    assert 1.5 <= np.median(widths) <= 5, "a few px"
    assert np.array_equal(scene[1].image, frame.image)
