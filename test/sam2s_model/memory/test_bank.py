"""The bank's rows: ids stay with their memories while objects come and go, and nothing is allocated for frames."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from sam2s_model.memory import BankLayout, MemoryBank

LAYOUT = BankLayout(2, 3, 4, area=2, memory_dim=4, dim=8, logits=(2, 2))


@given(st.lists(st.tuples(st.sampled_from(["add", "remove", "frame"]), st.integers(0, 5)), max_size=40))
def test_rows_follow_their_ids(events):
    bank = MemoryBank(LAYOUT, torch.device("cpu"), torch.float32)
    model: dict[int, list[int]] = {}  # id -> frames that it has seen, newest last
    next_id = 1
    for frame, (event, which) in enumerate(events):
        if event == "add":
            bank.add(next_id)
            model[next_id] = []
            next_id += 1
        elif event == "remove" and model:
            gone = sorted(model)[which % len(model)]
            bank.remove(gone)
            del model[gone]
        elif event == "frame" and model:
            marks = torch.tensor([1000.0 * i + frame for i in bank.ids])
            bank.write_recent(frame, marks[:, None, None].expand(-1, 2, 4), marks[:, None].expand(-1, 8))
            for frames in model.values():
                frames.append(frame)
    assert sorted(bank.ids) == sorted(model)
    assert bank.capacity == 0 if next_id == 1 else bank.capacity >= len(bank)
    for object_id, frames in model.items():
        row = bank.row(object_id)
        held = bank.frames[row][bank.frames[row] >= 0]
        assert set(held) <= set(frames) and (not frames or frames[-1] in held)
        for slot in np.flatnonzero(bank.frames[row] >= 0):
            assert (bank.spatial[row, slot] == 1000.0 * object_id + bank.frames[row, slot]).all()


def test_capacity_doubles_and_bytes_follow_the_formula():
    bank = MemoryBank(LAYOUT, torch.device("cpu"), torch.bfloat16)
    capacities = []
    for object_id in range(1, 6):
        bank.add(object_id)
        capacities.append(bank.capacity)
        assert bank.memory_bytes() == bank.capacity * LAYOUT.bytes_per_object(2)
    assert capacities == [1, 2, 4, 4, 8]
    assert LAYOUT.bytes_per_object(2) == (5 * 2 * 4 + 6 * 8) * 2 + 16


def test_the_first_prompt_is_never_evicted():
    bank = MemoryBank(LAYOUT, torch.device("cpu"), torch.float32)
    bank.add(1)
    for frame in (3, 8, 9, 20):
        bank.write_conditioning(0, frame, torch.full((2, 4), float(frame)), torch.zeros(8))
        assert 3 in bank.frames[0, :2] and frame in bank.frames[0, :2]
    bank.write_conditioning(0, 20, torch.full((2, 4), -1.0), torch.zeros(8))
    assert sorted(bank.frames[0, :2]) == [3, 20], "a second prompt on one frame takes the place of the first"
