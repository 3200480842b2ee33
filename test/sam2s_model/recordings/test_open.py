"""Sources of the evaluation that are no data set: bags, videos, the scene; masks from a topic or a folder."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from sam2s_model.errors import SourceError
from sam2s_model.recordings.open import Source, describe_incomplete, open_recordings, recording_name
from sam2s_ros.overlay_video import OverlayVideo

H, W, COUNT = 48, 64, 5
BEGIN, STEP = 1_700_000_000_000_000_000, 40_000_000
STORES = get_typestore(Stores.ROS2_JAZZY)
IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


def truth(index: int) -> np.ndarray:
    mask = np.zeros((H, W), np.uint8)
    mask[5:20, index : index + 10], mask[30:40, 20:30] = 1, 2
    return mask


def message(pixels: np.ndarray, stamp: int, compressed: bool = False):
    make = STORES.types
    time = make["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    header = make["std_msgs/msg/Header"](stamp=time, frame_id="camera")
    if compressed:
        return make[COMPRESSED](header=header, format="png", data=cv2.imencode(".png", pixels)[1].reshape(-1))
    channels = 1 if pixels.ndim == 2 else 3
    return make[IMAGE](
        header=header,
        height=H,
        width=W,
        encoding="mono8" if channels == 1 else "bgr8",
        is_bigendian=0,
        step=W * channels,
        data=pixels.reshape(-1),
    )


def bag(path: Path, storage: StoragePlugin, compressed: bool, masks: bool) -> Path:
    """Images that say their number, and masks of the even ones."""
    kind = COMPRESSED if compressed else IMAGE
    with Writer(path, version=9, storage_plugin=storage) as writer:
        images = writer.add_connection("/camera", kind, typestore=STORES)
        labels = writer.add_connection("/truth", IMAGE, typestore=STORES) if masks else None
        for i in range(COUNT):
            stamp = BEGIN + i * STEP
            pixels = np.full((H, W, 3), 10 * i, np.uint8)
            writer.write(images, stamp, STORES.serialize_cdr(message(pixels, stamp, compressed), kind))
            if masks and i % 2 == 0:
                writer.write(labels, stamp + 1000, STORES.serialize_cdr(message(truth(i), stamp), IMAGE))
    return path


def folder(path: Path, name_of) -> Path:
    path.mkdir()
    for i in range(0, COUNT, 2):
        cv2.imwrite(str(path / f"{name_of(i)}.png"), truth(i))
    return path


def check(recording) -> None:
    frames = list(recording)
    assert [f.index for f in frames] == list(range(COUNT))
    assert [f.truth is not None for f in frames] == [i % 2 == 0 for i in range(COUNT)]
    for frame in frames[::2]:
        labels = truth(frame.index)
        assert {k: v.tolist() for k, v in frame.truth.masks.items()} == {k: (labels == k).tolist() for k in (1, 2)}


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_bag_with_masks_on_a_topic(tmp_path, storage, compressed):
    path = bag(tmp_path / "operation", storage, compressed, masks=True)
    (recording,) = open_recordings(Source(str(path), topic="camera", mask_topic="/truth"))
    check(recording)
    assert (recording.name, recording.data_set, recording.odd_count) == ("operation", "operation", 0)
    assert next(iter(recording)).stamp_ns == BEGIN


def test_a_bag_with_masks_in_a_folder(tmp_path):
    path = bag(tmp_path / "operation", StoragePlugin.MCAP, True, masks=False)
    by_ns = folder(tmp_path / "ns", lambda i: BEGIN + i * STEP)
    by_parts = folder(tmp_path / "parts", lambda i: f"{(BEGIN + i * STEP) // 10**9}_{(BEGIN + i * STEP) % 10**9:09d}")
    for masks in (by_ns, by_parts):
        (recording,) = open_recordings(Source(str(path), truth=str(masks)))
        check(recording)
    cv2.imwrite(str(by_ns / f"{BEGIN + 7}.png"), truth(0))
    (recording,) = open_recordings(Source(str(path), truth=str(by_ns)))
    check(recording)
    assert (
        recording.odd == [f"mask {BEGIN + 7} belongs to no frame: the nearest is 7e-06 ms away"]
        and recording.odd_count == 1
    )


def test_a_bag_with_the_masks_that_were_tracked_in_it(tmp_path):
    """Those are named by the index of their frame."""
    path = bag(tmp_path / "operation", StoragePlugin.MCAP, False, masks=False)
    masks = folder(tmp_path / "masks", lambda i: f"{i:06d}")
    (recording,) = open_recordings(Source(str(path), truth=str(masks)))
    check(recording)
    assert recording.odd_count == 0
    assert "by frame number, not by stamp: none is above the 5 frames" in recording.describe_masks()


def images(path: Path, *names: str) -> Path:
    path.mkdir(parents=True)
    for name in names:
        cv2.imwrite(str(path / f"{name}.png"), np.zeros((H, W, 3), np.uint8))
    return path


def by_column(path: Path, columns: dict[str, int]) -> Path:
    """Masks whose object 1 begins at a column."""
    path.mkdir()
    for name, column in columns.items():
        cv2.imwrite(str(path / f"{name}.png"), truth(column))
    return path


@pytest.mark.parametrize(
    ("names", "masks", "expected", "said", "odd"),
    [
        (["1", "2", "3", "4", "5"], {"2": 7, "4": 9}, {"2": 7, "4": 9}, "", ""),
        (["00", "10", "20"], {"10": 7, "20": 9}, {"10": 7, "20": 9}, "", ""),
        (["1", "2", "3"], {"2": 7, "9": 9}, {"2": 7}, "", "mask 9.png has the name of no image"),
        (["a", "b"], {"b": 7}, {"b": 7}, "", ""),
        (["f_10", "f_20", "f_30"], {"m_20": 7}, {"f_20": 7}, "by the numbers in the images' names", ""),
        (["a", "b", "c"], {"0": 7, "2": 9}, {"a": 7, "c": 9}, "of an image: they belong by position", ""),
        (["0", "1", "2"], {"1": 7, "2": 8, "3": 9}, {"0": 7, "1": 8, "2": 9}, "from 0 and masks from 1, as", ""),
    ],
)  # fmt: skip
def test_masks_of_images_belong_by_name(tmp_path, names, masks, expected, said, odd):
    source = Source(str(images(tmp_path / "images", *names)), truth=str(by_column(tmp_path / "masks", masks)))
    (recording,) = open_recordings(source)
    frames = [frame for frame in recording if frame.truth is not None]
    assert {f.name: int(np.flatnonzero(f.truth.masks[1].any(0))[0]) for f in frames} == expected
    assert said in recording.describe_masks() and ("they belong by" in recording.describe_masks()) <= bool(said)
    assert recording.odd == [odd] * bool(odd) and recording.odd_count == bool(odd)


def test_frames_alone_take_the_masks_that_are_given(tmp_path):
    images(tmp_path / "case" / "frames", "10", "20")
    masks = by_column(tmp_path / "truth", {"20": 7})
    for layout in ("auto", "folder"):
        (recording,) = open_recordings(Source(str(tmp_path / "case"), layout=layout, truth=str(masks)))
        assert [frame.truth is not None for frame in recording] == [False, True]


def test_a_video_with_masks_by_frame_number(tmp_path):
    video = OverlayVideo(tmp_path / "clip.mp4", 25.0, H, W)
    for i in range(COUNT):
        video.write(np.full((H, W, 3), 40 * i, np.uint8))
    video.close()
    masks = folder(tmp_path / "masks", lambda i: f"{i:05d}")
    cv2.imwrite(str(masks / "00003.png"), np.zeros((H, H), np.uint8))
    (recording,) = open_recordings(Source(str(tmp_path / "clip.mp4"), data_set="mine", truth=str(masks)))
    check(recording)
    assert recording.data_set == "mine" and recording.odd_count == 1
    assert "expected the proportions of its frame, 64x48" in recording.odd[0]


def test_the_scene_has_truth_and_classes():
    (recording,) = open_recordings(Source("scene:?width=96&height=80&frames=3&seed=1"))
    frames = list(recording)
    assert recording.name == "scene_width96_height80_frames3_seed1" and len(frames) == 3
    assert set(frames[0].truth.masks) <= set(recording.classes) and frames[0].truth.void.any()


def test_without_ground_truth_there_is_nothing_to_evaluate(tmp_path):
    path = bag(tmp_path / "operation", StoragePlugin.MCAP, False, masks=False)
    with pytest.raises(
        SourceError, match="operation has no ground truth to evaluate with: expected --mask-topic, or --truth"
    ):
        open_recordings(Source(str(path)))
    (tmp_path / "set" / "a" / "frames").mkdir(parents=True)
    with pytest.raises(SourceError, match="--truth x was given, but .* is laid out as a data set, whose masks lie in"):
        open_recordings(Source(str(tmp_path / "set"), truth="x"))


def test_truth_of_other_stamps_is_named_with_the_nearest(tmp_path):
    path = bag(tmp_path / "operation", StoragePlugin.MCAP, False, masks=False)
    late = folder(tmp_path / "late", lambda i: str(BEGIN + i * STEP + 1_500_000))
    (recording,) = open_recordings(Source(str(path), truth=str(late)))
    assert all(frame.truth is None for frame in recording)
    assert recording.odd_count == 3 and recording.odd[0].endswith("belongs to no frame: the nearest is 1.5 ms away")
    (recording,) = open_recordings(Source(str(path), truth=str(folder(tmp_path / "numbers", lambda i: f"{i + 3:05d}"))))
    assert list(recording) and "a bag's masks are by their frame's stamp in ns, such as" in recording.odd[0]


def test_a_topic_of_masks_with_other_stamps_or_of_another_kind(tmp_path):
    path = tmp_path / "late"
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        images, labels = (writer.add_connection(topic, IMAGE, typestore=STORES) for topic in ("/camera", "/truth"))
        packed = writer.add_connection("/packed", COMPRESSED, typestore=STORES)
        for i in range(COUNT):
            stamp = BEGIN + i * STEP
            writer.write(images, stamp, STORES.serialize_cdr(message(np.zeros((H, W, 3), np.uint8), stamp), IMAGE))
            writer.write(labels, stamp, STORES.serialize_cdr(message(truth(i), stamp + 2_000_000), IMAGE))
            writer.write(packed, stamp, STORES.serialize_cdr(message(truth(i), stamp, True), COMPRESSED))
    (recording,) = open_recordings(Source(str(path), topic="/camera", mask_topic="/truth"))
    assert all(frame.truth is None for frame in recording)
    assert recording.odd_count == COUNT and "belongs to no image: the nearest is 2 ms away" in recording.odd[0]
    with pytest.raises(
        SourceError,
        match="no masks on topic '/packed' that are sensor_msgs/msg/Image or .*TrackedMasks, but sensor_msgs/msg/Comp",
    ):
        open_recordings(Source(str(path), topic="/camera", mask_topic="/packed"))


def test_masks_of_a_bag_are_read_as_those_of_files(tmp_path):
    path = tmp_path / "binary"
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        images, labels = (writer.add_connection(topic, IMAGE, typestore=STORES) for topic in ("/camera", "/truth"))
        for i in range(COUNT):
            stamp = BEGIN + i * STEP
            writer.write(images, stamp, STORES.serialize_cdr(message(np.zeros((H, W, 3), np.uint8), stamp), IMAGE))
            mask = (truth(i) == 1).astype(np.uint8) * 255 * (i == 3)
            writer.write(labels, stamp, STORES.serialize_cdr(message(mask, stamp), IMAGE))
    (recording,) = open_recordings(Source(str(path), topic="/camera", mask_topic="/truth"))
    assert [set(frame.truth.masks) for frame in recording] == [set()] * 3 + [{1}, set()]
    assert recording.describe_masks() == "5 masks, binary, 255 is object 1"


def test_masks_of_a_video_that_are_numbered_from_1(tmp_path):
    video = OverlayVideo(tmp_path / "clip.mp4", 25.0, H, W)
    for i in range(COUNT):
        video.write(np.full((H, W, 3), 40 * i, np.uint8))
    video.close()
    folder(tmp_path / "masks", lambda i: f"{i + 1:05d}")
    (recording,) = open_recordings(Source(str(tmp_path / "clip.mp4"), truth=str(tmp_path / "masks")))
    check(recording)
    assert recording.odd_count == 0 and "numbered from 1: the first frame is 1" in recording.describe_masks()


@pytest.mark.parametrize("suffix", ["mkv", "ts"])
def test_masks_of_a_video_whose_header_has_no_length(tmp_path, suffix):
    path = tmp_path / f"clip.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", 25)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        for i in range(COUNT):
            noise = np.random.default_rng(i).integers(0, 255, (H, W, 3), np.uint8)  # a few kB, as a probe needs
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24").reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    masks = folder(tmp_path / "masks", lambda i: f"{i + 1:05d}")
    (recording,) = open_recordings(Source(str(path), truth=str(masks)))
    assert recording.length is None
    check(recording)
    assert recording.odd_count == 0 and "numbered from 1: the first frame is 1" in recording.describe_masks()
    (masks / f"{COUNT:05d}.png").unlink()
    (recording,) = open_recordings(Source(str(path), truth=str(masks)))
    assert "numbered from 0 is assumed" in recording.describe_masks(), "nothing tells it"


def test_recordings_without_masks_are_named(tmp_path):
    for below in ("JPEGImages/a", "JPEGImages/b", "Annotations/a", "Annotations/c"):
        (tmp_path / "vos" / below).mkdir(parents=True)
    for below in ("a/frames", "a/masks", "b/frames", "c/masks", "d"):
        (tmp_path / "set" / below).mkdir(parents=True)
    for name in ("vos", "set"):
        line = describe_incomplete(Source(str(tmp_path / name)))
        assert line.endswith("2 folders have images or masks alone, and are left out: b, c")
    assert (
        describe_incomplete(Source(str(tmp_path / "set" / "a"))) == "" == describe_incomplete(Source("scene:?seed=1"))
    )


def test_a_recording_is_never_called_by_dots_alone(tmp_path, monkeypatch):
    (tmp_path / "clip" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "clip")
    assert [recording_name(spec) for spec in (".", "inner/..", "..", "a/b.mp4", "-")] == [
        "clip", "clip", recording_name(str(tmp_path)), "b", "stdin",
    ]  # fmt: skip
    assert recording_name("/") == recording_name("..mp4") == recording_name("/...mp4") == "recording"
