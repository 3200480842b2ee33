"""Sources on small files made here: what comes out, and the sentence when it cannot (bags: test_sources_bag.py)."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from sam2s_model.errors import SourceError
from sam2s_model.recordings.image_files import natural_key, read_labels
from sam2s_model.recordings.open import open_recording
from sam2s_model.recordings.recording import FIRST_STAMP_NS, MAX_NAMED

H, W = 48, 64


def picture(index: int, height: int = H, width: int = W) -> np.ndarray:
    """(H, W, 3) uint8 RGB whose red says which one it is; green and blue differ, so that a swap of channels shows."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = 10 + 8 * index, 30, 200
    return image


def truth(index: int) -> np.ndarray:
    mask = np.zeros((H, W), np.uint8)
    mask[5:20, index : index + 10] = 1
    mask[30:40, 20:30] = 2
    return mask


def save(path, rgb: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))


def check_pictures(source, count: int, tolerance: int = 0) -> list:
    frames = list(source)
    assert [f.index for f in frames] == list(range(count))
    stamps = [f.stamp_ns for f in frames]
    assert stamps == sorted(set(stamps)) and stamps[0] > 0
    for frame in frames:
        assert (
            frame.image.shape == (*source.size, 3) and frame.image.dtype == np.uint8 and frame.image.flags.c_contiguous
        )
        difference = frame.image.astype(int) - picture(frame.index)
        assert np.abs(difference).max() <= tolerance, frame.name
    return frames


# folders


@pytest.fixture
def folder(tmp_path):
    for i in range(12):
        save(tmp_path / f"frame{i}.png", picture(i))
    return tmp_path


def test_folder_in_natural_order(folder):
    (folder / "notes.txt").write_text("not an image")
    source = open_recording(folder)
    assert (source.kind, source.fps, source.size, source.length, source.has_masks) == (
        "folder",
        25.0,
        (H, W),
        12,
        False,
    )
    frames = check_pictures(source, 12)
    assert [f.name for f in frames] == [f"frame{i}" for i in range(12)]
    assert [f.stamp_ns for f in frames[:3]] == [
        FIRST_STAMP_NS,
        FIRST_STAMP_NS + 40_000_000,
        FIRST_STAMP_NS + 80_000_000,
    ]
    assert all(f.truth is None for f in frames) and source.odd_count == 0


def test_source_can_be_iterated_again(folder):
    source = open_recording(folder)
    first = check_pictures(source, 12)
    again = check_pictures(source, 12)
    assert [f.stamp_ns for f in first] == [f.stamp_ns for f in again]


@pytest.mark.parametrize(
    "names",
    [
        ("2", "10", "1a", "1b", "01c"),
        ("img2.png", "img10.png", "img1.png"),
        ("²", "a1", "A2"),
    ],
)
def test_natural_key_orders_any_names(names):
    ordered = sorted(names, key=natural_key)
    numbered = [n for n in ordered if n[:1].isascii() and n[:1].isdigit()]
    assert [int("".join(c for c in n if c.isdigit())) for n in numbered] == sorted(
        int("".join(c for c in n if c.isdigit())) for n in numbered
    )
    assert len(ordered) == len(names)


def test_folder_with_masks(tmp_path):
    for i in range(3):
        save(tmp_path / "frames" / f"{i}.jpg", picture(i))
    (tmp_path / "masks").mkdir()
    for i in (0, 2):
        cv2.imwrite(str(tmp_path / "masks" / f"{i}.png"), truth(i))
    source = open_recording(tmp_path)
    assert source.has_masks
    frames = list(source)
    assert np.array_equal(frames[0].truth.labels, truth(0)) and np.array_equal(frames[2].truth.labels, truth(2))
    assert frames[1].truth is None and source.odd_count == 0


def test_binary_masks_become_label_one(tmp_path):
    for i in range(3):
        save(tmp_path / "frames" / f"{i}.png", picture(i))
        (tmp_path / "masks").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "masks" / f"{i}.png"), (truth(i) == 1).astype(np.uint8) * 255 * (i != 0))
    frames = list(open_recording(tmp_path))
    assert not frames[0].truth.labels.any()
    assert np.array_equal(frames[2].truth.labels, (truth(2) == 1).astype(np.uint8))


def test_label_masks_keep_255_as_outside(tmp_path):
    """One frame shows nothing but what is outside the field: the others tell that the masks are labels."""
    for i in range(3):
        save(tmp_path / "frames" / f"{i}.png", picture(i))
        mask = truth(i) if i else np.zeros((H, W), np.uint8)
        mask[:, :4] = 255
        (tmp_path / "masks").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "masks" / f"{i}.png"), mask)
    frames = list(open_recording(tmp_path))
    assert set(np.unique(frames[0].truth.labels)) == {0, 255} and set(np.unique(frames[1].truth.labels)) == {
        0,
        1,
        2,
        255,
    }


