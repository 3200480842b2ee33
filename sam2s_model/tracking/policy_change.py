"""A policy follows another while objects are tracked: what it goes on with, and what it takes for what it lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from sam2s_model.device import upload
from sam2s_model.errors import ConfigError
from sam2s_model.tracking.history import ProcessedFrame
from sam2s_model.tracking.memory import BankView
from sam2s_model.tracking.memory.bank import EMPTY
from sam2s_model.tracking.outputs import gate
from sam2s_model.tracking.segmenter import Segmenter


def go_on_under(policy: str, new: Segmenter, old: Segmenter, frames: Sequence[ProcessedFrame]) -> None:
    """Go on with all objects of a segmenter in another one, whose bank is empty.

    policy: the new one's name, for messages; frames: that are remembered, oldest first
    Masks and what re-identification knows are copied. So are prompted frames, with what both policies keep of them:
    memories, labels, or both. For what the new policy needs and the old one did not keep, the newest remembered frame
    that shows the object stands for its prompted ones: a frame without it would say that it is not there, for ever.
    Raises ConfigError naming the objects that no remembered frame shows, where one is needed.
    """
    states = new.reid.states if new.reid else ()
    labels_stay = False
    if new.matches and old.matches and new.matches.matching == old.matches.matching:
        labels_stay = True
        states, new.matches.store = (*states, *new.matches.states), old.matches.store
    new.bank.copy_objects_from(old.bank, states, prompted=labels_stay)
    if not frames or not len(new.bank):
        return
    newest, remembers = frames[-1], bool(new.memory or new.matches)
    if new.matches and not labels_stay:
        rows = slice(0, len(new.bank))
        logits = gate(new.bank.mask(rows, newest.index), _present(new, newest))
        new.matches.start(BankView(new.bank, rows), newest.index, newest.features.coarse, logits)
    if not remembers and not (old.memory or old.matches):
        return  # the masks are what both have
    if new.memory and old.memory:
        return  # of each prompted frame there is something to go on with
    only_labels = labels_stay and not new.memory
    lacking: Sequence[int] = _unlabelled(new) if only_labels else range(len(new.bank))
    if not lacking:
        return
    shown = _newest_shown(new, frames, policy, lacking)
    for frame in frames:
        new.put_back(frame.index)
        of_frame = [row for row, (of, _) in shown.items() if of is frame]
        if not of_frame:
            continue
        logits = torch.cat([shown[row][1] for row in of_frame])
        if not remembers:  # the mask of the frame before is all that such a policy has
            new.bank.write_mask(of_frame, newest.index, logits)
            continue
        slots: Sequence[int | None] = [None] * len(of_frame)
        if new.memory:
            slots = new.memory.take_for_prompts(of_frame, frame, logits)
        if new.matches and (only_labels or not labels_stay):
            for row, slot, mask in zip(of_frame, slots, logits.split(1), strict=True):
                new.match_prompted(row, frame, mask, slot)


def _present(new: Segmenter, frame: ProcessedFrame) -> Tensor:
    """Tell which objects of all rows a frame shows, (N,) bool. Their masks may not say it, see `_newest_shown`."""
    told = [frame.predictions.get(object_id) for object_id in new.bank.ids]
    return upload(np.array([one is not None and one.present for one in told]), new.bank.device)


def _unlabelled(new: Segmenter) -> list[int]:
    """List the rows without labels of any prompted frame: those were prompted under a policy that keeps none."""
    held = new.bank.host_frames[: len(new.bank), : new.bank.layout.conditioning]
    labelled = new.bank.states["label_frames"][: len(held), : held.shape[1]].cpu().numpy()
    return [row for row, has in enumerate(((labelled == held) & (held != EMPTY)).any(1)) if not has]


def _newest_shown(
    new: Segmenter, frames: Sequence[ProcessedFrame], policy: str, rows: Sequence[int]
) -> Mapping[int, tuple[ProcessedFrame, Tensor]]:
    """Find the newest frame that shows each object of some rows, and its mask logits (1, 1, h, w) there, by the row.

    A bank may hold masks of frames without the object: some policies keep the last that showed it, see `Segmenter`.
    """
    found: dict[int, tuple[ProcessedFrame, Tensor]] = {}
    for row in rows:
        object_id = new.bank.ids[row]
        for frame in reversed(frames):
            told = frame.predictions.get(object_id)
            if told is None or not told.present or not new.bank.has_mask([row], frame.index):
                continue
            logits = new.bank.mask([row], frame.index)
            if (logits > 0).any():
                found[row] = frame, logits
                break
    unseen = sorted(new.bank.ids[row] for row in rows if row not in found)
    if unseen:
        raise ConfigError(
            f"policy {policy!r} would never find object {', '.join(map(str, unseen))} again, which none of the last "
            f"{len(frames)} frames shows: change to it while the object is seen, or remove the object"
        )
    return found
