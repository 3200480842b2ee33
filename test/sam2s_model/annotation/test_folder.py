"""The files of an annotation are those of what is known: whatever is taken back, and whatever was there before."""

from __future__ import annotations

import numpy as np
import pytest

from sam2s_model.recordings.image_files import read_labels


def written(project) -> list[int]:
    """Positions that have a file in masks/."""
    names = {f"{frame.name}.png": frame.position for frame in project.frames}
    return sorted(names[path.name] for path in (project.folder / "masks").iterdir())


def shown(project, position: int) -> np.ndarray:
    return read_labels(project.folder / "masks" / f"{project.frames[position].name}.png")


@pytest.mark.parametrize("away", [lambda project: project.undo(), lambda project: project.remove(2)])
def test_an_object_that_was_a_mistake_leaves_the_frames_of_others_finished(opened, truth, away):
    project = opened()
    first, second = list(truth[0])[:2]
    project.prompt(0, mask=truth[0][first])
    project.track()
    before = [shown(project, at) for at in range(8)]
    assert project.prompt(3, mask=truth[3][second]) == 2
    assert written(project) == [0, 1, 2, 3], "object 2 is still to be tracked"
    away(project)
    assert written(project) == list(range(8)) and not project.to_track()
    assert all(np.array_equal(shown(project, at), labels) for at, labels in enumerate(before))


def test_an_object_that_comes_back_untracked_leaves_no_frame_finished_that_it_is_missing_on(opened, truth):
    project = opened()
    first, second = list(truth[0])[:2]
    project.prompt(0, mask=truth[0][first])
    project.prompt(3, mask=truth[3][second])
    project.remove(2)
    project.track()
    assert written(project) == list(range(8))
    assert project.undo() == "taken back: removal of object 2"
    assert {number: list(at) for number, at in project.to_track().items()} == {2: [4, 5, 6, 7]}
    assert written(project) == [0, 1, 2, 3]


def test_an_earlier_prompt_that_is_taken_back_leaves_no_masks_before_the_first_one(opened, truth):
    project = opened()
    first, second = list(truth[0])[:2]
    project.prompt(5, mask=truth[5][first])
    project.prompt(2, 1, mask=truth[2][first])
    project.track()
    assert written(project) == [2, 3, 4, 5, 6, 7]
    assert project.undo() == "taken back: correction of object 1"
    assert sorted(project.store.positions(1)) == written(project) == [5, 6, 7] and not project.to_track()
    project.prompt(0, mask=truth[0][second])
    project.track()
    assert written(project) == list(range(8)) and 1 in shown(project, 5)
    assert not any(1 in shown(project, at) for at in range(5))
