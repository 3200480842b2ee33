"""COCO and YouTube-VIS with several recordings in a file: each has its own images, names and objects."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from json_files import BOX, H, W, agree, box_mask, coco_file, images, labelme, rle, shape

from sam2s_model.errors import SourceError
from sam2s_model.recordings.coco_file import CocoFile
from sam2s_model.recordings.json_truth import CocoTruth
from sam2s_model.recordings.layouts import open_layout
from sam2s_model.recordings.numbered import NumberedMasks
from sam2s_model.recordings.open import Source, open_recordings


def test_several_recordings_in_one_file(tmp_path):
    for name in ("a", "b"):
        images(tmp_path / "images" / name, 2)
    path = coco_file(tmp_path / "train.json", [{"image_id": 10, "segmentation": rle(box_mask(), True)}], 2, "a/")
    content = json.loads(path.read_text())
    content["images"] += [
        {**image, "id": image["id"] + 50, "file_name": image["file_name"].replace("a/", "b/")}
        for image in content["images"]
    ]
    content["images"].append({"id": 99, "file_name": "gone.png", "height": H, "width": W})
    path.write_text(json.dumps(content))
    first, second = open_layout(tmp_path)
    assert (first.name, second.name) == ("a", "b") and list(first)[0].truth.masks and not list(second)[0].truth.masks
    assert first.odd == ["gone.png of train.json has the name of no image"] and not second.odd


def test_recordings_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for name in ("case1/left", "case2/left"):
        images(tmp_path / name, 2)
    path = coco_file(
        tmp_path / "train.json", [{"image_id": 10, "segmentation": rle(box_mask(), True)}], 2, "case1/left/"
    )
    content = json.loads(path.read_text())
    content["images"].append({"id": 60, "file_name": "case2/left/00000.png", "height": H, "width": W})
    path.write_text(json.dumps(content))
    first, second = open_layout(tmp_path)
    assert (first.name, second.name) == ("case1_left", "case2_left")
    assert list(first)[0].truth.masks and not list(second)[0].truth.masks


def test_names_of_one_number_are_refused(tmp_path):
    path = coco_file(tmp_path / "two.json", [{"image_id": 10, "segmentation": rle(box_mask(), True)}], 1, "left/")
    content = json.loads(path.read_text())
    content["images"].append({**content["images"][0], "id": 11, "file_name": "right/00000.png"})
    path.write_text(json.dumps(content))
    with pytest.raises(SourceError, match=r"two masks of number 0, left/00000.png and right/00000.png"):
        NumberedMasks(path)
    for name in ("1", "01"):
        labelme(tmp_path / "shapes" / f"{name}.json", shape("tool"))
    with pytest.raises(SourceError, match="two masks of number 1, "):
        NumberedMasks(tmp_path / "shapes")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"id": 11}, "two images named 00000.png, of id 10 and 11: expected names that tell them apart"),
        ({"file_name": "b.png"}, "two images of id 10, 00000.png and b.png"),
    ],
)
def test_images_that_nothing_tells_apart_are_refused(tmp_path, change, expected):
    images(tmp_path / "set", 1)
    path = coco_file(tmp_path / "set" / "a.json", [{"image_id": 10, "segmentation": rle(box_mask(), True)}], 1)
    content = json.loads(path.read_text())
    content["images"].append({**content["images"][0], **change})
    path.write_text(json.dumps(content))
    with pytest.raises(SourceError, match=expected):
        open_layout(tmp_path / "set", "coco")


def test_objects_are_numbered_within_a_recording():
    """300 videos with an object each are no 300 objects; 255 in one recording are too many, and it is said so."""
    polygon = [np.array(BOX, float).ravel().tolist()]
    one = dict(height=H, width=W)
    content = {
        "videos": [dict(id=i, file_names=[f"v{i}/0.png"], **one) for i in range(300)],
        "categories": [{"id": 1, "name": "tool"}],
        "annotations": [dict(id=i, video_id=i, category_id=1, segmentations=[polygon]) for i in range(300)],
    }
    file = CocoFile.of(Path("train.json"), content)
    last = CocoTruth(file, ["v299/0.png"])
    assert last.classes == {1: "tool"} and agree(last.of_name("v299/0.png", None).masks[1], box_mask())
    assert last.describe().startswith("COCO, 1 images, 1 annotations")
    with pytest.raises(
        SourceError, match="^there are more than 254 objects: expected at most as many in one recording"
    ):
        CocoTruth(file)


def test_a_recording_of_several_has_the_objects_of_its_own_images(tmp_path):
    for name in ("a", "b"):
        images(tmp_path / "images" / name, 1)
    path = coco_file(tmp_path / "train.json", [{"image_id": 10, "segmentation": rle(box_mask(), True)}], 1, "a/")
    content = json.loads(path.read_text())
    content["images"].append({**content["images"][0], "id": 11, "file_name": "b/00000.png"})
    content["annotations"].append({**content["annotations"][0], "id": 1, "image_id": 11, "category_id": 7})
    path.write_text(json.dumps(content))
    first, second = open_layout(tmp_path)
    assert first.classes == {1: "scissors"} and second.classes == {1: "forceps"}
    assert set(list(second)[0].truth.masks) == {1} and second.odd_count == 0


def test_objects_of_images_that_are_not_there_are_of_no_recording(tmp_path):
    """Else the number of an object would depend on which other images are on the disk, and 255 be too many."""
    images(tmp_path / "images" / "b", 1)
    path = coco_file(tmp_path / "train.json", [], 1, "a/")
    content = json.loads(path.read_text())
    content["images"].append({**content["images"][0], "id": 11, "file_name": "b/00000.png"})
    content["annotations"] = [
        dict(id=n, image_id=10 + (n == 300), category_id=7, track_id=n, segmentation=rle(box_mask(), True))
        for n in range(301)
    ]
    path.write_text(json.dumps(content))
    (recording,) = open_layout(tmp_path)
    assert recording.classes == {1: "forceps"} and set(list(recording)[0].truth.masks) == {1}
    assert recording.odd == ["a/00000.png of train.json has the name of no image"]
    assert "COCO, 1 images, 1 annotations" in recording.describe_masks()


def test_a_recording_reads_its_own_annotations_in_the_order_of_the_file(tmp_path):
    area = {"segmentation": rle(box_mask(), True)}
    path = coco_file(
        tmp_path / "train.json",
        [{"image_id": 11, "category_id": 7, **area}, {"image_id": 10, **area}, {"image_id": 12, **area}],
    )
    file = CocoFile.of(path, json.loads(path.read_text()))
    assert {name: [one.place for one in own] for name, own in file.annotations.items()} == {
        "00001.png": [0], "00000.png": [1], "00002.png": [2],
    }  # fmt: skip
    file.annotations["00002.png"] = None  # of another recording: with many, going over all would take minutes
    truth = CocoTruth(file, ["00000.png", "00001.png", "00003.png"])
    assert truth.classes == {1: "forceps", 2: "scissors"} and not truth.of_name("00003.png", None).masks


@pytest.mark.parametrize("kind", ["labelme", "coco"])
def test_json_that_is_given_for_images_belongs_by_their_names(tmp_path, kind):
    images(tmp_path / "images", 5)
    for index in (0, 2):
        (tmp_path / "images" / f"{index:05d}.png").unlink()
    truth = tmp_path / "given" / "00003.json"
    if kind == "labelme":
        labelme(truth, shape("tool"))
    else:
        coco_file(truth, [{"image_id": 13, "segmentation": rle(box_mask(), True)}])
    (recording,) = open_recordings(Source(str(tmp_path / "images"), truth=str(truth.parent)))
    frames = {frame.name: frame.truth.masks for frame in recording if frame.truth is not None and frame.truth.masks}
    assert set(frames) == {"00003"} and agree(frames["00003"][1], box_mask())


def test_a_track_whose_category_changes_is_one_object(tmp_path):
    """As `sam2s track --coco` writes an object whose class is said late."""
    images(tmp_path / "images", 3)
    area = {"segmentation": rle(box_mask(), True)}
    coco_file(
        tmp_path / "tracks.json",
        [dict(image_id=10 + i, category_id=c, track_id=4, **area) for i, c in enumerate((7, 1, 1))],
        3,
    )
    (recording,) = open_layout(tmp_path)
    assert [set(frame.truth.masks) for frame in recording] == [{1}] * 3 and recording.classes == {1: "scissors"}
    assert "1 tracks change their category: each is one object" in recording.describe_masks()


def test_a_track_with_two_categories_on_one_image_is_an_object_for_each(tmp_path):
    """As data sets of parts have it: one instrument, its shaft and its jaws."""
    images(tmp_path / "images", 2)
    area = {"segmentation": rle(box_mask(), True)}
    own = [dict(image_id=10 + i, category_id=c, track_id=4, **area) for i, c in ((0, 1), (0, 7), (1, 7))]
    coco_file(tmp_path / "parts.json", own, 2)
    (recording,) = open_layout(tmp_path)
    assert [set(frame.truth.masks) for frame in recording] == [{1, 2}, {2}]
    assert recording.classes == {1: "scissors", 2: "forceps"} and "change their" not in recording.describe_masks()
