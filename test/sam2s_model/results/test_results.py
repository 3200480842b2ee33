"""What was tracked is read back from each kind of file as it was."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from pycocotools.coco import COCO

from sam2s_model.errors import ConfigError
from sam2s_model.recordings.image_files import read_labels
from sam2s_model.results.coco import CocoTracks
from sam2s_model.results.label_png import colours_of, write_label_png
from sam2s_model.results.object_log import ObjectLog
from sam2s_model.results.tracks_table import COLUMNS, TracksCsv, write_parquet
from sam2s_model.semantics import GENERIC
from sam2s_model.tracks import State, Tracks


def tracks(stamp: int = 10**9, states=(State.TRACKED, State.LOST)) -> Tracks:
    """Object 3, a square of 20 px, and object 7, which is not there."""
    labels = np.zeros((60, 80), np.uint8)
    labels[10:30, 40:60] = 1
    return Tracks(
        stamp=stamp, label_map=labels, object_ids=np.array([3, 7]), labels=np.array([1, 2], np.uint8),
        class_ids=np.array([1, 2], np.uint8), class_names=("instrument", "object"), states=np.array(states, np.uint8),
        scores=np.array([0.9, 0.1], np.float32), predicted_ious=np.array([0.8, 0.0], np.float32),
        boxes=np.array([[40, 10, 60, 30], [0, 0, 0, 0]], np.int32), areas=np.array([400, 0]),
        centroids=np.array([[49.5, 19.5], [np.nan, np.nan]], np.float32),
    )  # fmt: skip


def test_a_table_has_a_row_for_each_object_at_any_moment(tmp_path):
    path = tmp_path / "tracks.csv"
    with TracksCsv(path) as table:
        table.write(0, "000000", tracks())
        found = list(csv.DictReader(path.open()))  # before it is closed
    assert tuple(found[0]) == COLUMNS and len(found) == 2
    assert found[0]["class"] == "instrument" and found[0]["state"] == "TRACKED" and found[0]["x1"] == "60"
    assert float(found[0]["centroid_x"]) == 49.5
    assert found[1]["state"] == "LOST" and found[1]["centroid_x"] == found[1]["class_score"] == ""


def test_parquet_is_the_table_or_says_what_it_needs(tmp_path):
    with TracksCsv(tmp_path / "tracks.csv") as table:
        table.write(0, "000000", tracks())
    try:
        from pyarrow import parquet
    except ImportError:
        with pytest.raises(ConfigError, match="pyarrow"):
            write_parquet(tmp_path / "tracks.csv", tmp_path / "tracks.parquet")
        return
    write_parquet(tmp_path / "tracks.csv", tmp_path / "tracks.parquet")
    read = parquet.read_table(tmp_path / "tracks.parquet")
    assert read.column_names == list(COLUMNS)
    first, second = read.to_pylist()
    assert first["name"] == "000000" and first["state"] == "TRACKED" and first["area"] == 400
    assert second["centroid_x"] is None and second["class_score"] is None
    assert str(read.schema.field("class_score").type) == "double"


def test_a_palette_png_keeps_labels_and_shows_colours(tmp_path):
    import cv2

    shown = tracks()
    write_label_png(tmp_path / "a.png", shown.label_map, colours_of(shown, GENERIC))
    assert np.array_equal(read_labels(tmp_path / "a.png"), shown.label_map)
    picture = cv2.cvtColor(cv2.imread(str(tmp_path / "a.png"), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert tuple(picture[20, 50]) == colours_of(shown, GENERIC)[1] and not picture[0, 0].any()


def test_coco_is_read_by_pycocotools(tmp_path, capsys):
    made = CocoTracks(GENERIC)
    made.add("frames/000000.png", tracks())
    made.write(tmp_path / "tracks.json")
    read = COCO(str(tmp_path / "tracks.json"))
    capsys.readouterr()  # pycocotools prints
    annotations = read.loadAnns(read.getAnnIds())
    assert [a["track_id"] for a in annotations] == [3] and annotations[0]["bbox"] == [40, 10, 20, 20]
    assert np.array_equal(read.annToMask(annotations[0]), tracks().label_map)
    assert json.loads((tmp_path / "tracks.json").read_text())["images"][0]["stamp_ns"] == 10**9


def test_the_log_says_when_an_object_was_first_lost():
    log = ObjectLog()
    log.add(0, tracks(1, (State.TRACKED, State.OCCLUDED)))
    log.add(1, tracks(2))
    log.add(2, tracks(3))
    first, second = log.objects[3].as_dict(), log.objects[7].as_dict()
    assert first["frames_tracked"] == 3 and first["first_lost_frame"] is None
    assert second["frames_lost"] == 2 and (second["first_lost_frame"], second["first_lost_stamp_ns"]) == (1, 2)
