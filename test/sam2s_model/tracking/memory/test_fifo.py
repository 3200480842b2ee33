"""FIFO's choice of memories against the published rule, written out frame by frame."""

from __future__ import annotations

import torch
from hypothesis import given, strategies as st

from sam2s_model.config import MODELS
from sam2s_model.tracking.memory import BankLayout, BankView, Fifo, MemoryBank, StepTime

CONDITIONING = 3


def make_bank() -> tuple[MemoryBank, Fifo]:
    policy = Fifo(MODELS["sam2.1_hiera_tiny"])
    layout = BankLayout(CONDITIONING, policy.window + 1, policy.pointer_window + 1, 1, 2, 4, 8, (2, 2))
    return MemoryBank(layout, torch.device("cpu"), torch.float32), policy


def play(frames: int, prompted: set[int]) -> tuple[MemoryBank, Fifo]:
    """One object, prompted on frame 0 and on `prompted`; every memory holds its own frame's index."""
    bank, policy = make_bank()
    bank.add(1)
    for frame in range(frames):
        spatial, pointer = torch.full((1, 2, 4), float(frame)), torch.full((1, 8), float(frame))
        if frame:
            bank.write_recent([0], frame, spatial, pointer)
        if frame == 0 or frame in prompted:
            bank.write_conditioning(0, frame, spatial[0], pointer[0])
    return bank, policy


@given(frames=st.integers(1, 40), prompted=st.sets(st.integers(1, 39), max_size=6))
def test_selection_is_the_published_one(frames, prompted):
    bank, policy = play(frames, prompted)
    chosen = policy.select(BankView(bank, [0]), frames)
    prompts = sorted(p for p in prompted | {0} if p < frames)
    kept = prompts if len(prompts) <= CONDITIONING else prompts[:1] + prompts[-(CONDITIONING - 1) :]
    expected = {(p, 6) for p in kept}
    expected |= {
        (frames - back, back - 1) for back in range(1, 7) if frames - back > 0 and frames - back not in prompts
    }
    part = chosen.spatial
    assert part.allowed is None, "one object: nothing is masked"
    got = set(zip(bank.frames[0, part.columns[0]].tolist(), part.codes[0].tolist(), strict=True))
    assert got == expected and part.columns.shape[1] == len(expected)
    pointers = {p for p in kept} | {frames - b for b in range(1, 16) if frames - b > 0 and frames - b not in prompts}
    assert sorted(chosen.ages[0].tolist()) == sorted(frames - p for p in pointers) and chosen.pointer_allowed is None
    for slot in part.columns[0]:
        assert (bank.spatial[0, slot] == float(bank.frames[0, slot])).all(), "a slot holds another frame's memory"
    for slot in chosen.pointer_columns[0]:
        assert (bank.pointers[0, slot] == float(bank.pointer_frames[0, slot])).all()


def test_a_correction_of_the_newest_frame_sees_the_six_before_it():
    bank, policy = play(20, set())
    chosen = policy.select(BankView(bank, [0]), 19).spatial
    assert bank.frames[0, chosen.columns[0]].sort()[0].tolist() == [0, 13, 14, 15, 16, 17, 18]


def test_objects_of_different_ages_are_masked_apart():
    bank, policy = make_bank()
    bank.add(1)
    one = torch.ones(1, 2, 4)
    bank.write_conditioning(0, 0, one[0], torch.ones(8))
    for frame in range(1, 6):
        bank.write_recent(slice(0, len(bank)), frame, one.expand(len(bank), -1, -1), torch.ones(len(bank), 8))
        if frame == 4:
            bank.write_conditioning(bank.add(2), frame, one[0], torch.ones(8))
    chosen = policy.select(BankView(bank, slice(0, 2)), 6).spatial
    seen = [sorted(bank.frames[row, chosen.columns[row][chosen.allowed[row]]].tolist()) for row in (0, 1)]
    assert seen == [[0, 1, 2, 3, 4, 5], [4, 5]]


def test_full_windows_are_found_by_the_time_alone():
    """As a step that may be captured finds them, and with them the slots that it will write to."""
    now = 30
    bank, policy = play(now, {3})
    time = torch.tensor([now, 0])
    step = StepTime(frame=time[0], stamp=time[1], index=now, prompted=2, complete=True)
    chosen = [policy.select(BankView(bank, [0], at), now) for at in (None, step)]
    memories, pointers = (
        [set(zip(columns[0].tolist(), told[0].tolist(), strict=True)) for columns, told in pairs]
        for pairs in (
            [(c.spatial.columns, c.spatial.codes) for c in chosen],
            [(c.pointer_columns, c.ages) for c in chosen],
        )
    )
    assert memories[0] == memories[1] and len(memories[0]) == 2 + policy.window
    assert pointers[0] == pointers[1] and len(pointers[0]) == 2 + policy.pointer_window
    assert chosen[1].allowed is None
    layout, begun = bank.layout, dict(step._slots)
    rings = ((layout.recent, layout.conditioning), (layout.recent_pointers, layout.conditioning), (layout.masks, 0))
    slots = [step.slot(now, *ring) for ring in rings]
    assert [slot.tolist() for slot in slots] == [[now % ring + first] for ring, first in rings]
    assert step._slots == begun, "they were known"
