"""What is remembered of objects, apart from the tracker that has followed them: their prompted frames and their looks.

What a tracker has seen in between, its rings and what a policy keeps, is not part of it: prompted frames are what a
person has said, and there are at most `max_conditioning` of an object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sam2s_model.config import TrackerConfig
from sam2s_model.errors import ErrorCode, ObjectMemoryError, RequestError
from sam2s_model.semantics import ClassLabel, LabelSet
from sam2s_model.tracking.history import ProcessedFrame
from sam2s_model.tracking.memory import BankView
from sam2s_model.tracking.memory.bank import EMPTY
from sam2s_model.tracking.outputs import Outputs, predictions
from sam2s_model.tracking.presence import ObjectHistory, TrackedObject
from sam2s_model.tracking.requests import check_chosen
from sam2s_model.tracking.segmenter import Segmenter

TRAINED, MATCHED = ("spatial", "pointers"), ("labels", "trust")  # by kind of memory


@dataclass(frozen=True, eq=False)
class ObjectMemory:
    """One object, on the host.

    frames: numbers of its M >= 1 prompted frames, ascending; a number that two objects share is of one frame
    class_name: as a prompt has said, "" where none has
    spatial: (M, tokens, memory_dim); pointers: (M, dim); of a trained memory, else None
    labels: (M, places, cells) 0..1; trust: (M,) 0..; of a memory by correspondence, else None
    prototype: (dim,) fp32, its looks, the mean of `prototype_frames` frames; None without re-identification
    """

    frames: tuple[int, ...]
    class_name: str = ""
    spatial: Tensor | None = None
    pointers: Tensor | None = None
    labels: Tensor | None = None
    trust: Tensor | None = None
    prototype: Tensor | None = None
    prototype_frames: int = 0

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Name and tensor of what is there."""
        values = {name: getattr(self, name) for name in (*TRAINED, *MATCHED, "prototype")}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, eq=False)
class SavedObjects:
    """Objects of one tracker. policy: that it followed; tokens: frame -> (places, dim), for memory by correspondence"""

    policy: str
    objects: tuple[ObjectMemory, ...]
    tokens: Mapping[int, Tensor] = field(default_factory=dict)

    @property
    def memory_bytes(self) -> int:
        """Sum the bytes of all tensors."""
        own = [value for one in self.objects for value in one.tensors.values()]
        return sum(value.numel() * value.element_size() for value in (*own, *self.tokens.values()))


def collect(
    segmenter: Segmenter, tracked: Mapping[int, TrackedObject], object_ids: Sequence[int], policy: str
) -> SavedObjects:
    """Copy what is remembered of some of the tracked objects to the host.

    Raises ObjectMemoryError for a policy that remembers no prompted frames, whatever is tracked, or for none of an
    object; RequestError (UNKNOWN_OBJECT, EMPTY_REQUEST).
    """
    layout = segmenter.bank.layout
    if not layout.conditioning:
        raise ObjectMemoryError(
            f"policy {policy!r} remembers no prompted frames, so there is nothing of its objects to save: follow "
            "another policy"
        )
    check_chosen(object_ids, tracked)
    chosen = [tracked[i] for i in dict.fromkeys(object_ids)]
    objects = tuple(_collected(segmenter, segmenter.bank.row(one.object_id), _name(one)) for one in chosen)
    tokens = {}
    if segmenter.matches:
        frames = sorted({frame for one in objects for frame in one.frames})
        tokens = {frame: segmenter.matches.store.tokens_of(frame).cpu().clone() for frame in frames}
    return SavedObjects(policy, objects, tokens)


def _name(one: TrackedObject) -> str:
    return one.class_label.name if one.named else ""


def _collected(segmenter: Segmenter, row: int, name: str) -> ObjectMemory:
    bank = segmenter.bank
    held = bank.host_frames[row, : bank.layout.conditioning]
    slots = sorted((slot for slot in range(len(held)) if held[slot] != EMPTY), key=lambda slot: held[slot])
    if segmenter.matches:  # frames that were prompted under a policy without labels have none
        labelled = bank.states["label_frames"][row, : len(held)].tolist()
        slots = [slot for slot in slots if labelled[slot] == held[slot]]
        if not slots:
            raise ObjectMemoryError(
                f"object {bank.ids[row]} was not prompted since the policy changed to one that keeps labels: expected "
                "at least 1 prompt, to save it with"
            )
    copied: dict[str, Tensor] = {}
    if segmenter.memory:
        copied |= {"spatial": bank.memories[row, slots], "pointers": bank.pointers[row, slots]}
    if segmenter.matches:
        copied |= {"labels": bank.states["labels"][row, slots], "trust": bank.states["label_trust"][row, slots]}
    learnt = 0
    if segmenter.reid:
        copied["prototype"] = bank.states["prototype"][row]
        learnt = int(bank.states["prototype_frames"][row])
    on_host = {key: value.cpu().clone() for key, value in copied.items()}
    return ObjectMemory(tuple(int(held[slot]) for slot in slots), name, prototype_frames=learnt, **on_host)


