"""prompts.yaml says who is prompted on which frame, and what is wrong with an entry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from sam2s_model.errors import ConfigError, RequestError
from sam2s_model.prompting.prompt_script import AppliedScript, PromptEntry, PromptScript
from sam2s_model.prompts import Prompt
from sam2s_model.recordings.recording import Frame
from sam2s_model.tracks import Tracks

IMAGE = np.zeros((40, 60, 3), np.uint8)


def frame(index: int) -> Frame:
    return Frame(index, 10**9 + index, f"{index:06d}", IMAGE, None)


def script(tmp_path: Path, text: str) -> PromptScript:
    path = tmp_path / "prompts.yaml"
    path.write_text("prompts:\n" + text)
    return PromptScript.read(path)


def test_points_and_box_of_a_frame_are_one_prompt_an_object(tmp_path):
    found = script(
        tmp_path,
        "- {frame: 0, object: 1, class: scissors, points: [[3, 4]]}\n"
        "- {frame: 0, object: 1, not_on: [[5, 6]], box: [1, 2, 30, 20]}\n"
        "- {frame: 0, object: 2, points: [[8, 9], [10, 9]]}\n",
    )
    objects, (first, second) = found.of(frame(0), {})
    assert objects == [1, 2]
    assert first.class_name == "scissors" and first.points.tolist() == [[3, 4], [5, 6]]
    assert first.point_labels.tolist() == [1, 0] and first.box.tolist() == [1, 2, 30, 20]
    assert second.points.shape == (2, 2) and second.object_id == 0
    assert found.of(frame(1), {}) == ([], [])


def test_a_known_object_is_corrected_and_a_mask_is_read_beside_the_file(tmp_path):
    mask = np.zeros((40, 60), np.uint8)
    mask[3:9, 4:8] = 255
    cv2.imwrite(str(tmp_path / "m.png"), mask)
    found = script(tmp_path, "- {name: '000002', object: 1, mask: m.png}\n")
    _, (prompt,) = found.of(frame(2), {1: 17})
    assert prompt.object_id == 17 and np.array_equal(prompt.mask, mask > 0)


def test_what_is_written_is_read_again(tmp_path):
    entries = (
        PromptEntry(1, frame=0, class_name="hook", points=((1.5, 2),), not_on=((3, 4),)),
        PromptEntry(2, stamp_ns=5, box=(1, 2, 3, 4)),
        PromptEntry(2, name="a", mask="m.png"),
    )
    PromptScript(entries).write(tmp_path / "p.yaml")
    assert PromptScript.read(tmp_path / "p.yaml").entries == entries


@dataclass(frozen=True)
class Answer:
    object_ids: list[int]
    tracks: Tracks


class Told:
    """Gives ids as a tracker does, and keeps what it was told."""

    def __init__(self):
        self.prompts: list[list[Prompt]] = []
        self._next = 17

    def __call__(self, prompts: list[Prompt]) -> Answer:
        self.prompts.append(prompts)
        ids = []
        for prompt in prompts:
            ids.append(prompt.object_id or self._next)
            self._next += not prompt.object_id
        return Answer(ids, Tracks.empty(1, 40, 60))


def test_a_script_is_applied_and_entries_of_frames_that_never_came_are_named():
    entries = (
        PromptEntry(2, frame=1, box=(1, 2, 30, 20)),
        PromptEntry(1, name="000001", points=((3, 4),)),
        PromptEntry(2, frame=3, not_on=((5, 6),)),
        PromptEntry(2, frame=9, class_name="a"),
        PromptEntry(1, stamp_ns=5, class_name="a"),
    )
    told = Told()
    applied = AppliedScript(PromptScript(entries), told)
    came = [applied.on(frame(i)) is not None for i in (0, 1, 3, 4)]
    assert came == [False, True, True, False] and applied.ids == {2: 17, 1: 18}
    assert [[p.object_id for p in prompts] for prompts in told.prompts] == [[0, 0], [17]]
    assert applied.missed == [*entries[3:]]
    assert [entry.place for entry in applied.missed] == ["object 2 on frame 9", "object 1 on stamp 5 ns"]


@pytest.mark.parametrize(
    "entries, message",
    [
        ([PromptEntry(1, frame=0, box=(1, 2, 90, 20))], "object 1 on frame 0: box .* outside the image"),
        ([PromptEntry(1, frame=0, not_on=((5, 6),))], "all of them negative"),
        ([PromptEntry(1, frame=0, class_name="a")], "no points, no strokes, no box and no mask"),
        ([PromptEntry(1, frame=0, box=(1, 2, 9, 20)), PromptEntry(1, frame=7, points=((60, 1),))], "on frame 7: point"),
    ],
)
def test_prompts_that_do_not_fit_are_named_before_anything_is_tracked(entries, message):
    with pytest.raises(RequestError, match=message):
        PromptScript(entries).check((40, 60))


def test_entries_that_may_be_of_one_frame_and_are_no_prompt_together_are_refused(tmp_path):
    """Frame 45 may be the image 000045.png: points and a box were one prompt then, a mask and a box none."""
    cv2.imwrite(str(tmp_path / "mask.png"), np.full((40, 60), 255, np.uint8))
    box = dict(name="000045.png", box=(1, 2, 9, 20))
    mask = PromptEntry(1, frame=45, mask="mask.png")
    for fits in ([PromptEntry(1, frame=45, points=((5, 6),)), PromptEntry(1, **box)], [mask, PromptEntry(2, **box)]):
        PromptScript(fits, tmp_path).check((40, 60))
    with pytest.raises(ConfigError, match=r"on frame 45 and .*image 000045\.png may be of one frame.*in one way"):
        PromptScript([mask, PromptEntry(1, **box)], tmp_path).check((40, 60))


def test_a_correction_may_be_negative_or_a_class_alone():
    first = PromptEntry(1, frame=0, points=((5, 6),))
    more = PromptEntry(1, frame=0, not_on=((7, 8),))
    PromptScript([more, first, PromptEntry(1, frame=3, not_on=((5, 6),))]).check((40, 60))
    PromptScript([first, PromptEntry(1, frame=3, class_name="a")]).check((40, 60))


@pytest.mark.parametrize("key, places", [("frame", (45, 0)), ("stamp_ns", (9, 5)), ("name", ("b", "a"))])
def test_prompts_are_checked_in_the_order_in_which_they_are_applied(key, places):
    """Whatever the order of the file; of names alone the order is not known, and what may be right is not refused."""
    late, early = places
    correction, begins = dict(object=1, not_on=((5, 6),)), dict(object=1, box=(1, 2, 9, 20))
    PromptScript([PromptEntry(**correction, **{key: late}), PromptEntry(**begins, **{key: early})]).check((40, 60))
    if key != "name":
        wrong = [PromptEntry(**begins, **{key: late}), PromptEntry(**correction, **{key: early})]
        with pytest.raises(RequestError, match=f"{early}.*: .*all of them negative"):
            PromptScript(wrong).check((40, 60))
    with pytest.raises(RequestError, match="all of them negative"):
        PromptScript([PromptEntry(**correction, **{key: place}) for place in places]).check((40, 60))


def test_names_are_read_as_they_are_written(tmp_path):
    found = script(
        tmp_path,
        "- {name: 000045, class: no, points: [[3, 4]]}\n- {name: 2024-05-01, mask: 0001}\n"
        "- {frame: 2.0, class: 7}\n- {frame: 1, name: null, class: ~, points: [[3, 4]]}\n",
    )
    first, second, third, last = found.entries
    assert (first.name, first.class_name, second.name, second.mask) == ("000045", "no", "2024-05-01", "0001")
    assert (third.frame, third.class_name, last.name, last.class_name) == (2, "7", None, "")


@pytest.mark.parametrize(
    "text, message",
    [
        ("- {frame: .inf, points: [[1, 2]]}\n", "entry 1 cannot be read .*infinity"),
        ("- {frame: 1.5, points: [[1, 2]]}\n", "entry 1 cannot be read .*expected a whole number, not 1.5"),
        ("- {frame: 0}\n", "entry 1 says nothing"),
        ("- {object: 1, points: [[1, 2]]}\n", "entry 1 says of 0 frames"),
        ("- {frame: 0, name: a, points: [[1, 2]]}\n", "entry 1 says of 2 frames"),
        ("- {frame: 0, point: [[1, 2]]}\n", "entry 1 has point: expected some of"),
        ("- {frame: 0, box: [1, 2, 3]}\n", "entry 1 cannot be read"),
        ("- {frame: 0, points: [1, 2]}\n", "entry 1 cannot be read"),
        ("- {frame: 0, object: 0, class: a}\n", "of object 0"),
        ("- 5\n", "entry 1 is 5"),
        ("  []\n", "no prompts"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        script(tmp_path, text)


def test_a_mask_that_cannot_be_read_is_named(tmp_path):
    found = script(tmp_path, "- {frame: 0, mask: none.png}\n")
    with pytest.raises(ConfigError, match="none.png"):
        found.of(frame(0), {})
