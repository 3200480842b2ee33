"""Labels that go along features, on features that are written down: where each place came from is known."""

from __future__ import annotations

import gc
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from sam2s_model.checkpoint import load_model
from sam2s_model.network.model import MEMORY_PARTS
from sam2s_model.prompts import Prompt
from sam2s_model.published.catalog import resolve_checkpoint
from sam2s_model.recordings import scene as drawing
from sam2s_model.tracking.correspondence import Correspondence
from sam2s_model.tracking.memory import BankLayout, BankView, Matching, MemoryBank
from sam2s_model.tracking.propagation import FINER, Propagated, agreement, unit_tokens
from sam2s_model.tracking.tracker import Tracker

GRID = 8  # of the model's 128 px; 2 label cells and 4 mask cells a place
CANVAS = torch.nn.functional.normalize(torch.randn(1, 96, 24, 24, generator=torch.Generator().manual_seed(1)), dim=1)


def picture(x: int = 8, y: int = 8, canvas: torch.Tensor = CANVAS) -> torch.Tensor:
    """(1, 96, 8, 8) features: a window of a large picture, every place of which looks like no other."""
    return canvas[:, :, y : y + GRID, x : x + GRID]


def mask(x0: int, y0: int, x1: int, y1: int) -> torch.Tensor:
    """(1, 1, 32, 32) logits of a rectangle of places."""
    logits = torch.full((1, 1, 4 * GRID, 4 * GRID), -5.0)
    logits[..., 4 * y0 : 4 * y1, 4 * x0 : 4 * x1] = 5.0
    return logits


class Scene:
    """Objects with rows in a bank, and frames that are prompted or tracked as they are told."""

    def __init__(self, model, objects: int = 1, conditioning: int = 3, history: int = 4, **options):
        self.matches = Correspondence(Matching(**options), model, history, conditioning)
        layout = BankLayout(conditioning, 0, 0, history + 1, 0, 4, 0, (32, 32), states=self.matches.states)
        self.bank = MemoryBank(layout, torch.device("cpu"), torch.float32)
        for object_id in range(1, objects + 1):
            self.bank.add(object_id)

    def view(self, rows=None) -> BankView:
        return BankView(self.bank, slice(0, len(self.bank)) if rows is None else rows)

    def prompt(self, frame: int, features, logits, row: int = 0) -> None:
        slot = self.bank.write_conditioning(row, frame, torch.zeros(0, 4), torch.zeros(0))
        self.matches.prompted(self.view([row]), slot, frame, features, logits)

    def maps(self, frame: int, features, rows=None) -> torch.Tensor:
        """(N, 16, 16)"""
        return self.matches.propagate(self.view(rows), frame, features).maps[:, 0]

    def track(self, frame: int, features, logits, present=None, rows=None) -> torch.Tensor:
        view = self.view(rows)
        found = self.matches.propagate(view, frame, features)
        present = torch.ones(len(view), dtype=torch.bool) if present is None else torch.tensor(present)
        self.matches.remember(view, frame, found, logits.expand(len(view), -1, -1, -1), torch.ones(len(view)), present)
        return found.maps[:, 0]


