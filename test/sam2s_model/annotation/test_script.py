"""prompts.yaml, carried out, gives the masks that it was written of."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sam2s_model.annotation.script import apply_script, begin_with, object_numbers
from sam2s_model.errors import RequestError
from sam2s_model.prompting.prompt_script import PromptEntry, PromptScript


def test_what_a_person_did_is_done_again(opened, truth, tmp_path):
    project = opened()
    first, second = list(truth[0])[:2]
    rows, columns = np.nonzero(truth[0][first])
    project.prompt(0, points=[(float(columns[9]), float(rows[9]), 1)])
    project.prompt(0, 1, points=[(150.0, 3.0, 0)])
    project.prompt(0, class_name="object", mask=truth[0][second])
    project.track(4)
    project.prompt(4, 1, box=(20, 20, 90, 100))
    project.track()
    again = opened(tmp_path / "again")
    script = PromptScript.read(project.folder / "prompts.yaml")
    reached = []
    assert apply_script(again, script, lambda done, total: reached.append((done, total))) == []
    assert reached[-1] == (8, 8) and sorted(reached) == reached
    assert {n: own.class_name for n, own in again.objects.items()} == {1: "instrument", 2: "object"}
    for at in range(8):
        one, two = project.masks(at), again.masks(at)
        assert one.keys() == two.keys() and all(np.array_equal(one[n].mask, two[n].mask) for n in one), at
    texts = [(own.folder / "prompts.yaml").read_text() for own in (project, again)]
    assert texts[0] == texts[1]
    apply_script(again, script)  # what was said already is not said twice
    assert (again.folder / "prompts.yaml").read_text() == texts[0]


def test_masks_of_a_file_are_given_once_and_what_was_corrected_after_them_stays(opened, truth, tmp_path):
    first, second = list(truth[0])[:2]
    (tmp_path / "masks").mkdir()
    for at, label in ((3, first), (4, second)):
        cv2.imwrite(str(tmp_path / "masks" / f"{at}.png"), truth[at][label] * np.uint8(255))
    (tmp_path / "prompts.yaml").write_text(
        "prompts:\n- {frame: 3, object: 1, mask: masks/3.png}\n"
        "- {frame: 4, object: 2, mask: masks/4.png, not_on: [[2, 2]]}\n"
    )
    script = PromptScript.read(tmp_path / "prompts.yaml")
    project = opened()
    apply_script(project, script)
    for at, number in ((3, 1), (4, 2)):
        project.prompt(at, number, points=[(5.0, 5.0, 0)])
    corrected = [project.masks(3)[1].mask, project.masks(4)[2].mask]
    text = (project.folder / "prompts.yaml").read_text()
    apply_script(project, script)
    assert (project.folder / "prompts.yaml").read_text() == text and text.count("object: 1") == 2
    assert all(map(np.array_equal, corrected, [project.masks(3)[1].mask, project.masks(4)[2].mask]))
    cv2.imwrite(str(tmp_path / "masks" / "3.png"), np.roll(truth[3][first], 5, 1) * np.uint8(255))
    apply_script(project, script)
    assert np.array_equal(project.masks(3)[1].mask, np.roll(truth[3][first], 5, 1)), "another mask of the same name"
    assert np.array_equal(project.masks(4)[2].mask, corrected[1])


def test_a_mask_of_a_file_stands_in_place_of_what_the_file_says_before_it(opened, truth, tmp_path):
    first = next(iter(truth[0]))
    cv2.imwrite(str(tmp_path / "mask.png"), truth[4][first] * np.uint8(255))
    box = dict(frame=4, box=(20.0, 20.0, 60.0, 60.0))
    entries = [
        PromptEntry(1, class_name="object", **box),
        PromptEntry(2, **box),
        PromptEntry(1, frame=4, mask="mask.png"),
    ]
    project = opened()
    for time in ("first", "again"):
        apply_script(project, PromptScript(entries, tmp_path))
        assert np.array_equal(project.masks(4)[1].mask, truth[4][first]), time
        assert [entry.object for _, _, entry in project.store.entries()] == [2, 1], time
    assert project.objects[1].class_name == "object", "of the box"


def test_a_mask_that_a_person_gave_in_place_of_what_a_file_says_stays(opened, truth, tmp_path):
    first, second = list(truth[0])[:2]
    cv2.imwrite(str(tmp_path / "mask.png"), truth[6][first] * np.uint8(255))
    entries = [
        PromptEntry(1, frame=4, class_name="object", points=((40.0, 40.0),)),
        PromptEntry(2, frame=4, box=(20.0, 20.0, 60.0, 60.0)),
        PromptEntry(1, frame=6, mask="mask.png"),
        PromptEntry(2, frame=6, class_name="object"),
    ]
    script = PromptScript(entries, tmp_path)
    project = opened()
    apply_script(project, script)
    own = {(at, number): np.roll(truth[at][second], 7, 1) for at, number in ((4, 1), (4, 2), (6, 1))}
    for (at, number), mask in own.items():
        project.prompt(at, number, mask=mask)
    project.prompt(6, 2, "instrument")
    apply_script(project, script)
    assert all(np.array_equal(project.masks(at)[number].mask, mask) for (at, number), mask in own.items())
    assert len(project.store.entries()) == 3 and project.objects[2].class_name == "instrument"
    more = PromptEntry(1, frame=4, not_on=((5.0, 5.0),))
    apply_script(project, PromptScript([*entries, more], tmp_path))
    assert [entry.not_on for _, _, entry in project.store.entries(4, 1)] == [(), more.not_on], "what it says since"
    project.remove(1)
    apply_script(project, script)
    assert [(at, bool(entry.mask)) for _, at, entry in project.store.entries(number=1)] == [(4, False), (6, True)]
    assert np.array_equal(project.masks(6)[1].mask, truth[6][first])


def test_prompts_of_no_frame_are_named(opened):
    box = dict(box=(10.0, 10.0, 60.0, 60.0))
    script = PromptScript([PromptEntry(1, name="000002", **box), PromptEntry(1, frame=99, **box)])
    project = opened()
    assert [entry.frame for entry in apply_script(project, script)] == [99]
    assert sorted(project.store.positions(1)) == [2, 3, 4, 5, 6, 7]


def test_masks_to_begin_with(opened, truth):
    project = opened()
    assert begin_with(project, 3, truth[3], {1: "object", 2: "spoon"}) == (sorted(truth[3]), [])
    assert project.objects[1].class_name == "object" and project.objects[2].class_name == "instrument"
    assert np.array_equal(project.masks(3)[1].mask, truth[3][1])
    with pytest.raises(RequestError, match="frame 99 is not in the annotation"):
        begin_with(project, 99, truth[3], {})


def test_masks_to_begin_with_leave_what_a_person_has_corrected(opened, truth):
    project = opened()
    begin_with(project, 3, truth[3], {})
    corrected = np.roll(truth[3][1], 5, 1)
    project.prompt(3, 1, mask=corrected)
    project.prompt(3, 2, "object")
    prompts = (project.folder / "prompts.yaml").read_text()
    classes = dict.fromkeys(truth[3], "instrument")
    assert begin_with(project, 3, truth[3], classes) == ([], sorted(truth[3]))
    assert (project.folder / "prompts.yaml").read_text() == prompts
    assert np.array_equal(project.masks(3)[1].mask, corrected)
    assert begin_with(project, 5, truth[5], classes) == (sorted(truth[5]), [])
    assert project.objects[2].class_name == "object"


def test_labels_that_are_no_numbers_stand_for_one_object_each(opened, truth):
    """As 000 of SA-V, whose masks are folders: it is one object on all frames, and the next time."""
    project = opened()
    own = [{0: masks[2], 1: masks[1], 300: masks[2]} for masks in truth]
    assert object_numbers(project, [0, 1, 2, 300]) == {0: 3, 300: 4}
    assert begin_with(project, 3, own[3], {0: "object"}) == ([1, 3, 4], [])
    assert begin_with(project, 5, own[5], {}) == ([1, 3, 4], [])
    assert begin_with(project, 5, own[5], {}) == ([], [1, 3, 4])
    assert {number: one.class_name for number, one in project.objects.items()} == {
        1: "instrument", 3: "object", 4: "instrument"
    }  # fmt: skip
    assert np.array_equal(project.masks(5)[3].mask, truth[5][2])
