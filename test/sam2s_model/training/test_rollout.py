"""Running through clips: as the tracker does it, with gradients everywhere, and each object on its own."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch

from sam2s_model.config import PICO, TrackerConfig
from sam2s_model.network.model import Sam2Model
from sam2s_model.network.prompt_encoder import NEGATIVE, POSITIVE
from sam2s_model.prompts import Prompt
from sam2s_model.recordings.mask_values import VOID
from sam2s_model.tracking.memory import Matching
from sam2s_model.tracking.tracker import Tracker
from sam2s_model.training import rollout as training
from sam2s_model.training.clip import Clip
from sam2s_model.training.config import LossConfig, PromptConfig, RolloutConfig, TrainConfig
from sam2s_model.training.distillation import TeacherAnswer
from sam2s_model.training.losses import frame_losses
from sam2s_model.training.objects import ObjectTruth, choose_objects
from sam2s_model.training.prompting import Plan
from sam2s_model.training.rollout import Roles, Rollout, condition, encode_clips, events

SIZE = 64
CONFIG = TrainConfig(model="sam2s_pico", loss=LossConfig(stride=2))
SHORT = ("conditional", "short", "short", "short")
DIVE = ("conditional", "long", "long", "short")


def clip(seed: int = 0, length: int = 4, objects: int = 2) -> Clip:
    """Bright squares that move over noise."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 80, (length, SIZE, SIZE, 3), dtype=np.uint8)
    labels = np.zeros((length, SIZE, SIZE), np.uint8)
    for t in range(length):
        for i in range(objects):
            place = slice(6 + 3 * t, 24 + 3 * t), slice(4 + 26 * i, 22 + 26 * i)
            images[t][place], labels[t][place] = (220, 180, 60 + 80 * i), i + 1
    return Clip(images, labels, {1: 3, 2: -1})


@pytest.fixture
def sam() -> Sam2Model:
    """A random model with all that SAM2S adds, whose masks are neither empty nor full and whose objects are there."""
    return random_model()


def random_model(**extras) -> Sam2Model:
    torch.manual_seed(0)
    model = Sam2Model(dataclasses.replace(PICO, long_term_embedding=True, num_classes=8, **extras), SIZE).train()
    with torch.no_grad():
        for mlp in model.sam_mask_decoder.output_hypernetworks_mlps:
            mlp.layers[-1].weight *= 8
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(4.0)
        model.maskmem_tpos_enc.normal_()
        model.long_term_tpos_enc.normal_()
        fusers = [model.memory_encoder.fuser, *([model.recent_memory_fuser] if model.config.short_attention else [])]
        for block in (block for fuser in fusers for block in fuser.layers):
            block.gamma.uniform_(0.2, 0.6)
    return model


def roll(model: Sam2Model, clips: list[Clip], plan: Plan, names=SHORT, gap=0, config=CONFIG) -> Rollout:
    objects = choose_objects(clips, range(len(clips)), (0, 0), 3, 0.003)
    return Rollout(model, clips, encode_clips(model, clips), objects, plan, Roles(names, gap), config)


@pytest.mark.parametrize("kind, policy", [("mask", "fifo"), ("box", "fifo"), ("mask", "slm"), ("box", "slm")])
def test_a_clip_is_tracked_as_the_tracker_tracks_it(kind, policy):
    sam = random_model(short_attention=policy == "slm").eval().requires_grad_(False)
    whole = clip(length=5)
    config = dataclasses.replace(CONFIG, prompts=PromptConfig(box_jitter=0.0))
    rollout = roll(sam, [whole], Plan(kind, (), False), ("conditional",) + ("short",) * 4, config=config)
    answers = []
    rollout._remember, kept = (lambda t, f, a: (answers.append(a), kept(t, f, a))[1]), rollout._remember
    rollout.run()
    rollout._remember(4, rollout._features(4), rollout._decode(4, condition_now(rollout, 4), rollout._features(4))[1])

    tracker = Tracker(sam, policy, TrackerConfig(stability=False, binarise_prompted=False, fill_holes=0))
    for t, image in enumerate(whole.images):
        tracker.step(t + 1, image)
        if t == 0:
            masks = [whole.labels[0] == i for i in (1, 2)]
            boxes = [np.array([4 + 26 * i, 6, 22 + 26 * i, 24], np.float32) for i in range(2)]
            tracker.prompt(0, [Prompt(mask=m) for m in masks] if kind == "mask" else [Prompt(box=b) for b in boxes])
        torch.testing.assert_close(answers[t].logits, tracker.outputs.logits, atol=2e-3, rtol=1e-3)
        torch.testing.assert_close(answers[t].object_logit, tracker.outputs.object_logit, atol=1e-3, rtol=1e-3)


