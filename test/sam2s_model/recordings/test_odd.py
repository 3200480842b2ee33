"""Files as they come: turned, cut, oddly named, images beside masks, bags that ended with the battery."""

from __future__ import annotations

import os
import re
import struct
import zlib
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from sam2s_model.errors import SourceError
from sam2s_model.recordings.image_files import read_labels
from sam2s_model.recordings.layouts import open_layout
from sam2s_model.recordings.open import open_recording, take_masks
from sam2s_ros.commands.cli import main
from sam2s_ros.overlay_video import OverlayVideo

H, W, ONE = 48, 64, 1 << 16
STORES = get_typestore(Stores.ROS2_JAZZY)
IMAGE = "sensor_msgs/msg/Image"


def video(path: Path, count: int = 6, size=(H, W)) -> Path:
    """Grey, with a white corner at the upper left."""
    writer = OverlayVideo(path, 25.0, *size)
    for _ in range(count):
        image = np.full((*size, 3), 90, np.uint8)
        image[:16, :24] = 255
        writer.write(image)
    writer.close()
    return path


def turned(path: Path, *matrix: int) -> Path:
    """The video with another display matrix (a, b, c, d) in its track's header."""
    data = bytearray(path.read_bytes())
    at = data.rindex(b"tkhd") + 4 + 4 + 20 + 16  # the last: the first is of the fragments that it was written in
    a, b, c, d = matrix
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


TURNS = {
    "as it is": ((ONE, 0, 0, ONE), (0, 0), ""),
    "to the right": ((0, ONE, -ONE, 0), (0, -1), "turned to the right"),
    "upside down": ((-ONE, 0, 0, -ONE), (-1, -1), "upside down"),
    "to the left": ((0, -ONE, ONE, 0), (-1, 0), "turned to the left"),
    "mirrored": ((-ONE, 0, 0, ONE), (0, -1), "mirrored"),
}


@pytest.mark.parametrize("name", TURNS)
def test_a_video_is_read_as_players_show_it(tmp_path, name):
    matrix, corner, words = TURNS[name]
    source = open_recording(turned(video(tmp_path / "clip.mp4"), *matrix))
    frames = list(source)
    size = (W, H) if "to the" in name else (H, W)
    assert source.size == size and source.odd_count == 0 and len(frames) == 6
    image = frames[0].image
    corners = {(y, x): image[y * 1 if y == 0 else -1, x * 1 if x == 0 else -1].mean() for y in (0, -1) for x in (0, -1)}
    assert max(corners, key=corners.get) == corner and image.flags.c_contiguous
    assert [words in note for note in source.notes] == ([True] if words else []) and (
        not words or words in source.describe()
    )
    if name != "mirrored":  # OpenCV turns, and mirrors nothing
        shown = cv2.VideoCapture(str(tmp_path / "clip.mp4")).read()[1][..., ::-1]
        assert shown.shape == image.shape and np.abs(shown.astype(int) - image).mean() < 2


@pytest.mark.parametrize(
    "name", ["12:30:00.mp4", "concat:a.mp4", "http:x.mp4", "100%03d.mp4", "a*b?.mp4", "pipe:0.mp4", "a|b.mp4", "-i.mp4"]
)
def test_names_that_ffmpeg_takes_for_something_else(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    video(Path(name))
    assert os.listdir() == [name] and len(list(open_recording(name))) == 6


def test_a_palette_mask_with_a_pattern_in_its_name(tmp_path):
    labels = np.zeros((8, 8), np.uint8)
    labels[2:4] = 2

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header, palette = struct.pack(">IIBBBBB", 8, 8, 8, 3, 0, 0, 0), bytes(9)
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in labels))
    png = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"PLTE", palette)
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )
    (tmp_path / "m%03d:1.png").write_bytes(png)
    assert np.array_equal(read_labels(tmp_path / "m%03d:1.png"), labels)


