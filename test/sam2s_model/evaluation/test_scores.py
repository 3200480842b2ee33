"""The loop and its figures against a tracker that is run by hand, and against tables that are counted by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from sam2s_model.checkpoint import load_model
from sam2s_model.errors import ConfigError
from sam2s_model.evaluation.clicks import centre, correction
from sam2s_model.evaluation.follow import Step, follow
from sam2s_model.evaluation.protocol import EvaluationProtocol
from sam2s_model.evaluation.scores import Scorer, data_set_figures, overall_figures
from sam2s_model.metrics import boundary_f, dice, iou
from sam2s_model.prompts import Prompt
from sam2s_model.published.catalog import resolve_checkpoint
from sam2s_model.recordings.recording import FIRST_STAMP_NS, Frame, Recording, Truth
from sam2s_model.recordings.scene import Scene, SceneConfig
from sam2s_model.tracking.tracker import Tracker

CONFIG = SceneConfig(width=160, height=128, frames=6, seed=2)


class SceneRecording(Recording):
    """The procedural scene; object 2 appears on frame 2, frame 3 is not annotated."""

    def __init__(self):
        super().__init__("scene", "test", classes={1: "hook", 2: "forceps"})
        self._scene = Scene(CONFIG)
        self.length = len(self._scene)

    def _frames(self):
        for index in range(self.length):
            drawn = self._scene[index]
            labels = np.where((drawn.labels == 2) & (index < 2), 0, drawn.labels).astype(np.uint8)
            truth = None if index == 3 else Truth.of_labels(labels)
            yield Frame(index, FIRST_STAMP_NS + index, f"{index:06d}", np.ascontiguousarray(drawn.image), truth)


@pytest.fixture(scope="module")
def pico():
    return load_model(resolve_checkpoint("sam2s_pico"), device="cpu")


def evaluated(model, protocol) -> tuple[list[Step], dict]:
    scorer, steps = Scorer(protocol, SceneRecording().classes), []
    for step in follow(Tracker(model), SceneRecording(), protocol):
        scorer.add(step)
        steps.append(step)
    scorer.finish()
    return steps, scorer.result()


def by_hand(model, clicks: int) -> dict[int, list[tuple]]:
    """label -> (frame, predicted, truth, void) of the frames after its prompt, all objects prompted as they appear."""
    tracker, found = Tracker(model), {1: [], 2: []}
    for frame in SceneRecording():
        tracks = tracker.step(frame.stamp_ns, frame.image)
        for label in (1, 2):
            if frame.truth and label in tracker.object_ids:
                found[label].append((frame.index, tracks.mask(label), frame.truth.masks[label], frame.truth.void))
        label = {0: 1, 2: 2}.get(frame.index)
        if label and not clicks:
            tracker.prompt(0, [Prompt(mask=frame.truth.masks[label])])
        elif label:
            points, labels = [centre(frame.truth.masks[label])], [1]
            for _ in range(clicks):
                known = label if len(points) > 1 else 0
                prompt = Prompt(object_id=known, points=np.array(points, np.float32), point_labels=np.array(labels))
                mask = tracker.prompt(0, [prompt]).tracks.mask(label)
                place, sign = correction(mask, frame.truth.masks[label], frame.truth.void)
                points.append(place)
                labels.append(sign)
    return found


@pytest.mark.parametrize("clicks", [0, 1, 3])
def test_figures_are_those_of_a_tracker_run_by_hand(pico, clicks):
    protocol = EvaluationProtocol(prompt="clicks", clicks=clicks) if clicks else EvaluationProtocol()
    steps, result = evaluated(pico, protocol)
    assert [s.frame.index for s in steps] == list(range(6)), "every frame, in order"
    assert [s.prompted for s in steps] == [(1,), (), (2,), (), (), ()]
    expected = {label: [row for row in rows if row[0] != 5] for label, rows in by_hand(pico, clicks).items()}
    for own in result["objects"]:
        rows = expected[own["object"]]
        assert own["frames"] == len(rows) == {1: 3, 2: 1}[own["object"]]
        for name, measure in (("j", iou), ("f", boundary_f), ("dice", dice)):
            assert own[name] == pytest.approx(np.mean([measure(*row[1:]) for row in rows]), abs=1e-12)
        assert own["jf"] == pytest.approx((own["j"] + own["f"]) / 2)
    assert result["figures"]["j"] == pytest.approx(np.mean([own["j"] for own in result["objects"]]))
    assert result["scored_frames"] == 3 and result["annotated"] == 5
    challenge = []
    for frame in (1, 2, 4):
        both = [iou(*row[1:]) for rows in expected.values() for row in rows if row[0] == frame]
        challenge.append(np.mean(both))
    assert result["figures"]["ciou"] == pytest.approx(np.mean(challenge))


def test_the_same_every_time(pico):
    first, second = (evaluated(pico, EvaluationProtocol(prompt="box"))[1] for _ in range(2))
    assert first == second


def test_protocols(pico):
    _, result = evaluated(pico, EvaluationProtocol(start="first", scored="all"))
    assert [own["object"] for own in result["objects"]] == [1] and result["unprompted"] == [2]
    assert [row["frame"] for row in result["rows"] if row["scored"]] == [0, 1, 2, 4, 5]
    steps, result = evaluated(pico, EvaluationProtocol(frames=3))
    assert len(steps) == 3 and [row["frame"] for row in result["rows"] if row["scored"]] == [1]
    with pytest.raises(ConfigError, match="prompt is 'scribble': expected one of 'mask', 'box', 'clicks'"):
        EvaluationProtocol(prompt="scribble")
    assert [EvaluationProtocol(prompt="clicks", clicks=n).name for n in (1, 3)] == [
        "1 click",
        "3 clicks",
    ] and EvaluationProtocol().name == "mask"


SIZE = (8, 8)


def step(index: int, truth: dict[int, slice], tracked: dict[int, slice], prompted=()) -> Step:
    """A frame on which objects are rows of pixels: the truth's, and those that the tracker's ids 11 and 12 have."""
    masks = {label: np.zeros(SIZE, bool) for label in truth}
    for label, rows in truth.items():
        masks[label][rows] = True
    label_map = np.zeros(SIZE, np.uint8)
    for object_id, rows in tracked.items():
        label_map[rows] = object_id
    tracks = SimpleNamespace(
        size=SIZE, label_map=label_map, labels=np.array([11, 12], np.uint8), object_ids=np.array([11, 12]),
        mask=lambda object_id: label_map == object_id,
    )  # fmt: skip
    frame = Frame(index, index + 1, str(index), np.zeros((*SIZE, 3), np.uint8), Truth(masks))
    return Step(frame, tracks, tracks, {1: 11, 2: 12}, prompted, 0.01)


TOP, BOTTOM, NOTHING = slice(0, 4), slice(4, 8), slice(0, 0)
SERIES = [  # truth, tracked
    ({1: TOP, 2: BOTTOM}, {11: TOP, 12: BOTTOM}),  # the prompts
    ({1: TOP, 2: BOTTOM}, {11: TOP, 12: BOTTOM}),
    ({1: TOP, 2: BOTTOM}, {12: TOP, 11: BOTTOM}),  # exchanged
    ({1: TOP}, {11: TOP, 12: BOTTOM}),  # 2 has gone, its mask has not
    ({1: TOP, 2: BOTTOM}, {11: TOP, 12: BOTTOM}),
    ({1: TOP, 2: BOTTOM}, {11: TOP, 12: BOTTOM}),  # the last
]


DAVIS = EvaluationProtocol()


def counted(classes: dict[int, str], protocol=DAVIS) -> dict:
    scorer = Scorer(protocol, classes)
    for index, (truth, tracked) in enumerate(SERIES):
        scorer.add(step(10 * index, truth, tracked, (1, 2) if index == 0 else ()))
    scorer.finish()
    return scorer.result()


def test_exchanges_losses_and_presence_are_counted():
    first, second = counted({})["objects"]
    assert (first["j"], second["j"]) == (0.75, 0.5)
    assert (first["id_switches"], second["id_switches"]) == (2, 2)
    assert (first["frames_to_recover"], second["frames_to_recover"]) == (10, 20)
    assert (first["false_presence"], second["false_presence"]) == (None, 1.0)
    assert second["presence_precision"] == 0.75 and second["presence_recall"] == 1.0
    whole = counted({})["figures"]
    assert whole["id_switches"] == 4 and whole["recoveries"] == [10, 20] and whole["never_recovered"] == 0
    assert whole["ciou"] == pytest.approx(np.mean([1, 0, 1, 1])) and whole["mciou"] == pytest.approx((0.75 + 0.5) / 2)


def test_objects_of_one_class_are_one_class():
    whole = counted({1: "hook", 2: "hook"})["figures"]
    assert whole["ciou"] == pytest.approx(np.mean([1, 1, 0.5, 1])) and whole["mciou"] == whole["ciou"]
    assert whole["miou"] == pytest.approx((64 + 64 + 32 + 64) / 256)


def test_data_sets_and_overall():
    one, two = counted({}), counted({1: "hook", 2: "hook"})
    both = data_set_figures([one, two], ["a", "b"])
    assert both["j"] == pytest.approx(np.mean([0.75, 0.5] * 2)) and both["id_switches"] == 8
    assert both["ciou"] == pytest.approx(np.mean([1, 0, 1, 1, 1, 1, 0.5, 1]))
    assert data_set_figures([one, one], ["a", "b"])["mciou"] == one["figures"]["mciou"], (
        "object 1 of a is not that of b"
    )
    whole = overall_figures([{**both, "j": 0.2}, {**both, "j": 0.6}, {**both, "j": None}])
    assert whole["j"] == pytest.approx(0.4) and whole["id_switches"] == 24
