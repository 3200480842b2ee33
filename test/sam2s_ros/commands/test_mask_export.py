"""`sam2s export masks` gives what was tracked, from a bag and from a folder, in each kind of file alike."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from sam2s_model.errors import ConfigError
from sam2s_model.recordings.bag_help import ZSTD
from sam2s_model.recordings.image_files import read_labels
from sam2s_model.recordings.open import Source, open_recording, open_recordings
from sam2s_model.results.coco import CocoTracks
from sam2s_model.results.label_png import colours_of, write_label_png
from sam2s_model.results.reading import open_tracked
from sam2s_model.results.tracks_table import TracksCsv
from sam2s_model.semantics import GENERIC, ClassLabel, LabelSet
from sam2s_model.tracks import State, Tracks
from sam2s_ros.commands.cli import main
from sam2s_ros.commands.label_sets import renumbered
from sam2s_ros.interfaces.image_codec import to_message
from sam2s_ros.interfaces.messages import masks_message, to_time
from sam2s_ros.processes.results import claim
from sam2s_ros.recorder.masks_bag import MasksBag

H, W, N = 40, 60, 4
NS = 10**9
GENERIC_AND_HOOK = LabelSet("with a hook", (*GENERIC.classes, ClassLabel(9, "hook", (200, 80, 220))))


def image(i: int) -> np.ndarray:
    return np.full((H, W, 3), (10 * i, 100, 200), np.uint8)


def tracks(i: int) -> Tracks:
    """Object 3, a square that moves, and object 7, which is lost."""
    labels = np.zeros((H, W), np.uint8)
    labels[5:15, 10 + i : 20 + i] = 1
    labels[:, :2] = 255
    return Tracks(
        stamp=(1 + i) * NS, label_map=labels, object_ids=np.array([3, 7]), labels=np.array([1, 2], np.uint8),
        class_ids=np.array([1, 5], np.uint8), class_names=("scissors", "hook"),
        states=np.array([State.TRACKED, State.LOST], np.uint8), scores=np.array([0.9, 0.1], np.float32),
        predicted_ious=np.array([0.8, 0.0], np.float32),
        boxes=np.array([[10 + i, 5, 20 + i, 15], [0, 0, 0, 0]], np.int32),
        class_scores=np.array([1.0, np.nan], np.float32),  # of the scissors a prompt has said so, of the hook nobody
        areas=np.array([100, 0]), centroids=np.array([[14.5 + i, 9.5], [np.nan, np.nan]], np.float32),
    )  # fmt: skip


@pytest.fixture
def bag(tmp_path) -> Path:
    """A recorder's folder whose bag has the images, too; a message of the middle is malformed."""
    (tmp_path / "recorded").mkdir()
    made = MasksBag(tmp_path / "recorded" / "masks.mcap", "/tracker/masks")
    for i in range(N):
        header = Header(stamp=to_time((1 + i) * NS), frame_id="camera")
        message = masks_message(tracks(i), header, sequence=i + 1, received_ns=1, finished_ns=2, model="test/none")
        made.write((1 + i) * NS, serialize_message(message))
        made.write_other((1 + i) * NS, "/image", "sensor_msgs/msg/Image", serialize_message(_image_message(i, header)))
        if i == 1:
            message.objects[0].label = 2  # as the other's
            made.write((1 + i) * NS, serialize_message(message))
    made.close()
    return tmp_path / "recorded"


def _image_message(i: int, header: Header) -> Image:
    return to_message(image(i), header, "rgb8")


@pytest.fixture
def folder(tmp_path) -> Path:
    """What `sam2s track` leaves of a folder of images, and the images."""
    out = tmp_path / "tracked"
    for below in (out / "masks", tmp_path / "clip"):
        below.mkdir(parents=True)
    with TracksCsv(out / "tracks.csv") as table:
        for i in range(N):
            cv2.imwrite(str(tmp_path / "clip" / f"{i:03d}.png"), cv2.cvtColor(image(i), cv2.COLOR_RGB2BGR))
            table.write(i, f"{i:03d}", tracks(i))
            write_label_png(out / "masks" / f"{i:03d}.png", tracks(i).label_map, colours_of(tracks(i), GENERIC))
    (out / "summary.json").write_text(json.dumps(dict(command="track", source=dict(spec=str(tmp_path / "clip")))))
    return out