def test_an_edit_list_cuts_frames_and_nothing_is_said_to_be_missing(tmp_path):
    """Ten frames with one key frame; the edit list begins at the fourth, as after a cut that encodes nothing anew."""
    path = video(tmp_path / "clip.mp4", 10)
    with (
        av.open(str(path)) as source,
        av.open(str(tmp_path / "cut.mp4"), "w", options={"avoid_negative_ts": "disabled"}) as cut,
    ):
        stream = source.streams.video[0]
        out = cut.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None:
                shift = 3 * round(1 / (25 * stream.time_base))
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, out
                cut.mux(packet)
    found = open_recording(tmp_path / "cut.mp4")
    frames = list(found)
    assert len(frames) == 7 and found.odd_count == 0, found.odd
    for i in range(7):
        write(tmp_path / "masks" / f"{i + 1}.png", np.eye(H, W, dtype=np.uint8))
    take_masks(found, str(tmp_path / "masks"))
    assert all(frame.truth is not None for frame in found) and found.odd_count == 0
    assert "numbered from 1: the first frame is 1" in found.describe_masks(), "of the frames that are shown one is 7"


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


BESIDE = {
    "CholecSeg8k": (
        "frame_8{}_endo",
        "frame_8{}_endo_mask",
        "frame_8{}_endo_color_mask",
        "frame_8{}_endo_watershed_mask",
    ),
    "a suffix": ("{}", "{}_seg"),
    "a prefix": ("img_{}", "mask_{}"),
    "another word for both": ("image-{}", "label-{}"),
}


@pytest.mark.parametrize("name", BESIDE)
def test_masks_beside_images_are_no_frames(tmp_path, name):
    for i in range(4):
        for pattern in BESIDE[name]:
            write(tmp_path / f"{pattern.format(i)}.png", np.full((H, W, 3), 9 * i, np.uint8))
    source = open_recording(tmp_path)
    assert [f.name for f in source] == [BESIDE[name][0].format(i) for i in range(4)]
    assert source.notes == [
        f"{4 * (len(BESIDE[name]) - 1)} files are masks by their names, the first is {source.notes[0].split(' is ')[1]}"
    ]


def test_images_that_only_have_a_word_like_mask_are_frames(tmp_path):
    for i in range(3):
        write(tmp_path / f"mask_{i}.png", np.zeros((H, W, 3), np.uint8))
    assert len(list(open_recording(tmp_path))) == 3 and not open_recording(tmp_path).notes


def test_two_images_of_one_stem_do_not_overwrite_each_other(tmp_path, capsys):
    for i in range(2):
        for suffix in ("jpg", "png"):
            image = np.full((H, W, 3), 60, np.uint8)
            image[10:30, 10:30] = 220
            write(tmp_path / "in" / f"{i}.{suffix}", image)
    run = [
        "track",
        str(tmp_path / "in"),
        "--checkpoint",
        "sam2s_pico",
        "--image-size",
        "64",
        "--device",
        "cpu",
        "--box",
        "10,10,30,30",
    ]
    assert main([*run, f"--output={tmp_path / 'out'}"]) == 0
    assert sorted(p.name for p in (tmp_path / "out" / "masks").iterdir()) == [
        "0.jpg.png",
        "0.png.png",
        "1.jpg.png",
        "1.png.png",
    ]
    assert (
        "4 images share a name but for its suffix, such as 0.jpg and 0.png: all are frames" in capsys.readouterr().out
    )


def test_a_first_image_of_another_size_leaves_out_itself_alone(tmp_path):
    for i in range(6):
        write(tmp_path / "frames" / f"{i}.png", np.zeros((H, W + 8 * (i == 0), 3), np.uint8))
        write(tmp_path / "masks" / f"{i}.png", np.eye(H, W + 8 * (i == 0), dtype=np.uint8))
    source, (recording,) = open_recording(tmp_path), open_layout(tmp_path)
    for found in (source, recording):
        assert (
            [f.index for f in found] == [1, 2, 3, 4, 5]
            and found.odd_count == 1
            and "frame 0.png is 72x48" in found.odd[0]
        )


def bag(path: Path, storage: StoragePlugin = StoragePlugin.MCAP, sizes=((H, W),) * 5, mode=None) -> Path:
    make = STORES.types
    writer = Writer(path, version=9, storage_plugin=storage)
    if mode:
        writer.set_compression(CompressionMode[mode], CompressionFormat.ZSTD)
    with writer:
        topic = writer.add_connection("/camera", IMAGE, typestore=STORES)
        for i, (h, w) in enumerate(sizes):
            time = make["builtin_interfaces/msg/Time"](sec=i + 1, nanosec=0)
            header = make["std_msgs/msg/Header"](stamp=time, frame_id="")
            data = np.full(h * w, 10 * i, np.uint8)
            image = make[IMAGE](header=header, height=h, width=w, encoding="mono8", is_bigendian=0, step=w, data=data)
            writer.write(topic, (i + 1) * 10**9, STORES.serialize_cdr(image, IMAGE))
    return path


