"""Prototypes, discovery and auto_prompt through the node: without any request masks with class names come."""

from __future__ import annotations

import pytest
from geometry_msgs.msg import Point32
from std_srvs.srv import Trigger

from sam2s_model.checkpoint import load_model
from sam2s_model.discovery.build import build_bank, open_confirmed
from sam2s_model.discovery.prototype_file import ModelIdentity, read_prototypes, save_prototypes
from sam2s_model.published.catalog import packaged_checkpoints
from sam2s_ros.interfaces import messages
from sam2s_ros.msg import ErrorCode, Prompt, Proposals, TrackedMasks, TrackedObject, TrackerStatus
from sam2s_ros.srv import AddPrompts, Discover, RemoveObjects

SCENE = "scene:?width=160&height=128&frames=20&seed={}"


@pytest.fixture(scope="module")
def prototypes(tmp_path_factory) -> str:
    """A file of prototypes of the smallest trained model."""
    model = load_model("sam2s_pico", device="cpu", precision="fp32")
    confirmed = [one for seed in (1, 2, 3) for one in open_confirmed(SCENE.format(seed))]
    path = tmp_path_factory.mktemp("prototypes") / "bank.safetensors"
    save_prototypes(build_bank(model, confirmed, frames=4, class_name="instrument").bank, ModelIdentity.of(model), path)
    return str(path)


@pytest.fixture(scope="module")
def pictures():
    [found] = open_confirmed(SCENE.format(11))
    return [found.recording.frame(i).image for i in range(3)]


@pytest.fixture(scope="module")
def start_pico(graph, start_tracker, prototypes):
    """Start the node with the trained model and its prototypes on a camera's topic; returns its masks and proposals."""

    def begin(camera, name, **parameters):
        given = dict(
            checkpoint=packaged_checkpoints()["sam2s_pico"], image_size=0, prototypes=prototypes, precision="fp32"
        )
        remaps = (f"image:={camera.topic}", f"__node:={name}")
        process = start_tracker(remaps, **{**given, **parameters})
        masks, proposals = graph.collect(TrackedMasks, f"{name}/masks"), graph.collect(Proposals, f"{name}/proposals")
        statuses = graph.collect(TrackerStatus, f"{name}/status")
        graph.wait_until(
            lambda: statuses and statuses[-1].state == TrackerStatus.STATE_WAITING or not process.running(),
            60,
            lambda: process.output,
        )
        assert process.running(), process.output
        return process, masks, proposals

    return begin


def test_without_any_request_masks_with_class_names_come(graph, own_camera, start_pico, pictures):
    process, masks, proposals = start_pico(own_camera, "auto", auto_prompt="track", discovery_every=1)
    own_camera.first(lambda: masks)
    for _ in range(20):
        stamp = own_camera.send(pictures[0])
        graph.wait_until(lambda stamp=stamp: masks.of(stamp), 30, lambda: process.output)
        if "auto_prompt started objects" in process.output:
            break
    stamp = own_camera.send(pictures[1])
    graph.wait_until(lambda: masks.of(stamp), 30, lambda: process.output)
    objects = masks.of(stamp).objects
    assert objects and {one.class_name for one in objects} == {"instrument"}
    assert any(one.state == TrackedObject.STATE_TRACKED and one.area > 100 for one in objects)
    graph.wait_until(lambda: proposals, 20)
    assert proposals[0].label_image.width == proposals[0].label_image.step == 160 or len(proposals[0].proposals) == 0


@pytest.fixture(scope="module")
def asked(graph, new_camera, start_pico, pictures):
    """The node without auto_prompt, after one picture."""
    camera = new_camera()
    process, masks, proposals = start_pico(camera, "asked")
    camera.wait_for_subscriber()
    graph.wait_until(lambda: camera.send(pictures[0]) and masks, 30, lambda: process.output)
    return process, masks, proposals


def call(graph, kind, name, **request):
    return graph.call(kind, f"asked/{name}", kind.Request(**request))


def clear(graph, ids):
    if ids:
        assert call(graph, RemoveObjects, "remove_objects", object_ids=list(ids)).success


def test_a_class_alone_is_a_prompt(graph, asked):
    answer = call(graph, AddPrompts, "add_prompts", prompts=[Prompt(class_name="instrument")])
    assert answer.success, answer.message
    assert len(answer.object_ids) == len(answer.masks.objects) > 0
    assert {one.class_name for one in answer.masks.objects} == {"instrument"}
    clear(graph, answer.object_ids)
    refused = call(graph, AddPrompts, "add_prompts", prompts=[Prompt(class_name="object")])
    assert (refused.success, refused.error) == (False, ErrorCode.NOT_FOUND)


def test_what_is_discovered_is_accepted_by_its_id(graph, asked):
    _, _, proposals = asked
    graph.known_to("asked")
    found = call(graph, Discover, "discover", class_name="instrument")
    assert found.success and found.proposals.proposals, found.message
    graph.wait_until(lambda: proposals, 20)
    assert proposals[-1] == found.proposals
    chosen = found.proposals.proposals[0]
    answer = call(graph, AddPrompts, "add_prompts", prompts=[Prompt(proposal_id=chosen.proposal_id)])
    assert answer.success, answer.message
    assert messages.to_ns(answer.stamp_used) == messages.to_ns(found.proposals.header.stamp)
    again = call(graph, Discover, "discover")
    assert answer.object_ids[0] in {one.object_id for one in again.proposals.proposals}
    clear(graph, answer.object_ids)
    gone = call(graph, AddPrompts, "add_prompts", prompts=[Prompt(proposal_id=4_000_000_000)])
    assert (gone.success, gone.error) == (False, ErrorCode.UNKNOWN_PROPOSAL)
    unknown = call(graph, Discover, "discover", class_name="spoon")
    assert (unknown.success, unknown.error) == (False, ErrorCode.UNKNOWN_CLASS)


def test_what_a_person_shows_is_saved(graph, asked, prototypes):
    point = Point32(x=80.0, y=64.0)
    shown = Prompt(class_name="object", points=[point], point_labels=[1])
    answer = call(graph, AddPrompts, "add_prompts", prompts=[shown])
    assert answer.success, answer.message
    saved = call(graph, Trigger, "save_prototypes")
    assert saved.success and "instrument, object" in saved.message
    bank, _ = read_prototypes(prototypes)
    assert bank.class_names == ("instrument", "object")
    clear(graph, answer.object_ids)
