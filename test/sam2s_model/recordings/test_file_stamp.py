"""A change of any file of a recording or of its truth is noticed, and of none besides."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from sam2s_model.recordings.file_stamp import recording_stamp, source_stamp
from sam2s_model.recordings.open import Source, open_recordings


def write(path: Path, value: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((8, 8, 3 if value > 1 else 1), value, np.uint8))
    return path


def stamps(path: Path) -> dict[str, list[int]]:
    return {recording.name: recording_stamp(recording) for recording in open_recordings(Source(str(path)))}


def touch(path: Path, root: Path) -> None:
    newest = max(file.stat().st_mtime_ns for file in root.rglob("*"))
    os.utime(path, ns=(newest + 10**9, newest + 10**9))


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("{}/frames/0.png", "{}/masks/0.png"),
        ("JPEGImages/{}/0.png", "Annotations/{}/0.png"),
        ("JPEGImages_24fps/{}/0.png", "Annotations_6fps/{}/000/0.png"),
        ("{}/left_frames/frame000.png", "{}/ground_truth/Clip_labels/frame000.png"),
        ("images/seq_{}_frame000.png", "annotations/seq_{}_frame000.png"),
        ("v/{}/frame_1_endo.png", "v/{}/frame_1_endo_color_mask.png"),
    ],
)
def test_each_file_of_each_layout_counts_for_its_own_recording(tmp_path, image, mask):
    for name in "12":
        write(tmp_path / image.format(name), 90)
        write(tmp_path / mask.format(name), 1)
    before = stamps(tmp_path)
    (tmp_path / "notes.txt").write_text("of no recording")
    assert stamps(tmp_path) == before and len(before) == 2 and all(stamp[0] >= 2 for stamp in before.values())
    for file in (image, mask):
        touch(tmp_path / file.format("1"), tmp_path)
        after = stamps(tmp_path)
        assert [name for name in before if after[name] != before[name]] == [next(iter(before))]
        before = after


def test_masks_by_number_and_classes_count(tmp_path):
    for i in range(2):
        write(tmp_path / "clip" / "frames" / f"{i}.png", 90)
        write(tmp_path / "clip" / "masks" / f"{i}.png", 1)
    before = stamps(tmp_path / "clip")
    (tmp_path / "clip" / "classes.yaml").write_text("1: scissors")
    assert stamps(tmp_path / "clip") != before
    video = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 64))
    for _ in range(2):
        writer.write(np.zeros((64, 64, 3), np.uint8))
    writer.release()
    (recording,) = open_recordings(Source(str(video), truth=str(tmp_path / "clip" / "masks")))
    assert set(recording.files()) == {video, *(tmp_path / "clip" / "masks").iterdir()}


def test_a_folder_without_its_results(tmp_path):
    write(tmp_path / "0.png", 90)
    before = source_stamp(str(tmp_path), tmp_path / "out")
    write(tmp_path / "out" / "deep" / "1.png", 90)
    assert source_stamp(str(tmp_path), tmp_path / "out") == before == source_stamp(str(tmp_path / "0.png"))
    assert source_stamp(str(tmp_path))[0] == 2
    assert source_stamp("scene:?seed=1") == source_stamp(f"https://host/{'a' * 300}.mp4") == []


def test_folders_that_are_links_count_once(tmp_path):
    image = write(tmp_path / "disk" / "op12" / "0.png", 90)
    (tmp_path / "op12" / "results").mkdir(parents=True)
    (tmp_path / "op12" / "frames").symlink_to(image.parent)
    out = tmp_path / "op12" / "results"
    before = source_stamp(str(tmp_path / "op12"), out)
    assert before == source_stamp(str(image))
    for name, target in (("again", image.parent), ("loop", tmp_path / "op12"), ("disk", out), ("gone", tmp_path / "x")):
        (image.parent / name).symlink_to(target)
    write(out / "1.png", 90)
    assert source_stamp(str(tmp_path / "op12"), out)[0] == 2, "the image, and a link to nothing"
    os.utime(image, ns=(before[2] + 10**9,) * 2)
    assert source_stamp(str(tmp_path / "op12"), out)[2] == before[2] + 10**9