def file_of(path: Path, suffix: str) -> Path:
    return next(path.glob(f"*{suffix}"))


def test_a_bag_whose_first_image_is_of_another_size(tmp_path):
    source = open_recording(bag(tmp_path / "bag", sizes=((H // 2, W // 2), *((H, W),) * 4)))
    assert [f.index for f in source] == [1, 2, 3, 4] and "is 32x24" in source.odd[0]


def cut(path: Path, by: int) -> None:
    path.write_bytes(path.read_bytes()[:-by])


def damaged(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    """Bags that cannot be read, and what is said of each."""
    mcap, sqlite = StoragePlugin.MCAP, StoragePlugin.SQLITE3
    made = {name: bag(tmp_path / name, sqlite if "sqlite" in name else mcap) for name in (
        "cut", "cut_sqlite", "empty", "storage", "lost", "metadata", "lz4", "mcap_that_is_none", "no_metadata",
    )}  # fmt: skip
    made["packed"] = bag(tmp_path / "packed", sqlite, mode="FILE")
    made["messages"] = bag(tmp_path / "messages", sqlite, mode="MESSAGE")
    cut(file_of(made["cut"], ".mcap"), 50)
    cut(file_of(made["cut_sqlite"], ".db3"), 4096)
    file_of(made["empty"], ".mcap").write_bytes(b"")
    file_of(made["lost"], ".mcap").unlink()
    file_of(made["mcap_that_is_none"], ".mcap").write_bytes(b"<html>" * 20)
    for name, old, new in (("storage", "storage_identifier: mcap", "storage_identifier: aries"), ("metadata", "", None),
                           ("lz4", "compression_format: ''", "compression_format: lz4")):  # fmt: skip
        path = made[name] / "metadata.yaml"
        path.write_text("" if new is None else re.sub(old, new, path.read_text()))
    copy = file_of(made["no_metadata"], ".mcap").with_name("second.mcap")
    copy.write_bytes(file_of(made["no_metadata"], ".mcap").read_bytes())
    for name in ("no_metadata", "packed", "messages"):
        (made[name] / "metadata.yaml").unlink()
    unsaid = bag(tmp_path / "unsaid")
    (unsaid / "metadata.yaml").write_text(
        re.sub("storage_identifier: mcap", "storage_identifier: ''", (unsaid / "metadata.yaml").read_text())
    )
    (tmp_path / "ros1").mkdir()
    for name in ("operation.bag", "operation.bag.active"):
        (tmp_path / "ros1" / name).write_bytes(b"#ROSBAG V2.0\n" + bytes(100))
    with Writer(tmp_path / "h264", version=9, storage_plugin=mcap) as writer:
        topic = writer.add_connection(
            "/image/ffmpeg",
            "ffmpeg_image_transport_msgs/msg/FFMPEGPacket",
            msgdef="uint8[] data\n",
            rihs01="RIHS01_" + "0" * 64,
        )
        writer.write(topic, 1, b"\0\1\0\0\0\0\0\0")
    return {
        "a storage that is not said": (
            unsaid,
            "its metadata.yaml does not say how it is stored: write `storage_identifier: mcap`",
        ),
        "ROS 1": (
            tmp_path / "ros1",
            "has no images, but operation.bag, a ROS 1 bag: convert it to rosbag2 .* `rosbags-convert",
        ),
        "ROS 1, as a file": (tmp_path / "ros1" / "operation.bag", "is a ROS 1 bag: convert it"),
        "ROS 1, killed": (
            tmp_path / "ros1" / "operation.bag.active",
            "ROS 1 bag that was not closed: mend it with `rosbag reindex",
        ),
        "a video in messages": (
            tmp_path / "h264",
            "/image/ffmpeg is a video of ffmpeg_image_transport_msgs/msg/FFMPEGPacket: play",
        ),
        "cut": (
            made["cut"],
            r"cut.mcap is cut, its end is missing: recover it with `mcap recover .*` or `ros2 bag reindex -s mcap",
        ),
        "cut, as a file": (file_of(made["cut"], ".mcap"), "mcap recover"),
        "cut sqlite": (made["cut_sqlite"], r"is cut, it has .* of .* bytes: recover it with `sqlite3 .* .recover"),
        "empty": (made["empty"], "empty.mcap is empty"),
        "another storage": (
            made["storage"],
            "its storage is 'aries', expected sqlite3 or mcap: convert it with `ros2 bag convert`",
        ),
        "a file that is gone": (made["lost"], "its file lost.mcap is not there: .*`ros2 bag reindex -s mcap"),
        "metadata that was not written": (
            made["metadata"],
            "its metadata.yaml cannot be read: make it again with `ros2 bag reindex",
        ),
        "something else": (made["mcap_that_is_none"], "is an HTML or XML page, not the file itself"),
        "several files": (made["no_metadata"], "has 2 bag files and no metadata.yaml: .*`ros2 bag reindex"),
        "packed": (made["packed"], "which was compressed, and no metadata.yaml: unpack it with `zstd -d"),
        "packed, as a file": (file_of(made["packed"], ".zstd"), "unpack it with `zstd -d"),
        "packed messages": (made["messages"], "its messages are compressed .zstd., and no metadata.yaml says so"),
    }


def test_bags_that_cannot_be_read_are_refused_with_the_command_that_helps(tmp_path):
    for name, (path, expected) in damaged(tmp_path).items():
        with pytest.raises(SourceError, match=expected) as caught:
            list(open_recording(path))
        assert "\n" not in str(caught.value), name


def test_an_mcap_without_an_index_is_read(tmp_path):
    """As a recorder leaves it that was told to write none: the footer points nowhere."""
    path = file_of(bag(tmp_path / "bag"), ".mcap")
    data = path.read_bytes()
    footer = data[-37:]
    assert footer[0] == 2
    start = struct.unpack("<Q", footer[9:17])[0]
    path.write_bytes(data[:start] + footer[:9] + bytes(20) + footer[29:])
    assert len(list(open_recording(path))) == 5


def test_a_home_folder_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.safetensors").write_bytes(b"x")
    assert main(["checkpoint", "inspect", "~/m.safetensors"]) == 2
    assert f"{tmp_path}/m.safetensors is not" in capsys.readouterr().err
    assert (
        main(
            [
                "track",
                "scene:?width=96&height=80&frames=2",
                "--checkpoint",
                "sam2s_pico",
                "--image-size",
                "64",
                "--output=~/results",
            ]
        )
        == 0
    )
    assert (tmp_path / "results" / "summary.json").is_file() and not (tmp_path / "~").exists()


def dimming(count: int = 6):
    """A 12-bit picture, (H, W) uint16 up to 4000, whose light goes; and what is to be seen of it, in 8 bits."""
    for number in range(count):
        samples = np.full((H, W), 1600, np.uint16) >> number // 2
        samples[:16, :24] = 4000 >> number // 2
        yield samples, (samples >> 4).astype(np.uint8)


def test_p46_a_folder_of_12_bits_gets_no_brighter_when_the_light_goes(tmp_path):
    for number, (samples, _) in enumerate(dimming()):
        cv2.imwrite(str(tmp_path / f"{number}.png"), samples)
    recording = open_recording(tmp_path)
    assert "taken for 12 significant bits" in recording.describe()
    for frame, (_, seen) in zip(list(recording), dimming(), strict=True):
        np.testing.assert_array_equal(frame.image[..., 1], seen)
        np.testing.assert_array_equal(recording.frame(frame.index).image, frame.image)


def test_p46_a_video_of_12_bits_in_16_is_a_picture_and_not_black(tmp_path):
    for name, kind in (("grey.mkv", "gray16le"), ("colour.mkv", "rgba64le")):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = W, H, kind
            for samples, _ in dimming():
                opaque = np.dstack([samples] * 3 + [np.full((H, W), 65535, np.uint16)])
                frame = av.VideoFrame.from_ndarray(samples if "gray" in kind else opaque, format=kind)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        recording = open_recording(tmp_path / name)
        assert "taken for 12 significant bits" in recording.describe()
        for frame, (_, seen) in zip(list(recording), dimming(), strict=True):
            np.testing.assert_allclose(frame.image[..., 1], seen, atol=1)