def test_palette_png_gives_indices(tmp_path):
    """As annotation tools write them: the colours of a palette PNG say nothing, the indices are the labels."""
    path = tmp_path / "palette.png"
    path.write_bytes(_palette_png(truth(3)))
    assert np.array_equal(read_labels(path), truth(3))


def _palette_png(indices: np.ndarray) -> bytes:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = indices.shape
    rows = b"".join(b"\0" + row.tobytes() for row in indices)
    palette = bytes((0, 0, 0, 128, 0, 0, 0, 128, 0))
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", header), chunk(b"PLTE", palette), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    )


def test_odd_frames_are_named_and_counted(folder):
    save(folder / "frame3.png", picture(3, H + 2, W))
    (folder / "frame5.png").write_bytes(b"not a png")
    (folder / "frame7.png").write_bytes(b"")
    source = open_recording(folder)
    assert [f.index for f in source] == [0, 1, 2, 4, 6, 8, 9, 10, 11]
    assert source.odd_count == 3
    assert "frame3.png is 64x50, the first one is 64x48" in source.odd[0]
    assert "frame5.png cannot be decoded" in source.odd[1] and "frame7.png" in source.odd[2]


def test_names_of_odd_frames_are_bounded(folder):
    for i in range(100, 150):
        (folder / f"frame{i}.png").write_bytes(b"x")
    source = open_recording(folder)
    assert len(list(source)) == 12 and source.odd_count == 50 and len(source.odd) == MAX_NAMED


def test_odd_mask_leaves_its_frame(tmp_path):
    for i in range(3):
        save(tmp_path / "frames" / f"{i}.png", picture(i))
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks" / "0.png"), truth(0))
    cv2.imwrite(str(tmp_path / "masks" / "1.png"), truth(1)[:-1])
    save(tmp_path / "masks" / "2.png", picture(2))
    source = open_recording(tmp_path)
    frames = list(source)
    assert len(frames) == 3 and frames[1].truth is None and frames[2].truth is None
    assert "the mask of frame 1.png is 64x47, its image is 64x48" in source.odd[0]
    assert "is in colour" in source.odd[1]


# videos


def write_video(
    path, count: int, fps: int = 10, codec: str = "mpeg4", pix_fmt: str = "yuv420p", **options: str
) -> None:
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=Fraction(fps))
        stream.width, stream.height, stream.pix_fmt = W, H, pix_fmt
        stream.bit_rate = 2_000_000
        for i in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(i), format="rgb24")))
        container.mux(stream.encode(None))


def test_video(tmp_path):
    write_video(tmp_path / "a.mp4", 8)
    source = open_recording(tmp_path / "a.mp4")
    assert (source.kind, source.fps, source.size, source.length) == ("video", 10.0, (H, W), 8)
    frames = check_pictures(source, 8, tolerance=12)
    assert [f.stamp_ns for f in frames] == [FIRST_STAMP_NS + i * 100_000_000 for i in range(8)]
    assert check_pictures(source, 8, tolerance=12)[3].name == "000003"


def test_names_that_are_no_utf8(tmp_path):
    """As from an old archive: frames, sentences and the description can be written to any table and terminal."""
    folder = tmp_path / os.fsdecode(b"f\xe4ll")
    folder.mkdir()
    for i in range(2):
        save(tmp_path / "own.png", picture(i))
        (tmp_path / "own.png").rename(folder / os.fsdecode(b"bild_\xe4_%d.png" % i))
    (folder / os.fsdecode(b"bild_\xe4_9.png")).write_bytes(b"none")
    (folder / os.fsdecode(b"bild_\xe4_0_mask.png")).write_bytes(b"of image 0")
    recording = open_recording(str(folder))
    frames = list(recording)
    assert [frame.name for frame in frames] == [r"bild_\xe4_0", r"bild_\xe4_1"]
    assert r"bild_\xe4_9.png cannot be decoded" in recording.odd[0]
    assert any(r"the first is bild_\xe4_0_mask.png" in note for note in recording.notes)
    assert not any("share a name" in note for note in recording.notes)
    "".join([recording.describe(), recording.describe_masks(), *recording.notes, *recording.odd]).encode()


