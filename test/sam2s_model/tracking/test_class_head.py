"""The class of an object: from the class head where no prompt gave one, and from a prompt at any time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sam2s_model.checkpoint import load_model
from sam2s_model.checkpoint.convert import convert
from sam2s_model.config import PICO, TrackerConfig
from sam2s_model.errors import ErrorCode, RequestError
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompts import Prompt
from sam2s_model.tracking.presence import CLASS_SMOOTHING
from sam2s_model.tracking.tracker import Tracker

BOX = np.array([20, 30, 60, 60], np.float32)
ROWS = 3


@pytest.fixture(scope="module")
def network(known_model) -> Sam2Model:
    """The model of the fixtures with a class token, also random."""
    torch.manual_seed(1)
    made = Sam2Model(replace(PICO, num_classes=ROWS), image_size=128).eval().requires_grad_(False)
    made.load_state_dict(known_model.state_dict(), strict=False)
    return made


@pytest.fixture(scope="module")
def row(network, frames) -> int:
    """What the class head says of the object, as a row of the class table."""
    tracker, _ = run(network, frames[:3])
    return int(tracker.outputs.class_logits.argmax())


PROMPT = Prompt(box=BOX)


def run(network, frames, names=(), prompt=PROMPT, late=False, **config):
    """The tracker and the tracks of all frames; `names` are those of the class table."""
    network.class_names = tuple(names)
    tracker = Tracker(network, "fifo", TrackerConfig(**config))
    out = [tracker.step(1, frames[0])]
    if not late:
        out = [tracker.prompt(0, [prompt]).tracks]
    out += [tracker.step(i, frame) for i, frame in enumerate(frames[1:], start=2)]
    if late:
        tracker.prompt(1, [prompt])
        out[-1] = tracker.newest
    return tracker, out


def names_with(row: int, name: str) -> list[str]:
    """The head's names, where `row` is called `name` and the others are in no label set."""
    return [name if i == row else f"nothing {i}" for i in range(ROWS)]


def test_the_head_names_an_object_once_it_has_said_so_for_a_while(network, frames, row):
    _, out = run(network, frames, names_with(row, "object"))
    sure = [1 - CLASS_SMOOTHING**n for n in range(len(out))]  # the prompted frame has no memory to ask
    assert all(t.areas[0] for t in out)
    for tracks, score in zip(out, sure, strict=True):
        named = score >= TrackerConfig().min_class_score
        assert tracks.class_names == (("object",) if named else ("instrument",))
        assert tracks.class_scores[0] == pytest.approx(score if named else np.nan, abs=0.02, nan_ok=True)
    assert set(np.unique(out[-1].semantic_map())) == {0, 2}


@pytest.mark.parametrize("names, config", [
    (("a", "b", "c"), {}), ((), {}), (("instrument", "object", "object"), dict(min_class_score=1.0)),
])  # fmt: skip
def test_a_class_that_is_not_known_or_not_sure_stays_the_default(network, frames, names, config):
    _, out = run(network, frames, names, **config)
    assert {t.class_names for t in out} == {("instrument",)} and all(np.isnan(t.class_scores).all() for t in out)


def test_a_late_prompt_leads_to_the_same_class(network, frames, row):
    names = names_with(row, "object")
    (_, in_time), (_, late) = (run(network, frames, names, late=late) for late in (False, True))
    assert in_time[-1].class_names == late[-1].class_names == ("object",)
    assert in_time[-1].class_scores == pytest.approx(late[-1].class_scores, abs=1e-4)


def test_a_prompt_goes_before_the_head(network, frames, row):
    _, out = run(network, frames, names_with(row, "object"), Prompt(box=BOX, class_name="instrument"))
    assert {t.class_names for t in out} == {("instrument",)} and all(t.class_scores.tolist() == [1.0] for t in out)


def test_an_object_is_named_without_a_point_and_nothing_else_changes(network, frames):
    tracker, out = run(network, frames[:6])
    before, bank = tracker.newest, tracker.outputs.logits.clone()
    answer = tracker.prompt(4, [Prompt(object_id=1, class_name="object")])
    assert (answer.stamp, answer.object_ids, answer.tracks.class_names) == (4, (1,), ("object",))
    after = tracker.newest
    assert after.class_names == ("object",) and after.class_scores.tolist() == [1.0]
    assert after.revision == before.revision + 1
    np.testing.assert_array_equal(after.label_map, before.label_map)
    assert after.states.tolist() == before.states.tolist() and torch.equal(tracker.outputs.logits, bank)
    following = tracker.step(7, frames[6])
    np.testing.assert_array_equal(following.label_map, run(network, frames[:7])[1][-1].label_map)
    assert following.class_names == ("object",)


@pytest.mark.parametrize("prompt, code", [
    (Prompt(class_name="object"), ErrorCode.NOT_FOUND),  # there are no prototypes of it
        (Prompt(), ErrorCode.EMPTY_REQUEST),
    (Prompt(object_id=1), ErrorCode.EMPTY_REQUEST),
    (Prompt(object_id=1, class_name="spoon"), ErrorCode.UNKNOWN_CLASS),
    (Prompt(object_id=9, class_name="object"), ErrorCode.UNKNOWN_OBJECT),
])  # fmt: skip
def test_names_that_are_refused(network, frames, prompt, code):
    tracker, _ = run(network, frames[:1])
    with pytest.raises(RequestError) as caught:
        tracker.prompt(0, [prompt])
    assert caught.value.code == code and tracker.newest.class_names == ("instrument",)


def test_a_checkpoint_tells_the_names_and_a_conversion_keeps_them(network, tmp_path):
    state = {k: v.contiguous() for k, v in network.state_dict().items()}
    save_file(state, tmp_path / "a.safetensors", metadata={"classes": "a,b,c"})
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert load_model(tmp_path / "b.safetensors", "sam2s_pico", device="cpu").class_names == ("a", "b", "c")
    save_file(state, tmp_path / "c.safetensors", metadata={"classes": "a,b"})
    assert load_model(tmp_path / "c.safetensors", "sam2s_pico", device="cpu").class_names == ()
