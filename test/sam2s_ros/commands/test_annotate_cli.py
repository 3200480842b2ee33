"""`sam2s annotate --apply`: a file of prompts becomes a data set, without a page."""

from __future__ import annotations

from itertools import islice

import cv2
import numpy as np
import pytest

from sam2s_model.recordings.open import open_recording
from sam2s_ros.commands import progress
from sam2s_ros.commands.cli import main

SCENE = "scene:?width=160&height=128&frames=4&seed=0"
SMALL = ["--checkpoint", "sam2s_pico", "--image-size", "128", "--device", "cpu"]


def test_a_file_of_prompts_becomes_a_data_set(tmp_path, capsys):
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text("prompts:\n- {frame: 0, object: 1, class: hook, box: [20, 20, 90, 100]}\n")
    folder = tmp_path / "out"
    command = ["annotate", SCENE, "--apply", str(prompts), "--output", str(folder), *SMALL]
    assert main([*command, "--export", "coco"]) == 0
    assert "1 objects, masks on 4 of 4 frames" in " ".join(capsys.readouterr().out.split())
    read = list(open_recording(folder))
    assert len(read) == 4 and all(frame.truth is not None for frame in read)
    assert (folder / "export" / "coco" / "annotations.json").is_file()
    prompts.write_text("prompts:\n- {frame: 9, object: 1, box: [20, 20, 90, 100]}\n")
    assert main(command) == 2
    assert "1 prompts of no frame of the recording, the first of 9" in capsys.readouterr().err


def test_a_folder_goes_on_with_its_own_classes(tmp_path, capsys):
    table = tmp_path / "mine.yaml"
    table.write_text("name: mine\nclasses:\n- {id: 7, name: spoon, color: [1, 2, 3]}\n")
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text("prompts:\n- {frame: 0, object: 1, class: spoon, box: [20, 20, 90, 100]}\n")
    command = ["annotate", SCENE, "--output", str(tmp_path / "out"), *SMALL]
    assert main([*command, "--apply", str(prompts), "--labels", str(table)]) == 0
    table.unlink()
    assert main([*command, "--export", "coco"]) == 0
    assert "1 objects, masks on 4 of 4 frames" in " ".join(capsys.readouterr().out.split())
    assert '"spoon"' in (tmp_path / "out" / "export" / "coco" / "annotations.json").read_text()
    assert main([*command, "--export", "coco", "--labels", "m2cai16"]) == 2
    assert "whose label_set is mine, not m2cai16" in capsys.readouterr().err


def test_the_masks_of_a_source_are_where_it_begins(tmp_path, capsys):
    command = ["annotate", SCENE, "--from-masks", "1", "--output", str(tmp_path), "--export", "davis", *SMALL]
    assert main(command) == 0
    truth = list(open_recording(SCENE))[1].truth
    read = list(open_recording(tmp_path))
    assert [frame.truth is not None for frame in read] == [False, True, False, False]
    assert read[1].truth.masks.keys() == truth.masks.keys()
    assert "begun with 2 masks of 1 frames" in " ".join(capsys.readouterr().out.split())


def test_all_masks_of_a_data_set_are_taken_over(tmp_path, capsys):
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    assert main(["annotate", SCENE, "--from-masks", "0", "--output", first, "--export", "coco", *SMALL]) == 0
    assert main(["annotate", SCENE, "--from-masks", "all", "--output", second, "--export", "coco", *SMALL]) == 0
    assert "begun with 8 masks of 4 frames" in " ".join(capsys.readouterr().out.split())
    assert main(["annotate", SCENE, "--from-masks", "all", "--output", second, "--export", "coco", *SMALL]) == 0
    said = "begun with 0 masks of 4 frames; 8 objects on them were prompted before, and stay as they are"
    assert said in " ".join(capsys.readouterr().out.split())
    for own, expected in zip(open_recording(second), open_recording(SCENE), strict=True):
        assert own.truth.masks.keys() == expected.truth.masks.keys()
        assert all((own.truth.masks[label] == mask).all() for label, mask in expected.truth.masks.items())


