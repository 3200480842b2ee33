"""Class prompts and proposals through the tracker: found, named, refused with a reason, learnt from a person."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sam2s_model.checkpoint import load_model
from sam2s_model.config import TrackerConfig
from sam2s_model.device import as_tensor
from sam2s_model.discovery import finder
from sam2s_model.discovery.discover import discover, proposals
from sam2s_model.discovery.prototypes import BACKGROUND, PrototypeBank
from sam2s_model.discovery.regions import Regions, inside_field
from sam2s_model.errors import ErrorCode, PrototypeError, RequestError
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.field_of_view import endoscope_field
from sam2s_model.tracking.tracker import Tracker
from sam2s_model.tracks import LABEL_OUTSIDE

STEP = 40_000_000


@pytest.fixture
def tracker(pico, unseen_frames) -> Tracker:
    made = Tracker(pico, config=TrackerConfig(prompt_history=3))
    made.step(STEP, unseen_frames[0].image)
    return made


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return (one & other).sum() / max((one | other).sum(), 1)


def refusal(call) -> RequestError:
    with pytest.raises(RequestError) as told:
        call()
    return told.value


def test_a_class_alone_finds_its_instances(tracker, bank, unseen_frames):
    tracker.discovery.use(bank)
    answer = tracker.prompt(0, [Prompt(class_name="instrument")])
    truth = unseen_frames[0].truth.masks
    assert len(answer.object_ids) == len(answer.prompts) == len(tracker.object_ids) >= len(truth) > 0
    for mask in truth.values():
        assert max(iou(answer.tracks.mask(i), mask) for i in answer.object_ids) > 0.5
    assert set(answer.tracks.class_names) == {"instrument"} and (answer.tracks.class_scores == 1).all()
    assert len(tracker.step(2 * STEP, unseen_frames[1].image)) == len(answer.object_ids)


def test_what_is_tracked_already_keeps_its_id(tracker, bank):
    tracker.discovery.use(bank)
    first = tracker.prompt(0, [Prompt(class_name="instrument")])
    again = tracker.prompt(0, [Prompt(class_name="instrument")])
    assert set(again.object_ids) <= set(first.object_ids) == set(tracker.object_ids)
    assert all(prompt.only_names for prompt in again.prompts)


def test_what_a_person_has_named_otherwise_keeps_its_name(tracker, bank):
    """It is left out of what a class alone finds; where nothing else is found, it is said which object that is."""
    tracker.discovery.use(bank)
    named, *others = tracker.prompt(0, [Prompt(class_name="instrument")]).object_ids
    tracker.prompt(0, [Prompt(object_id=named, class_name="object")])
    assert others and set(tracker.prompt(0, [Prompt(class_name="instrument")]).object_ids) <= set(others)
    tracker.prompt(0, [Prompt(object_id=one, class_name="object") for one in others])
    revision = tracker.revision
    error = refusal(lambda: tracker.prompt(0, [Prompt(class_name="instrument")]))
    assert error.code == ErrorCode.NOT_FOUND and f"object {named}, which was named object" in str(error)
    assert set(tracker.newest.class_names) == {"object"} and tracker.revision == revision


def test_what_no_person_has_named_gets_the_class_that_is_asked_for(tracker, bank):
    """As what auto_prompt has started: only a person's own word stays, also when the same is found later."""
    tracker.discovery.use(bank)
    found = [Prompt(class_name="object", mask=one.mask) for one in tracker.discover("instrument")]
    started = tracker.prompt(0, found, learn=False).object_ids
    assert set(tracker.newest.class_names) == {"object"}
    answer = tracker.prompt(0, [Prompt(class_name="instrument")])
    assert set(answer.object_ids) & set(started)
    names = dict(zip(tracker.newest.object_ids.tolist(), tracker.newest.class_names, strict=True))
    assert {names[i] for i in answer.object_ids} == {"instrument"}
    assert not any(one.by_person for one in tracker._objects.values()), "a class alone names none as a person does"
    first = answer.object_ids[0]
    tracker.prompt(0, [Prompt(object_id=first, class_name="instrument")])
    tracker.prompt(0, [Prompt(class_name="instrument")])
    assert tracker._objects[first].by_person


def test_what_was_removed_is_found_anew_on_an_older_frame(tracker, bank, unseen_frames):
    tracker.discovery.use(bank)
    first = tracker.prompt(0, [Prompt(class_name="instrument")]).object_ids
    tracker.step(2 * STEP, unseen_frames[1].image)
    tracker.remove(first)
    assert {one.object_id for one in tracker.discover("instrument", STEP)} == {0}
    again = tracker.prompt(STEP, [Prompt(class_name="instrument")])
    assert again.object_ids == tracker.object_ids and not set(again.object_ids) & set(first)


