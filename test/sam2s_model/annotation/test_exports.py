"""What other programs read of an annotation is what was annotated."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import yaml
from pycocotools.coco import COCO

from sam2s_model.annotation.exports import EXPORTS, export_as
from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.recordings.layouts import open_layout
from sam2s_model.recordings.open import open_recording


@pytest.fixture
def annotated(opened, truth):
    """Two objects on four frames, the rest is not tracked."""
    project = opened()
    first, second = list(truth[0])[:2]
    for at in range(4):
        project.prompt(at, 1, mask=truth[at][first])
        project.prompt(at, 2, "object" if at == 0 else "", mask=truth[at][second] & ~truth[at][first])
    return project


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / max(1, (a | b).sum())


def test_the_folder_is_a_data_set(annotated):
    (recording,) = open_layout(annotated.folder)
    assert recording.classes == {1: "instrument", 2: "object"}
    read = [frame.truth for frame in open_recording(annotated.folder)]
    assert [own is not None for own in read] == [True] * 4 + [False] * 4
    assert all(np.array_equal(read[at].masks[2], annotated.masks(at)[2].mask) for at in range(4))


def test_coco_is_opened_by_pycocotools(annotated):
    folder = export_as("coco", annotated)
    coco = COCO(str(folder / "annotations.json"))
    assert [own["name"] for own in coco.loadCats(coco.getCatIds())] == ["instrument", "object"]
    images = coco.loadImgs(coco.getImgIds())
    assert len(images) == 4 and all((folder / "images" / own["file_name"]).is_file() for own in images)
    for at, image in enumerate(images):
        for own in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            expected = annotated.masks(at)[own["track_id"]].mask
            assert np.array_equal(coco.annToMask(own).astype(bool), expected)


@pytest.mark.parametrize("name", ["coco", "davis", "labelme"])
def test_our_own_readers_read_it(annotated, name):
    (recording,) = open_layout(export_as(name, annotated), name)
    frames = list(recording)
    assert len(frames) == 4
    for at, frame in enumerate(frames):
        expected = annotated.masks(at)
        assert len(frame.truth.masks) == 2
        for own in frame.truth.masks.values():  # polygons are to half a pixel
            assert max(overlap(own, there.mask) for there in expected.values()) > (0.85 if name == "labelme" else 0.999)


def test_yolo_has_an_outline_of_each_object(annotated):
    folder = export_as("yolo", annotated)
    assert yaml.safe_load((folder / "data.yaml").read_text())["names"] == {0: "instrument", 1: "object"}
    for at, path in enumerate(sorted((folder / "labels").iterdir())):
        lines = [line.split() for line in path.read_text().splitlines()]
        assert [line[0] for line in lines] == ["0", "1"]
        for number, line in enumerate(lines, 1):
            points = np.array(line[1:], float).reshape(-1, 2) * (160, 128) - 0.5
            drawn = np.zeros((128, 160), np.uint8)
            cv2.fillPoly(drawn, [points.round().astype(np.int32)], 1)
            assert overlap(drawn > 0, annotated.masks(at)[number].mask) > 0.9


def test_a_bag_has_all_images_and_the_masks_that_there_are(annotated):
    folder = export_as("bag", annotated)
    assert yaml.safe_load((folder / "classes.yaml").read_text()) == {1: "instrument", 2: "object"}
    read = list(open_recording(folder / "bag", mask_topic="/annotation/label_image"))
    assert [own.stamp_ns for own in read] == [own.stamp_ns for own in annotated.frames]
    assert [own.truth is not None for own in read] == [True] * 4 + [False] * 4
    for at, own in enumerate(read):
        assert np.array_equal(own.image, annotated.image(at))
        for number, mask in (own.truth.masks if own.truth else {}).items():
            assert np.array_equal(mask, annotated.masks(at)[number].mask)


def test_what_cannot_be_exported_is_said(opened):
    project = opened()
    with pytest.raises(ConfigError, match="export is 'cocoa': expected one of coco, yolo, davis, labelme, bag"):
        export_as("cocoa", project)
    assert set(EXPORTS) == {"coco", "yolo", "davis", "labelme", "bag"}
    with pytest.raises(SourceError, match="no frame with all its masks"):
        export_as("coco", project)
