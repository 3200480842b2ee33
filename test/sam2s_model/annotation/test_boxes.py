"""Boxes of a detector become objects, one for each instrument."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from sam2s_model.annotation.boxes import begin_with_boxes, read_detections
from sam2s_model.errors import RequestError, SourceError
from sam2s_model.tracking.association import Detection, Fate

HEIGHT, WIDTH = 128, 160


def box_of(mask: np.ndarray) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0] - 0.5, rows[0] - 0.5, columns[-1] + 0.5, rows[-1] + 0.5


def line_of(box, label: int, *score: float) -> str:
    x0, y0, x1, y1 = ((value + 0.5) / side for value, side in zip(box, (WIDTH, HEIGHT) * 2, strict=True))
    return " ".join(map(str, (label, (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, *score))) + "\n"


def test_yolo_and_coco_say_the_same(opened, truth, tmp_path):
    project = opened()
    first, second = (box_of(mask) for mask in list(truth[2].values())[:2])
    folder = tmp_path / "labels"
    folder.mkdir()
    (folder / "clip_3.txt").write_text(line_of(first, 0, 0.9) + line_of(second, 1, 0.5))
    (folder / "clip_8.txt").write_text(line_of(second, 1))  # of 8 frames the last: they count from 1
    (folder / "clip_5.txt").write_text("")
    found = read_detections(folder, project)
    assert {at: [own.class_name for own in rows] for at, rows in found.items()} == {
        2: ["instrument", "object"], 7: ["object"]
    }  # fmt: skip
    assert [own.score for own in found[2]] == [0.9, 0.5]
    assert np.allclose([own.box for own in found[2]], [first, second], atol=1e-3)
    rows = [
        dict(image_id=5, category_id=k + 1, score=s, bbox=[b[0] + 0.5, b[1] + 0.5, b[2] - b[0], b[3] - b[1]])
        for k, (b, s) in enumerate([(first, 0.9), (second, 0.5)])
    ]
    whole = dict(
        images=[dict(id=5, file_name="x/000002.jpg")], annotations=rows,
        categories=[dict(id=1, name="instrument"), dict(id=2, name="object")],
    )  # fmt: skip
    (tmp_path / "coco.json").write_text(json.dumps(whole))
    (coco,) = read_detections(tmp_path / "coco.json", project).items()
    assert coco[0] == 2 and np.allclose([own.box for own in coco[1]], [first, second])
    assert [own.class_name for own in coco[1]] == ["instrument", "object"]
    (tmp_path / "results.json").write_text(json.dumps([{**row, "image_id": 2} for row in rows]))
    results = read_detections(tmp_path / "results.json", project)
    assert list(results) == [2] and results[2] == coco[1]


def test_all_files_say_whether_they_are_numbered_from_1(opened, truth, tmp_path):
    """Also those without a box, of a recording of 8 frames of which fewer were taken."""
    project, said = opened(limit=4), []
    box = box_of(truth[0][1])
    for folder, name in ((tmp_path / "named", "{:06d}"), (tmp_path / "numbered", "clip_{}")):
        folder.mkdir()
        for number in range(1, 9):
            (folder / f"{name.format(number)}.txt").write_text(line_of(box, 0) if number in (2, 4, 7) else "")
        assert list(read_detections(folder, project, said.append)) == [1, 3]
        assert said.pop() == f"{folder}: numbered from 1: the first frame is 1" and not said
    images = [dict(id=number, file_name=f"{number:06d}.jpg") for number in range(1, 9)]
    rows = [dict(image_id=2, category_id=1, bbox=[5, 5, 20, 20])]
    (tmp_path / "coco.json").write_text(json.dumps(dict(images=images, annotations=rows)))
    assert list(read_detections(tmp_path / "coco.json", project)) == [1]
    (tmp_path / "numbered" / "clip_8.txt").unlink()
    assert list(read_detections(tmp_path / "numbered", project, said.append)) == [2]
    assert said == [f"{tmp_path / 'numbered'}: numbered from 0 is assumed: the first frame is 0"]
    for path in (tmp_path / "named").iterdir():
        if path.stem != "000002":
            path.unlink()
    said.clear()
    assert list(read_detections(tmp_path / "named", project, said.append)) == [2] and not said, "by its name"


def test_names_of_classes_are_those_of_data_yaml(opened, truth, tmp_path):
    (tmp_path / "data.yaml").write_text("names: {0: object, 1: spoon}\n")
    (tmp_path / "labels").mkdir()
    own = box_of(truth[0][1])
    (tmp_path / "labels" / "000000.txt").write_text(line_of(own, 0) + line_of(own, 1))
    project = opened()
    assert [d.class_name for d in read_detections(tmp_path / "labels", project)[0]] == ["object", "spoon"]
    (tmp_path / "labels" / "000000.txt").write_text(line_of(own, 7))
    with pytest.raises(SourceError, match="has class 7: expected 0 to 1, object, spoon"):
        read_detections(tmp_path / "labels", project)


def test_each_instrument_is_one_object(opened, truth):
    project = opened()
    first, second = (box_of(truth[0][label]) for label in list(truth[0])[:2])
    found = {
        0: [Detection(first, "object", 0.9), Detection(first, "object", 0.8), Detection(second, "spoon", 0.2)],
        1: [Detection(second, "", 0.9)],
    }
    numbers, fates = begin_with_boxes(project, found, min_score=0.5)
    assert numbers == [1, 2] and fates == {Fate.NEW: 2, Fate.DUPLICATE: 1, Fate.WEAK: 1}
    assert {n: own.class_name for n, own in project.objects.items()} == {1: "object", 2: "instrument"}
    assert [at for _, at, _ in project.store.entries()] == [0, 1]
    begun = project.masks(1)[1].mask  # tracked on to frame 1, since the second begins there
    again, fates = begin_with_boxes(project, {1: [Detection(box_of(begun), "object")]})
    assert again == [] and fates == {Fate.KNOWN: 1}


def test_what_cannot_be_is_said(opened, truth, tmp_path):
    project = opened()
    for content, said in (("[1]", "has no boxes of COCO"), ("{", "is not JSON"), ("[]", "has no box of a frame")):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(SourceError, match=said):
            read_detections(tmp_path / "a.json", project)
    (tmp_path / "a.json").write_text('[{"image_id": 0, "category_id": 1, "bbox": [5, 5, NaN, 20]}]')
    with pytest.raises(SourceError, match=r"bbox \[5, 5, nan, 20\] of image 0 is not finite"):
        read_detections(tmp_path / "a.json", project)
    (tmp_path / "labels").mkdir()
    for line in ("0 0.5 0.5 inf 0.2", "0 0.5 0.5 0.2 0.2 nan"):
        (tmp_path / "labels" / "000000.txt").write_text(line)
        with pytest.raises(SourceError, match=f"is '{line}': expected class, x, y, width, height, all finite"):
            read_detections(tmp_path / "labels", project)
    (tmp_path / "labels" / "000000.txt").unlink()
    (tmp_path / "labels" / "clip.txt").write_text(line_of(box_of(truth[0][1]), 0))
    with pytest.raises(SourceError, match="box file clip has no number in its name"):
        read_detections(tmp_path / "labels", project)
    many = {0: [Detection((x, y, x + 20.0, y + 20.0)) for x in (5.0, 40.0, 80.0) for y in (5.0, 60.0)]}
    with pytest.raises(RequestError, match="there are 4 objects: max_objects is 4"):
        begin_with_boxes(project, many)


def test_boxes_of_other_videos_in_one_file_are_left_out(opened, tmp_path):
    project, said, path = opened(), [], tmp_path / "coco.json"
    own = project.recording_name
    files = [f"data/{own}/frames/000002.jpg", "data/other/frames/000002.jpg", "data/other/frames/000005.jpg"]

    def write(files: list[str], rows: bool = False) -> None:
        """rows: a list of results, whose images are their files"""
        boxes = [
            dict(image_id=files[k] if rows else k, category_id=1, bbox=[5 + k, 5, 20, 20]) for k in range(len(files))
        ]
        images = [dict(id=k, file_name=file) for k, file in enumerate(files)]
        path.write_text(json.dumps(boxes if rows else dict(images=images, annotations=boxes)))

    for rows in (False, True):
        write(files, rows)
        found = read_detections(path, project, said.append)
        assert {at: [box.box[0] for box in boxes] for at, boxes in found.items()} == {2: [4.5]}
        assert said.pop() == f"{path}: 2 of 3 images are of other recordings by their folders, and are left out"
    write(["a/000002.jpg", "a/000003.jpg", "b/000004.jpg"])
    assert list(read_detections(path, project, said.append)) == [2, 3, 4], "parts of one video, no name is there twice"
    assert said.pop() == (
        f"{path}: no folder of an image is named as the recording, {own}: those of all 2 folders are taken"
    )
    for twice in (["a/000002.jpg", "b/000002.jpg"], ["000002.jpg", "000002.png"], [f"x/{own}/000002.jpg", files[0]]):
        write(twice)
        with pytest.raises(
            SourceError, match=f"the images {twice[0]} and {twice[1]}, .*of one, or .*its folders, {own}"
        ):
            read_detections(path, project)


def test_only_files_with_boxes_are_told_apart(opened, tmp_path):
    """Others of the same name, and one file under two ids, as in files that were merged, are nothing to choose from."""
    project, path = opened(), tmp_path / "coco.json"
    names = ["a/000002.jpg", "b/000002.jpg", "./a/000002.jpg", "c/000003.jpg", "d/000003.jpg"]
    images = [dict(id=k, file_name=name) for k, name in enumerate(names)]
    boxes = [dict(image_id=k, category_id=1, bbox=[5 + k, 5, 20, 20]) for k in (0, 2, 4)]
    path.write_text(json.dumps(dict(images=images, annotations=boxes)))
    found = read_detections(path, project)
    assert {at: [box.box[0] for box in own] for at, own in found.items()} == {2: [4.5, 6.5], 3: [8.5]}


@pytest.mark.parametrize(
    "folder, name, folders",
    [
        ("data/case1/images", "images", ["case2/images", "case1/images", "images"]),
        ("data/2024.01.15", "2024.01", ["2024.01.16", "2024.01.15", "2024.01"]),
        ("set/case1/frames", "case1", ["export/case1", "set/case1/frames", "case1"]),
    ],
)
def test_of_several_folders_of_the_name_that_of_the_recording_is_taken(opened, tmp_path, folder, name, folders):
    (tmp_path / folder).mkdir(parents=True)
    for number in range(4):
        cv2.imwrite(str(tmp_path / folder / f"{number:06d}.png"), np.full((32, 40, 3), 90, np.uint8))
    source = tmp_path / folder
    project = opened(spec=str(source.parent if source.name == "frames" else source))
    assert project.recording_name == name and project.recording_path == source
    images = [dict(id=k, file_name=f"{own}/000002.png") for k, own in enumerate(folders)]
    boxes = [dict(image_id=k, category_id=1, bbox=[5 + k, 5, 20, 20]) for k in range(len(folders))]
    (tmp_path / "coco.json").write_text(json.dumps(dict(images=images, annotations=boxes)))
    found = read_detections(tmp_path / "coco.json", project)
    assert {at: [box.box[0] for box in own] for at, own in found.items()} == {2: [5.5]}