def export(source: Path, output: Path, *more: object) -> int:
    return main(["export", "masks", str(source), "--output", str(output), *map(str, more)])


@pytest.mark.parametrize("kind", ["bag", "folder"])
def test_what_was_tracked_is_read_back(kind, request):
    found = list(open_tracked(request.getfixturevalue(kind)))
    assert len(found) == N
    for i, frame in enumerate(found):
        own, expected = frame.tracks, tracks(i)
        assert own.stamp == expected.stamp and own.class_names == expected.class_names
        for name in ("label_map", "object_ids", "labels", "class_ids", "states", "boxes", "areas"):
            assert np.array_equal(getattr(own, name), getattr(expected, name)), name
        for name in ("scores", "predicted_ious", "centroids", "class_scores"):
            assert np.allclose(getattr(own, name), getattr(expected, name), equal_nan=True), name


@pytest.mark.parametrize("kind", ["bag", "folder"])
def test_all_kinds_agree(kind, request, tmp_path, capsys):
    source, out = request.getfixturevalue(kind), tmp_path / "out"
    images = ("--topic", "/image") if kind == "bag" else ()
    wanted = [part for name in ("png", "csv", "coco", "dataset", "video") for part in ("--to", name)]
    assert export(source, out, *wanted, *images) == 0
    said = capsys.readouterr().out
    assert f"{N} frames as png, csv, coco, dataset, video, {N} of them with their image" in said
    assert ("left out: message 000002 is malformed" in said) == (kind == "bag")

    masks = sorted((out / "masks").glob("*.png"))
    assert [np.array_equal(read_labels(path), tracks(i).label_map) for i, path in enumerate(masks)] == [True] * N
    rows = list(csv.DictReader((out / "tracks.csv").open()))
    assert [row["object_id"] for row in rows] == ["3", "7"] * N and rows[1]["state"] == "LOST"
    coco = COCO(str(out / "tracks.json"))
    assert {c["id"]: c["name"] for c in coco.dataset["categories"]} == {1: "scissors", 5: "hook"}
    corners = [np.argwhere(coco.annToMask(found))[0].tolist() for found in coco.dataset["annotations"]]
    assert corners == [[5, 10 + i] for i in range(N)]
    with av.open(str(out / "overlay.mp4")) as container:
        assert len(list(container.decode(video=0))) == N

    (read,) = open_recordings(Source(str(out / "dataset")))
    frames = list(read)
    assert len(frames) == N and not read.odd and read.classes == {1: "scissors"}
    for i, frame in enumerate(frames):
        assert np.array_equal(frame.image, image(i)) and np.array_equal(frame.truth.labels, tracks(i).label_map)


@pytest.mark.parametrize("kind", ["bag", "folder"])
def test_a_label_set_has_the_classes_of_the_source_by_their_names(kind, request, tmp_path, capsys):
    """They were called by what had their numbers there: the hook, 5, was a suction."""
    source = request.getfixturevalue(kind)
    assert export(source, tmp_path / "out", "--to", "csv", "--to", "coco", "--label-set", "scene") == 0
    rows = list(csv.DictReader((tmp_path / "out" / "tracks.csv").open()))
    assert [(row["class_id"], row["class"]) for row in rows] == [("2", "scissors"), ("4", "hook")] * N
    coco = COCO(str(tmp_path / "out" / "tracks.json"))
    names = {c["id"]: c["name"] for c in coco.dataset["categories"]}
    assert {names[one["category_id"]] for one in coco.dataset["annotations"]} == {"scissors"} and names[4] == "hook"
    assert export(source, tmp_path / "no", "--to", "coco", "--label-set", "generic") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "class 'scissors' of what was tracked is not in label set 'generic': expected one of instrument" in said
    assert "m2cai16 or scene has it" in said and not (tmp_path / "no").exists()


