"""~/save_objects and ~/load_objects: objects of one operation go on in the next, without a prompt."""

from __future__ import annotations

import pytest
from geometry_msgs.msg import Point32
from std_srvs.srv import Trigger

from sam2s_ros.msg import Prompt, TrackedMasks, TrackedObject, TrackerStatus
from sam2s_ros.srv import AddPrompts, RemoveObjects


@pytest.fixture(scope="module")
def objects_file(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("objects") / "objects.safetensors")


@pytest.fixture(scope="module")
def keeper(graph, new_camera, start_tracker, objects_file):
    """A node with a file for objects, after one picture."""
    camera = new_camera()
    remaps = (f"image:={camera.topic}", "__node:=keeper")
    process = start_tracker(remaps, objects_file=objects_file, policy="fifo")
    masks, statuses = graph.collect(TrackedMasks, "keeper/masks"), graph.collect(TrackerStatus, "keeper/status")
    graph.wait_until(
        lambda: statuses and statuses[-1].state == TrackerStatus.STATE_WAITING or not process.running(),
        60,
        lambda: process.output,
    )
    camera.first(lambda: masks)
    return camera, process, masks


def call(graph, kind, name, **request):
    return graph.call(kind, f"keeper/{name}", kind.Request(**request))


def test_objects_are_saved_and_go_on(graph, keeper, objects_file):
    camera, process, masks = keeper
    refused = call(graph, Trigger, "load_objects")
    assert not refused.success and "do not exist" in refused.message
    refused = call(graph, Trigger, "save_objects")
    assert not refused.success and refused.message.startswith("EMPTY_REQUEST: no object ids")

    shown = Prompt(class_name="object", points=[Point32(x=40.0, y=40.0)], point_labels=[1])
    answer = call(graph, AddPrompts, "add_prompts", prompts=[shown])
    assert answer.success, answer.message
    [first] = answer.object_ids
    saved = call(graph, Trigger, "save_objects")
    assert saved.success and f"objects {first} (object) were saved to {objects_file}" in saved.message, saved.message
    assert call(graph, RemoveObjects, "remove_objects", object_ids=[first]).success

    loaded = call(graph, Trigger, "load_objects")
    assert loaded.success and f"objects {first + 1} (object) of {objects_file} go on" in loaded.message, loaded.message
    stamp = camera.send()
    graph.wait_until(lambda: masks.of(stamp), 30, lambda: process.output)
    [one] = masks.of(stamp).objects
    assert (one.object_id, one.class_name) == (first + 1, "object")
    assert one.state in (TrackedObject.STATE_TRACKED, TrackedObject.STATE_LOST)
    assert "~/load_objects: objects" in process.output


def test_with_load_objects_they_go_on_without_any_request(graph, keeper, new_camera, start_tracker, objects_file):
    camera = new_camera()
    remaps = (f"image:={camera.topic}", "__node:=next_day")
    process = start_tracker(remaps, objects_file=objects_file, policy="fifo", load_objects=True)
    masks = graph.collect(TrackedMasks, "next_day/masks")
    camera.first(lambda: masks)
    process.wait_for_output("load_objects: objects 1 (object) of")
    stamp = camera.send()
    graph.wait_until(lambda: masks.of(stamp), 30, lambda: process.output)
    assert [(one.object_id, one.class_name) for one in masks.of(stamp).objects] == [(1, "object")]
