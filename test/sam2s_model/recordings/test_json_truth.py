"""Ground truth as JSON: labelme, COCO, YouTube-VIS; compared with what was drawn, and with pycocotools."""

from __future__ import annotations

import base64
import json

import cv2
import numpy as np
import pytest
from json_files import BOX, H, W, agree, box_mask, coco_file, images, labelme, rle, shape, shifted

from sam2s_model.errors import SourceError
from sam2s_model.recordings.json_truth import decoded
from sam2s_model.recordings.layouts import open_layout, recognise_layout
from sam2s_model.recordings.numbered import NumberedMasks


@pytest.mark.parametrize("where", ["masks", "frames"])
def test_labelme_in_a_folder_of_masks_or_beside_the_images(tmp_path, where):
    images(tmp_path / "clip" / "frames")
    for i in range(3):
        labelme(
            tmp_path / "clip" / where / f"{i:05d}.json",
            shape("scissors", shifted(i)),
            *[shape("forceps", [[40, 30], [50, 38]], "rectangle")] * (i == 1),
        )
    (recording,) = open_layout(tmp_path / "clip")
    frames = list(recording)
    assert recording.classes == {1: "scissors", 2: "forceps"} and recording.odd_count == 0
    assert [f.truth is None for f in frames] == [False, False, False, True]
    assert all(agree(f.truth.masks[1], box_mask(i)) for i, f in enumerate(frames[:3])) and set(
        frames[1].truth.masks
    ) == {1, 2}
    assert frames[0].truth.mask(2, (H, W)).sum() == 0, "an image with a file is annotated as a whole"
    assert "3 files of labelme; 2 objects" in recording.describe_masks()


def test_a_number_as_a_label_is_a_name(tmp_path):
    """As the names of classes are everywhere: a report sorts and joins them."""
    images(tmp_path / "frames", 2)
    labelme(tmp_path / "masks" / "00000.json", shape(3), shape("tool", shifted(25)))
    labelme(tmp_path / "masks" / "00001.json", shape("3"))
    (recording,) = open_layout(tmp_path)
    assert recording.classes == {1: "3", 2: "tool"}
    assert [set(frame.truth.masks) for frame in recording] == [{1, 2}, {1}]


def test_folders_as_labelme_leaves_them(tmp_path):
    for name in ("a", "b"):
        images(tmp_path / name)
        labelme(tmp_path / name / "00001.json", shape("tool"))
    assert recognise_layout(tmp_path) == "labelme"
    assert [r.name for r in open_layout(tmp_path)] == ["a", "b"]