def test_object_0_of_a_data_set_is_one_object(tmp_path, capsys):
    images, masks = tmp_path / "sav" / "JPEGImages_24fps" / "v", tmp_path / "sav" / "Annotations_6fps" / "v"
    for folder in (images, masks / "000", masks / "001"):
        folder.mkdir(parents=True)
    for frame in islice(open_recording(SCENE), 2):
        assert cv2.imwrite(str(images / f"{frame.name}.png"), frame.image)
        for label, mask in frame.truth.masks.items():
            assert cv2.imwrite(str(masks / f"{label - 1:03d}" / f"{frame.name}.png"), mask * np.uint8(255))
    out = str(tmp_path / "out")
    assert (
        main(["annotate", str(tmp_path / "sav"), "--from-masks", "all", "--output", out, "--export", "coco", *SMALL])
        == 0
    )
    said = " ".join(capsys.readouterr().out.split())
    assert "object 000 of the masks is object 2 here" in said and "begun with 4 masks of 2 frames" in said
    assert "2 objects, masks on 2 of 2 frames" in said


def test_masks_of_files_are_where_it_begins(tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    base = ["annotate", SCENE, *SMALL, "--export", "coco"]
    assert main([*base, "--from-masks", "0", "--output", str(first)]) == 0
    for masks in (first / "masks", first / "export" / "coco" / "annotations.json"):
        assert main([*base, "--masks", str(masks), "--output", str(second / masks.stem)]) == 0
        assert "begun with 2 masks of 1 frames" in " ".join(capsys.readouterr().out.split())
        begun, expected = (next(iter(open_recording(own))).truth for own in (second / masks.stem, first))
        assert sorted(m.sum() for m in begun.masks.values()) == sorted(m.sum() for m in expected.masks.values())
    assert main([*base, "--masks", str(first / "masks"), "--from-masks", "3", "--output", str(tmp_path / "x")]) == 2
    assert "masks has no masks on frame 3: give another --from-masks" in capsys.readouterr().err


def test_a_class_that_is_none_is_said_before_the_frames_are_taken_with_the_table_that_has_it(tmp_path, capsys):
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text("prompts:\n- {frame: 0, object: 1, class: grasper, box: [20, 20, 90, 100]}\n")
    command = ["annotate", SCENE, "--apply", str(prompts), "--output", str(tmp_path / "out"), *SMALL]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "class 'grasper' is not in label set 'scene'" in error and "m2cai16 has it" in error
    assert not (tmp_path / "out").exists()
    assert main([*command, "--label-set", "m2cai16"]) == 0  # the option's name is that of track, eval and demo
    assert main([*command, "--label-set", "m2cai"]) == 2
    assert "did you mean m2cai16?" in capsys.readouterr().err


def test_without_a_terminal_it_says_how_far_it_is(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 1e-6)  # s
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text("prompts:\n- {frame: 0, object: 1, class: hook, box: [20, 20, 90, 100]}\n")
    assert main(["annotate", SCENE, "--apply", str(prompts), "--output", str(tmp_path / "out"), *SMALL]) == 0
    assert "frame 4 of 4, " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--export", "cocoa"], "export is 'cocoa': expected one of coco, yolo, davis, labelme, bag"),
        (["--from-masks", "7"], "has no masks on frame 7"),
        (["--from-masks", "x"], "--from-masks x: expected the number of a frame, from 0, or all"),
        (["--from-boxes", "1"], "--from-boxes 1 without --boxes: give the files that have them"),
        (["--boxes", "none.json"], "none.json cannot be read"),
        (["--apply", "none.yaml"], "none.yaml cannot be read as prompts"),
    ],
)
def test_what_cannot_be_is_said(tmp_path, capsys, options, said):
    assert main(["annotate", SCENE, "--output", str(tmp_path), *SMALL, *options]) == 2
    assert said in capsys.readouterr().err