def cells(logits: torch.Tensor) -> torch.Tensor:
    return (logits[0, 0, :: 4 // FINER, :: 4 // FINER] > 0).float()


def test_tokens_have_length_one_and_no_mean(model):
    tokens = unit_tokens(picture() + 7.0)
    torch.testing.assert_close(tokens, unit_tokens(picture()), atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens.norm(dim=1), torch.ones(GRID * GRID))


@pytest.mark.parametrize("dx, dy", [(0, 0), (2, 1), (-3, 2)])
def test_labels_move_with_the_picture(model, dx, dy):
    """The picture moves by some places, and the object with it."""
    scene = Scene(model, older=0, neighbours=1)
    scene.prompt(0, picture(), mask(3, 2, 5, 5))
    moved, expected = scene.maps(1, picture(8 - dx, 8 - dy))[0], cells(mask(3 + dx, 2 + dy, 5 + dx, 5 + dy))
    known = (
        slice(2 * max(dy, 0), 16 + 2 * min(dy, 0)),
        slice(2 * max(dx, 0), 16 + 2 * min(dx, 0)),
    )  # what came in is not
    torch.testing.assert_close(moved[known], expected[known], atol=0.05, rtol=0)


def test_half_a_place_stays_half_a_place(model):
    """A thin tool covers less than a place: its labels are finer than the features."""
    logits = torch.full((1, 1, 32, 32), -5.0)
    logits[..., 8:10, 4:28] = 5.0  # 2 of a place's 4 mask cells, one of its 2 label cells
    scene = Scene(model, older=0, neighbours=1)
    scene.prompt(0, picture(), logits)
    moved = scene.maps(1, picture(8, 7))[0]
    assert moved[6, 2:14].min() > 0.95 and moved[7].max() < 0.05 and moved[5].max() < 0.05


def test_all_objects_at_once_are_as_each_by_itself_in_any_order(model):
    """One affinity serves objects of different age: an object that was not there yet has no say, and asks nobody."""
    masks = [mask(1, 1, 3, 3), mask(5, 5, 7, 8), mask(2, 5, 4, 7)]
    born = [0, 2, 0]

    def play(order):
        scene, later = Scene(model, 3, every=1), {}
        for frame in range(5):
            features = picture(8 + frame, 8)
            there = [row for row, which in enumerate(order) if born[which] < frame]
            if frame:
                found = scene.track(frame, features, mask(0, 0, 4, 4), rows=there)
                later = dict(zip((order[row] for row in there), found, strict=True))
            for row, which in enumerate(order):
                if born[which] == frame:
                    scene.prompt(frame, features, masks[which], row)
        return later

    straight, shuffled = play([0, 1, 2]), play([2, 0, 1])
    for which in range(3):
        torch.testing.assert_close(straight[which], shuffled[which], atol=1e-5, rtol=1e-5)
    alone = Scene(model, 1, every=1)
    alone.prompt(2, picture(10, 8), masks[1])
    for frame in (3, 4):
        found = alone.track(frame, picture(8 + frame, 8), mask(0, 0, 4, 4))
    # in its first frames it has less older ones than those that came before it: nothing of them may reach it
    torch.testing.assert_close(straight[1], found[0], atol=1e-5, rtol=1e-5)


def test_a_prompted_frame_is_looked_at_for_ever(model):
    """Hundreds of other pictures later, in none of which it was seen, the object is found where it is shown again."""
    generator = torch.Generator().manual_seed(2)
    scene = Scene(model, every=2)
    scene.prompt(0, picture(), mask(3, 2, 5, 5))
    for frame in range(1, 200):
        other = torch.randn(1, 96, GRID, GRID, generator=generator)
        scene.track(frame, other, mask(0, 0, 0, 0), present=[False])
    found = scene.maps(200, picture(7, 8))[0]
    torch.testing.assert_close(found[:, 2:], cells(mask(4, 2, 6, 5))[:, 2:], atol=0.2, rtol=0)


def test_the_oldest_correction_gives_way_and_its_slot_is_used_again(model):
    scene = Scene(model, 2, conditioning=3)
    for frame in range(40):
        scene.prompt(frame, picture(), mask(1, 1, 3, 3), row=0)
        if not frame:
            scene.prompt(frame, picture(), mask(4, 4, 6, 6), row=1)
    held = {int(f) for f in scene.bank.states["label_frames"][0, :3]}
    assert held == {0, 38, 39}, "the first and the newest"
    assert len(scene.matches.store.entries(torch.tensor(40)).frames) <= 4 + 4 + 4, "4 slots of prompted frames"
    assert scene.maps(40, picture()).shape[0] == 2 and scene.maps(40, picture())[1, 8:12, 8:12].min() > 0.9


@pytest.mark.parametrize("kind", ["box", "click", "mask"])
def test_an_image_half_follows_whatever_it_was_prompted_with(kind):
    """It has no head that tells presence: what the untrained one says of a box or a click must not count."""
    model = load_model(resolve_checkpoint("sam2s_nano"), image_size=256, device="cpu")
    model.missing = tuple(name for name in model.state_dict() if name.startswith(MEMORY_PARTS))
    model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(-9.0)
    scene = drawing.Scene(drawing.SceneConfig(width=320, height=256, frames=12, seed=2))
    first = scene[0].objects[0]
    truth = scene[0].labels == first.label
    y, x = (int(v.mean()) for v in np.nonzero(truth))
    prompt = {
        "box": Prompt(box=np.array(first.box, np.float32)),
        "click": Prompt(points=np.array([[x, y]], np.float32), point_labels=np.array([1])),
        "mask": Prompt(mask=truth),
    }[kind]
    tracker = Tracker(model)
    tracker.step(1, np.ascontiguousarray(scene[0].image))
    assert tracker.policy_name == "match" and tracker.prompt(0, [prompt]).tracks.areas[0] > 100
    for i in range(1, 8):
        tracks = tracker.step(i + 1, np.ascontiguousarray(scene[i].image))
        assert tracks.areas[0] > 100 and tracks.scores[0] > 0.5


def test_where_nothing_is_known_there_is_no_object(model):
    scene = Scene(model)
    found = scene.matches.propagate(scene.view(), 5, picture())
    assert not found.maps.any() and not found.inside.any()
    assert scene.matches.score(found, torch.ones(1)).tolist() == [0.0]


def test_what_only_the_newest_frames_follow_is_not_the_object(model):
    """The object has left, and its mask has slid onto tissue, which is where it was on each next frame."""
    scene = Scene(model, older=0, neighbours=1, prompted=0.05)
    scene.prompt(0, picture(), mask(3, 2, 5, 5))
    for frame in range(1, 5):
        scene.track(frame, picture(), mask(6, 6, 8, 8))
    found = scene.matches.propagate(scene.view(), 5, picture())
    assert found.maps[0, 0, 13:15, 13:15].min() > 0.4, "the window votes for it"
    assert scene.matches.support(found, mask(6, 6, 8, 8)).tolist() == pytest.approx([0.0], abs=0.05)
    assert scene.matches.support(found, mask(3, 2, 5, 5)).tolist() == [1.0]


@pytest.mark.parametrize("kept", [True, False])
def test_a_mask_on_tissue_does_not_vouch_for_itself(model, kept):
    """It is among the older frames, which support what comes after, only if they support it themselves."""
    scene = Scene(model, older=3, every=2, newest=1, neighbours=1)
    scene.prompt(0, picture(), mask(3, 2, 5, 5))
    followed = mask(3, 2, 5, 5) if kept else mask(6, 6, 8, 8)
    for frame in range(1, 6):
        scene.track(frame, picture(), followed)
    found = scene.matches.propagate(scene.view(), 6, picture())
    assert sorted(scene.matches.store.older_frames.tolist()) != [-1, -1, -1]
    own, tissue = (float(scene.matches.support(found, mask(*box))) for box in ((3, 2, 5, 5), (6, 6, 8, 8)))
    assert own == 1.0 and tissue == pytest.approx(0.0, abs=0.05)


def test_lost_is_what_was_not_found_on_the_frame_before(model):
    scene = Scene(model)
    scene.prompt(0, picture(), mask(3, 2, 5, 5))
    told = []
    for frame, present in enumerate((True, False, False, True), start=1):
        told.append(scene.matches.propagate(scene.view(), frame, picture()).lost.tolist())
        scene.track(frame, picture(), mask(3, 2, 5, 5) if present else mask(0, 0, 0, 0), present=[present])
    told.append(scene.matches.propagate(scene.view(), 5, picture()).lost.tolist())
    assert told == [[False], [False], [True], [True], [False]]


@pytest.mark.parametrize(
    "share, lost, there",
    [(1.0, False, True), (0.25, False, True), (0.1, False, False), (0.0, False, False), (0.25, True, False)]
    + [(0.35, True, True)],
)
@torch.inference_mode()
def test_without_votes_of_lasting_frames_a_mask_is_not_the_object(model, share, lost, there):
    """The mask agrees with the map in each case: what differs is who votes for it, and whether it was there before."""
    features = model.encode_image(model.prepare_image(torch.zeros(128, 128, 3, dtype=torch.uint8)))
    scene, plain = Scene(model), model.without_memory(features, 1)
    soft = (mask(2, 2, 6, 6) > 0).float()
    maps = torch.nn.functional.avg_pool2d(soft, 2)
    votes = torch.full_like(maps, share), torch.tensor([lost])
    found = Propagated(torch.zeros(64, 96), maps, soft, soft[:, 0] > 0.4, *votes)
    own = replace(
        model.candidates(plain, features),
        logits=mask(2, 2, 6, 6).expand(-1, 4, -1, -1),
        iou=torch.ones(1, 4),
        object_logit=torch.full((1,), -9.0),
    )
    assert (scene.matches.decode(plain, features, found, own).object_logit > 0).tolist() == [there]


def test_an_object_without_a_prompted_frame_is_supported_by_the_newest(model):
    """As after a change of policy: there is nobody else to ask."""
    scene = Scene(model, older=0)
    scene.matches.start(scene.view(), 0, picture(), mask(3, 2, 5, 5))
    found = scene.matches.propagate(scene.view(), 1, picture())
    assert scene.matches.support(found, mask(3, 2, 5, 5)).tolist() == [1.0]


def test_a_frame_without_the_object_is_hardly_listened_to(model):
    """It was hidden for some frames: where it was, the newest frames say nothing, and say it quietly."""
    scene = Scene(model, older=0)
    scene.prompt(0, picture(), mask(3, 2, 5, 5))
    for frame in range(1, 4):
        scene.track(frame, picture(), mask(0, 0, 0, 0), present=[False])
    assert scene.maps(4, picture())[0, 4:10, 6:10].min() > 0.8


def test_the_window_looks_near_and_the_prompted_frame_everywhere(model):
    """An object that is copied to the other side is found by the prompted frame; the window alone would not."""
    far = picture().clone()
    far[..., 0:2, 6:8] = picture()[..., 5:7, 0:2]
    scene = Scene(model, older=0, neighbours=1, radius=0.3)
    scene.prompt(0, picture(), mask(0, 5, 2, 7))
    assert scene.maps(1, far)[0, 0:4, 12:16].min() > 0.9
    window = Scene(model, older=0, neighbours=1, radius=0.3)
    view = window.view()
    window.matches.start(view, 0, picture(), mask(0, 5, 2, 7))
    assert window.maps(1, far)[0, 0:4, 12:16].max() < 0.1 < 0.9 < window.maps(1, far)[0, 10:14, 0:4].min()


def test_a_mask_of_a_part_agrees_less_than_the_whole_with_something_beyond(model):
    """The map is sure of half and fairly sure of all: the part that it is sure of is not taken for the object."""
    scene = Scene(model, missed=1.5)
    soft = torch.zeros(1, 1, 32, 32)
    soft[..., 8:24, 8:16], soft[..., 8:24, 16:24] = 0.95, 0.6
    found = Propagated(torch.zeros(64, 96), soft, soft, soft[:, 0] > 0.4)
    masks = torch.cat((mask(2, 2, 4, 6), mask(2, 2, 6, 6), mask(1, 1, 7, 7)), dim=1)
    part, whole, more = agreement(found, masks, scene.matches.matching)[0].tolist()
    assert whole > part > more
    # worked by hand: 128 cells of 0.95 and 128 of 0.6
    assert part == pytest.approx(121.6 / (121.6 + 6.4 + 1.5 * 76.8)) and whole == pytest.approx(198.4 / 256)


@pytest.mark.parametrize("keep, kept", [("newest", [40, 50, 60]), ("diverse", [10, 20, 60])])
def test_which_older_frames_stay(model, keep, kept):
    """Five views that differ, then the fifth again and again: diverse keeps the views, not what is seen twice."""
    views = {10: 0, 20: 16, 30: 8, 40: 8, 50: 8, 60: 8}
    scene = Scene(model, older=3, keep=keep)
    for frame in range(1, 61):
        scene.matches.store.remember(
            frame, torch.tensor(frame), unit_tokens(picture(views.get(frame, 4), 8)), torch.tensor(True)
        )
    held = sorted(scene.matches.store.older_frames.tolist())
    assert held == kept or (keep == "diverse" and held[:2] == kept[:2] and held[2] in (30, 40, 50, 60))


def test_a_frame_in_which_nothing_is_there_is_no_older_one(model):
    scene = Scene(model, older=3)
    for frame in range(1, 31):
        scene.matches.store.remember(frame, torch.tensor(frame), unit_tokens(picture()), torch.tensor(frame == 20))
    assert sorted(scene.matches.store.older_frames.tolist()) == [-1, -1, 20]


def test_what_a_failed_step_wrote_is_forgotten(model):
    scene = Scene(model, older=2, every=1)
    scene.prompt(0, picture(), mask(3, 2, 5, 5))
    scene.track(1, picture(), mask(3, 2, 5, 5))
    before = scene.maps(2, picture())
    scene.track(2, torch.full_like(picture(), torch.nan), mask(0, 0, 8, 8))
    scene.matches.store.forget(2)
    torch.testing.assert_close(scene.maps(2, picture()), before)
    scene.track(2, picture(), mask(3, 2, 5, 5))
    assert scene.maps(3, picture()).isfinite().all() and scene.matches.store.newest == 2


def test_bytes_are_counted(model):
    scene = Scene(model, newest=3, older=4, history=4)
    store = scene.matches.store
    scene.prompt(0, picture(), mask(3, 2, 5, 5))
    slots = (3 + 4 + 1) + 4 + 1  # window, history and one; older; prompted
    assert store.memory_bytes() == slots * (64 * 96 * 4 + 8) + 4 * 16 * 96 * 4
    for frame in range(1, 100):
        scene.track(frame, picture(8 + frame % 3, 8), mask(3, 2, 5, 5))
    assert store.memory_bytes() == slots * (64 * 96 * 4 + 8) + 4 * 16 * 96 * 4


def endure(model, steps: int) -> None:
    """Objects come and go, are hidden, prompted and corrected, whatever the pictures show: nothing grows."""
    rng, generator = random.Random(3), torch.Generator().manual_seed(3)
    scene, next_id, settled = Scene(model, 2, every=3), 3, 0
    scene.prompt(0, picture(), mask(1, 1, 4, 4), 0)
    scene.prompt(0, picture(), mask(4, 4, 7, 7), 1)
    for frame in range(1, steps):
        features = picture(rng.randrange(17), rng.randrange(17)) + 0.1 * torch.randn(
            1, 96, GRID, GRID, generator=generator
        )
        x, y = rng.randrange(5), rng.randrange(5)
        seen = mask(x, y, x + 3, y + 3) if rng.random() > 0.1 else torch.full((1, 1, 4 * GRID, 4 * GRID), -5.0)
        maps = scene.track(frame, features, seen)
        assert torch.isfinite(maps).all()
        event = rng.random()
        if event < 0.02:
            scene.bank.remove(rng.choice(scene.bank.ids))
        if (event < 0.02 or event > 0.97) and len(scene.bank) < 4:
            scene.bank.add(next_id)
            scene.prompt(frame, features, mask(x, y, x + 3, y + 3), len(scene.bank) - 1)
            next_id += 1
        elif event > 0.9 and len(scene.bank):
            scene.prompt(frame, features, mask(x, y, x + 2, y + 3), rng.randrange(len(scene.bank)))
        if frame == steps // 4:
            gc.collect()
            held, settled = (scene.bank.memory_bytes(), scene.matches.store.memory_bytes()), len(gc.get_objects())
    gc.collect()
    assert scene.bank.memory_bytes() == held[0]
    # slots of prompted frames are doubled when more frames are prompted at once, up to `conditioning` of each object
    assert scene.matches.store.memory_bytes() <= 2 * held[1]
    assert len(gc.get_objects()) < 1.01 * settled


def test_nothing_grows_in_500_steps(model):
    endure(model, 500)


@pytest.mark.full
def test_p25_nothing_grows_in_20000_steps_of_match(model):
    endure(model, 20_000)
