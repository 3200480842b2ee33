"""Recordings are never lost: what is there stays, and what ends a recorder leaves files that open."""

from __future__ import annotations

import json
import os
import re
import signal
import time

import av
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from recording import H, W, frames_in
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import String

from sam2s_ros.interfaces import image_codec
from sam2s_ros.recorder.whole_mcap import is_whole


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def record(source, numbers) -> None:
    for i in numbers:
        source.image(i)
        source.truth(i)
        source.mask(i)
        time.sleep(0.02)


def test_p41_a_recorder_that_is_started_again_leaves_what_is_there(recorder, tmp_path):
    process, source = recorder()
    record(source, range(8))
    source.wait_for(matched=8)
    assert process.stop()[0] == 0, process.output
    first = contents(tmp_path / "out")
    for number in (2, 3):
        folder = tmp_path / f"out_{number}"
        process, source = recorder()
        said = f"{tmp_path / 'out'} has a recording, which stays: this one goes to {folder} (overwrite is false)"
        assert said in process.output and f"recording into {folder}" in process.output
        record(source, range(3))
        source.wait_for(matched=3)
        assert process.stop()[0] == 0, process.output
        assert contents(tmp_path / "out") == first and frames_in(folder) == (3, 3, 3)
    process, _ = recorder(overwrite=True)
    assert f"recording into {tmp_path / 'out'}" in process.output
    assert process.stop()[0] == 0 and "overlay.mp4" not in contents(tmp_path / "out")


def test_p41_a_folder_that_is_being_recorded_into_is_not_overwritten(recorder, start, tmp_path):
    process, source = recorder()
    other = start(process.popen.args + ["-p", "overwrite:=true"])
    assert other.wait(20) == 2 and "is being recorded into by another process: give another folder" in other.output
    record(source, range(3))
    source.wait_for(matched=3)
    assert process.stop()[0] == 0 and frames_in(tmp_path / "out") == (3, 3, 3)


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, *(pytest.param(n, marks=pytest.mark.full) for n in (signal.SIGABRT, signal.SIGSEGV))]
)
def test_p42_whatever_ends_the_recorder_leaves_files_that_open(recorder, tmp_path, number):
    process, source = recorder()
    record(source, range(40))
    source.wait_for(matched=40)
    time.sleep(2.5)  # longer than masks are held back
    process.popen.send_signal(number)
    process.wait(10)
    pictures, masks, lines = frames_in(tmp_path / "out")
    assert masks == lines == 40 and 35 <= pictures <= 40, (pictures, masks, lines)


def test_a_hang_up_ends_the_recording_as_sigterm_does(recorder, tmp_path):
    process, source = recorder()
    record(source, range(5))
    source.wait_for(matched=5)
    code, seconds = process.stop(signal.SIGHUP)
    assert code == 0 and seconds < process.out_within, process.output
    report = json.loads((tmp_path / "out" / "recorder.json").read_text())
    assert report["matched"] == report["overlay_frames"] == 5 and frames_in(tmp_path / "out") == (5, 5, 5)


def test_p42_what_was_cut_is_mended_at_the_next_start(recorder, tmp_path):
    """As when the power fails within a write."""
    process, source = recorder()
    record(source, range(10))
    source.wait_for(matched=10)
    time.sleep(2.5)
    record(source, range(10, 20))
    source.wait_for(matched=20)
    process.popen.kill()
    process.wait(10)
    bag = tmp_path / "out" / "masks.mcap"
    os.truncate(bag, bag.stat().st_size - 100)
    assert not is_whole(bag)
    process, _ = recorder()
    assert f"{bag} was cut, as when the power fails: it was mended, with" in process.output
    with AnyReader([bag]) as reader:
        assert len(list(reader.messages())) >= 10
    assert process.stop()[0] == 0


