"""Base maps are merged with the masks of their own stamp, in time or not at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from sam2s_model.errors import ImageError
from sam2s_model.tracks import State, Tracks
from sam2s_ros.interfaces.messages import to_time
from sam2s_ros.tracker.base_maps import PENDING, BaseMaps
from sam2s_ros.tracker.semantic_input import class_map

SIZE = (8, 10)


class Merging:
    """Base maps with a clock that a test sets, and what was said."""

    def __init__(self, max_age: float = 0.5):
        self.now, self.said = 100.0, []
        self.maps = BaseMaps(max_age, self.said.append, lambda: self.now)

    def frame(self, stamp: int, class_id: int = 1):
        """A frame with an object in its left half, whose image came just now."""
        label_map = np.zeros(SIZE, np.uint8)
        label_map[:, :5] = 1
        tracks = replace(
            Tracks.empty(stamp, *SIZE), label_map=label_map, object_ids=np.array([9]), labels=np.array([1], np.uint8),
            class_ids=np.array([class_id], np.uint8), class_names=("x",), states=np.array([State.TRACKED], np.uint8),
            scores=np.ones(1, np.float32), predicted_ious=np.ones(1, np.float32),
            boxes=np.array([[0, 0, 5, 8]], np.int32), areas=np.array([40]),
            centroids=np.zeros((1, 2), np.float32), returns=None, similarities=None,
            class_scores=None,
        )  # fmt: skip
        return self.maps.add_tracks(stamp, Header(stamp=to_time(stamp), frame_id="camera"), tracks, self.now)

    def map(self, stamp: int, value: int = 6, size=SIZE):
        return self.maps.add_map(stamp, np.full(size, value, np.uint8))


def test_p49_a_map_is_merged_with_the_masks_of_its_own_stamp_whichever_comes_first():
    merging = Merging()
    assert merging.frame(10) == []
    [one] = merging.map(10)
    assert one.header == Header(stamp=to_time(10), frame_id="camera") and (one.image == 6).all()
    assert merging.map(20, 4) == []
    [one] = merging.frame(20)
    assert (one.image[:, 5:] == 4).all() and one.header.stamp == to_time(20)
    assert merging.map(31) == [] and merging.frame(30) == []  # another stamp is another image
    assert merging.map(10) == []  # that was there already
    assert merging.maps.counts.merged == 2


def test_p49_an_object_keeps_its_class_and_the_map_stays_elsewhere():
    merging = Merging()
    for stamp, value in ((1, 6), (2, 6), (3, 4)):
        merging.frame(stamp)
        [one] = merging.map(stamp, value)
    assert (one.image[:, :5] == 6).all() and (one.image[:, 5:] == 4).all()


def test_p49_what_is_late_is_not_merged_and_it_is_said():
    merging = Merging(max_age=0.5)
    merging.frame(10)
    merging.now += 0.6
    assert merging.map(10) == [] and merging.maps.counts.late == 1
    assert merging.said == [
        "a base map came 0.60 s after its image, expected at most 0.5 s (semantic_max_age): ~/semantic_image has none "
        "of it"
    ]
    merging.frame(20)
    assert merging.map(20) and merging.maps.counts.merged == 1
    without_limit = Merging(max_age=0.0)
    without_limit.frame(10)
    without_limit.now += 1e6
    assert len(without_limit.map(10)) == 1


def test_p49_what_finds_no_partner_is_counted_and_forgotten():
    merging = Merging()
    for stamp in range(1, 101):
        assert merging.frame(stamp) == []
    assert merging.maps.counts.without_map == 100 - PENDING
    assert len(merging.map(100)) == 1 and merging.maps.counts.without_map == 99
    for stamp in range(201, 301):
        assert merging.map(stamp) == []
    assert merging.maps.counts.without_masks == 100 - PENDING


def test_p49_a_stream_that_begins_anew_is_merged_again():
    merging = Merging()
    merging.frame(1000)
    assert merging.map(1000)
    assert merging.frame(10) == []
    assert len(merging.map(10)) == 1


DAY = 86400 * 10**9


@pytest.mark.parametrize("stray", [DAY, 45, 7])
def test_p49_a_map_with_a_stray_stamp_costs_nothing_but_itself(stray):
    merging = Merging()
    for stamp in range(10, 1000, 10):
        merging.frame(stamp)
        if stamp in (40, 400):
            assert merging.map(stray) == []
        assert len(merging.map(stamp)) == 1, stamp
    assert merging.maps.counts.merged == 99 and merging.maps.counts.without_masks == 2


def test_p49_strays_do_not_pile_up_and_a_map_that_was_sent_twice_is_merged_once():
    merging = Merging()
    for stamp in range(10, 1000, 10):
        assert merging.map(DAY + stamp) == [] and merging.map(stamp) == [] and merging.map(stamp) == []
        assert len(merging.frame(stamp)) == 1 and merging.map(stamp) == []
    assert merging.maps.counts.without_masks == 3 * 99


@pytest.mark.parametrize("lag", [1, 5, 12])
def test_p49_maps_that_lag_behind_a_stream_that_begins_anew_do_not_stop_the_new_one(lag):
    """A recording that loops, and a network that has not done with the pass before."""
    merging, count = Merging(max_age=0.0), 250
    frames = [(number, stamp) for number in range(3) for stamp in range(1, count + 1)]
    merged = [0, 0, 0]
    for i, (number, stamp) in enumerate(frames):
        merged[number] += len(merging.frame(stamp))
        if i >= lag:
            of, late = frames[i - lag]
            merged[of] += len(merging.map(late))
    assert merged[0] >= count - lag and merged[1] >= count - lag and merged[2] == count - lag


def test_a_map_of_another_size_is_scaled_and_that_is_said_once():
    merging = Merging()
    for stamp in (1, 2):
        merging.frame(stamp)
        [one] = merging.map(stamp, 5, (4, 5))
        assert one.image.shape == SIZE and (one.image == 5).all()
    assert merging.said == ["base maps are 5x4 and images 10x8: maps are scaled, nearest pixel"]


def test_a_class_image_is_read_and_what_is_none_is_refused():
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    padded = np.pad(values, ((0, 0), (0, 2)))
    for encoding in ("mono8", "8UC1"):
        message = Image(height=3, width=4, step=6, encoding=encoding, data=padded.tobytes())
        assert np.array_equal(class_map(message), values)
    with pytest.raises(ImageError, match="encoding 'rgb8': expected mono8 or 8UC1"):
        class_map(Image(height=1, width=1, step=3, encoding="rgb8", data=bytes(3)))
    for height, width, step in ((3, 4, 3), (0, 4, 4), (4, 4, 4)):
        with pytest.raises(ImageError, match="bytes for"):
            class_map(Image(height=height, width=width, step=step, encoding="mono8", data=bytes(12)))
