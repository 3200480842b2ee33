"""Bags of both storages as a source, written here with `rosbags`."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from sam2s_model.errors import SourceError
from sam2s_model.recordings.open import Source, open_recording, open_recordings

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


STORES = get_typestore(Stores.ROS2_JAZZY)


def image_message(rgb: np.ndarray, stamp_ns: int, encoding: str = "rgb8"):
    header = _header(stamp_ns)
    pixels = rgb[..., ::-1] if encoding == "bgr8" else rgb
    channels = 1 if pixels.ndim == 2 else 3
    return STORES.types["sensor_msgs/msg/Image"](
        header=header, height=rgb.shape[0], width=rgb.shape[1], encoding=encoding, is_bigendian=0,
        step=rgb.shape[1] * channels, data=np.ascontiguousarray(pixels).reshape(-1),
    )  # fmt: skip


def compressed_message(rgb: np.ndarray, stamp_ns: int):
    _, data = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    return STORES.types["sensor_msgs/msg/CompressedImage"](
        header=_header(stamp_ns), format="png", data=data.reshape(-1)
    )


def _header(stamp_ns: int):
    time = STORES.types["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return STORES.types["std_msgs/msg/Header"](stamp=time, frame_id="camera")


def write_bag(path, messages, storage=StoragePlugin.MCAP) -> None:
    """messages: (topic, type, message, recording time in ns)"""
    with Writer(path, version=9, storage_plugin=storage) as writer:
        connections = {}
        for topic, kind, message, at in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=STORES)
            writer.write(connections[topic], at, STORES.serialize_cdr(message, kind))


IMAGE, COMPRESSED, STRING = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "std_msgs/msg/String"
T0 = 1_700_000_000_000_000_000


def stamp(index: int) -> int:
    return T0 + index * 50_000_000


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3], ids=["mcap", "sqlite3"])
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8"])
def test_bag_of_images(tmp_path, storage, encoding):
    text = STORES.types[STRING](data="other")
    messages = [("/camera/image", IMAGE, image_message(picture(i), stamp(i), encoding), stamp(i) + 7) for i in range(6)]
    write_bag(tmp_path / "bag", [*messages, ("/chatter", STRING, text, stamp(6))], storage)
    source = open_recording(tmp_path / "bag")
    assert (source.kind, source.size, source.length, source.topic) == ("bag", (H, W), 6, "/camera/image")
    frames = check_pictures(source, 6)
    assert [f.stamp_ns for f in frames] == [stamp(i) for i in range(6)]
    (file,) = (p for p in (tmp_path / "bag").iterdir() if p.suffix in (".mcap", ".db3"))
    assert len(list(open_recording(file))) == 6
    (tmp_path / "bag" / "metadata.yaml").unlink()
    assert len(list(open_recording(tmp_path / "bag"))) == 6


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3], ids=["mcap", "sqlite3"])
def test_results_in_the_folder_of_a_bag_are_none_of_its_files(tmp_path, storage):
    bag = tmp_path / "bag"
    write_bag(bag, [("/camera/image", IMAGE, image_message(picture(0), stamp(0)), stamp(0))], storage)
    own = sorted(bag.iterdir())
    assert own == open_recording(bag).files() and len(own) == 2
    (bag / "report.json").write_text("{}")
    (bag / "recordings").mkdir()
    assert open_recording(bag).files() == own


def test_rate_of_a_bag(tmp_path):
    messages = [("/camera", IMAGE, image_message(picture(i), stamp(i)), stamp(i)) for i in range(11)]
    write_bag(tmp_path / "bag", messages)
    assert open_recording(tmp_path / "bag").fps == pytest.approx(20.0, rel=1e-3)


def test_bag_of_compressed_images(tmp_path):
    messages = [
        ("/camera/compressed", COMPRESSED, compressed_message(picture(i), stamp(i)), stamp(i)) for i in range(4)
    ]
    write_bag(tmp_path / "bag", messages)
    check_pictures(open_recording(tmp_path / "bag"), 4)


@pytest.mark.parametrize(
    "mask_delay", [-30_000_000, 1, 170_000_000, 10**10], ids=["before", "after", "three images later", "at the end"]
)
def test_bag_with_masks(tmp_path, mask_delay):
    messages = []
    for i in range(12):
        messages.append(("/camera", IMAGE, image_message(picture(i), stamp(i)), stamp(i)))
        if i != 5:
            messages.append(("/truth", IMAGE, image_message(truth(i), stamp(i), "mono8"), stamp(i) + mask_delay))
    write_bag(tmp_path / "bag", sorted(messages, key=lambda m: m[3]))
    source = open_recording(tmp_path / "bag", topic="camera", mask_topic="/truth")
    frames = check_pictures(source, 12)
    assert [f.truth is None for f in frames] == [i == 5 for i in range(12)]
    assert all(np.array_equal(f.truth.labels, truth(f.index)) for f in frames if f.index != 5)


def test_bag_with_two_cameras_needs_a_topic(tmp_path):
    messages = [(f"/{side}", IMAGE, image_message(picture(0), stamp(0)), stamp(0)) for side in ("left", "right")]
    write_bag(tmp_path / "bag", messages)
    with pytest.raises(SourceError, match="2 image topics, give one of them as topic: /left, /right"):
        open_recording(tmp_path / "bag")
    with pytest.raises(SourceError, match="no images on topic '/middle': its image topics are: /left, /right"):
        open_recording(tmp_path / "bag", topic="/middle")
    assert open_recording(tmp_path / "bag", topic="left").topic == "/left"
    assert open_recording(tmp_path / "bag", mask_topic="left").topic == "/right"


def test_bag_without_images(tmp_path):
    write_bag(tmp_path / "bag", [("/chatter", STRING, STORES.types[STRING](data="x"), 1)])
    with pytest.raises(SourceError, match="has no image topic: its topics are: /chatter"):
        open_recording(tmp_path / "bag")


def test_odd_images_in_a_bag(tmp_path):
    pictures = [picture(0), picture(1, H + 2), picture(2), picture(3)]
    messages = [["/camera", IMAGE, image_message(p, stamp(i)), stamp(i)] for i, p in enumerate(pictures)]
    messages[2][2].encoding = "32FC1"
    write_bag(tmp_path / "bag", messages)
    source = open_recording(tmp_path / "bag")
    assert [f.index for f in source] == [0, 3]
    assert "64x50" in source.odd[0] and "32FC1" in source.odd[1]


def test_header_without_stamp_takes_the_recording_time(tmp_path):
    write_bag(tmp_path / "bag", [("/camera", IMAGE, image_message(picture(i), 0), stamp(i)) for i in range(3)])
    assert [f.stamp_ns for f in open_recording(tmp_path / "bag")] == [stamp(i) for i in range(3)]


def test_stamps_that_do_not_ascend_are_left_out(tmp_path):
    """The header stamps are 0, 1, 1, 0, 2, 3 intervals; masks go with the stamps that stay."""
    stamps = [stamp(i) for i in (0, 1, 1, 0, 2, 3)]
    messages = []
    for i, at in enumerate(stamps):
        messages.append(("/camera", IMAGE, image_message(picture(i), at), stamp(i)))
        messages.append(("/truth", IMAGE, image_message(truth(i), at, "mono8"), stamp(i) + 1))
    write_bag(tmp_path / "bag", messages)
    for options in ({}, {"mask_topic": "/truth"}):
        source = open_recording(tmp_path / "bag", topic="/camera", **options)
        frames = list(source)
        assert [f.index for f in frames] == [0, 1, 4, 5]
        assert [f.stamp_ns for f in frames] == [stamp(i) for i in range(4)]
        assert source.odd_count == 2
        assert f"frame 000002 has stamp {stamp(1)} ns, not after {stamp(1)} ns" in source.odd[0]
        assert f"frame 000003 has stamp {stamp(0)} ns, not after {stamp(1)} ns" in source.odd[1]
    assert all(np.array_equal(f.truth.labels, truth(f.index)) for f in frames)


def test_a_bag_of_h264_is_read_in_order_and_from_a_whole_picture_on(tmp_path):
    """As a camera with an encoder of its own sends it: a part of a video in each compressed image."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = W, H, "yuv444p", Fraction(1, 30)
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "g": "4", "qp": "1"}
    messages = []
    for number in range(9):
        (packet,) = encoder.encode(av.VideoFrame.from_ndarray(picture(number), format="rgb24"))
        stamp = (number + 1) * 10**9
        data = np.frombuffer(bytes(packet), np.uint8)
        message = STORES.types[COMPRESSED](header=_header(stamp), format="h264", data=data)
        messages.append(("/camera", COMPRESSED, message, stamp))
    write_bag(tmp_path / "whole", messages)
    source = open_recording(str(tmp_path / "whole"))
    for _ in range(2):
        check_pictures(source, 9, tolerance=8)
    write_bag(tmp_path / "cut", messages[1:])
    cut = open_recording(str(tmp_path / "cut"))
    assert [frame.index for frame in cut] == [3, 4, 5, 6, 7] and len(cut.odd) == 3 and "does not decode" in cut.odd[0]


