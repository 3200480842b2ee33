"""Every layout written to disk and read back: names, frames, masks, classes, and what is odd."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.recordings.layouts import open_layout, recognise_layout
from sam2s_model.recordings.numbered import NumberedMasks
from sam2s_model.recordings.recording import Truth

H, W = 20, 32


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def image(path: Path, value: int, size=(H, W)) -> None:
    write(path, np.full((*size, 3), value, np.uint8))


def columns(*values: int) -> np.ndarray:
    """(H, W) uint8: a column of equal width for each value."""
    return np.repeat(np.repeat(np.array(values, np.uint8), W // len(values))[None], H, axis=0)


def davis(root: Path, images="JPEGImages/480p", masks="Annotations/480p") -> None:
    for name in ("b2", "b10"):
        for i in range(3):
            image(root / images / name / f"{i:05d}.png", 10 * i)
            write(root / masks / name / f"{i:05d}.png", columns(0, 1, 7, 255))


def sav(root: Path) -> None:
    for i in range(5):
        image(root / "JPEGImages_24fps" / "v" / f"{i:05d}.png", 10 * i)
    for i in (0, 4):
        for label, mask in ((0, columns(255, 255, 0, 0)), (1, columns(0, 255, 255, 0))):  # they overlap
            if (i, label) != (4, 1):
                write(root / "Annotations_6fps" / "v" / f"{label:03d}" / f"{i:05d}.png", mask)


def endovis17(root: Path) -> None:
    for name in ("instrument_dataset_1", "instrument_dataset_2"):
        for i in range(2):
            image(root / name / "left_frames" / f"frame{i:03d}.png", i)
            truth = root / name / "ground_truth"
            write(truth / "Left_Prograsp_Forceps_labels" / f"frame{i:03d}.png", columns(10, 20, 0, 0))
            write(truth / "Large_Needle_Driver_Right_labels" / f"frame{i:03d}.png", columns(0, 0, 0, 30))


def endovis18(root: Path) -> None:
    for name in ("seq_1", "seq_10"):
        for i in range(2):
            image(root / "images" / f"{name}_frame{i:03d}.png", i)
            write(root / "annotations" / f"{name}_frame{i:03d}.png", columns(0, 1, 1, 4))


def cholec(root: Path) -> None:
    colours = np.array([(127, 127, 127), (210, 140, 140), (170, 255, 0), (169, 255, 184)], np.uint8)  # RGB
    mask = np.repeat(np.repeat(colours, W // 4, axis=0)[None], H, axis=0)
    for clip in ("video01/video01_00080", "video12/video12_15750"):
        for i in (80, 81, 100):
            image(root / clip / f"frame_{i}_endo.png", i)
            write(root / clip / f"frame_{i}_endo_color_mask.png", mask[..., ::-1])
            write(root / clip / f"frame_{i}_endo_watershed_mask.png", mask)


def folder(root: Path) -> None:
    for name in ("one", "two"):
        for i in range(3):
            image(root / name / "frames" / f"{i}.png", i)
        write(root / name / "masks" / "0.png", columns(0, 255))


WRITERS = dict(davis=davis, sav=sav, endovis2017=endovis17, endovis2018=endovis18, cholecseg8k=cholec, folder=folder)
NAMES = dict(
    davis=["b2", "b10"], sav=["v"], endovis2017=["instrument_dataset_1", "instrument_dataset_2"],
    endovis2018=["seq_1", "seq_10"], cholecseg8k=["video01_00080", "video12_15750"], folder=["one", "two"],
)  # fmt: skip
AREAS = dict(  # of a quarter of the image, in the first frame
    davis={1: 1, 7: 1}, sav={0: 2, 1: 2}, endovis2017={1: 1, 2: 2}, endovis2018={1: 2, 4: 1}, cholecseg8k={1: 1, 2: 1},
    folder={1: 2},
)  # fmt: skip


@pytest.mark.parametrize("layout", WRITERS)
def test_a_layout_is_recognised_and_read(tmp_path, layout):
    WRITERS[layout](tmp_path / "set")
    assert recognise_layout(tmp_path / "set") == layout
    for chosen in ("auto", layout):
        found = open_layout(tmp_path / "set", chosen)
        assert [r.name for r in found] == NAMES[layout] and {r.data_set for r in found} == {"set"}
    frames = list(found[0])
    assert len(frames) == found[0].length and found[0].odd_count == 0
    stamps = [f.stamp_ns for f in frames]
    assert stamps == sorted(set(stamps)) and stamps[0] > 0 and [f.index for f in frames] == list(range(len(frames)))
    assert all(f.image.shape == (H, W, 3) for f in frames)
    truth = frames[0].truth
    assert {label: mask.sum() * 4 / (H * W) for label, mask in truth.masks.items()} == AREAS[layout]


def test_what_is_particular_to_a_layout(tmp_path):
    for name, writer in WRITERS.items():
        writer(tmp_path / name)
    first = {name: open_layout(tmp_path / name)[0] for name in WRITERS}
    frames = {name: list(recording) for name, recording in first.items()}
    assert frames["davis"][0].truth.void.sum() == H * W / 4
    assert [f.truth is None for f in frames["sav"]] == [False, True, True, True, False] and first["sav"].fps == 24
    assert frames["sav"][4].truth.mask(1, (H, W)) is None, "of an object without a file nothing is known"
    assert first["endovis2017"].classes == {1: "large needle driver", 2: "prograsp forceps"}
    assert first["endovis2018"].classes[4] == "monopolar curved scissors"
    assert [f.name for f in frames["cholecseg8k"]] == ["frame_80_endo", "frame_81_endo", "frame_100_endo"]
    assert frames["cholecseg8k"][0].truth.void.sum() == H * W / 4
    assert [f.truth is None for f in frames["folder"]] == [False, True, True]


def test_youtube_vos_and_a_single_folder(tmp_path):
    davis(tmp_path / "vos", "JPEGImages", "Annotations")
    assert [r.name for r in open_layout(tmp_path / "vos")] == ["b2", "b10"]
    folder(tmp_path)
    (one,) = open_layout(tmp_path / "one")
    assert (one.name, one.data_set) == ("one", "one")


def test_odd_frames_and_masks_are_named_and_counted(tmp_path):
    for i in range(6):
        image(tmp_path / "frames" / f"{i}.png", i, (H, W + (i == 2)))
        write(tmp_path / "masks" / f"{i}.png", columns(0, 1)[: H - (i == 3)])
    (tmp_path / "frames" / "1.png").write_bytes(b"no image")
    (tmp_path / "masks" / "4.png").write_bytes(b"no mask")
    (recording,) = open_layout(tmp_path)
    for _ in range(2):  # each pass counts anew
        frames = list(recording)
        assert [f.index for f in frames] == [0, 3, 4, 5] and [f.truth is not None for f in frames] == [
            True,
            False,
            False,
            True,
        ]
        assert recording.odd_count == 4
        texts = (
            "1.png cannot be",
            "2.png is 33x20, the first one is 32x20",
            "3.png is 32x19, its image is 32x20",
            "4.png cannot be",
        )
        assert all(text in odd for text, odd in zip(texts, recording.odd, strict=True)), recording.odd


def test_clips_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for part in ("train", "val"):
        for kind in ("", "_color_mask"):
            write(tmp_path / part / "video01_00080" / f"frame_80_endo{kind}.png", np.zeros((H, W, 3), np.uint8))
    assert [r.name for r in open_layout(tmp_path, "cholecseg8k")] == ["train_video01_00080", "val_video01_00080"]


def test_two_recordings_of_one_name_are_refused(tmp_path):
    for clip in ("a/b_c", "a_b/c", "d/c"):
        for kind in ("", "_color_mask"):
            write(tmp_path / clip / f"frame_80_endo{kind}.png", np.zeros((H, W, 3), np.uint8))
    with pytest.raises(SourceError, match="has 1 names of several recordings, such as a_b_c: rename"):
        open_layout(tmp_path)


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(SourceError, match="has no layout that is known: expected one of sav: JPEGImages"):
        open_layout(tmp_path)
    with pytest.raises(ConfigError, match="layout is 'voc': expected auto or one of sav, davis"):
        open_layout(tmp_path, "voc")
    with pytest.raises(SourceError, match="is not laid out as davis: expected JPEGImages/"):
        open_layout(tmp_path, "davis")
    image(tmp_path / "one" / "frames" / "0.png", 0)
    with pytest.raises(SourceError, match="is laid out as folder, but has no recording with masks"):
        open_layout(tmp_path)


def test_numbered_masks(tmp_path):
    write(tmp_path / "a" / "00030.png", columns(0, 255))
    write(tmp_path / "a" / "mask_7.png", columns(0, 0))
    masks = NumberedMasks(tmp_path / "a")
    assert masks.numbers == [7, 30] and masks.truth(8, (H, W)) is None and masks.truth(7, (H, W)).masks == {}
    assert masks.truth(30, (2 * H, 2 * W)).masks[1].sum() == 2 * H * W, "scaled to its frame"
    with pytest.raises(SourceError, match="is 32x20: expected the proportions of its frame, 20x20"):
        masks.truth(30, (20, 20))
    write(tmp_path / "b" / "12_000000034.png", columns(0, 1))
    write(tmp_path / "b" / "13000000000.png", columns(0, 1))
    assert NumberedMasks(tmp_path / "b").numbers == [12_000_000_034, 13_000_000_000]
    write(tmp_path / "c" / "mask.png", columns(0, 1))
    with pytest.raises(SourceError, match="has no number in its name"):
        NumberedMasks(tmp_path / "c")


def test_truth_of_labels():
    truth = Truth.of_labels(columns(0, 3, 255, 3))
    assert list(truth.masks) == [3] and truth.void.sum() == H * W / 4
    assert not truth.mask(5, (H, W)).any(), "a label image says of every object whether it is there"