PNG = base64.b64encode(cv2.imencode(".png", np.full((16, 20), 255, np.uint8))[1]).decode()
CIRCLE = cv2.circle(np.zeros((H, W), np.uint8), (30, 20), 12, 1, -1) > 0
CORNER = np.pad(np.ones((10, 20), bool), ((0, H - 10), (0, W - 20)))
SHAPES = {
    "rectangle of two corners": (shape("t", [[30, 24], [10, 8]], "rectangle"), box_mask()),
    "polygon, whatever its kind is called": ({"label": "t", "points": BOX}, box_mask()),
    "circle": (shape("t", [[30, 20], [30, 32]], "circle"), CIRCLE),
    "mask": (shape("t", [[10, 8], [29, 23]], "mask", mask=PNG), box_mask()),
    "mask outside": (shape("t", [[-90, -80], [-71, -65]], "mask", mask=PNG), np.zeros((H, W), bool)),
    "partly outside": (shape("t", [[-9, -9], [20, -9], [20, 10], [-9, 10]]), CORNER),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_with_an_area(tmp_path, name):
    given, expected = SHAPES[name]
    images(tmp_path / "frames", 1)
    labelme(tmp_path / "masks" / "00000.json", given)
    (frame,) = open_layout(tmp_path)[0]
    assert agree(frame.truth.masks[1], expected)


def test_groups_void_and_background_of_labelme(tmp_path):
    images(tmp_path / "frames", 2)
    labelme(
        tmp_path / "masks" / "00000.json",
        shape("tool", group_id=1),
        shape("tool", shifted(25), group_id=2),
        shape("__ignore__", [[0, 30], [9, 30], [9, 39], [0, 39]]),
    )
    labelme(
        tmp_path / "masks" / "00001.json",
        shape("tool", shifted(5), group_id=2),
        shape("_background_"),
        shape("gauze"),
        shape("gauze", shifted(25)),
    )
    (recording,) = open_layout(tmp_path)
    first, second = recording
    assert (
        recording.classes == {1: "tool", 2: "tool", 3: "gauze"}
        and set(first.truth.masks) == {1, 2}
        and set(second.truth.masks) == {2, 3}
    )
    assert first.truth.void[33:37, 2:7].all() and second.truth.void is None
    assert second.truth.masks[3].sum() > 1.8 * box_mask().sum(), "both parts"
    assert "1 times annotations that nothing tells apart are one object" in recording.describe_masks()


@pytest.mark.parametrize(("content", "expected"), [
    ("{}", "is not a file of labelme, nor of COCO: expected shapes with label and points, and it has nothing"),
    ('{"regions": []}', "it has 'regions'"), ("no json", "is not JSON"),
    (
        json.dumps({"shapes": [{"label": "t", "points": [[1, 1], [5, 5]], "shape_type": "line"}]}),
        "'t' is a line with no area: expected one of",
    ),
    (json.dumps({"shapes": [{"label": "t", "points": [[1, 1], [5, 5]]}]}), "'t' is a polygon with 2 points"),
    (json.dumps({"shapes": [shape("t", [[1, 2], [3, "q"], [4, 5]])]}), "00001.json: shape 't' has points that are no"),
    (json.dumps({"shapes": [shape("t", [[1, 2], [3], [4, 5]])]}), "00001.json: shape 't' has points that are no x, y"),
    (json.dumps({"shapes": [shape("t", [[1, 2], [3, float("nan")], [4, 5]])]}), "'t' has points that are not finite"),
    (json.dumps({"shapes": [shape(["t"])]}), "00001.json: a shape has label ['t']: expected a text or a number"),
    (json.dumps({"shapes": [shape("t", group_id=[1])]}), "a shape has group_id [1]"),
    (json.dumps({"shapes": [shape("t", kind={})]}), "a shape has shape_type {}"),
    (json.dumps({"shapes": [shape("t")], "imageHeight": "q", "imageWidth": 5}), "its image is 5 x 'q': expected px"),
    (json.dumps({"shapes": [shape("t")], "imageHeight": -9, "imageWidth": 5}), "its image is 5 x -9: expected px"),
])  # fmt: skip
def test_files_that_are_none_are_odd_and_named(tmp_path, content, expected):
    images(tmp_path / "frames", 2)
    labelme(tmp_path / "masks" / "00000.json", shape("tool"))
    (tmp_path / "masks" / "00001.json").write_text(content)
    (tmp_path / "masks" / "7.json").write_text('{"shapes": []}')
    (recording,) = open_layout(tmp_path)
    frames = list(recording)
    assert [f.truth is None for f in frames] == [False, True]
    assert (
        recording.odd_count == 2
        and "7.json has the name of no image" in recording.odd[0]
        and expected in recording.odd[1]
    )


@pytest.mark.parametrize("compressed", [True, False])
def test_rle_gives_what_was_encoded(compressed):
    assert np.array_equal(decoded(rle(box_mask(), compressed), (H, W), "x"), box_mask())


@pytest.mark.parametrize(
    "segmentation",
    [{"counts": [1, 2], "size": [9, 9]}, {"size": [H, W]}, {"counts": 5, "size": [H, W]}, None, [["a"] * 6]],
)
def test_segmentations_that_are_none_are_named(segmentation):
    with pytest.raises(SourceError, match="x.json: a segmentation cannot be decoded"):
        decoded(segmentation, (H, W), "x.json")


@pytest.mark.parametrize(
    ("polygons", "why"),
    [
        ([], "it has no polygon of three points; a box alone"),
        ([[1.0, 1, 5, 5]], "it has no polygon of three points"),
        ([[70.0, 5, 90, 5, 90, 20]], "its polygons are outside the image, which is 60x40"),
        ([[5.0, -20, 9, -20, 9, -3]], "its polygons are outside the image"),
    ],
)
def test_an_object_without_an_area_is_not_taken_for_one_that_is_absent(tmp_path, polygons, why):
    """As detectors' data sets have them: then nothing is known of that image, and the others are scored."""
    images(tmp_path / "set")
    seen = [np.array(BOX, float).ravel().tolist()]
    missing = {} if polygons == [] else {"segmentation": polygons}
    coco_file(tmp_path / "set" / "_annotations.coco.json", [
        {"image_id": 10, "segmentation": seen}, {"image_id": 11, **missing}, {"image_id": 12, "segmentation": polygons},
    ])  # fmt: skip
    (recording,) = open_layout(tmp_path / "set", "coco")
    frames = list(recording)
    assert [frame.truth is None for frame in frames] == [False, True, True, False]
    assert agree(frames[0].truth.masks[1], box_mask()) and recording.odd_count == 2
    assert all(why in line and "_annotations.coco.json, 0000" in line for line in recording.odd)


def test_an_annotation_of_no_image_is_named(tmp_path):
    images(tmp_path / "set")
    coco_file(tmp_path / "set" / "_annotations.coco.json", [{"image_id": 99, "segmentation": []}])
    with pytest.raises(SourceError, match="an annotation is of image 99, which it does not have"):
        open_layout(tmp_path / "set", "coco")


PLACES = {
    "a folder of masks": ("frames", "masks/instances.json", "folder"),
    "a folder of annotations": ("images", "annotations/instances_default.json", "coco"),
    "beside the images": ("", "_annotations.coco.json", "coco"),
}


@pytest.mark.parametrize("place", PLACES)
def test_coco_with_polygons_and_rle(tmp_path, place):
    below, file, layout = PLACES[place]
    images(tmp_path / "set" / below)
    polygon = [np.array(BOX, float).ravel().tolist()]
    coco_file(tmp_path / "set" / file, [
        {"image_id": 10, "segmentation": polygon}, {"image_id": 11, "segmentation": rle(box_mask(5), True)},
        {"image_id": 11, "segmentation": rle(box_mask(25), False), "category_id": 7},
        {"image_id": 12, "segmentation": rle(box_mask(9), True), "iscrowd": 1},
    ])  # fmt: skip
    assert recognise_layout(tmp_path / "set") == layout
    (recording,) = open_layout(tmp_path / "set")
    frames = list(recording)
    assert recording.classes == {1: "scissors", 2: "forceps"} and recording.odd_count == 0
    assert agree(frames[0].truth.masks[1], box_mask())
    assert np.array_equal(frames[1].truth.masks[1], box_mask(5)) and np.array_equal(
        frames[1].truth.masks[2], box_mask(25)
    )
    assert np.array_equal(frames[2].truth.void, box_mask(9)) and not frames[3].truth.masks, (
        "an image that is listed is annotated"
    )
    assert "4 images, 4 annotations, the category says which object" in recording.describe_masks()


def test_tracks_of_coco_are_objects(tmp_path):
    """As CVAT writes them: two objects of a category, and all of them said to be crowds, since they are RLE."""
    images(tmp_path / "frames", 2)
    annotations = [
        dict(image_id=10 + i, segmentation=rle(box_mask(20 * k), True), iscrowd=1, attributes={"track_id": k})
        for i in range(2)
        for k in range(2)
    ]
    coco_file(tmp_path / "masks" / "default.json", annotations, 2)
    first, second = open_layout(tmp_path)[0]
    assert set(first.truth.masks) == set(second.truth.masks) == {1, 2} and np.array_equal(
        second.truth.masks[2], box_mask(20)
    )


def test_labelme_beside_a_folder_of_the_same_name(tmp_path):
    for place in (tmp_path / "clip", tmp_path / "clip" / "clip"):
        images(place, 1)
        (place / "00000.json").write_text(json.dumps({"shapes": [], "imageHeight": H, "imageWidth": W}))
    assert [r.name for r in open_layout(tmp_path / "clip", "labelme")] == ["clip", "clip_clip"]


def test_youtube_vis(tmp_path):
    images(tmp_path / "JPEGImages" / "v", 3)
    content = {
        "videos": [{"id": 1, "file_names": [f"v/{i:05d}.png" for i in range(3)], "height": H, "width": W}],
        "categories": [{"id": 1, "name": "tool"}],
        "annotations": [
            {
                "id": 5 + k,
                "video_id": 1,
                "category_id": 1,
                "segmentations": [rle(box_mask(20 * k), True), None, rle(box_mask(20 * k), False)],
            }
            for k in range(2)
        ],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    (recording,) = open_layout(tmp_path)
    frames = list(recording)
    assert recording.classes == {1: "tool", 2: "tool"} and not frames[1].truth.masks
    assert np.array_equal(frames[2].truth.masks[2], box_mask(20))


def test_json_by_the_numbers_of_a_video(tmp_path):
    path = coco_file(
        tmp_path / "video.json", [{"image_id": 12, "segmentation": rle(box_mask(), True)}], prefix="frame_"
    )
    masks = NumberedMasks(path)
    assert (
        masks.numbers == [0, 1, 2, 3]
        and np.array_equal(masks.truth(2, (H, W)).masks[1], box_mask())
        and masks.truth(9, (H, W)) is None
    )
    with pytest.raises(SourceError, match="are of 60x40 px: expected its frame's 80x80"):
        masks.truth(2, (80, 80))
    for i in range(1, 4):
        labelme(tmp_path / "shapes" / f"{i}.json", shape("tool"))
    masks = NumberedMasks(tmp_path / "shapes", frames=3)
    assert masks.numbers == [0, 1, 2] and "numbered from 1" in masks.describe() and masks.classes == {1: "tool"}