def test_a_class_without_prototypes_is_not_found(tracker, bank):
    error = refusal(lambda: tracker.prompt(0, [Prompt(class_name="instrument")]))
    assert error.code == ErrorCode.NOT_FOUND and "there are those of no class" in str(error)
    tracker.discovery.use(bank)
    error = refusal(lambda: tracker.prompt(0, [Prompt(class_name="object")]))
    assert error.code == ErrorCode.NOT_FOUND and "those of instrument" in str(error)
    assert refusal(lambda: tracker.prompt(0, [Prompt(class_name="spoon")])).code == ErrorCode.UNKNOWN_CLASS
    assert refusal(lambda: tracker.discover("object")).code == ErrorCode.NOT_FOUND


def test_where_nothing_is_like_the_class_the_best_similarity_is_said(pico, bank, unseen_frames):
    made = Tracker(pico)
    made.discovery.use(bank)
    made.step(STEP, np.full_like(unseen_frames[0].image, 90))
    error = refusal(lambda: made.prompt(0, [Prompt(class_name="instrument")]))
    assert error.code == ErrorCode.NOT_FOUND and "most similar place has a cosine of 0." in str(error)
    assert "expected a region at 0.5 or more" in str(error) and made.object_ids == ()


def test_a_proposal_is_accepted_by_its_id(tracker, bank, unseen_frames):
    tracker.discovery.use(bank)
    found = tracker.discover()
    assert [one.proposal_id for one in found] == list(range(1, len(found) + 1)) and tracker.object_ids == ()
    chosen = next(one for one in found if one.class_name)
    tracker.step(2 * STEP, unseen_frames[1].image)
    answer = tracker.prompt(0, [Prompt(proposal_id=chosen.proposal_id)])
    assert answer.stamp == STEP and iou(answer.tracks.mask(answer.object_ids[0]), chosen.mask) > 0.9
    assert answer.tracks.class_names == ("instrument",)
    covered = {one.object_id for one in tracker.discover(stamp=STEP)}
    assert answer.object_ids[0] in covered
    corrected = tracker.prompt(0, [Prompt(object_id=answer.object_ids[0], proposal_id=found[-1].proposal_id)])
    assert corrected.object_ids == answer.object_ids


def test_a_proposal_that_does_not_serve_is_refused(tracker, bank, unseen_frames, monkeypatch):
    tracker.discovery.use(bank)
    error = refusal(lambda: tracker.prompt(0, [Prompt(proposal_id=5)]))
    assert error.code == ErrorCode.UNKNOWN_PROPOSAL and "those that are: none" in str(error)
    known = tracker.discover()[0].proposal_id
    both = Prompt(proposal_id=known, box=np.array([1, 1, 20, 20]))
    assert refusal(lambda: tracker.prompt(0, [both])).code == ErrorCode.INVALID_PROMPT
    assert refusal(lambda: tracker.prompt(7, [Prompt(proposal_id=known)])).code == ErrorCode.INVALID_PROMPT
    for i in range(1, 4):
        tracker.step((i + 1) * STEP, unseen_frames[i].image)
    assert refusal(lambda: tracker.prompt(0, [Prompt(proposal_id=known)])).code == ErrorCode.TOO_OLD
    monkeypatch.setattr(finder, "REMEMBERED", 1)
    newest = tracker.discover()
    error = refusal(lambda: tracker.prompt(0, [Prompt(proposal_id=newest[0].proposal_id)]))
    assert error.code == ErrorCode.UNKNOWN_PROPOSAL and "those that are: " in str(error)
    tracker.reset()
    tracker.step(9 * STEP, unseen_frames[0].image)
    assert refusal(lambda: tracker.prompt(0, [Prompt(proposal_id=newest[-1].proposal_id)])).code == 13
    assert tracker.object_ids == ()


