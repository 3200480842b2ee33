"""prompts.yaml says who is prompted on which frame, and what is wrong with an entry."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sam2s_model.errors import ConfigError
from sam2s_model.prompt_script import PromptEntry, PromptScript
from sam2s_model.recordings.recording import Frame

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


def test_entries_of_frames_that_never_came_are_named():
    entries = (
        PromptEntry(1, frame=3, class_name="a"),
        PromptEntry(1, frame=9, class_name="a"),
        PromptEntry(1, name="z", class_name="a"),
    )
    assert PromptScript(entries).missed(5, {"a"}, set()) == [*entries[1:]]


@pytest.mark.parametrize(
    "text, message",
    [
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