def test_images_of_a_compressed_camera_are_recorded(recorder, tmp_path):
    process, source = recorder(kind=CompressedImage)
    source.images.publish(CompressedImage())  # it learns of the type from who publishes
    for i in range(400):
        source.jpeg(i)
        source.mask(i)
        if source.counted().get("matched", 0) >= 5:
            break
        time.sleep(0.05)
    assert "image is published as sensor_msgs/msg/CompressedImage: subscribed to that" in process.output
    assert process.stop()[0] == 0, process.output
    assert frames_in(tmp_path / "out")[0] >= 5


def test_images_of_another_size_have_a_video_of_their_own(recorder, tmp_path):
    process, source = recorder()
    record(source, range(5))
    for i in range(5, 8):
        pixels = np.full((40, 60, 3), 90, np.uint8)
        source.images.publish(image_codec.to_message(pixels, source.header(i), "rgb8"))
        source.mask(i, 40, 60)
    record(source, range(8, 10))
    source.wait_for(matched=10)
    assert source.status().level == DiagnosticStatus.OK
    assert process.stop()[0] == 0, process.output
    assert "images of another size came, 60x40: their overlay is overlay_2.mp4" in process.output
    report = json.loads((tmp_path / "out" / "recorder.json").read_text())
    assert [(o["file"], o["width"], o["height"], o["frames"]) for o in report["overlays"]] == [
        ("overlay.mp4", W, H, 7), ("overlay_2.mp4", 60, 40, 3),
    ]  # fmt: skip
    with av.open(str(tmp_path / "out" / "overlay_2.mp4")) as container:
        assert len(list(container.decode(video=0))) == 3


def test_what_cannot_be_drawn_and_masks_without_images_are_a_warning(graph, recorder):
    process, source = recorder()
    for i in range(4):
        source.mask(i)
    source.wait_for(masks_without_image=4)
    wait = graph.wait_until
    wait(lambda: source.status().level == DiagnosticStatus.WARN, 10)
    assert "4 of 4 masks came without an image of their stamp on" in source.status().message
    for i in range(4, 10):
        source.image(i)
        source.mask(i, 40, 60)  # not the image's size
    source.wait_for(matched=6)
    wait(lambda: "frames have no overlay" in source.status().message, 10, lambda: source.status().message)
    assert source.status().level == DiagnosticStatus.WARN and process.stop()[0] == 0


def test_masks_that_do_not_come_are_a_warning_that_says_why_until_they_do(graph, recorder):
    process, source = recorder()
    source.image(0)
    source.mask(0)
    source.wait_for(matched=1)
    wait = graph.wait_until
    wait(lambda: source.status().level == DiagnosticStatus.WARN, 30, source.status)
    assert re.match(r"no masks for \d s: ", source.status().message)
    why = f"{source.masks.topic_name} is published by /test_graph, and nothing of it arrives now"
    wait(lambda: why in source.status().message, 20, source.status)
    process.wait_for_output(f"no masks come: {why}")
    for i in range(1, 400):
        record(source, [i])
        if source.status().level == DiagnosticStatus.OK:
            break
    assert source.status().level == DiagnosticStatus.OK, source.status()
    assert process.stop()[0] == 0 and "Traceback" not in process.output


def test_masks_wait_for_a_ground_truth_whose_topic_is_remapped(recorder, tmp_path):
    process, source = recorder(truth_topic="labelled")
    time.sleep(0.5)  # it has looked who publishes
    source.image(0)
    source.mask(0)
    source.wait_for(images=1, masks=1)
    source.truth(0)
    source.wait_for(matched=1, truths=1)
    assert process.stop()[0] == 0, process.output
    assert json.loads((tmp_path / "out" / "recorder.json").read_text())["with_truth"] == 1


def test_a_topic_of_another_type_is_a_warning_that_names_it(graph, recorder):
    process, source = recorder(kind=None)
    publisher = graph.publisher(String, "/test_a_topic_of_another_type_is_a_warning_that_names_it/image")
    graph.wait_until(lambda: source.status().level == DiagnosticStatus.WARN, 20)
    assert "/image is published as std_msgs/msg/String: expected sensor_msgs/msg/Image or" in source.status().message
    graph.node.destroy_publisher(publisher)
    assert process.stop()[0] == 0