def test_a_class_without_a_name_gets_that_of_its_number():
    unnamed = replace(tracks(0), class_names=("", "hook"))
    assert renumbered(unnamed, GENERIC_AND_HOOK).class_names == ("instrument", "hook")
    assert renumbered(unnamed, GENERIC_AND_HOOK).class_ids.tolist() == [1, 9]
    with pytest.raises(ConfigError, match="class 7 of what was tracked is not in label set 'with a hook'"):
        renumbered(replace(unnamed, class_ids=np.array([7, 5], np.uint8)), GENERIC_AND_HOOK)


def test_an_object_whose_class_is_said_late_comes_back_as_one_object(folder, tmp_path):
    coco = CocoTracks(GENERIC)
    for i in range(N):
        coco.add(f"{i:03d}.png", replace(tracks(i), class_ids=np.array([1 + (i == 0), 1], np.uint8)))
    coco.write(tmp_path / "tracks.json")
    (read,) = open_recordings(Source(str(tmp_path / "clip"), truth=str(tmp_path / "tracks.json")))
    frames = list(read)
    assert read.classes == {1: GENERIC.classes[0].name} and not read.odd and len(frames) == N
    for i, frame in enumerate(frames):
        assert np.array_equal(frame.truth.masks[1], tracks(i).label_map == 1)


def test_what_is_exported_is_not_removed_for_it(folder, tmp_path, capsys):
    """Masks and a table that were exported are a source themselves."""
    out = tmp_path / "out"
    assert export(folder, out, "--to", "png", "--to", "csv") == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert export(out, out, "--to", "coco", "--overwrite") == 2
    assert "--overwrite would remove" in " ".join(capsys.readouterr().err.split())
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_frames_that_are_gone_are_no_success(folder, tmp_path, monkeypatch, capsys):
    """Whoever removes them between the look and the pass that writes."""

    def claim_and_remove(*arguments, **named):
        for path in (folder / "masks").iterdir():
            path.unlink()
        (folder / "tracks.csv").write_text((folder / "tracks.csv").read_text().splitlines()[0] + "\n")
        return claim(*arguments, **named)

    monkeypatch.setattr("sam2s_ros.commands.mask_export.claim", claim_and_remove)
    assert export(folder, tmp_path / "out", "--to", "csv") == 2
    assert "nothing was exported" in " ".join(capsys.readouterr().err.split())
    assert not json.loads((tmp_path / "out" / "export.json").read_text())["finished"]


def test_a_value_that_stood_for_two_classes_has_none(tmp_path):
    (tmp_path / "recorded").mkdir()
    made = MasksBag(tmp_path / "recorded" / "masks.mcap", "/tracker/masks")
    for i, name in enumerate(("scissors", "hook")):
        own = replace(tracks(i), class_names=(name, "grasper"), class_scores=np.ones(2, np.float32))
        header = Header(stamp=to_time((1 + i) * NS), frame_id="camera")
        message = masks_message(own, header, sequence=i + 1, received_ns=1, finished_ns=2, model="test/none")
        made.write((1 + i) * NS, serialize_message(message))
        made.write_other((1 + i) * NS, "/image", "sensor_msgs/msg/Image", serialize_message(_image_message(i, header)))
    made.close()
    assert export(tmp_path / "recorded", tmp_path / "out", "--to", "dataset", "--topic", "/image") == 0
    assert (tmp_path / "out" / "dataset" / "classes.yaml").read_text() == "2: grasper\n"


def check_images(out: Path, expected: list[int]) -> None:
    """Whether the data set has these frames, each with its own image."""
    frames = list(open_recording(out / "dataset"))
    assert json.loads((out / "export.json").read_text())["with_image"] == len(expected) == len(frames)
    for own, i in zip(frames, expected, strict=True):
        assert np.array_equal(own.image, image(i)) and np.array_equal(own.truth.labels, tracks(i).label_map)