def test_labels_are_followed_as_the_tracker_follows_them(monkeypatch):
    sam, whole = random_model().eval().requires_grad_(False), clip(length=2)
    seen = []

    def losses(logits, *rest):
        seen.append(logits)
        return frame_losses(logits, *rest)

    monkeypatch.setattr(training, "frame_losses", losses)
    monkeypatch.setattr(training, "Matching", lambda: Matching(radius=9.0))  # a prompted frame is searched everywhere
    config = dataclasses.replace(CONFIG, prompts=PromptConfig(labels=1.0, spoiled=0.0))
    roll(sam, [whole], Plan("labels", (), False), ("conditional", "short"), config=config).run()

    tracker = Tracker(sam, "match", TrackerConfig(object_score_gating=False, fill_holes=0))
    tracker.step(1, whole.images[0])
    tracker.prompt(0, [Prompt(mask=whole.labels[0] == i) for i in (1, 2)])
    tracker.step(2, whole.images[1])
    torch.testing.assert_close(seen[0], tracker.outputs.logits, atol=2e-3, rtol=1e-3)


def test_an_object_whose_labels_are_lost_teaches_nothing(sam, monkeypatch):
    monkeypatch.setattr(training, "spoil", lambda rng, mask: np.zeros(mask.shape, np.float32))
    config = dataclasses.replace(CONFIG, prompts=PromptConfig(labels=1.0, spoiled=1.0))
    losses = roll(sam, [clip(1)], Plan("labels", (), False), config=config).run()
    assert losses.seen.item() == 0 and losses.total(config.loss, 0).isfinite()


def condition_now(rollout: Rollout, t: int):
    return condition(rollout.model, rollout._features(t), rollout._memories, t, rollout.roles, rollout._gaps).features


@pytest.mark.parametrize("plan", [Plan("box", (), False), Plan("point", (0, 2), False), Plan("mask", (2,), True)])
def test_every_part_of_the_model_gets_a_gradient(sam, plan):
    clips = [clip(1), clip(2)]
    losses = roll(sam, clips, plan, DIVE, 50).run()
    losses.total(CONFIG.loss, 0).backward()
    touched = {name for name, p in sam.named_parameters() if p.grad is not None and p.grad.any()}
    parts = {name.split(".")[0] for name in touched}
    expected = {"image_encoder", "sam_mask_decoder", "memory_attention", "memory_encoder", "obj_ptr_proj"}
    expected |= {"maskmem_tpos_enc", "long_term_tpos_enc", "temporal_semantics", "obj_ptr_tpos_proj"}
    expected |= {"sam_prompt_encoder"}
    assert expected <= parts, expected - parts
    assert ("mask_downsample" in parts) == (plan.kind == "mask")
    assert ("no_mem_embed" in parts) == (plan.kind != "mask")


def test_the_second_attention_learns():
    model = random_model(short_attention=True)
    roll(model, [clip(1)], Plan("mask", (), False)).run().total(CONFIG.loss, 0).backward()
    names = {name for name, p in model.named_parameters() if name.startswith("recent_memory_")}
    without = {name for name, p in model.named_parameters() if name in names and (p.grad is None or not p.grad.any())}
    assert names and {name for name in without if not name.endswith("k_proj.bias")} == set()


