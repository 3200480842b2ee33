"""An annotation: prompts on any frame of a recording, and the masks that follow from them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from sam2s_model.annotation.folder import GIVEN, AnnotatedObject, AnnotationFolder
from sam2s_model.annotation.plan import SweepPlan, plan_sweep
from sam2s_model.annotation.store import StoredMask
from sam2s_model.annotation.tracking import AnnotationSweep, StillSegmenter
from sam2s_model.config import TrackerConfig
from sam2s_model.device import describe_device
from sam2s_model.discovery.discover import Proposal
from sam2s_model.errors import ErrorCode, RequestError
from sam2s_model.metrics import iou
from sam2s_model.network.model import Sam2Model
from sam2s_model.prompting.prompt_script import PromptEntry, PromptScript
from sam2s_model.prompts import Prompt
from sam2s_model.recordings.recording import Recording
from sam2s_model.semantics import LabelSet
from sam2s_model.tracks import MAX_LABEL

MOST_UNDO = 100  # actions that can be taken back
EntryRow = tuple[int, int, PromptEntry]  # id, position, entry
COVERED = 0.5  # IoU with an object's mask, from which a proposal is this object
LET_OTHERS = 0.001  # s between two frames, in which another thread gets its turn


@dataclass(frozen=True)
class AnnotationEngine:
    """What tracks. policy: of the sweeps; single frames are prompted without memory"""

    model: Sam2Model
    policy: str = "auto"
    config: TrackerConfig = TrackerConfig()


class AnnotationProject(AnnotationFolder):
    """What a person does in such a folder. Methods may be called in any thread, one works at a time.

    What changes something is on disk when the call returns. Arguments and errors as of `AnnotationFolder`.
    """

    def __init__(
        self,
        folder: Path,
        recording: Recording,
        engine: AnnotationEngine,
        label_set: LabelSet,
        *,
        limit: int = 0,
        on_frame: Callable[[int, int | None], Any] = lambda done, total: None,
        say: Callable[[str], Any] = lambda line: None,
    ):
        super().__init__(folder, recording, label_set, limit=limit, on_frame=on_frame, say=say)
        self._engine = engine
        self._still = StillSegmenter(engine.model, engine.config, label_set)
        self._sweep: AnnotationSweep | None = None
        self._undo: list[tuple[str, Callable[[], None]]] = []
        self.newest_tracked = 0  # position

    @property
    def model_name(self) -> str:
        return self._engine.model.name

    @property
    def checkpoint(self) -> str:
        """The model's file; "" for one that is of no file."""
        return self._engine.model.source

    def device_description(self) -> str:
        return describe_device(self._engine.model.device)

    @property
    def undo_says(self) -> str:
        """What `undo` would take back; "" for nothing."""
        return self._undo[-1][0] if self._undo else ""

    # ---- what a person does

    def prompt(
        self,
        position: int,
        number: int = 0,
        class_name: str = "",
        *,
        points: Sequence[tuple[float, float, int]] = (),
        box: Sequence[float] | None = None,
        mask: np.ndarray | None = None,
    ) -> int:
        """Start an object (0, or a number that is free) or correct one on any frame, or give it another class.

        points: x, y, sign (1: on it, 0: not); box: x0, y0, x1, y1; px of the image. They are added to what was said
        before of the object on this frame. What follows, up to its next prompt, is to be tracked again.
        mask: (H, W) bool, in place of all that was said
        Returns its number. Raises RequestError; nothing is changed then.
        """
        with self._lock:
            self._check_position(position)
            objects = self.objects
            known = objects.get(number)
            label = self.label_set.by_name(class_name or (known.class_name if known else ""))
            if known and not points and box is None and mask is None:
                return self._rename(known, label.name, class_name)
            number = number or self._free_number(objects)
            if known is None and not 1 <= number <= MAX_LABEL:
                raise RequestError(
                    ErrorCode.UNKNOWN_OBJECT, f"object {number} is no value of a mask: expected 1 to 254"
                )
            most = self._engine.config.max_objects
            if known is None and len(objects) >= most:
                raise RequestError(
                    ErrorCode.TOO_MANY_OBJECTS, f"there are {len(objects)} objects: max_objects is {most}"
                )
            entry = PromptEntry(
                number,
                frame=self.frames[position].number,
                class_name=label.name if class_name or known is None else "",
                points=tuple((float(x), float(y)) for x, y, sign in points if sign),
                not_on=tuple((float(x), float(y)) for x, y, sign in points if not sign),
                box=None if box is None else (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
                mask=None if mask is None else self._free_mask_name(position, number),
            )
            replaced = [] if mask is None else self.store.entries(position, number)
            before = [] if mask is not None else [own for _, _, own in self.store.entries(position, number)]
            if mask is not None:
                prompt = Prompt(mask=mask).validated(*self.size)
                self._write_labels(self.folder / GIVEN, str(entry.mask), np.asarray(prompt.mask, np.uint8))
            was = self.store.mask(position, number)
            base = was.base if was and was.prompted else (was.mask if was else None)
            found = self._segment(position, [*before, entry], base)
            with self.store.writing():
                self.store.remove_entries(key for key, _, _ in replaced)
                key = self.store.put_entry(position, entry)
                if known is None or class_name:
                    self.store.put_object(number, label.name, *((known.name, known.color) if known else ()))
                self._put_prompted(position, number, found)
            self._can_undo(
                f"{'correction' if known else 'start'} of object {number}",
                lambda: self._take_back(position, key, replaced, known, number),
            )
            self.flush()
            return number

    def discover(self, position: int, class_name: str = "") -> list[Proposal]:
        """Propose objects on a frame where no mask is yet (IoU 0.5), the best first. Nothing is changed.

        class_name: only those like the prototypes of this class; "": all. Raises RequestError.
        """
        with self._lock:
            self._check_position(position)
            there = [found.mask for found in self.masks(position).values() if found.mask.any()]
            proposals = self._still.discover(position, self.image(position), class_name)
            return [own for own in proposals if not any(iou(own.mask, mask) >= COVERED for mask in there)]

    def _segment(self, position: int, entries: Sequence[PromptEntry], base: np.ndarray | None) -> StoredMask:
        """Return the mask of all that was said of an object on a frame, and of the mask that it had before."""
        frame, number = self.frames[position], entries[0].object
        own = [replace(entry, stamp_ns=None, name=None, frame=frame.number) for entry in entries]
        prompt = PromptScript(own, self.folder).prompt_of(number)
        if prompt.mask is not None and prompt.points is None and prompt.box is None:
            return StoredMask(prompt.mask, prompted=True, base=base)
        corrected = base
        if prompt.mask is not None:  # a mask, and clicks after it
            corrected, prompt = prompt.mask, replace(prompt, mask=None)
        found = self._still.mask(position, self.image(position), prompt, corrected)
        return replace(found, prompted=True, base=base)

    def _free_mask_name(self, position: int, number: int) -> str:
        """Return a name for a mask that is given: one of before stays, for `undo`."""
        names = (f"{GIVEN}/{self.frames[position].name}_{number}_{n}.png" for n in count(1))
        return next(name for name in names if not (self.folder / name).exists())

    def _put_prompted(self, position: int, number: int, found: StoredMask) -> None:
        self.store.put_mask(position, number, found)
        self.store.set_stale(number, position + 1, self._next_prompt(number, position))
        if self._sweep is not None:
            if self._sweep.position == position:
                self._sweep.give({number: found.mask})
            elif self._sweep.position > position:
                self._sweep.drop([number])

    def _next_prompt(self, number: int, position: int) -> int:
        later = [at for _, at, _ in self.store.entries(number=number) if at > position]
        return min(later, default=len(self))

    def _take_back(
        self,
        position: int,
        key: int,
        replaced: list[tuple[int, int, PromptEntry]],
        known: AnnotatedObject | None,
        number: int,
    ) -> None:
        """Do away with one prompt: those that are left say what the mask is, else it is the one of before."""
        was = self.store.mask(position, number)
        if known is None:
            self._forget(number)
            return
        kept = [row for row in self.store.entries(position, number) if row[0] != key]
        left = [own for _, _, own in sorted([*kept, *replaced], key=lambda row: row[0])]
        base = was.base if was else None
        found = self._segment(position, left, base) if left else None
        now = self._known(number)  # what people have called it since stays
        with self.store.writing():
            self.store.remove_entries([key])
            for own_key, _, entry in replaced:
                self.store.put_entry(position, entry, own_key)
            self.store.put_object(number, known.class_name, now.name, now.color)
            if found is not None:
                self._put_prompted(position, number, found)
                return
            self._put_unprompted(position, number, base)
            if self._sweep is not None and self._sweep.position >= position:
                self._sweep.drop([number])

    def _put_unprompted(self, position: int, number: int, base: np.ndarray | None) -> None:
        """Leave a frame, and what follows it, to what was said of the object before. base: its mask of before"""
        end = self._next_prompt(number, position)
        if not any(at < position for _, at, _ in self.store.entries(number=number)):
            self.store.remove_masks(number, position, end)  # nothing says any more that it is there
            return
        if base is not None:
            self.store.put_mask(position, number, StoredMask(base, stale=True))
        else:
            self.store.remove_masks(number, position, position + 1)
        self.store.set_stale(number, position + 1, end)

    def _rename(self, known: AnnotatedObject, class_name: str, given: str) -> int:
        if not given:
            raise RequestError(ErrorCode.EMPTY_REQUEST, "a prompt has no points, no box, no mask and no class")
        self._put_class(known.number, class_name)
        self._can_undo(
            f"change of class of object {known.number}", lambda: self._put_class(known.number, known.class_name)
        )
        self.flush()
        return known.number

    def _put_class(self, number: int, class_name: str) -> None:
        """Change the class of an object, also in what was said of it: a later prompt would change it back."""
        now = self._known(number)
        with self.store.writing():
            first = True
            for key, position, entry in self.store.entries(number=number):
                self.store.put_entry(position, replace(entry, class_name=class_name if first else ""), key)
                first = False
            self.store.put_object(number, class_name, now.name, now.color)
            self.store.set_dirty(self.store.positions(number))  # its colour

    def describe(self, number: int, name: str, color: str) -> None:
        """Give an object a name and a colour (#rrggbb) for those who look. Raises RequestError (UNKNOWN_OBJECT)."""
        with self._lock:
            self.store.put_object(number, self._known(number).class_name, name, color)
            self.revision += 1

    def remove(self, number: int) -> None:
        """Remove an object with all its prompts and masks. Raises RequestError (UNKNOWN_OBJECT)."""
        with self._lock:
            self._known(number)
            rows = self.store.rows_of(number)
            self._forget(number)
            self._can_undo(f"removal of object {number}", lambda: self.store.put_rows(rows))
            self.flush()

    def _forget(self, number: int) -> None:
        self.store.remove_object(number)
        if self._sweep is not None:
            self._sweep.drop([number])

    def undo(self) -> str:
        """Take the last action back. Returns what that was. Raises RequestError when there is none."""
        with self._lock:
            if not self._undo:
                raise RequestError(ErrorCode.EMPTY_REQUEST, "there is nothing to take back")
            says, act = self._undo[-1]
            act()  # what cannot be done now, as where the image cannot be read, can still be taken back later
            self._undo.pop()
            self.revision += 1
            self.flush()
            return f"taken back: {says}"

    def _can_undo(self, says: str, act: Callable[[], None]) -> None:
        self._undo = [*self._undo[1 - MOST_UNDO :], (says, act)]
        self.revision += 1

    # ---- tracking

    def track(
        self,
        end: int | None = None,
        on_frame: Callable[[int, int], Any] = lambda done, total: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> int:
        """Track all objects to `end` (exclusive; None: the last frame), where there are no masks or stale ones.

        What a person said stays, and what follows it is left alone where it is up to date. A person may go on while it
        tracks. on_frame: told the frames done and their number; stopped: asked after each frame
        Returns the frames that were tracked. Raises RequestError when there are no objects.
        """
        if not self.objects:
            raise RequestError(ErrorCode.EMPTY_REQUEST, "there are no objects: click on one first")
        done = 0
        while True:
            with self._lock:
                plan, revision = self._plan(end), self.revision
            total = done + len(plan.wanted)
            for position in plan.visited:
                with self._lock:
                    if revision != self.revision:
                        break  # somebody has changed something: what is to be done may be something else
                    wanted = self._advance(plan, position)
                if wanted:
                    done += 1
                    on_frame(done, total)
                time.sleep(LET_OTHERS)
                if stopped():
                    return done
            else:
                return done

    def _plan(self, end: int | None) -> SweepPlan:
        plan = plan_sweep(self.store.table(), self.to_track(end), self._sweep)
        if plan.anew:
            self._sweep = AnnotationSweep(self._engine.model, self._engine.policy, self._engine.config, self.label_set)
        return plan

    def _advance(self, plan: SweepPlan, position: int) -> bool:
        """Go to one position. Returns whether there was something to be tracked."""
        sweep = self._sweep
        assert sweep is not None
        sweep.drop(plan.over(position))
        masks = self.store.masks(position)
        given = {number: masks[number].mask for number in plan.given(position) if number in masks}
        found = sweep.step(position, self.image(position), given)
        wanted = plan.wanted.get(position, set())
        with self.store.writing():
            for number in wanted:
                # Of what has an empty mask where it was prompted nothing follows: it is not there.
                empty = StoredMask(np.zeros(self.size, bool), 0.0, 1.0, 3)
                self.store.put_mask(position, number, found.get(number, empty))
        if wanted:
            self.newest_tracked = position
            self.flush([position])
        return bool(wanted)

    # ---- checks

    def _check_position(self, position: int) -> None:
        if not 0 <= position < len(self):
            raise RequestError(ErrorCode.UNKNOWN_STAMP, f"there is no frame {position}: expected 0 to {len(self) - 1}")

    def _known(self, number: int) -> AnnotatedObject:
        known = self.objects.get(number)
        if known is None:
            raise RequestError(ErrorCode.UNKNOWN_OBJECT, f"there is no object {number}")
        return known

    def _free_number(self, objects: Mapping[int, AnnotatedObject]) -> int:
        """Return the number after the highest, or, where that is none, the first that is free."""
        after = max(objects, default=0) + 1
        return after if after <= MAX_LABEL else next(n for n in range(1, MAX_LABEL + 2) if n not in objects)
