"""Pictures for people: the overlay as JPEG and the labels in colours, of a tracked instrument, in a real graph."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from sam2s_model.colours import instance_colour
from sam2s_model.published.catalog import resolve_checkpoint
from sam2s_model.recordings.open import open_recording
from sam2s_model.semantics import GENERIC
from sam2s_ros.commands.prompting import first_prompts
from sam2s_ros.interfaces import image_codec
from sam2s_ros.interfaces.messages import prompt_message
from sam2s_ros.msg import TrackedMasks, TrackerStatus
from sam2s_ros.srv import AddPrompts

NAME = "/pictured/tracker"


def test_the_overlay_is_a_jpeg_as_well_and_labels_are_coloured(graph, start_tracker, own_camera):
    source = open_recording("scene:?width=192&height=160&frames=3&seed=1")
    frames = list(source)
    [prompt, *_], _ = first_prompts(source, frames[0])
    prompt = replace(prompt, class_name="")  # the node has the generic table
    tracker = start_tracker(
        remap=("__ns:=/pictured", f"image:={own_camera.topic}"),
        checkpoint=resolve_checkpoint("sam2s_pico"), model="auto", image_size=0,
    )  # fmt: skip
    statuses = graph.collect(TrackerStatus, f"{NAME}/status")
    masks = graph.collect(TrackedMasks, f"{NAME}/masks")
    overlays = graph.collect(Image, f"{NAME}/overlay")
    compressed = graph.collect(CompressedImage, f"{NAME}/overlay/compressed")
    colours = graph.collect(Image, f"{NAME}/label_color")
    graph.wait_until(
        lambda: statuses and statuses[-1].state == TrackerStatus.STATE_WAITING, 240, lambda: tracker.output
    )
    graph.known_to(NAME, timeout=60.0)
    own_camera.first(lambda: overlays and compressed and colours)
    stamp = own_camera.send(frames[0].image)
    graph.wait_until(lambda: masks.of(stamp), 60)
    answer = graph.call(AddPrompts, f"{NAME}/add_prompts", AddPrompts.Request(prompts=[prompt_message(prompt)]))
    assert answer.success, answer.message
    stamp = own_camera.send(frames[1].image)
    message = graph.wait_until(lambda: masks.of(stamp), 60)
    overlay, jpeg, coloured = (
        graph.wait_until(partial(found.of, stamp), 30) for found in (overlays, compressed, colours)
    )
    assert overlay.header == jpeg.header == coloured.header == message.header

    assert "jpeg" in jpeg.format and bytes(jpeg.data[:2]) == b"\xff\xd8"
    drawn = image_codec.to_rgb(overlay)
    difference = np.abs(image_codec.decode(jpeg).astype(int) - drawn)
    assert difference.mean() < 12 < np.abs(drawn[..., ::-1].astype(int) - drawn).mean(), "the same picture, RGB both"

    labels, shown = image_codec.to_gray(message.label_image), image_codec.to_rgb(coloured)
    [found] = message.objects
    of_class = next(c.color for c in GENERIC.classes if c.id == found.class_id)
    assert found.area and (shown[labels == found.label] == instance_colour(of_class, found.object_id)).all()
    assert not shown[labels == 0].any()
