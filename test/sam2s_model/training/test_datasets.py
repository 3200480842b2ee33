"""Recordings of every layout: names, frames, labels and classes."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.training.data_config import DataConfig, SourceConfig
from sam2s_model.training.datasets import mask_lines, open_source, scene_config, scene_recording
from sam2s_model.training.datasets.images import select

CLASSES = ("scissors", "forceps", "instrument", "object")
SHARED = Path(__file__).parents[4] / "shared" / "data"


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def make(folder: Path, images: str, masks: str, values=(0, 1, 7, 255), count: int = 3, masked: int = 3) -> None:
    """A recording of 20 x 30 px: frame i is of brightness 10 i, its mask has a column for each value."""
    for i in range(count):
        write(folder / images / f"{i:05d}.png", np.full((20, 30, 3), 10 * i, np.uint8))
        if i < masked:
            row = np.array(values, np.uint8).repeat(30 // len(values) + 1)[:30]
            write(folder / masks / f"{i:05d}.png", np.repeat(row[None], 20, axis=0))


LAYOUTS = {
    "frames and masks": ("davis", "{name}/frames", "{name}/masks"),
    "folder": ("folder", "{name}/frames", "{name}/masks"),
    "DAVIS": ("davis", "JPEGImages/480p/{name}", "Annotations/480p/{name}"),
    "YouTube-VOS": ("davis", "JPEGImages/{name}", "Annotations/{name}"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path, layout):
    kind, images, masks = LAYOUTS[layout]
    for name in ("b2", "b10", "a"):
        make(tmp_path, images.format(name=name), masks.format(name=name), masked=2)
    source = SourceConfig(kind, str(tmp_path), without=("a",), class_name="object")
    found = open_source(source, CLASSES)
    assert [r.name for r in found] == ["b2", "b10"] and len(found[0]) == 3 and found[0].annotated == [0, 1]
    image, labels = found[0].frame(1)
    assert image.shape == (20, 30, 3) and (image == 10).all() and np.unique(labels).tolist() == [0, 1, 7, 255]
    assert found[0].frame(2)[1] is None and found[0].classes[7] == CLASSES.index("object")


def test_one_folder_is_one_recording_and_binary_masks_are_object_1(tmp_path):
    make(tmp_path / "clip", "frames", "masks", values=(0, 255))
    (recording,) = open_source(SourceConfig("folder", str(tmp_path / "clip")), CLASSES)
    assert recording.name == "clip" and recording.classes == {1: -1}
    assert np.unique(recording.frame(0)[1]).tolist() == [0, 1]


def test_a_label_set_says_the_classes(tmp_path):
    make(tmp_path / "clip", "frames", "masks", values=(0, 1, 2, 3))
    labels = tmp_path / "set.yaml"
    labels.write_text(
        "name: lab\nclasses:\n  - {id: 1, name: forceps, color: [1, 2, 3]}\n  - {id: 2, name: hand, color: [1, 2, 3]}\n"
    )
    (recording,) = open_source(
        SourceConfig("folder", str(tmp_path), class_name="object", label_set=str(labels)), CLASSES
    )
    assert [recording.classes[v] for v in (1, 2, 3)] == [1, 3, 3]
    with pytest.raises(ConfigError, match="has the classes forceps, hand: expected at least one of scissors"):
        open_source(SourceConfig("folder", str(tmp_path), label_set=str(labels)), ("scissors",))


def test_stills(tmp_path):
    for path in ("x/1.png", "x/2.png", "y/frames/1.png", "y/masks/1.png"):
        write(tmp_path / path, np.zeros((8, 8, 3), np.uint8))
    found = open_source(SourceConfig("images", str(tmp_path)), CLASSES)
    assert [s.name for s in found] == ["x/1", "x/2", "y/1"]
    assert not found[0].has_masks and len(found[0]) == 1 and found[0].frame(0)[1] is None


def test_stills_of_a_video_are_as_players_show_it(tmp_path):
    """Turned to the left by its display matrix, under a name that FFmpeg would take for a protocol's."""
    path = tmp_path / "12:30.mp4"
    with av.open(f"file:{path}", "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        image = np.full((48, 64, 3), 90, np.uint8)
        image[:16, :24] = 255
        for packet in (*stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")), *stream.encode()):
            container.mux(packet)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = struct.pack(">9i", 0, -(1 << 16), 0, 1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    (still,) = open_source(SourceConfig("images", str(path)), CLASSES)
    image, labels = still.frame(0)
    assert image.shape == (64, 48, 3) and labels is None
    assert image[-12:, :8].mean() > 230 and image[:12, :8].mean() < 120


def test_selections_of_overlapping_masks():
    masks = np.zeros((3, 40, 40), bool)
    masks[0], masks[1, 5:35, 5:35], masks[2, 10:20, 10:20] = True, True, True
    seen = [select(np.random.default_rng(seed), masks, (60, 80)) for seed in range(20)]
    assert all(labels.shape == (60, 80) and labels.max() >= 1 for labels in seen)
    assert len({labels.tobytes() for labels in seen}) >= 4
    whole = next(labels for labels in seen if labels.max() == 2)
    assert (whole[20:25, 25:30] == 1).all()  # the smaller one is in front


def test_scenes_have_classes_void_and_are_the_same_again():
    config = scene_config(np.random.default_rng(3), 1003, 64)
    names = ("scissors", "hook", "suction", "forceps", "bipolar", "needle_driver")
    first, second = (scene_recording(config, names) for _ in range(2))
    image, labels = first.frame(40)
    assert (image == second.frame(40)[0]).all() and (labels == second.frame(40)[1]).all()
    assert len(first) > 100 and first.classes == second.classes and min(first.classes.values()) >= 0
    assert scene_recording(config, ("scalpel",)).classes == {label: -1 for label in first.classes}


@pytest.mark.parametrize(
    "source, error, message",
    [
        (SourceConfig("folder", "{}/none"), SourceError, "cannot be read"),
        (SourceConfig("folder", "{}"), SourceError, "no folder frames"),
        (SourceConfig("davis", "{}/half"), SourceError, "no Annotations"),
        (SourceConfig("images", "{}/half/JPEGImages"), SourceError, "has no images"),
        (
            SourceConfig("folder", "{}/good", only=("other",)),
            ConfigError,
            "has no recording 'other': expected one of clip",
        ),
        (SourceConfig("folder", "{}/good", without=("clip",)), ConfigError, "is left: expected at least one of clip"),
        (SourceConfig("images", "{}/good/clip", teacher="{}/nothing"), SourceError, "not a readable teacher's pack"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, source, error, message):
    import dataclasses

    (tmp_path / "half" / "JPEGImages").mkdir(parents=True)
    make(tmp_path / "good" / "clip", "frames", "masks")
    filled = {name: getattr(source, name).format(tmp_path) for name in ("path", "teacher")}
    with pytest.raises(error, match=message):
        open_source(dataclasses.replace(source, **filled), CLASSES)


def test_a_mask_of_another_size_is_named(tmp_path):
    make(tmp_path / "clip", "frames", "masks")
    write(tmp_path / "clip" / "masks" / "00001.png", np.zeros((10, 10), np.uint8))
    (recording,) = open_source(SourceConfig("folder", str(tmp_path)), CLASSES)
    with pytest.raises(SourceError, match="00001.png is 10x10: expected its image's 30x20"):
        recording.frame(1)


def test_the_shared_recordings():
    if not SHARED.is_dir():
        pytest.skip("no shared data beside the repository")
    davis = open_source(SourceConfig("davis", str(SHARED / "davis"), without=("camel",)), CLASSES)
    assert len(davis) == 11 and set(np.unique(davis[0].frame(0)[1])) == {0, 1}
    (chair,) = open_source(SourceConfig("folder", str(SHARED / "pumavos_chair")), CLASSES)
    assert len(chair) == 60 and chair.frame(0)[1].max() == 1  # a palette, whose index counts
    assert len(open_source(SourceConfig("images", str(SHARED / "laparoscopy_clip" / "endo.mp4")), CLASSES)) == 64


@pytest.mark.parametrize(
    "said, expected",
    [
        (dict(threshold=127), [0, 1]),
        (dict(values=(6,), ignore=(7, 255)), [0, 6, 255]),
        (dict(ignore=(255,)), [0, 5, 6, 7, 255]),
        (dict(threshold=6, ignore=(7,)), [0, 1, 255]),
    ],
)
def test_a_source_says_what_label_values_mean(tmp_path, said, expected):
    make(tmp_path / "clip", "frames", "masks", values=(0, 5, 6, 7, 255))
    (recording,) = open_source(SourceConfig("folder", str(tmp_path), **said), CLASSES)
    labels = recording.frame(0)[1]
    assert np.unique(labels).tolist() == expected
    assert recording.showing(0.05) == [0, 1, 2] and recording.showing(0.9) == []
    (line,) = mask_lines([recording])
    assert line.startswith("masks of clip: 3 masks, values as told: ")


def test_stills_in_a_folder_are_recordings_of_their_own(tmp_path):
    make(tmp_path / "set", "frames", "masks", values=(0, 255), masked=2)
    write(tmp_path / "set" / "masks" / "00001.png", np.zeros((20, 30), np.uint8))
    found = open_source(SourceConfig("folder", str(tmp_path), stills=True, class_name="object"), CLASSES)
    assert [r.name for r in found] == ["set/00000", "set/00001", "set/00002"] and [len(r) for r in found] == [1, 1, 1]
    assert np.unique(found[0].frame(0)[1]).tolist() == [0, 1] and found[0].classes[1] == CLASSES.index("object")
    assert not found[1].frame(0)[1].any() and not found[2].has_masks, "of all masks together, that they are binary"
    assert mask_lines(found) == ["masks of set/00000 and 1 more: binary, 255 is object 1"]


def test_what_a_source_tells_of_values_comes_before_what_is_guessed(tmp_path):
    """Values that `auto` refuses, 255 alone in some masks and labels alone in others, are read as the source says."""
    make(tmp_path / "clip", "frames", "masks", values=(0, 255))
    write(
        tmp_path / "clip" / "masks" / "00001.png", np.repeat(np.array([0, 3, 3], np.uint8).repeat(10)[None], 20, axis=0)
    )
    with pytest.raises(SourceError, match="say mask_values"):
        open_source(SourceConfig("folder", str(tmp_path)), CLASSES)
    for said, expected in ((dict(ignore=(255,)), [0, 3]), (dict(threshold=2), [0, 1]), (dict(values=(255,)), [0])):
        (recording,) = open_source(SourceConfig("folder", str(tmp_path), **said), CLASSES)
        assert np.unique(recording.frame(1)[1]).tolist() == expected
    (recording,) = open_source(SourceConfig("folder", str(tmp_path), mask_values="labels", ignore=(3,)), CLASSES)
    assert np.unique(recording.frame(1)[1]).tolist() == [0, 255]
    with pytest.raises(ConfigError, match="mask_values binary, and threshold, values or ignore"):
        DataConfig(sources=(SourceConfig("folder", "x", mask_values="binary", ignore=(3,)),))


def boxed(tmp_path, text: str):
    make(tmp_path / "op", "frames", "boxes", masked=0)
    (tmp_path / "op" / "boxes").mkdir()
    (tmp_path / "op" / "boxes" / "00001.txt").write_text(text)
    table = tmp_path / "labels.yaml"
    table.write_text(
        "name: x\nclasses: [{id: 1, name: forceps, color: [0, 0, 0]}, {id: 3, name: scissors, color: [0, 0, 0]}]\n"
    )
    return open_source(SourceConfig("boxes", str(tmp_path), label_set=str(table)), CLASSES)


def test_boxes_are_read_with_their_classes(tmp_path):
    (recording,) = boxed(tmp_path, "2 0.5 0.25 0.5 0.5\n\n0 0.1 0.9 0.4 0.1\n")
    assert (
        recording.name == "op"
        and not recording.has_masks
        and recording.boxes(0) == []
        and recording.frame(1)[1] is None
    )
    first, second = recording.boxes(1)
    np.testing.assert_allclose(first.corners, [[0.25, 0.0], [0.75, 0.5]])
    np.testing.assert_allclose(
        second.corners, [[0.0, 0.85], [0.3, 0.95]], atol=1e-6
    )  # what is beyond the image is cut off
    assert [CLASSES[recording.classes[box.value]] for box in (first, second)] == ["scissors", "forceps"]


@pytest.mark.parametrize(
    "line", ["0 0.5 0.5 0.1", "tool 0.5 0.5 0.1 0.1", "0 0.5 0.5 0 0.1", "254 0.5 0.5 0.1 0.1", "0 a 0 0 0"]
)
def test_what_is_no_box_is_named(tmp_path, line):
    (recording,) = boxed(tmp_path, f"1 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(SourceError, match="line 2 of .*00001.txt is .*: expected a?"):
        recording.boxes(1)


def test_a_folder_without_boxes_is_refused(tmp_path):
    make(tmp_path / "op", "frames", "masks", masked=0)
    with pytest.raises(SourceError, match="has no boxes of an image beside it"):
        open_source(SourceConfig("boxes", str(tmp_path)), CLASSES)
    with pytest.raises(ConfigError, match=r"threshold 3 and values \(4,\): expected one of them"):
        DataConfig(sources=(SourceConfig("folder", "x", threshold=3, values=(4,)),))
    with pytest.raises(ConfigError, match="names the label value 300: expected 0 to 255"):
        DataConfig(sources=(SourceConfig("folder", "x", ignore=(300,)),))


def test_all_masks_say_how_values_are_read(tmp_path):
    """A void border everywhere and an object in one of forty masks: with nine looked at, the border was the object."""
    for i in range(40):
        mask = np.zeros((20, 30), np.uint8)
        mask[:3] = mask[-3:] = 255
        mask[8:12, 8:12] = i == 17
        write(tmp_path / "clip" / "frames" / f"{i:05d}.png", np.zeros((20, 30, 3), np.uint8))
        write(tmp_path / "clip" / "masks" / f"{i:05d}.png", mask)
    (recording,) = open_source(SourceConfig("folder", str(tmp_path)), CLASSES)
    assert np.unique(recording.frame(17)[1]).tolist() == [0, 1, 255]
    assert mask_lines([recording]) == ["masks of clip: 40 masks, labels: 1 is an object, 255 is void"]
    (recording,) = open_source(SourceConfig("folder", str(tmp_path), mask_values="binary"), CLASSES)
    assert np.unique(recording.frame(0)[1]).tolist() == [0, 1] and list(recording.classes) == [1]


def test_masks_that_no_image_has_are_said(tmp_path):
    make(tmp_path / "clip", "frames", "masks")
    (tmp_path / "clip" / "masks" / "00002.png").rename(tmp_path / "clip" / "masks" / "000002.png")
    (line,) = mask_lines(open_source(SourceConfig("folder", str(tmp_path)), CLASSES))
    assert "1 have the name of no image, the first is 000002.png; 1 of 3 images have none" in line
