"""`sam2s eval` on clips of which something is left out, or of which nothing can be scored."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from evaluated_clips import evaluated, folder, report

from sam2s_ros.evaluation.report import why_nothing


def changed(root: Path, change) -> Path:
    """The folder above with masks changed: change(i, mask) -> mask, or None for no file."""
    for path in sorted((folder(root) / "masks").iterdir()):
        mask = change(int(path.stem), cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
        path.unlink() if mask is None else cv2.imwrite(str(path), mask)
    return root


NOTHING = {
    "16 bits": (
        lambda i, m: m.astype(np.uint16),
        "none of its 6 frames has a mask: 6 images or masks were left out, the first: mask",
    ),
    "colour": (lambda i, m: np.dstack([m * 0, m * 0, m]), "the first: mask .*00000.png is in colour"),
    "half the size": (lambda i, m: m[::2, ::2], "the first: the mask of frame 00000.png is 48x40, its image is 96x80"),
    "two masks": (
        lambda i, m: m if i < 2 else None,
        "2 annotated frames leave none to score, since .*--scored all counts both",
    ),
    "no files but JSON that is none": (None, "the first: .*00000.json is not a file of labelme, nor of COCO"),
    "no object": (lambda i, m: m * 0, "no object is seen in its 6 annotated frames"),
    "no mask": (lambda i, m: None, "none of its 6 frames has a mask"),
}  # fmt: skip


def test_a_tracker_that_was_too_slow_to_be_scored_is_to_be_played_to_more_slowly():
    result = dict(odd=dict(count=0, named=[]), annotated=8, frames_read=8, objects=[{}], live=dict(sent=8, delivered=3))
    said = why_nothing(result, dict(scored="davis"))
    assert said.startswith("masks of 3 of its 8 frames came") and "give a lower --rate" in said
    all_came = why_nothing({**result, "live": dict(sent=8, delivered=8)}, dict(scored="davis"))
    assert "--scored all counts both" in all_came


@pytest.mark.parametrize("name", NOTHING)
def test_an_evaluation_that_scored_nothing_fails_and_says_why(name, tmp_path, capsys):
    change, expected = NOTHING[name]
    changed(tmp_path / "clip", change or (lambda i, mask: None))
    for i in range(6 if change is None else 0):
        (tmp_path / "clip" / "masks" / f"{i:05d}.json").write_text("{}")
    assert evaluated(tmp_path / "out", str(tmp_path / "clip")) == 1
    out = capsys.readouterr().out
    assert re.search(f"nothing was scored of clip/clip: .*{expected}", out), out
    assert list(report(tmp_path / "out")["unscored"]) == ["clip/clip"]


def test_a_recording_whose_masks_are_all_left_out_fails_among_others_too(tmp_path, capsys):
    whole, lost = folder(tmp_path / "whole"), changed(tmp_path / "lost", lambda i, mask: mask[::2, ::2])
    assert evaluated(tmp_path / "out", str(whole), str(lost)) == 1
    assert re.search("nothing was scored of lost/lost: none of its 6 frames has a mask: 6 ", capsys.readouterr().out)
    assert list(report(tmp_path / "out")["unscored"]) == ["lost/lost"]


def test_what_was_left_out_is_counted_and_the_first_is_named(tmp_path, capsys):
    clip = folder(tmp_path / "clip")
    for path in sorted((clip / "masks").iterdir())[4:]:
        path.rename(path.with_name("0" + path.name))
    assert evaluated(tmp_path / "out", str(clip)) == 0
    out = capsys.readouterr().out
    assert (
        "masks of clip: 6 masks, binary, 255 is object 1; 2 have the name of no image, the first is 000004.png" in out
    )
    assert "6 frames read, none dropped, 2 of them without a mask; 2 odd images or masks left out" in out
    assert "clip/clip: 2 left out, the first: mask 000004.png has the name of no image" in out


def test_an_evaluation_without_some_of_the_images_fails(tmp_path, capsys):
    assert evaluated(tmp_path / "out", str(folder(tmp_path / "clip", broken_frames=(2,)))) == 1
    assert "clip/clip: 1 left out, the first: frame 00002.png cannot be decoded" in capsys.readouterr().out
    (own,) = report(tmp_path / "out")["recordings"]
    assert own["images_left_out"] == 1 and own["frames_read"] == 5 and own["scored_frames"]


def test_masks_that_are_none_fail_their_recording(tmp_path, capsys):
    def grey(i, mask):
        return cv2.resize(cv2.resize(mask // 3 + np.roll(mask, 40, 0) // 4, None, fx=0.4, fy=0.4), (96, 80))

    assert evaluated(tmp_path / "out", str(changed(tmp_path / "clip", grey))) == 1
    assert re.search("clip/clip failed: masks of clip: .* only along edges", capsys.readouterr().out)
    assert evaluated(tmp_path / "other", str(tmp_path / "clip"), "--mask-values", "binary") in (0, 1)
    assert "binary, as asked for" in capsys.readouterr().out
    assert evaluated(tmp_path / "third", str(tmp_path / "clip"), "--mask-values", "void") == 2
    assert "mask_values is 'void': expected one of auto, labels, binary" in capsys.readouterr().err
