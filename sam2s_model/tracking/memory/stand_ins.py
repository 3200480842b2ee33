"""Tracked masks that stand for prompted ones, since a policy could take nothing else over from the one before it.

They hold until their object is prompted on an earlier frame: then they are the masks that this prompt corrects.
"""

from __future__ import annotations

from sam2s_model.tracking.memory.bank import EMPTY, OF_SLOTS, MemoryBank


def drop_prompted(bank: MemoryBank, object_id: int, frame: int) -> None:
    """Forget a frame among an object's prompted ones, where it is one; slots that hold something stay the first."""
    bank.aside.pop((object_id, frame), None)
    row = bank.row(object_id)
    slot = bank.conditioning_slot_of(row, frame)
    if slot is None:
        return
    last = len(bank.prompted_frames(row)) - 1
    numbers = [bank.frames, bank.pointer_frames]
    kept = [bank.spatial, bank.pointers, *(bank.states[name] for name in OF_SLOTS if name in bank.states)]
    for store in (*numbers, *kept):
        store[row, slot] = store[row, last]
    if "label_frames" in bank.states:
        numbers.append(bank.states["label_frames"])
    for frames in numbers:
        frames[row, last].fill_(EMPTY)
    for host_frames in (bank.host_frames, bank.host_pointer_frames):
        host_frames[row, slot] = host_frames[row, last]
        host_frames[row, last] = EMPTY


def copy_memory(bank: MemoryBank, object_id: int, slot: int, frame: int) -> None:
    """Let the memory in one conditioning slot of an object be that of another of its prompted frames, too."""
    row = bank.row(object_id)
    spatial, pointer = bank.spatial[row, slot], bank.pointers[row, slot]
    if (other := bank.conditioning_slot_of(row, frame)) is not None:
        bank.spatial[row, other], bank.pointers[row, other] = spatial, pointer
    if (held := bank.aside.get((object_id, frame))) is not None:
        bank.aside[object_id, frame] = spatial.clone(), pointer.clone(), held[2]
