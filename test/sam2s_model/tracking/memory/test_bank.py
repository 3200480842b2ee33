"""The bank's rows: ids stay with their memories while objects come and go, and nothing is allocated for frames."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, strategies as st

from sam2s_model.tracking.memory import BankLayout, MemoryBank

LAYOUT = BankLayout(2, 3, 4, masks=2, tokens=2, memory_dim=4, dim=8, logits=(2, 2))


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
            # all rows at once, or one by one in another order: the same
            for rows in [slice(0, len(bank))] if which % 2 else [[row] for row in reversed(range(len(bank)))]:
                bank.write_recent(
                    rows, frame, marks[rows, None, None].expand(-1, 2, 4), marks[rows, None].expand(-1, 8)
                )
                bank.write_mask(rows, frame, marks[rows, None, None, None].expand(-1, 1, 2, 2))
            for frames in model.values():
                frames.append(frame)
    assert sorted(bank.ids) == sorted(model)
    assert bank.capacity == 0 if next_id == 1 else bank.capacity >= len(bank)
    for object_id, frames in model.items():
        row = bank.row(object_id)
        numbers = bank.frames[row].tolist()
        held = {frame for frame in numbers if frame >= 0}
        assert held <= set(frames) and (not frames or frames[-1] in held)
        assert (bank.host_frames[row] == numbers).all(), "the host's copy"
        for slot, frame in enumerate(numbers):
            assert frame < 0 or (bank.spatial[row, slot] == 1000.0 * object_id + frame).all()
        for frame in frames[-1:]:
            assert (bank.mask([row], frame) == 1000.0 * object_id + frame).all()


def test_capacity_doubles_and_bytes_follow_the_formula():
    bank = MemoryBank(LAYOUT, torch.device("cpu"), torch.bfloat16)
    capacities = []
    for object_id in range(1, 6):
        bank.add(object_id)
        capacities.append(bank.capacity)
        assert bank.memory_bytes() == bank.capacity * LAYOUT.bytes_per_object(2)
    assert capacities == [1, 2, 4, 4, 8]
    assert LAYOUT.bytes_per_object(2) == (5 * 2 * 4 + 6 * 8) * 2 + 2 * 16 + 8 * (5 + 6)


def fill(bank: MemoryBank, frame: int, value: float) -> None:
    n = len(bank)
    bank.write_recent(slice(0, n), frame, torch.full((n, 2, 4), value), torch.full((n, 8), value))
    bank.write_mask(slice(0, n), frame, torch.full((n, 1, 2, 2), value))


def test_what_was_saved_is_restored():
    bank = MemoryBank(LAYOUT, torch.device("cpu"), torch.float32)
    bank.add(1), bank.add(2)
    fill(bank, 7, 1.0)
    saved = bank.save([2])
    bank.add(3)  # a larger bank than at the save
    rows = bank.rows([2, 3])
    bank.write_recent(rows, 8, torch.full((2, 2, 4), 9.0), torch.full((2, 8), 9.0))
    bank.write_conditioning(1, 7, torch.full((2, 4), 9.0), torch.full((8,), 9.0))
    bank.write_mask(rows, 7, torch.full((2, 1, 2, 2), 9.0))
    bank.restore(saved)
    assert bank.ids == [1, 2] and (bank.mask(slice(0, 2), 7) == 1).all()
    for row in (0, 1):
        assert bank.frames[row].sort()[0].tolist() == [-1, -1, -1, -1, 7]
        assert bank.pointer_frames[row].sort()[0].tolist() == [-1] * 5 + [7]
        assert bank.spatial[row].max() == 1 and bank.pointers[row].max() == 1


def test_a_mask_that_is_not_remembered_is_an_error():
    bank = MemoryBank(LAYOUT, torch.device("cpu"), torch.float32)
    bank.add(1)
    fill(bank, 7, 1.0)
    assert bank.has_mask([0], 7) and not bank.has_mask([0], 5)
    with pytest.raises(ValueError, match="no masks of frame 5"):
        bank.mask([0], 5)


def test_the_first_prompt_is_never_evicted():
    bank = MemoryBank(LAYOUT, torch.device("cpu"), torch.float32)
    bank.add(1)
    for frame in (3, 8, 9, 20):
        bank.write_conditioning(0, frame, torch.full((2, 4), float(frame)), torch.zeros(8))
        assert 3 in bank.frames[0, :2] and frame in bank.frames[0, :2]
    bank.write_conditioning(0, 20, torch.full((2, 4), -1.0), torch.zeros(8))
    assert bank.frames[0, :2].sort()[0].tolist() == [3, 20], "a second prompt on one frame takes the place of the first"


def test_the_formula_of_the_readme():
    """An object at 1024 px in bf16 with the defaults: 4 conditioning frames, a window of 6, a history of 16."""
    layout = BankLayout(4, 6 + 17, 15 + 17, 17, tokens=64 * 64, memory_dim=64, dim=256, logits=(256, 256))
    m = 64 * 64
    assert (
        layout.bytes_per_object(2)
        == 2 * ((4 + 23) * m * 64 + (4 + 32) * 256) + 4 * 17 * 16 * m + 8 * (27 + 36)
        == 18_631_160
    )
    assert replace(layout, key_width=4 * 256).bytes_per_object(2) - 18_631_160 == 2 * 27 * m * 4 * 256 == 226_492_416


def test_keys_are_rows_of_their_memories():
    """Whatever is written, saved, restored or forgotten of a memory is so of its keys."""
    bank = MemoryBank(replace(LAYOUT, key_width=3), torch.device("cpu"), torch.float32)
    bank.add(1)
    kept = torch.arange(7.0).expand(1, 2, 7)
    bank.write_recent(slice(0, 1), 5, kept, torch.zeros(1, 8))
    assert bank.memories.shape[3] == 4 and bank.keys.shape[3] == 3
    slot = bank.frames[0].tolist().index(5)
    assert bank.memories[0, slot, 1].tolist() == [0, 1, 2, 3] and bank.keys[0, slot, 1].tolist() == [4, 5, 6]
    assert bank.memory_bytes() == bank.layout.bytes_per_object(4)
    saved = bank.save([1])
    bank.forget(5)  # NaN of a step that failed would outlive its mask
    assert not bank.keys.any()
    bank.restore(saved)
    assert bank.keys[0, slot, 1].tolist() == [4, 5, 6]
