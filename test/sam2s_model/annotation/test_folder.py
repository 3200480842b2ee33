"""The files of an annotation are those of what is known: whatever is taken back, and whatever was there before."""

from __future__ import annotations

import sqlite3

import cv2
import numpy as np
import pytest

from sam2s_model.annotation.exports import BAG_IMAGES, BAG_LABELS, export_as
from sam2s_model.errors import ConfigError
from sam2s_model.recordings.image_files import read_labels
from sam2s_model.recordings.open import open_recording


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


def test_another_camera_of_a_bag_is_another_recording(opened, truth, tmp_path):
    """Of the same size, so that nothing but the topic tells them apart."""
    scene = opened()
    scene.prompt(0, mask=next(iter(truth[0].values())))
    bag, folder = str(export_as("bag", scene) / "bag"), tmp_path / "of_bag"
    opened(folder, bag, BAG_IMAGES).close()
    opened(folder, bag, BAG_IMAGES).close()
    with pytest.raises(ConfigError, match=f"whose topic is {BAG_IMAGES}, not {BAG_LABELS}: give another --output"):
        opened(folder, bag, BAG_LABELS)
    with sqlite3.connect(folder / "annotation.sqlite") as database:
        database.execute("delete from facts where key = 'topic'")  # as older annotations are
    opened(folder, bag, BAG_IMAGES).close()
    with pytest.raises(ConfigError, match=f"whose topic is {BAG_IMAGES}"):
        opened(folder, bag, BAG_LABELS)


def test_the_size_is_that_of_the_frames_that_were_taken(opened, tmp_path):
    clip, folder = tmp_path / "clip", tmp_path / "annotation"
    clip.mkdir()
    cv2.imwrite(str(clip / "0.png"), np.full((128, 160, 3), 90, np.uint8))
    mask = np.zeros((128, 160), bool)
    mask[20:60, 30:90] = True
    project = opened(folder, str(clip))
    project.prompt(0, mask=mask)
    project.close()
    for number in range(1, 6):  # now most of the images are smaller
        cv2.imwrite(str(clip / f"{number}.png"), np.full((64, 80, 3), 90, np.uint8))
    with pytest.raises(ConfigError, match="whose size is 160x128, not 80x64: give another --output"):
        opened(folder, str(clip))
    for number in range(1, 6):
        (clip / f"{number}.png").unlink()
    assert np.array_equal(opened(folder, str(clip)).masks(0)[1].mask, mask)


def test_dim_images_of_16_bits_are_as_dim_as_in_the_recording(opened, tmp_path):
    clip = tmp_path / "clip"
    clip.mkdir()
    for number, brightest in enumerate((200, 3000, 900)):  # of 12 bits
        ramp = np.linspace(0, brightest, 128 * 160 * 3).reshape(128, 160, 3).astype(np.uint16)
        cv2.imwrite(str(clip / f"{number}.png"), ramp)
    expected = [frame.image for frame in open_recording(clip)]
    assert [image.max() for image in expected] == [200 >> 4, 3000 >> 4, 900 >> 4]
    for limit in (1, 0, 0):  # of one dim image alone, of all, and of what is there already
        project = opened(spec=str(clip), limit=limit)
        assert all(np.array_equal(project.image(at), expected[at]) for at in range(len(project)))
        project.close()
    assert len(project) == 3


def test_masks_of_frames_whose_files_go_are_not_decoded(opened, truth, monkeypatch):
    """Of a long recording they are many, at each click."""
    project = opened()
    label = next(iter(truth[0]))
    project.prompt(0, mask=truth[0][label])
    project.track()
    looked_at, masks = set(), project.store.masks
    monkeypatch.setattr(project.store, "masks", lambda at, number=None: looked_at.add(at) or masks(at, number))
    project.prompt(2, 1, mask=np.roll(truth[2][label], 6, axis=1))
    assert written(project) == [0, 1, 2] and looked_at == {2}