def test_a_frame_without_an_image_takes_none_from_those_that_follow(folder, tmp_path):
    (tmp_path / "clip" / "001.png").unlink()
    cv2.imwrite(str(tmp_path / "clip" / "000a.png"), np.zeros((H, W, 3), np.uint8))  # was not tracked
    assert export(folder, tmp_path / "out", "--to", "dataset") == 0
    check_images(tmp_path / "out", [0, 2, 3])


@pytest.mark.parametrize(
    ("stamps", "tracked", "without", "expected"),
    [
        ([100, 101, 102, 5, 6], [0, 1, 2, 3, 4], 2, [0, 1, 3, 4]),  # s; a clock that was set
        ([10, 20, 30, 10, 20, 30], [1, 2, 3, 4, 5], 2, [1, 3, 4, 5]),  # a bag that is played again
        ([100, 101, 5, 6], [2, 3], 3, [2]),
    ],
)
def test_stamps_that_step_back_are_of_another_pass(tmp_path, stamps, tracked, without, expected):
    (tmp_path / "recorded").mkdir()
    made = MasksBag(tmp_path / "recorded" / "masks.mcap", "/tracker/masks")
    for i, stamp in enumerate(stamps):
        header = Header(stamp=to_time(stamp * NS), frame_id="camera")
        if i in tracked:
            own = replace(tracks(i), stamp=stamp * NS)
            message = masks_message(own, header, sequence=i + 1, received_ns=1, finished_ns=2, model="test/none")
            made.write((1 + i) * NS, serialize_message(message))
        if i != without:
            image_message = serialize_message(_image_message(i, header))
            made.write_other((1 + i) * NS, "/image", "sensor_msgs/msg/Image", image_message)
    made.close()
    assert export(tmp_path / "recorded", tmp_path / "out", "--to", "dataset", "--topic", "/image") == 0
    check_images(tmp_path / "out", expected)


def test_images_are_cut_as_those_that_were_tracked(folder, tmp_path):
    for i in range(N):
        both = np.concatenate([np.zeros((H, W, 3), np.uint8), image(i)[..., ::-1]], axis=1)
        cv2.imwrite(str(tmp_path / "clip" / f"{i:03d}.png"), both)
    assert export(folder, tmp_path / "by_option", "--to", "dataset", "--crop", "right") == 0
    check_images(tmp_path / "by_option", list(range(N)))
    source = dict(spec=str(tmp_path / "clip"), crop="right")
    (folder / "summary.json").write_text(json.dumps(dict(command="track", source=source)))
    assert export(folder, tmp_path / "out", "--to", "dataset") == 0
    check_images(tmp_path / "out", list(range(N)))


def test_masks_alone_are_drawn_on_black_and_are_no_data_set(bag, tmp_path, capsys):
    assert export(bag / "masks.mcap", tmp_path / "a", "--to", "dataset") == 2
    assert "give the recording as --images" in capsys.readouterr().err and not (tmp_path / "a").exists()
    assert export(bag / "masks.mcap", tmp_path / "a", "--to", "video") == 0
    assert "masks on black" in capsys.readouterr().out