def test_a_bag_of_another_kind_of_video_says_what_helps(tmp_path):
    kind = "foxglove_msgs/msg/CompressedVideo"
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(
        get_types_from_msg("builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n", kind)
    )
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/video", kind, typestore=store)
        time = store.types["builtin_interfaces/msg/Time"](sec=1, nanosec=0)
        message = store.types[kind](timestamp=time, frame_id="", data=np.zeros(3, np.uint8), format="h264")
        writer.write(connection, 10**9, store.serialize_cdr(message, kind))
    with pytest.raises(SourceError, match=f"/video is a video of {kind}: play the bag through a node that decodes it"):
        open_recording(str(tmp_path / "bag"))


JUMPS = {
    "a clock that was set back": [i - 200 * (i > 3) for i in range(12)],
    "a first stamp in the future": [10**9, *range(1, 12)],
    "one wild stamp": [i + 1000 * (i == 5) for i in range(12)],
    "a bag that was recorded in a loop": [i % 6 + 100 for i in range(12)],
}


@pytest.mark.parametrize("name", JUMPS)
def test_stamps_that_step_back_far_are_counted_on(tmp_path, name):
    """As when a clock is set: every image is there, with its mask, at the bag's rate."""
    messages = []
    for i, at in enumerate(JUMPS[name]):
        at = T0 + at * (500_000_000 if "loop" in name else 50_000_000)
        messages.append(("/camera", IMAGE, image_message(picture(i), at), stamp(i)))
        messages.append(("/truth", IMAGE, image_message(truth(i), at, "mono8"), stamp(i) + 1))
    write_bag(tmp_path / "bag", messages)
    source = open_recording(tmp_path / "bag", topic="/camera", mask_topic="/truth")
    for _ in range(2):
        frames = check_pictures(source, 12)
        assert all(np.array_equal(f.truth.labels, truth(f.index)) for f in frames) and source.odd_count == 0
        (note,) = source.notes
        assert "stamps step back by" in note and "from there they are counted on" in note
    changed = [f for f in frames if f.header_ns]
    assert changed and all(f.header_ns != f.stamp_ns for f in changed)