def test_truncated_video_ends_early_and_says_so(tmp_path):
    write_video(tmp_path / "a.mp4", 30, movflags="faststart")
    data = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) * 3 // 4])
    source = open_recording(tmp_path / "cut.mp4")
    assert 0 < len(list(source)) < 30
    assert source.odd_count >= 1 and ("ends early" in source.odd[-1] or "cannot be decoded" in source.odd[-1])


def test_damaged_packet_is_named(tmp_path):
    """Frames of a codec without prediction: damage of one leaves the others."""
    write_video(tmp_path / "a.avi", 10, codec="png", pix_fmt="rgb24")
    data = bytearray((tmp_path / "a.avi").read_bytes())
    at = [i for i in range(len(data)) if data.startswith(b"\x89PNG", i)]
    assert len(at) == 10
    data[at[4] + 12 : at[4] + 32] = bytes(20)  # the image header
    (tmp_path / "damaged.avi").write_bytes(data)
    source = open_recording(tmp_path / "damaged.avi")
    frames = list(source)
    assert [f.name for f in frames] == [f"{i:06d}" for i in range(10) if i != 4]
    assert source.odd_count == 1 and "packet 4 cannot be decoded" in source.odd[0]


# scene


def test_scene():
    source = open_recording("scene:?width=96&height=80&frames=4&seed=3&fps=20")
    assert (source.kind, source.size, source.fps, source.length, source.has_masks) == ("scene", (80, 96), 20.0, 4, True)
    frames = list(source)
    assert [f.stamp_ns for f in frames] == [FIRST_STAMP_NS + i * 50_000_000 for i in range(4)]
    assert all(f.truth.labels.shape == (80, 96) and f.image.flags.c_contiguous for f in frames)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(frames, source, strict=True))


# what cannot be opened


def bad_inputs(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("this is not a video")
    (tmp_path / "void.mp4").write_bytes(b"")
    write_video(tmp_path / "whole.mp4", 3)
    (tmp_path / "headless.mp4").write_bytes((tmp_path / "whole.mp4").read_bytes()[:600])
    (tmp_path / "bad_first").mkdir()
    (tmp_path / "bad_first" / "0.png").write_bytes(b"x")
    save(tmp_path / "single" / "one.png", picture(0))
    (tmp_path / "bad.mcap").write_bytes(b"not an mcap file at all, but long enough for a footer")
    (tmp_path / "bad.db3").write_bytes(b"not a database")
    (tmp_path / "two").mkdir()
    for name in ("a.mcap", "b.mcap"):
        (tmp_path / "two" / name).write_bytes(b"")
    (tmp_path / "broken_bag").mkdir()
    (tmp_path / "broken_bag" / "metadata.yaml").write_text("nothing: here")
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0")
    save(tmp_path / "stems" / "frames" / "a.png", picture(0))
    save(tmp_path / "stems" / "masks" / "b.png", picture(0))
    return {
        "missing.mp4": "does not exist: expected a video",
        "empty": "has no images: expected files ending in .png",
        "text.mp4": "is not a readable video",
        "void.mp4": "is not a readable video",
        "headless.mp4": "is not a readable video",
        "bad_first": "0.png is not a readable image",
        "single/one.png": "is a single image: give the folder",
        "bad.mcap": "is not a readable rosbag2 recording",
        "bad.db3": "is not a readable rosbag2 recording",
        "two": "has 2 bag files and no metadata.yaml",
        "broken_bag": "is not a readable rosbag2 recording",
        "old.bag": "is a ROS 1 bag",
        "stems": "no mask of .* has the name of an image: the first are b.png and a.png",
    }


def test_bad_input_is_one_sentence(tmp_path):
    for name, expected in bad_inputs(tmp_path).items():
        with pytest.raises(SourceError, match=expected) as caught:
            open_recording(tmp_path / name)
        assert "\n" not in str(caught.value) and name.split("/")[-1] in str(caught.value), name


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("", "no source was given"),
        ("scene:?width=5", "width is 5"),
        ("scene:?nothing=5", "'nothing' is not an option"),
        ("scene:?frames=many", "frames"),
        ("\0", "cannot be looked at|does not exist"),
    ],
)
def test_bad_uri_is_one_sentence(uri, expected):
    with pytest.raises(SourceError, match=expected):
        open_recording(uri)


def test_topic_is_for_bags_only(folder):
    with pytest.raises(SourceError, match="topics are for bags only"):
        open_recording(folder, topic="/camera")


def test_sources_do_not_import_ros():
    code = "import sys; from sam2s_model.recordings.open import open_recording; open_recording('scene:?frames=1');"
    code += "print({'rclpy', 'torch'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
