"""What `sam2s track` takes, and leaves for analysis: prompts; a table, COCO, palette masks, states of objects."""

from __future__ import annotations

import csv
import json

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from sam2s_model.recordings.image_files import read_labels
from sam2s_model.results.tracks_table import COLUMNS
from sam2s_model.tracks import State

SCENE = "scene:?width=96&height=80&frames=6&seed=1&fps=20"


def test_table_coco_masks_and_summary_agree(track, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / ("longer than the terminal is wide, " * 3)
    assert track(SCENE, "--coco", "--output", out) == 0
    shown = capsys.readouterr().out
    assert "first lost" in shown and "occluded" in shown
    assert all(f"  {out / name}  " in shown for name in ("overlay.mp4", "tracks.csv", "tracks.json", "summary.json"))

    with (out / "tracks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS and len(rows) == 12
    for row in rows:
        mask = read_labels(out / "masks" / f"{row['name']}.png") == int(row["label"])
        assert mask.sum() == int(row["area"])
    coco = COCO(str(out / "tracks.json"))
    assert [image["file_name"] for image in coco.dataset["images"]] == [f"{i:06d}.png" for i in range(6)]
    for found in coco.loadAnns(coco.getAnnIds()):
        assert np.array_equal(coco.annToMask(found), read_labels(_mask_of(out, coco, found)) == found["track_id"])

    summary = json.loads((out / "summary.json").read_text())
    assert [label["name"] for label in summary["label_set"]["classes"]] == [
        c["name"] for c in coco.dataset["categories"]
    ]
    for found in summary["objects"]:
        own = [row for row in rows if int(row["object_id"]) == found["object_id"]]
        counts = {state: sum(row["state"] == state.name for row in own) for state in State}
        assert counts == {state: found[f"frames_{state.name.lower()}"] for state in State} and sum(counts.values()) == 6
        lost = [int(row["frame"]) for row in own if row["state"] == "LOST"]
        assert found["first_lost_frame"] == (lost[0] if lost else None) and found["class"] == own[0]["class"]


def _mask_of(out, coco, found):
    return out / "masks" / coco.loadImgs(found["image_id"])[0]["file_name"]


def test_parquet_is_the_table_or_refused_before_anything_is_written(track, tmp_path, capsys):
    try:
        from pyarrow import parquet
    except ImportError:
        assert track(SCENE, "--parquet", "--output", tmp_path / "out") == 2
        assert "pip install 'sam2s_ros[parquet]'" in capsys.readouterr().err and not (tmp_path / "out").exists()
        return
    assert track(SCENE, "--parquet", "--frames", 2, "--output", tmp_path / "out") == 0
    assert parquet.read_table(tmp_path / "out" / "tracks.parquet").num_rows == 4


def test_progress_is_lines_where_there_is_no_terminal(track, tmp_path, capsys, monkeypatch):
    from sam2s_ros.commands import progress

    monkeypatch.setattr(progress, "EVERY", 1e-9)
    assert track(SCENE, "--frames", 3, "--output", tmp_path / "out") == 0
    assert "frame 3 of 3, " in capsys.readouterr().out


@pytest.mark.parametrize("file", ["tracks.csv", "tracks.json", "tracks.parquet"])
def test_p41_no_result_of_an_earlier_run_is_written_over(track, tmp_path, capsys, file):
    (tmp_path / file).write_text("precious")
    assert track(SCENE, "--frames", 1, "--output", tmp_path) == 2
    assert f"has results already ({file})" in capsys.readouterr().err and (tmp_path / file).read_text() == "precious"


def test_results_in_the_folder_of_their_source_are_replaced_unless_they_are_read(track, tmp_path, capsys):
    (tmp_path / "frames").mkdir()
    for i in range(3):
        cv2.imwrite(str(tmp_path / "frames" / f"{i}.png"), np.full((80, 96, 3), 60 * i, np.uint8))
    again = ("--box", "10,10,40,40", "--output", tmp_path, "--overwrite")
    for _ in range(2):
        assert track(tmp_path, *again, "--no-masks") == 0
    assert track(tmp_path, *again) == 0
    capsys.readouterr()
    assert track(tmp_path, *again) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "masks/0.png, which is read: give another --output" in said, "as ground truth, by now"
    assert (tmp_path / "masks" / "0.png").is_file() and (tmp_path / "tracks.csv").is_file()


def test_prompts_of_a_file_start_and_correct_objects_on_their_frames(track, tmp_path, capsys):
    script = tmp_path / "prompts.yaml"
    script.write_text(
        "prompts:\n"
        "- {frame: 1, object: 8, class: object, box: [10, 10, 50, 50]}\n"
        "- {name: '000003', object: 5, points: [[70, 30]]}\n"
        "- {frame: 4, object: 8, class: instrument, not_on: [[70, 30]]}\n"
        "- {frame: 9, object: 5, points: [[70, 30]]}\n"
    )
    out = tmp_path / "out"
    assert track(SCENE, "--prompts", script, "--label-set", "generic", "--output", out) == 0
    assert "prompts on frames that never came: object 5 on frame 9" in capsys.readouterr().out
    with (out / "tracks.csv").open() as file:
        rows = [(int(row["frame"]), int(row["object_id"]), row["class"]) for row in csv.DictReader(file)]
    first = [(frame, 1, "object") for frame in range(1, 4)] + [(frame, 1, "instrument") for frame in range(4, 6)]
    assert sorted(rows) == sorted(first + [(frame, 2, "instrument") for frame in range(3, 6)])
    summary = json.loads((out / "summary.json").read_text())
    assert summary["prompts_not_applied"] == ["object 5 on frame 9"]


def test_start_begins_with_the_frame_that_the_prompts_are_about(track, tmp_path):
    given = ("--start", 2, "--frames", 3, "--points", "20,30;-70,30", "--output", tmp_path / "out")
    assert track(SCENE, *given) == 0
    with (tmp_path / "out" / "tracks.csv").open() as file:
        assert [int(row["frame"]) for row in csv.DictReader(file)] == [2, 3, 4]


def test_a_full_disk_is_one_sentence(track, tmp_path, monkeypatch, capsys):
    def full(path, *_):
        if path.stem == "000002":
            raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("sam2s_ros.commands.track_output.write_label_png", full)
    assert track("scene:?width=96&height=80&frames=5&seed=1", "--output", tmp_path / "out") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "cannot be written to (No space left on device): give another --output" in said
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["frames"] == 2 and "No space left" in summary["interrupted_by"]


def test_without_prompts_and_truth_there_is_a_picture_with_a_grid(track, tmp_path, capsys):
    import cv2

    cv2.imwrite(str(tmp_path / "image.png"), np.zeros((80, 96, 3), np.uint8))
    assert track(tmp_path, "--output", tmp_path / "out") == 2
    error = capsys.readouterr().err
    picture = tmp_path / "out" / "first_frame.png"
    assert f"--prompts FILE; {picture} shows it with a grid of pixel coordinates" in error and picture.is_file()
    assert track(tmp_path, "--box", "10,10,50,50", "--output", tmp_path / "out") == 0  # it is no result to keep


def test_objects_in_folders_of_any_number_are_scored(track, tmp_path):
    """As in SA-V, which begins with 0; an object without a file is not scored there."""
    for i in range(5):
        masks = {f"Annotations_6fps/v/{k:03d}": np.zeros((80, 96), np.uint8) for k in (0, 300)}
        masks["Annotations_6fps/v/000"][10:40, 10 + i : 40 + i] = 255
        masks["Annotations_6fps/v/300"][45:75, 50:90] = 255
        for below, pixels in (("JPEGImages_24fps/v", np.full((80, 96, 3), 90, np.uint8)), *masks.items()):
            if not (below.endswith("300") and i == 3):
                (tmp_path / "sav" / below).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(tmp_path / "sav" / below / f"{i:05d}.png"), pixels)
    assert track(tmp_path / "sav", "--output", tmp_path / "out") == 0
    objects = json.loads((tmp_path / "out" / "summary.json").read_text())["objects"]
    assert [(one["truth_label"], one["scored_frames"]) for one in objects] == [(0, 4), (300, 3)]
    assert track(tmp_path / "sav", "--box", "10,10,40,40", "--output", tmp_path / "boxed") == 0
    (one,) = json.loads((tmp_path / "boxed" / "summary.json").read_text())["objects"]
    assert one["truth_label"] is None and one["mean_iou"] is None, "not taken for that of object 0"