def check_saved(
    saved: SavedObjects, segmenter: Segmenter, tracked: int, config: TrackerConfig, label_set: LabelSet, policy: str
) -> list[ClassLabel | None]:
    """Check that objects can go on in a tracker. Returns the class of each, None where nobody has named it.

    tracked: objects that it has already; policy: the one that it follows
    Raises ObjectMemoryError for another kind of memory, RequestError (EMPTY_REQUEST, TOO_MANY_OBJECTS, UNKNOWN_CLASS).
    """
    if not saved.objects:
        raise RequestError(ErrorCode.EMPTY_REQUEST, "there are no objects to go on with: expected at least one")
    total = tracked + len(saved.objects)
    if total > config.max_objects:
        raise RequestError(
            ErrorCode.TOO_MANY_OBJECTS,
            f"{len(saved.objects)} saved objects beside {tracked} would make {total}: expected at most max_objects = "
            f"{config.max_objects}",
        )
    needed = [*(TRAINED if segmenter.memory else ()), *(MATCHED if segmenter.matches else ())]
    known = set.intersection(*(set(one.tensors) for one in saved.objects))
    if not needed or set(needed) - known:
        raise ObjectMemoryError(
            f"the objects were saved under policy {saved.policy!r}, and policy {policy!r} "
            + ("remembers no prompted frames" if not needed else "needs another kind of memory")
            + f": follow {saved.policy!r}, or save them under {policy!r}"
        )
    if segmenter.matches:
        lacking = {frame for one in saved.objects for frame in one.frames} - set(saved.tokens)
        if lacking:
            raise ObjectMemoryError(f"features of {len(lacking)} prompted frames are missing: save the objects again")
    return [label_set.by_name(one.class_name) if one.class_name else None for one in saved.objects]


def go_on(
    segmenter: Segmenter, frame: ProcessedFrame, ids: Sequence[int], saved: SavedObjects, lost_after: float
) -> Outputs:
    """Give objects that are in the bank, and empty there, their memories, and look for them on a frame.

    ids: in the order of the saved objects; lost_after: s. What is not seen there is LOST, and what is seen is compared
    with it, where there is re-identification. The frame gets their predictions and what was seen of them before.
    """
    unseen = frame.stamp - round(lost_after * 1e9) - 1  # ns: long enough ago
    numbers = _numbers(segmenter, saved)
    for object_id, one in zip(ids, saved.objects, strict=True):
        _put(segmenter, segmenter.bank.row(object_id), one, numbers, unseen, frame.stamp)
    if segmenter.matches:
        needed = segmenter.bank.host_frames[: len(segmenter.bank), : segmenter.bank.layout.conditioning]
        given = set(needed.ravel().tolist())
        for old, number in numbers.items():
            if number in given:
                tokens = saved.tokens[old].to(segmenter.bank.device)
                segmenter.matches.store.prompted(number, tokens, given)
    outputs = segmenter.track(frame, ids)
    frame.predictions.update(zip(ids, predictions(segmenter.summary(outputs).cpu()), strict=True))
    before = {object_id: ObjectHistory(unseen, tracked=False) for object_id in ids}
    frame.previous = {**frame.previous, **before}
    return outputs


def _numbers(segmenter: Segmenter, saved: SavedObjects) -> dict[int, int]:
    """Give the frames of an earlier run numbers before all that this tracker knows, in their order; none is EMPTY.

    Of three, in a tracker without such frames: -4, -3, -2.
    """
    bank = segmenter.bank
    held = bank.host_frames[: len(bank), : bank.layout.conditioning]
    first = min(EMPTY, int(held.min(initial=EMPTY)))
    frames = sorted({frame for one in saved.objects for frame in one.frames}, reverse=True)
    return {frame: first - 1 - age for age, frame in enumerate(frames)}


def _put(
    segmenter: Segmenter, row: int, one: ObjectMemory, numbers: Mapping[int, int], unseen: int, stamp: int
) -> None:
    bank, layout = segmenter.bank, segmenter.bank.layout
    kept = list(range(len(one.frames)))
    if len(kept) > layout.conditioning:  # as when they are prompted: the first, and the newest
        kept = [0, *kept[len(kept) - layout.conditioning + 1 :]]
    nothing = torch.zeros(layout.tokens, layout.memory_dim), torch.zeros(layout.dim)
    for place in kept:
        number = numbers[one.frames[place]]
        spatial, pointer = nothing
        if segmenter.memory and one.spatial is not None and one.pointers is not None:
            spatial = segmenter.memory.as_kept(one.spatial[place][None].to(bank.device))[0]
            pointer = one.pointers[place]
        slot = bank.write_conditioning(row, number, spatial.to(bank.device), pointer.to(bank.device))
        if segmenter.matches and one.labels is not None and one.trust is not None:
            labels = one.labels[place].to(bank.device)
            for name, value in (("labels", labels), ("label_frames", number), ("label_trust", float(one.trust[place]))):
                bank.states[name][row, slot] = value
    if segmenter.reid:
        view = BankView(bank, slice(row, row + 1))
        frames = one.prototype_frames if one.prototype is not None else 0
        segmenter.reid.start(view, one.prototype, frames, unseen, stamp)