def test_masks_that_no_image_has_are_named_and_counted(tmp_path):
    messages = [("/camera", IMAGE, image_message(picture(i), stamp(i)), stamp(i)) for i in range(6)]
    numbers = (-3, 0, 2, 3, 70, 71)  # two of them after the last image
    messages += [("/truth", IMAGE, image_message(truth(abs(i) % 6), stamp(i), "mono8"), stamp(i)) for i in numbers]
    write_bag(tmp_path / "bag", messages)
    source = open_recording(tmp_path / "bag", topic="/camera", mask_topic="/truth")
    assert [f.truth is not None for f in source] == [i in (0, 2, 3) for i in range(6)]
    assert (source.odd_count, source.images_left_out) == (3, 0)
    assert f"mask of stamp {stamp(-3)} belongs to no image: the nearest is 150 ms away" in source.odd[0]


def test_masks_of_a_folder_go_by_the_stamps_of_headers_where_those_step_back(tmp_path):
    stamps = [stamp(i - 200 * (i > 3)) for i in range(6)]
    write_bag(
        tmp_path / "bag",
        [("/camera", IMAGE, image_message(picture(i), at), stamp(i)) for i, at in enumerate(stamps)],
    )
    (tmp_path / "masks").mkdir()
    for i, at in enumerate(stamps):
        cv2.imwrite(str(tmp_path / "masks" / f"{at}.png"), truth(i))
    cv2.imwrite(str(tmp_path / "masks" / f"{stamps[4] - 2_000_000}.png"), truth(4))
    (source,) = open_recordings(Source(str(tmp_path / "bag"), truth=str(tmp_path / "masks")))
    for _ in range(2):
        assert all(np.array_equal(f.truth.labels, truth(f.index)) for f in check_pictures(source, 6))
        assert source.odd == [f"mask {stamps[4] - 2_000_000} belongs to no frame: the nearest is 2 ms away"]
        assert source.notes == source.pass_notes and len(source.notes) == 1 and source.images_left_out == 0


WITHOUT_ROS = """
import sys

ROS = {"rclpy", "rosbag2_py", "builtin_interfaces", "sensor_msgs", "std_msgs"}

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ROS | {"sam2s_ros", "torch"}:
            raise AssertionError(f"{name} is imported")

sys.meta_path.insert(0, Forbidden())
from sam2s_model.recordings.open import open_recording

source = open_recording(sys.argv[1], topic="/camera", mask_topic="/truth")
print(sum(frame.truth is not None for frame in source), source.odd_count)
"""


@pytest.mark.parametrize("compressed", [False, True], ids=["raw", "compressed"])
def test_a_bag_is_read_without_ros(tmp_path, compressed):
    messages = []
    for i in range(4):
        kind = COMPRESSED if compressed else IMAGE
        message = compressed_message(picture(i), stamp(i)) if compressed else image_message(picture(i), stamp(i))
        messages.append(("/camera", kind, message, stamp(i)))
        messages.append(("/truth", IMAGE, image_message(truth(i), stamp(i), "mono8"), stamp(i) + 1))
    write_bag(tmp_path / "bag", messages)
    command = [sys.executable, "-c", WITHOUT_ROS, str(tmp_path / "bag")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (found.returncode, found.stdout.split()) == (0, ["4", "0"]), found.stderr


def test_the_rate_is_that_of_the_images_alone(tmp_path):
    """Other topics go on before and after them, some are lost, and there is a pause; none is a picture's distance."""
    begin, step = 10**15, 33_333_333
    numbers = [*range(5), *range(8, 20), *range(300, 310)]
    clock = ("/clock", "std_msgs/msg/Header")
    write_bag(tmp_path / "bag", [
        (*clock, _header(1), begin - 20 * 10**9),
        *(("/camera", IMAGE, image_message(picture(0), begin + i * step), begin + i * step) for i in numbers),
        (*clock, _header(1), begin + 90 * 10**9),
    ])  # fmt: skip
    assert open_recording(tmp_path / "bag").fps == pytest.approx(30.0, rel=1e-3)
