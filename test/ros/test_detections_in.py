"""Boxes of a detector on ~/detections_in, in a real graph: one object for each instrument, however often it is sent."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from sam2s_model.published.catalog import resolve_checkpoint
from sam2s_model.recordings.open import open_recording
from sam2s_ros.interfaces import messages
from sam2s_ros.msg import DetectedBox, DetectedBoxes, TrackedMasks, TrackedObject, TrackerStatus
from sam2s_ros.srv import GetState

NAME = "/detected/tracker"
EXAMPLE = Path(__file__).parents[2] / "examples" / "detector.py"


class Detected:
    """A tracker that takes detections, a camera that shows the scene, and a detector."""

    def __init__(self, graph, camera, process):
        self.graph, self.camera, self.process = graph, camera, process
        self.masks = graph.collect(TrackedMasks, f"{NAME}/masks")
        self.diagnostics = graph.collect(DiagnosticArray, "/diagnostics")
        self.publisher = graph.publisher(DetectedBoxes, f"{NAME}/detections_in")
        self.frames = list(open_recording("scene:?width=192&height=160&frames=6&seed=1"))

    def show(self, number: int) -> int:
        """Send a frame of the scene; return its stamp when it was tracked."""
        stamp = self.camera.send(self.frames[number].image)
        self.graph.wait_until(lambda: self.masks.of(stamp), 60, lambda: self.process.output)
        return stamp

    def truth(self, number: int, label: int) -> list[float]:
        ys, xs = np.nonzero(self.frames[number].truth.masks[label])
        return [float(v) for v in (xs.min(), ys.min(), xs.max(), ys.max())]

    def detect(self, stamp: int, *boxes: DetectedBox) -> None:
        self.publisher.publish(DetectedBoxes(header=Header(stamp=messages.to_time(stamp)), boxes=boxes))

    def objects(self) -> list[TrackedObject]:
        return list(self.graph.call(GetState, f"{NAME}/get_tracker_state").objects)

    def counts(self) -> dict[str, int]:
        """What became of the detections so far, as a new message on /diagnostics has it."""
        before = len(self.diagnostics)

        def newest() -> dict[str, int]:
            entries = [s for m in self.diagnostics[before:] for s in m.status if s.name == f"{NAME}: tracking"]
            return (
                {v.key: int(v.value) for v in entries[-1].values if v.key.startswith("detections_")} if entries else {}
            )

        return self.graph.wait_until(newest, 30, lambda: "the diagnostics")

    def until(self, fate: str, count: int) -> None:
        self.graph.wait_until(lambda: self.counts()[fate] >= count, 60, lambda: f"{fate}:\n{self.process.output}")


@pytest.fixture(scope="module")
def detected(graph, start_tracker, new_camera) -> Detected:
    camera = new_camera()
    process = start_tracker(
        remap=("__ns:=/detected", f"image:={camera.topic}"),
        checkpoint=resolve_checkpoint("sam2s_pico"), model="auto", image_size=0, detections_in="boxes",
        input_timeout=60.0, detection_iou=0.2,
    )  # fmt: skip
    statuses = graph.collect(TrackerStatus, f"{NAME}/status")
    graph.wait_until(
        lambda: statuses and statuses[-1].state == TrackerStatus.STATE_WAITING, 240, lambda: process.output
    )
    made = Detected(graph, camera, process)
    graph.known_to(NAME, timeout=60.0)
    camera.first(lambda: made.masks)
    return made


def test_each_instrument_becomes_one_object_however_often_it_is_detected(detected):
    assert detected.graph.call(Trigger, f"{NAME}/reset").success
    stamps = [detected.show(0), detected.show(1)]
    before = detected.counts()
    both = [DetectedBox(box=detected.truth(0, label), score=0.9) for label in (1, 2)]
    detected.detect(stamps[0], *both)
    detected.until("detections_new", before["detections_new"] + 2)
    first = [found.object_id for found in detected.objects()]
    assert len(first) == 2 and "~/detections_in: objects" in detected.process.output
    detected.detect(stamps[0], *both)  # of before the prompt took effect: they are where they were prompted
    detected.until("detections_known", before["detections_known"] + 2)
    detected.detect(stamps[1], *(DetectedBox(box=detected.truth(1, label), score=0.9) for label in (1, 2)))
    detected.until("detections_known", before["detections_known"] + 4)
    assert [found.object_id for found in detected.objects()] == first


def test_what_is_unlikely_or_of_another_class_is_not_prompted_and_the_log_says_so(detected):
    assert detected.graph.call(Trigger, f"{NAME}/reset").success
    stamp, before = detected.show(0), detected.counts()
    box = detected.truth(0, 1)
    detected.detect(stamp, DetectedBox(box=box, score=0.9, class_name="object"))
    detected.until("detections_new", before["detections_new"] + 1)
    [one] = detected.objects()
    assert one.class_name == "object"
    weak = DetectedBox(box=detected.truth(0, 2), score=0.1)
    detected.detect(stamp, DetectedBox(box=box, score=0.9, class_name="instrument"), weak)
    detected.until("detections_weak", before["detections_weak"] + 1)
    assert detected.counts()["detections_other_class"] == before["detections_other_class"] + 1
    assert [found.object_id for found in detected.objects()] == [one.object_id]
    assert "no prompt for the detection instrument at" in detected.process.output


def test_the_type_cannot_change_while_the_node_is_configured(detected):
    value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value="off")
    request = SetParameters.Request(parameters=[Parameter(name="detections_in", value=value)])
    [result] = detected.graph.call(SetParameters, f"{NAME}/set_parameters", request).results
    assert not result.successful and "run cleanup first" in result.reason


def test_the_example_detector_makes_objects_of_what_it_finds(detected, start):
    assert detected.graph.call(Trigger, f"{NAME}/reset").success
    remaps = (f"image:={detected.camera.topic}", f"detections:={NAME}/detections_in")
    words = ["--ros-args", *(word for rule in remaps for word in ("-r", rule))]
    process = start([sys.executable, str(EXAMPLE), *words])
    seen: list[TrackedObject] = []

    def found() -> bool:
        assert process.running(), process.output
        detected.show(0)
        seen[:] = detected.objects()
        return bool(seen)

    detected.graph.wait_until(found, 90, lambda: process.output + detected.process.output)
    ids, handled = [one.object_id for one in seen], sum(detected.counts().values())
    for _ in range(40):
        detected.show(0)
        if sum(detected.counts().values()) >= handled + 3 * len(seen):
            break
    assert sum(detected.counts().values()) >= handled + 3 * len(seen), "it goes on to detect"
    assert [one.object_id for one in detected.objects()] == ids, "and nothing becomes an object again and again"
    assert process.stop()[0] == 0


def test_the_example_finds_the_instruments():
    import importlib.util

    spec = importlib.util.spec_from_file_location("detector", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    from sam2s_model.tracking.association import box_iou

    for seed in (1, 2):
        frame = next(iter(open_recording(f"scene:?width=640&height=512&frames=2&seed={seed}")))
        boxes = [box for box, _, _ in module.find(frame.image)]
        ys, xs = zip(*(np.nonzero(mask) for mask in frame.truth.masks.values()), strict=True)
        truths = [(x.min(), y.min(), x.max(), y.max()) for x, y in zip(xs, ys, strict=True)]
        assert any(box_iou(box, truth) > 0.3 for box in boxes for truth in truths), (seed, boxes, truths)
    assert module.find(np.zeros((48, 64, 3), np.uint8)) == []
