"""One recording for all: truth as masks and as labels, any frame at any time, layouts that training reads as well."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.recordings.layouts import LAYOUTS, layout_named, open_layout
from sam2s_model.recordings.open import open_recording
from sam2s_model.recordings.recording import Truth
from sam2s_model.training.data_config import DataConfig, SourceConfig
from sam2s_model.training.datasets import open_source

H, W = 20, 32


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def columns(*values: int) -> np.ndarray:
    """(H, W) uint8: a column of equal width for each value."""
    return np.repeat(np.repeat(np.array(values, np.uint8), W // len(values))[None], H, axis=0)


def test_a_label_image_is_handed_on_and_its_masks_are_cut_when_they_are_asked_for():
    labels = columns(0, 1, 7, 255)
    truth = Truth.of_labels(labels)
    assert truth.labels is labels and truth.complete
    assert {label: mask.tolist() for label, mask in truth.masks.items()} == {v: (labels == v).tolist() for v in (1, 7)}
    assert np.array_equal(truth.void, labels == 255) and Truth.of_labels(columns(0, 1)).void is None


def test_masks_become_a_label_image():
    masks = {7: columns(0, 1, 1, 0) > 0, 1: columns(1, 1, 0, 0) > 0}
    truth = Truth(masks, columns(0, 0, 0, 1) > 0)
    assert np.array_equal(truth.labels, columns(1, 7, 7, 255)), "where they overlap, the larger number"
    assert not Truth({}, size=(H, W)).labels.any()
    with pytest.raises(SourceError, match="object 0 has no value in a label image: expected 1 to 254"):
        Truth({0: masks[1]}).labels  # noqa: B018
    with pytest.raises(SourceError, match="masks of one frame are 32x20 and 20x32: expected one size"):
        Truth({1: masks[1], 2: masks[1].T}).labels  # noqa: B018
    with pytest.raises(SourceError, match="has no mask: expected one at least"):
        Truth({}).labels  # noqa: B018


@pytest.mark.parametrize("given", [Truth.of_labels(columns(0, 1)), Truth({1: columns(0, 1) > 0})])
def test_the_size_of_masks_is_told(given):
    assert given.other_size((H, W)) is None and given.other_size((W, H)) == (H, W)


def folder(path: Path, count: int = 4) -> Path:
    for i in range(count):
        write(path / "frames" / f"{i:03d}.png", np.full((H, W, 3), 10 * i, np.uint8))
        if i != 1:
            write(path / "masks" / f"{i:03d}.png", columns(0, 1, i, 255))
    return path


@pytest.mark.parametrize("spec", ["scene:?width=96&height=80&frames=4&seed=3", "folder"])
def test_any_frame_is_that_of_a_pass(tmp_path, spec):
    spec = spec if spec.startswith("scene") else str(folder(tmp_path / spec))
    recording = open_recording(spec)
    passed = list(recording)
    for frame in reversed(passed):
        again = recording.frame(frame.index)
        assert (again.index, again.stamp_ns, again.name) == (frame.index, frame.stamp_ns, frame.name)
        assert np.array_equal(again.image, frame.image) and (again.truth is None) == (frame.truth is None)
        assert recording.is_annotated(frame.index) == (frame.truth is not None)
        if frame.truth:
            assert np.array_equal(again.truth.labels, frame.truth.labels)
            assert np.array_equal(recording.truth(frame.index).labels, frame.truth.labels)
    assert len(passed) == recording.length == 4


def test_what_does_not_fit_is_left_out_of_a_pass_and_raised_for_a_frame(tmp_path):
    folder(tmp_path / "clip")
    write(tmp_path / "clip" / "masks" / "002.png", np.zeros((H, H), np.uint8))
    (tmp_path / "clip" / "frames" / "003.png").write_bytes(b"x")
    recording = open_recording(tmp_path / "clip")
    assert [(f.index, f.truth is None) for f in recording] == [(0, False), (1, True), (2, True)]
    assert recording.odd_count == 2 and "the mask of frame 002.png is 20x20, its image is 32x20" in recording.odd[0]
    with pytest.raises(SourceError, match=r"mask .*002.png is 20x20: expected its image's 32x20"):
        recording.frame(2)
    with pytest.raises(SourceError, match="003.png is not a readable image"):
        recording.frame(3)


def test_every_layout_is_one_that_training_reads(tmp_path):
    assert all(layout_named(name).expected for name in LAYOUTS)
    for name in LAYOUTS:
        SourceConfig(name, "x")
    for name in set(LAYOUTS) - {"davis", "folder"}:
        with pytest.raises(SourceError, match=f"is not laid out as {name}: expected .*"):
            open_source(SourceConfig(name, str(tmp_path)), ("object",))
    with pytest.raises(ConfigError, match="kind is 'other': expected one of .*endovis2018.*images"):
        DataConfig(sources=(SourceConfig("other", "x"),))


def test_training_knows_the_classes_of_a_layout_and_follows_it_as_the_evaluation_does(tmp_path):
    for i in range(2):
        write(tmp_path / "set" / "images" / f"seq_1_frame{i:03d}.png", np.full((H, W, 3), i, np.uint8))
        write(tmp_path / "set" / "annotations" / f"seq_1_frame{i:03d}.png", columns(0, 1, 2, 4))
    classes = ("prograsp forceps", "monopolar curved scissors")
    (trained,) = open_source(SourceConfig("endovis2018", str(tmp_path / "set"), class_name=classes[0]), classes)
    (evaluated,) = open_layout(tmp_path / "set")
    assert (trained.name, len(trained), trained.annotated) == (evaluated.name, evaluated.length, [0, 1])
    assert [trained.classes[label] for label in (1, 2, 4)] == [0, 0, 1], "an unknown name is of the source's class"
    for ours, theirs in zip(trained.frames(), evaluated, strict=True):
        assert np.array_equal(ours.image, theirs.image) and np.array_equal(ours.truth.labels, theirs.truth.labels)
    assert np.array_equal(trained.frame(1)[1], columns(0, 1, 2, 4))


def test_a_recording_of_a_data_set_is_played_and_tracked_as_any_other(tmp_path):
    for name in ("camel", "goat"):
        write(tmp_path / "set" / "JPEGImages" / "480p" / name / "0.png", np.full((H, W, 3), 90, np.uint8))
        write(tmp_path / "set" / "Annotations" / "480p" / name / "0.png", columns(0, 3))
    recording = open_recording(f"{tmp_path}/set#goat")
    (frame,) = recording
    assert (recording.name, recording.spec, recording.size) == ("goat", f"{tmp_path}/set#goat", (H, W))
    assert recording.has_masks and np.array_equal(frame.truth.labels, columns(0, 3))
    for spec in (f"{tmp_path}/set", f"{tmp_path}/set#ox"):
        with pytest.raises(SourceError, match="set has the recordings camel, goat: give one of them as .*set#NAME"):
            open_recording(spec)
    with pytest.raises(SourceError, match="topics are for bags only"):
        open_recording(f"{tmp_path}/set#goat", topic="/camera")
    shutil.rmtree(tmp_path / "set" / "Annotations" / "480p" / "camel")
    assert open_recording(tmp_path / "set").name == "goat", "the only one that is annotated"


def test_names_of_layouts_are_told_without_reading_images():
    """The command line lists them, and is fast."""
    code = "import sys, sam2s_model.recordings.layouts; print({'numpy', 'cv2', 'av'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