@pytest.mark.parametrize(
    "plan, expected",
    [
        (Plan("box", (), False), 4),
        (Plan("mask", (), False), 3),
        (Plan("labels", (), False), 3),
        (Plan("point", (0, 2), False), 10),
    ],
)
def test_each_comparison_with_the_truth_is_counted(sam, plan, expected):
    assert events(plan, 4, CONFIG.prompts.clicks) == expected
    losses = roll(sam, [clip(1)], plan).run()
    assert losses.seen.item() == 2 * expected  # both objects are there on all frames
    without_memory = {"mask": 0, "labels": expected}.get(plan.kind, 1 + 3 * (0 in plan.corrected))
    assert losses.classified.item() == expected - without_memory


def test_objects_do_not_depend_on_those_beside_them(sam):
    plan = Plan("box", (1,), False)
    alone = [roll(sam, [c], plan, DIVE, 50) for c in (clip(1),)]
    both = roll(sam, [clip(1), clip(2, objects=1)], plan, DIVE, 50)
    other = Rollout(
        sam, [clip(2, objects=1)], encode_clips(sam, [clip(2, objects=1)]),
        choose_objects([clip(2, objects=1)], [1], (0, 0), 3, 0.003), plan, Roles(DIVE, 50), CONFIG,
    )  # fmt: skip
    apart = alone[0].run() + other.run()
    together = both.run()
    for spec in dataclasses.fields(apart):
        torch.testing.assert_close(getattr(apart, spec.name), getattr(together, spec.name), atol=1e-3, rtol=1e-4)


def test_hard_prompts_are_where_student_and_teacher_disagree_and_both_answer(sam):
    """Each click is a pixel that only one of them has, of the teacher's kind; all points so far are the next prompt."""
    still = clip(length=1)
    objects = choose_objects([still], [0], (0, 0), 3, 0.003)
    told, asked, decoded = np.zeros((len(objects), SIZE, SIZE), np.float32), [], []
    told[:, 30:, :] = 1.0  # another mask than the truth, and than any of the student's

    def teacher(points, labels):
        asked.append((points, labels))
        masks = torch.from_numpy(told)
        return TeacherAnswer(masks[:, None].expand(-1, 1 if points.shape[1] > 1 else 3, -1, -1), masks)

    config = dataclasses.replace(CONFIG, prompts=PromptConfig(clicks=2))
    plan = Plan("point", (0,), False, hard=True)
    rollout = Rollout(sam, [still], encode_clips(sam, [still]), objects, plan, Roles(("conditional",)), config, teacher)
    decode = rollout._decode
    rollout._decode = lambda *a, **k: (lambda found: (decoded.append((a, k, found[1])), found)[1])(decode(*a, **k))
    losses = rollout.run()
    assert losses.masks.requires_grad and [points.shape[1] for points, _ in asked] == [1, 2, 3]
    for (before, after), (points, labels) in zip(pairwise(decoded), asked[1:], strict=True):
        (_, _, answer), (arguments, options, _) = before, after
        mine = rollout._shown(answer.logits[:, 0])
        for row in range(len(objects)):
            x, y = points[row, -1].int().tolist()
            assert mine[row, y, x] != (told[row, y, x] > 0.5)
            assert labels[row, -1].item() == (POSITIVE if told[row, y, x] > 0.5 else NEGATIVE)
        assert torch.equal(arguments[3], points) and len(arguments) == 5 and "mask_logits" not in options


def test_long_term_frames_have_their_own_code_and_no_pointers(sam, monkeypatch):
    seen = []
    real = sam.with_memory

    def spy(features, memory, codes, pointers, ages, *others):
        seen.append((codes[0].tolist(), ages[:, 0].tolist(), pointers.shape[1]))
        return real(features, memory, codes, pointers, ages, *others)

    monkeypatch.setattr(sam, "with_memory", spy)
    names = ("conditional", "long", "long", "short", "short", "short")
    roll(sam, [clip(length=6)], Plan("mask", (), False), names, 100).run()
    assert [codes for codes, _, _ in seen] == [[6], [6, 7], [6, 7, 7], [6, 7, 7, 0], [6, 7, 7, 1, 0]]
    assert [count for _, _, count in seen] == [1, 1, 1, 2, 3]
    ages = np.array([a for _, a, _ in seen])
    assert (np.diff(ages, axis=0) == 1).all() and len(set(ages[0])) == 2  # each object has its own gap