def test_a_tool_that_was_shown_once_is_found_again(tracker, pico, unseen_frames):
    """One mask and its class by a person: the prototypes are learnt, and another tracker finds the class with them."""
    masks = list(unseen_frames[0].truth.masks.values())
    tracker.prompt(0, [Prompt(class_name="instrument", mask=mask) for mask in masks])
    bank = tracker.discovery.bank
    assert bank.class_names == ("instrument",) and BACKGROUND in bank.names
    assert len(bank.prototypes("instrument")[1]) == len(masks)
    other = Tracker(pico)
    other.discovery.use(bank)
    other.step(STEP, unseen_frames[3].image)
    answer = other.prompt(0, [Prompt(class_name="instrument")])
    for mask in unseen_frames[3].truth.masks.values():
        assert max(iou(answer.tracks.mask(i), mask) for i in answer.object_ids) > 0.5


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no room"), PrototypeError("class 'object' would be 255")])
def test_a_prompt_whose_looks_cannot_be_learnt_changes_nothing(tracker, unseen_frames, monkeypatch, error):
    mask = next(iter(unseen_frames[0].truth.masks.values()))
    tracker.prompt(0, [Prompt(class_name="instrument", mask=mask)])
    learnt, add = tracker.discovery.bank, PrototypeBank.add
    before = tracker.newest, tracker.revision, tracker.next_id
    weights = {name: learnt.prototypes(name)[1].tolist() for name in learnt.names}

    def fail_at_background(bank, name, *rest):
        if name == BACKGROUND:
            raise error
        add(bank, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(PrototypeBank, "add", fail_at_background)
        with pytest.raises(type(error)):
            tracker.prompt(0, [Prompt(class_name="instrument", mask=mask), Prompt(class_name="object", mask=~mask)])
    assert tracker.object_ids == (1,) and (tracker.newest, tracker.revision, tracker.next_id) == before
    assert {name: learnt.prototypes(name)[1].tolist() for name in learnt.names} == weights
    assert tracker.prompt(0, [Prompt(class_name="object", mask=~mask)]).object_ids == (2,)


def test_only_what_a_person_confirms_with_a_class_is_learnt(tracker, bank, unseen_frames):
    mask = next(iter(unseen_frames[0].truth.masks.values()))
    [first] = tracker.prompt(0, [Prompt(mask=mask)]).object_ids
    assert len(tracker.discovery.bank) == 0
    tracker.prompt(0, [Prompt(object_id=first, class_name="object")])  # a name says nothing of where it is
    assert len(tracker.discovery.bank) == 0
    tracker.prompt(0, [Prompt(object_id=first, mask=mask)])  # a correction of an object that has one
    assert tracker.discovery.bank.class_names == ("object",)
    tracker.discovery.use(bank)
    before = len(bank)
    tracker.remove([first])
    tracker.prompt(0, [Prompt(class_name="instrument")])
    assert len(bank) == before
    tracker.config = tracker.discovery.config = replace(tracker.config, learn_prototypes=False)
    tracker.prompt(0, [Prompt(class_name="object", mask=mask)])
    assert len(bank) == before


def test_prototypes_of_another_width_are_refused(tracker):
    with pytest.raises(PrototypeError, match="7 wide: expected 96"):
        tracker.discovery.use(PrototypeBank(7))


def test_what_a_failed_request_has_found_changes_nothing(pico, bank, unseen_frames):
    made = Tracker(pico, config=TrackerConfig(max_objects=1))
    made.discovery.use(bank)
    made.step(STEP, unseen_frames[0].image)
    assert len(made.discover("instrument")) > 1
    error = refusal(lambda: made.prompt(0, [Prompt(class_name="instrument")]))
    assert error.code == ErrorCode.TOO_MANY_OBJECTS and made.object_ids == () and made.revision == 0


def test_what_lies_outside_the_endoscopes_field_is_no_object(pico, bank, unseen_frames):
    made = Tracker(pico, config=TrackerConfig(field_of_view="auto", discovery_min_iou=0.0, discovery_min_stability=0.0))
    made.discovery.use(bank)
    made.step(STEP, unseen_frames[0].image)
    view = made._history.newest.field_mask
    found = made.discover()
    assert found and not view.all() and all(not (one.mask & ~view).any() for one in found)
    for one in found:
        x0, y0, x1, y1 = one.box
        assert one.mask[y0:y1, x0:x1].sum() == one.area


def test_black_corners_are_not_proposed_where_labels_do_not_show_the_field(unseen_frames):
    nano, image = load_model("sam2s_nano", image_size=256), unseen_frames[0].image
    view, made = endoscope_field(image), Tracker(nano)
    made.step(STEP, image)
    with torch.inference_mode():
        features = nano.encode_image(nano.prepare_image(as_tensor(image)))
    blind = proposals(nano, features, image.shape[:2], None, made.config)
    shown = [(one.mask & view).sum() / one.area for one in blind]
    assert min(shown) < 0.1 and max(shown) > 0.9  # the model itself does propose corners
    found = made.discover()
    assert made.config.field_of_view == "full" and not (made.newest.label_map == LABEL_OUTSIDE).any()
    assert 0 < len(found) <= sum(share > 0.5 for share in shown)
    assert not any((one.mask & ~view).any() for one in found)
    assert [one.area for one in discover(nano, image)] == [one.area for one in found]


def test_a_region_across_the_fields_edge_stays_where_most_of_it_is_inside():
    field = torch.zeros(40, 40, dtype=torch.bool)
    field[:, :20] = True
    logits = torch.full((3, 10, 10), -1.0)
    logits[0, :, :6], logits[1, :, 3:9], logits[2, :, 5:] = 1.0, 1.0, 1.0  # 5 of 6, 2 of 6, 0 of 5 columns inside
    regions = Regions(logits, torch.tensor([0.9, 0.8, 0.7]), torch.ones(3), torch.zeros(3, 4))
    assert inside_field(regions, field).iou.tolist() == regions.iou[:1].tolist()
    assert len(inside_field(regions, None)) == 3
