"""Prompts come back from their file as they were given, on the first image, and never unasked."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from said_log import SaidLog

from sam2s_model.config import PICO, TrackerConfig
from sam2s_model.errors import ConfigError
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompting.strokes import Stroke
from sam2s_model.prompts import Prompt
from sam2s_model.semantics import GENERIC
from sam2s_model.tracking.tracker import Tracker
from sam2s_ros.interfaces.parameters import NodeConfig
from sam2s_ros.tracker.build import build_tracker
from sam2s_ros.tracker.prompt_file import PromptFile, PromptSet
from sam2s_ros.tracker.saving import SavingTracker

IMAGE = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
MASK = np.zeros((48, 64), bool)
MASK[10:30, 20:40] = True
BOX = Prompt(class_name="object", box=np.array([10.0, 12.0, 34.0, 36.0], np.float32))
CLICK = Prompt(points=np.array([[20.5, 30.0]], np.float32), point_labels=np.array([0]))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Sam2Model(PICO, 64).eval()


@pytest.fixture
def begin(model, tmp_path):
    """Makes trackers that keep their prompts in one file: begin(restore) -> tracker, what it said."""
    file = PromptFile(tmp_path / "prompts.json")

    def make(restore, **config):
        tracker, log = Tracker(model, config=TrackerConfig(**config)), SaidLog()
        tracker.warm_up(64, 64)
        saved = file.read() if restore else None
        options = dict(kept=tracker.config.max_conditioning, saved=saved, log=log)
        make.warnings = log.warnings
        return SavingTracker(tracker, file, max_age=60.0, now=lambda: make.now, **options), log.infos

    make.file, make.now = file, 1e9
    return make


def test_p24_prompts_are_saved_and_restored_on_the_first_image(begin):
    tracker, _ = begin(restore=True)
    tracker.step(1, IMAGE)
    first, second, third = tracker.prompt(0, [BOX, Prompt(mask=MASK), BOX]).object_ids
    tracker.step(2, IMAGE)
    corrected = tracker.prompt(0, [Prompt(object_id=first, points=CLICK.points, point_labels=CLICK.point_labels)])
    tracker.remove([third])
    saved = begin.file.read()
    assert saved.size == (48, 64) and {i: len(given) for i, given in saved.prompts.items()} == {first: 2, second: 1}
    np.testing.assert_array_equal(saved.prompts[second][0].mask, MASK)
    np.testing.assert_array_equal(saved.prompts[first][0].box, BOX.box)
    assert saved.prompts[first][0].class_name == "object"

    again, said = begin(restore=True)
    tracks = again.step(7, IMAGE)
    assert len(tracks) == 2 and set(tracks.class_names) == {"object", "instrument"} and tracks.stamp == 7
    assert len(said) == 1 and "2 objects were restored from" in said[0]
    # the same prompts on the same image, so the same masks as on the frame that was corrected
    plain, _ = begin(restore=False)
    plain.step(7, IMAGE)
    a, b = plain.prompt(0, [BOX, Prompt(mask=MASK)]).object_ids
    plain.prompt(0, [Prompt(object_id=a, points=CLICK.points, point_labels=CLICK.point_labels)])
    np.testing.assert_array_equal(tracks.label_map, plain.newest.label_map)
    assert len(again.step(8, IMAGE)) == 2 and len(said) == 1 and len(corrected.object_ids) == 1


def test_p24_an_object_that_was_renamed_is_restored_by_its_new_name(begin):
    tracker, _ = begin(restore=False)
    tracker.step(1, IMAGE)
    [object_id] = tracker.prompt(0, [BOX]).object_ids
    tracker.prompt(0, [Prompt(object_id=object_id, class_name="instrument")])
    [saved] = begin.file.read().prompts[object_id]
    assert saved.class_name == "instrument" and saved.box is not None
    again, said = begin(restore=True)
    assert again.step(7, IMAGE).class_names == ("instrument",) and "1 objects were restored" in said[0]


def test_p24_nothing_is_restored_unasked_or_after_a_reset(begin):
    tracker, _ = begin(restore=False)
    tracker.step(1, IMAGE)
    tracker.prompt(0, [BOX])
    again, said = begin(restore=False)
    assert len(again.step(1, IMAGE)) == 0 and said == []
    again, said = begin(restore=True)
    again.reset()
    assert len(again.step(1, IMAGE)) == 0 and said == []
    tracker.reset()
    assert begin.file.read().prompts == {}, "and a reset forgets them"


@pytest.mark.parametrize(
    "config, image, why",
    [
        ({}, IMAGE[:40], "they are of images of 64x48, this one is 64x40"),
        (dict(max_objects=1), IMAGE, "the request would make 2 objects"),
    ],
)
def test_p24_all_or_none_are_restored(begin, config, image, why):
    tracker, _ = begin(restore=False)
    tracker.step(1, IMAGE)
    tracker.prompt(0, [BOX, BOX])
    before = begin.file.path.read_bytes()
    again, said = begin(restore=True, **config)
    assert len(again.step(1, image)) == 0 and said == []
    [warning] = begin.warnings
    assert "were not restored" in warning and why in warning
    assert begin.file.path.read_bytes() == before


def test_p24_what_is_raised_while_restoring_fails_the_step_and_is_said(begin, monkeypatch):
    tracker, _ = begin(restore=False)
    tracker.step(1, IMAGE)
    [object_id] = tracker.prompt(0, [BOX]).object_ids
    tracker.prompt(0, [Prompt(object_id=object_id, points=CLICK.points, point_labels=CLICK.point_labels)])
    again, said = begin(restore=True)
    prompt, before = Tracker.prompt, begin.file.path.read_bytes()

    def fails_the_second_time(tracker, stamp, prompts, **options):
        if prompts[0].object_id:
            assert begin.file.path.read_bytes() == before, "who is killed here finds them all the next time"
            raise torch.OutOfMemoryError("injected")
        return prompt(tracker, stamp, prompts, **options)

    monkeypatch.setattr(Tracker, "prompt", fails_the_second_time)
    with pytest.raises(torch.OutOfMemoryError):
        again.step(1, IMAGE)
    assert again.object_ids == () and said == []
    assert len(begin.warnings) == 1 and "were not restored: injected" in begin.warnings[0]
    assert begin.file.path.read_bytes() == before, "the next start may have the memory"
    assert len(again.step(2, IMAGE)) == 0


def test_p24_restored_objects_have_ids_that_no_process_has_given_before(model, tmp_path):
    """Whoever has followed an object of the process that ended must not follow another one of that id now."""
    path = tmp_path / "prompts.json"
    torch.save({"model": model.state_dict()}, tmp_path / "random.pt")
    config = dict(checkpoint=str(tmp_path / "random.pt"), model="sam2s_pico", image_size=64, device="cpu", threads=1)
    config |= dict(prompts_file=str(path), restore=True, warm_up=False)

    ended = []

    def begin(**options):
        log = SaidLog()
        for one in ended:
            one.close()
        ended.append(build_tracker(NodeConfig(**config), TrackerConfig(), GENERIC, log=log, **options))
        tracker = ended[-1].tracker
        tracker.step(1, IMAGE)
        return tracker, log.infos[-1]

    before, _ = begin(first_id=3)
    assert before.prompt(0, [BOX, BOX, BOX]).object_ids == (3, 4, 5)
    before.remove([3, 5])
    again, said = begin()
    assert again.object_ids == (6,) and f"1 objects were restored from {path}, 4 as 6," in said
    assert again.prompt(0, [BOX]).object_ids == (7,)
    assert begin()[0].object_ids == (8, 9), "nor those that were restored"
    assert begin(first_id=20)[0].object_ids == (20, 21), "as after a cleanup of the same node"


@pytest.mark.parametrize(
    "later, restored, why",
    [
        (59.0, True, ""),
        (-59.0, True, ""),
        (61.0, False, "the newest prompt of objects 1, 2 was given 61 s ago (restore_max_age is 60 s): prompt again"),
        (-3600.0, False, "was given 3600 s later than the system's clock says it is"),
    ],
)
def test_p24_prompts_of_another_time_are_not_restored_and_it_is_said(begin, later, restored, why):
    tracker, _ = begin(restore=False)
    tracker.step(1, IMAGE)
    first, second = tracker.prompt(0, [BOX, BOX]).object_ids
    begin.now += 1000.0
    tracker.prompt(0, [Prompt(object_id=first, points=CLICK.points, point_labels=CLICK.point_labels)])
    given, begin.now = begin.now, begin.now + 5.0
    tracker.prompt(0, [Prompt(object_id=second, class_name="instrument")])  # which says nothing of where it is
    before = begin.file.path.read_bytes()
    begin.now = given + later
    again, said = begin(restore=True)
    assert len(again.step(1, IMAGE)) == 2 * restored and len(said) == restored
    if restored:
        assert f"the last time {later:.0f} s ago" in said[0] and begin.file.read().given == given
    else:
        assert why in begin.warnings[0] and begin.file.path.read_bytes() == before


def test_p24_a_file_without_a_time_is_as_old_as_the_file(tmp_path):
    path = tmp_path / "prompts.json"
    row = '{"object": 7, "class": "", "box": [1, 1, 5, 5]}'
    path.write_text(f'{{"version": 1, "height": 9, "width": 9, "prompts": [{row}]}}')
    os.utime(path, (5e8, 5e8))
    saved = PromptFile(path).read()
    assert (saved.given, saved.next_id) == (5e8, 8)


def test_p24_corrections_of_an_object_without_prompts_are_not_saved_as_its_first(begin, model):
    """A loaded object has none: what says where it is not would be a prompt that starts nothing."""
    earlier = Tracker(model)
    earlier.step(1, IMAGE)
    earlier.prompt(0, [BOX])
    tracker, _ = begin(restore=False)
    tracker.step(1, IMAGE)
    [prompted] = tracker.prompt(0, [BOX]).object_ids
    [loaded] = tracker.restore_objects(earlier.saved_objects())
    tracker.prompt(0, [Prompt(object_id=loaded, points=CLICK.points, point_labels=CLICK.point_labels)])
    tracker.prompt(0, [Prompt(object_id=loaded, class_name="instrument")])
    saved = begin.file.read()
    assert list(saved.prompts) == [prompted] and saved.next_id == loaded + 1 == tracker.next_id
    again, said = begin(restore=True)
    assert len(again.step(7, IMAGE)) == 1 and "1 objects were restored" in said[0]


def test_ids_of_loaded_objects_are_given_once_also_where_nothing_is_prompted(begin, model):
    """A process that is killed has told somebody of them. Prompts of before that it did not restore stay."""
    earlier = Tracker(model)
    earlier.step(1, IMAGE)
    earlier.prompt(0, [BOX, BOX])
    saved = earlier.saved_objects()
    tracker, _ = begin(restore=False)
    tracker.step(1, IMAGE)
    assert tracker.restore_objects(saved) == (1, 2)
    assert begin.file.read() == PromptSet((48, 64), {}, next_id=3, by_person=set())
    tracker.prompt(0, [BOX])
    before = begin.file.read()
    assert list(before.prompts) == [3] and before.next_id == 4

    again, _ = begin(restore=False)
    again.step(1, IMAGE[:40])
    ids = *again.restore_objects(saved), *again.restore_objects(saved), *again.restore_objects(saved)
    again.prompt(0, [Prompt(object_id=1, points=CLICK.points, point_labels=CLICK.point_labels)])
    again.remove([2])
    now = begin.file.read()
    assert (now.next_id, now.size, now.given) == (ids[-1] + 1, before.size, before.given) and list(now.prompts) == [3]
    np.testing.assert_array_equal(now.prompts[3][0].box, BOX.box)
    begin.file.path.write_text("nonsense")
    again.remove([1])
    assert "the prompts were not saved" in again.unsaved and begin.file.path.read_text() == "nonsense"
    assert again.prompt(0, [BOX]).object_ids == (7,) and again.unsaved == ""
    assert list(begin.file.read().prompts) == [7], "these are its own"


def test_what_a_person_has_named_stays_so_after_a_restore_and_nothing_is_learnt_of_it(begin):
    tracker, _ = begin(restore=False, max_conditioning=2)
    tracker.step(1, IMAGE)
    named, unnamed, later = tracker.prompt(0, [BOX, Prompt(mask=MASK), Prompt(mask=MASK)]).object_ids
    [found] = tracker.prompt(0, [BOX], learn=False).object_ids
    tracker.prompt(0, [Prompt(object_id=later, class_name="object", points=[(30, 20)], point_labels=[1])])
    for _ in range(2):  # the prompt that named it is not kept
        tracker.prompt(0, [Prompt(object_id=later, points=[(30, 20)], point_labels=[1])])
    saved = begin.file.read()
    assert set(saved.by_person) == {named, later} and set(saved.prompts) == {named, unnamed, later, found}

    for _ in range(2):  # what was restored is saved, too
        again, said = begin(restore=True, max_conditioning=2)
        tracks = again.step(7, IMAGE)
        assert tracks.class_names == ("object", "instrument", "object", "object") and "4 objects" in said[0]
        known = [again.tracker._objects[i].by_person for i in again.object_ids]
        assert known == [True, False, True, False] and len(again.discovery.bank) == 0


def test_a_file_that_does_not_say_what_a_person_has_named_is_read(tmp_path):
    path = tmp_path / "prompts.json"
    row = '{"object": 7, "class": "object", "box": [1, 1, 5, 5]}'
    for told, by_person in (("", set()), (', "by_person": [7, 8]', {7})):
        path.write_text(f'{{"version": 1, "height": 9, "width": 9, "prompts": [{row}]{told}}}')
        assert PromptFile(path).read().by_person == by_person


def test_p24_the_file_does_not_grow_with_corrections(begin):
    tracker, _ = begin(restore=False, max_conditioning=3)
    tracker.step(1, IMAGE)
    [object_id] = tracker.prompt(0, [BOX]).object_ids
    for x in range(5, 15):
        tracker.prompt(0, [Prompt(object_id=object_id, points=[(x, 5)], point_labels=[1])])
    kept = begin.file.read().prompts[object_id]
    assert [None if p.points is None else p.points[0, 0] for p in kept] == [None, 13, 14]


def test_a_file_that_cannot_be_written_is_said_and_tracking_goes_on(begin):
    tracker, _ = begin(restore=False)
    tracker.step(1, IMAGE)
    blocked = begin.file.path.with_name("prompts.json.part")
    blocked.mkdir()
    assert tracker.prompt(0, [BOX]).object_ids and f"the prompts were not saved to {begin.file.path}" in tracker.unsaved
    assert len(tracker.step(2, IMAGE)) == 1
    blocked.rmdir()
    assert tracker.prompt(0, [BOX]).object_ids and tracker.unsaved == "", "the next set has them all"
    assert len(begin.file.read().prompts) == 2


@pytest.mark.parametrize(
    "place, why",
    [("none/prompts.json", "No such file"), ("folder", "Is a directory"), ("file/prompts.json", "Not a directory")],
)
def test_p24_p44_a_file_that_could_not_be_written_is_refused_before_anything_is_tracked(tmp_path, place, why):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    config = NodeConfig(checkpoint="sam2s_pico", device="cpu", prompts_file=str(tmp_path / place))
    with pytest.raises(ConfigError, match=f"prompts_file {tmp_path / place} cannot be written .{why}"):
        build_tracker(config, TrackerConfig(), GENERIC, log=SaidLog())


def test_looking_whether_a_file_can_be_written_leaves_it_as_it_is(begin):
    begin.file.check_writable()
    assert not list(begin.file.path.parent.iterdir())
    begin.file.write(PromptSet((48, 64), {1: [BOX]}))
    before = begin.file.path.read_bytes()
    begin.file.check_writable()
    assert [path.read_bytes() for path in begin.file.path.parent.iterdir()] == [before]


@pytest.mark.parametrize(
    "text, why",
    [
        ("nonsense", "JSONDecodeError"),
        ('{"version": 9}', "its version is 9: expected 1"),
        ('{"version": 1, "height": 9, "width": 9, "prompts": [{"object": 1}]}', "KeyError"),
        ('{"version": 1, "height": 9, "width": 9, "prompts": [{"object": 1, "class": "", "mask": "AAAA"}]}', "not PNG"),
        ('{"version": 1, "height": 9, "width": 9, "prompts": [], "next_id": 4294967296}', "less than 4294967296"),
        ('{"version": 1, "height": 9, "width": 9, "prompts": [], "next_id": 1e999}', "OverflowError"),
        (
            '{"version": 1, "height": 9, "width": 9, "prompts": [{"object": 1, "class": "", "box": [5, 5, 99, 8]}]}',
            "outside",
        ),
    ],
)
def test_p24_a_file_of_something_else_is_refused_by_name(tmp_path, text, why):
    path = tmp_path / "prompts.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="is not a file of saved prompts") as caught:
        PromptFile(path).read()
    assert why in str(caught.value)


def test_p24_restore_needs_a_file():
    with pytest.raises(ConfigError, match="prompts_file is empty"):
        NodeConfig(restore=True)


def test_p24_what_a_class_prompt_has_found_is_saved_as_masks(begin):
    """The file holds what was prompted, not what was asked for: at the next start prototypes may have changed."""
    low = dict(discovery_min_iou=0.0, discovery_min_stability=0.0, discovery_min_margin=-1.0)
    tracker, _ = begin(restore=False, **low)
    tracker.step(1, IMAGE)
    shown = tracker.prompt(0, [Prompt(class_name="object", mask=MASK)])
    tracker.remove(shown.object_ids)
    answer = tracker.prompt(0, [Prompt(class_name="object")])
    saved = begin.file.read()
    assert list(saved.prompts) == list(answer.object_ids) and len(answer.object_ids) > 0
    for object_id, prompt in zip(answer.object_ids, answer.prompts, strict=True):
        [kept] = saved.prompts[object_id]
        np.testing.assert_array_equal(kept.mask, prompt.mask)
        assert kept.class_name == "object"
    before = len(tracker.discovery.bank)
    again, said = begin(restore=True, **low)
    again.step(1, IMAGE)
    assert "objects were restored" in said[0] and len(again.discovery.bank) == 0
    assert before > 0


def test_a_saved_prompt_keeps_its_granularity_and_strokes(tmp_path):
    file = PromptFile(tmp_path / "prompts.json")
    stroke = Stroke(np.array([[4.0, 30.0], [60.0, 30.0]], np.float32))
    file.write(PromptSet((64, 64), {1: [Prompt(strokes=(stroke,), granularity=0.25)]}))
    (back,) = file.read().prompts[1]
    assert back.granularity == 0.25
    np.testing.assert_array_equal(back.points, Prompt(strokes=(stroke,)).validated(64, 64).points)