def test_the_window_is_as_long_as_the_trackers(sam, monkeypatch):
    seen = []
    real = sam.with_memory
    monkeypatch.setattr(
        sam, "with_memory", lambda f, m, codes, *more: (seen.append(codes[0].tolist()), real(f, m, codes, *more))[1]
    )
    roll(sam, [clip(length=9)], Plan("mask", (), False), ("conditional",) + ("short",) * 8).run()
    assert seen[-1] == [6, 5, 4, 3, 2, 1, 0] and seen[2] == [6, 1, 0]


def test_a_corrected_frame_is_remembered_as_prompted(sam, monkeypatch):
    seen = []
    real = sam.with_memory
    monkeypatch.setattr(
        sam, "with_memory", lambda f, m, codes, *more: (seen.append(codes[0].tolist()), real(f, m, codes, *more))[1]
    )
    roll(sam, [clip(length=4)], Plan("mask", (2,), False)).run()
    assert seen == [[6], [6, 0], [6, 1, 6]]


def test_models_without_the_long_term_embedding_take_the_prompted_code(monkeypatch):
    torch.manual_seed(0)
    model, seen = Sam2Model(PICO, SIZE), []
    real = model.with_memory
    monkeypatch.setattr(
        model, "with_memory", lambda f, m, codes, *more: (seen.append(codes[0].tolist()), real(f, m, codes, *more))[1]
    )
    roll(model, [clip()], Plan("mask", (), False), DIVE).run()
    assert seen[-1] == [6, 6, 6]


def test_presence_in_memory_is_the_models_own_or_the_truth(sam, monkeypatch):
    with torch.no_grad():
        sam.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(-4.0)
    seen = []
    real = sam.encode_memory
    monkeypatch.setattr(
        sam,
        "encode_memory",
        lambda f, logits, present, **more: (seen.append(present.tolist()), real(f, logits, present, **more))[1],
    )
    roll(sam, [clip(length=3)], Plan("mask", (), False)).run()
    forced = dataclasses.replace(CONFIG, rollout=RolloutConfig(forced_presence=True))
    roll(sam, [clip(length=3)], Plan("mask", (), False), config=forced).run()
    assert seen == [[True, True], [False, False], [True, True], [True, True]]


def test_objects_too_small_to_prompt_are_left_out_and_many_are_drawn_from():
    labels = np.zeros((2, SIZE, SIZE), np.uint8)
    for i in range(6):
        labels[:, 10 * i : 10 * i + 8, :20] = i + 1
    labels[0, 63, 63] = 9
    labels[:, :, 40:] = VOID
    source = Clip(np.zeros((2, SIZE, SIZE, 3), np.uint8), labels, {1: 5})
    chosen = [choose_objects([source], [0], (0, step), 3, 0.003) for step in range(40)]
    assert all(len(objects) == 3 and list(objects.labels) == sorted(set(objects.labels)) for objects in chosen)
    assert {label for objects in chosen for label in objects.labels} == {1, 2, 3, 4, 5, 6}
    assert all(
        row == (5 if label == 1 else -1)
        for objects in chosen
        for label, row in zip(objects.labels, objects.rows, strict=True)
    )


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_truth_at_a_stride(stride):
    source = clip()
    labels = source.labels.copy()
    labels[:, :, 60:] = VOID
    source = dataclasses.replace(source, labels=labels)
    objects = choose_objects([source], [0], (0,), 3, 0.003)
    truth = ObjectTruth([source], objects, stride, torch.device("cpu"))
    mask, valid = truth.masks(1)
    assert mask.shape == valid.shape == (2, SIZE // stride, SIZE // stride)
    assert abs(mask[0].sum().item() * stride**2 - 18 * 18) <= 2 * 18 * stride
    assert not valid[0, :, 60 // stride :].any() and valid[0, :, : 60 // stride].all()
    assert truth.full(1).shape == (2, 1, SIZE, SIZE) and truth.full(1)[0].sum() == 18 * 18