def test_p41_an_export_writes_over_nothing_without_overwrite(bag, tmp_path, capsys):
    assert export(bag, tmp_path / "a", "--to", "csv") == 0
    assert export(bag, tmp_path / "a", "--to", "png") == 2
    assert "has results already (tracks.csv, export.json): give another --output" in capsys.readouterr().err
    assert export(bag, tmp_path / "a", "--to", "png", "--overwrite") == 0
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"masks", "export.json"}
    (tmp_path / "b" / "masks").mkdir(parents=True)
    (tmp_path / "b" / "masks" / "0.png").write_bytes(b"precious")
    assert export(bag, tmp_path / "b", "--to", "png", "--overwrite") == 2
    assert "not of `sam2s export masks`" in capsys.readouterr().err
    assert (tmp_path / "b" / "masks" / "0.png").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("source", "more", "expected"),
    [
        ("none", ("--to", "csv"), "none does not exist: expected a bag with TrackedMasks"),
        (".", ("--to", "csv"), "has nothing that was tracked: expected a bag with TrackedMasks"),
        ("recorded", ("--to", "gif"), "--to gif: expected some of png, csv"),
        ("recorded", ("--to", "csv", "--mask-topic", "/other"), "has TrackedMasks on /tracker/masks: give one of them"),
        ("recorded", ("--to", "dataset", "--images", "scene:?width=64&height=64&frames=2"), "has the stamp and size"),
        ("junk.mcap", ("--to", "csv"), "is not a readable rosbag2 recording"),
    ],
)
def test_bad_input_is_one_sentence(source, more, expected, bag, tmp_path, capsys):
    (tmp_path / "junk.mcap").write_bytes(b"junk")
    assert export(tmp_path / source, tmp_path / "out", *more) == 2
    error = capsys.readouterr().err
    assert expected in error and len(error.strip().splitlines()) == 1 and not (tmp_path / "out").exists()


def test_our_own_bags_are_read_by_every_command(bag, tmp_path):
    """TrackedMasks are ground truth where they are named as such; a bag of masks alone says who reads it."""
    recording = open_recording(bag / "masks.mcap", mask_topic="/tracker/masks")
    assert [np.array_equal(f.truth.labels, tracks(f.index).label_map) for f in recording] == [True] * N
    alone = MasksBag(tmp_path / "alone.mcap", "/tracker/masks")
    alone.close()
    with pytest.raises(Exception, match="`sam2s export masks` reads it"):
        open_recording(tmp_path / "alone.mcap")


def masks_bag(path: Path, junk: tuple[int, ...] = ()) -> Path:
    """A message in each chunk of the file; some are junk."""
    made = MasksBag(path, "/tracker/masks")
    for i in range(N):
        header = Header(stamp=to_time((1 + i) * NS), frame_id="camera")
        message = masks_message(tracks(i), header, sequence=i + 1, received_ns=1, finished_ns=2, model="test/none")
        made.write((1 + i) * NS, b"\0\1\0\0junk" if i in junk else serialize_message(message))
        made.flush()
    made.close()
    return path


def test_a_message_of_junk_is_left_out_alone(tmp_path, capsys):
    assert export(masks_bag(tmp_path / "some.mcap", (1,)), tmp_path / "out", "--to", "png") == 0
    (left_out,) = json.loads((tmp_path / "out" / "export.json").read_text())["left_out"]
    assert "message 000001 is malformed (" in left_out and len(list((tmp_path / "out" / "masks").iterdir())) == N - 1
    assert export(masks_bag(tmp_path / "all.mcap", tuple(range(N))), tmp_path / "none", "--to", "png") == 2
    assert "all.mcap has no message that can be read: message 000000 is malformed" in capsys.readouterr().err


@pytest.mark.parametrize("whole", [2, 0])
def test_a_damaged_bag_is_read_up_to_there(tmp_path, capsys, whole):
    path = masks_bag(tmp_path / "masks.mcap")
    data = bytearray(path.read_bytes())
    chunks = [found.start() for found in re.finditer(re.escape(ZSTD), bytes(data))]
    assert len(chunks) == N
    data[chunks[whole] + 4 : chunks[whole] + 30] = b"\xff" * 26
    path.write_bytes(data)
    code = export(path, tmp_path / "out", "--to", "png")
    error = capsys.readouterr().err
    if not whole:
        assert code == 2 and "is not a readable rosbag2 recording (" in error and len(error.splitlines()) == 1
        return
    assert code == 0 and len(list((tmp_path / "out" / "masks").iterdir())) == whole
    (left_out,) = json.loads((tmp_path / "out" / "export.json").read_text())["left_out"]
    assert left_out.startswith("the bag cannot be read any further (")
