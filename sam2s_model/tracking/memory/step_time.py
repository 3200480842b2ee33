"""The time of a step that is captured once and replayed for later frames: what changes in between is on the device."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sam2s_model.acceleration.constants import constant

Run = tuple[int, int, int, int]
"""Of frames that follow one another: age of the first and of the last, the ring they are in, and its first slot.

A ring of 1 is a slot for itself, whatever the age is.
"""


@dataclass(frozen=True)
class StepTime:
    """The frame that a captured step is of.

    frame, stamp: 0-d int64 on the device, the frame's index and stamp, ns
    index: the same index on the host, at capture
    prompted: most prompted frames that any of the objects has
    complete: whether all objects have as many, and full windows; otherwise what is missing is masked, not left out
    """

    frame: Tensor
    stamp: Tensor
    index: int
    prompted: int
    complete: bool
    _slots: dict[tuple[int, int, int], Tensor] = field(default_factory=dict, repr=False, compare=False)
    _found: dict[tuple[Run, ...], Tensor] = field(default_factory=dict, repr=False, compare=False)

    def of(self, index: int) -> Tensor:
        """Give a frame's index on the device, as many frames before or after this one as `index` is at capture."""
        return self.frame if index == self.index else self.frame + (index - self.index)

    def slot(self, index: int, ring: int, first: int = 0) -> Tensor:
        """Find a frame's slot (1,) of a ring that begins with slot `first`; made once a step."""
        key = index, ring, first
        if key not in self._slots:
            slot = self.of(index).remainder(ring)[None]
            self._slots[key] = slot + first if first else slot
        return self._slots[key]

    def find(self, *runs: Run) -> Tensor:
        """Find the slots of some frames, (frames,), run after run, by three kernels for all of them."""
        if runs not in self._found:
            ages, rings, firsts = _runs(runs, device=self.frame.device)
            self._found[runs] = (self.frame - ages).remainder(rings) + firsts
        return self._found[runs]

    def know(self, index: int, ring: int, first: int, slot: Tensor) -> None:
        """Take what `slot` is asked for from elsewhere."""
        self._slots[index, ring, first] = slot

    @property
    def shapes(self) -> tuple[int, bool]:
        """What the shapes of a step depend on besides the number of objects."""
        return self.prompted, self.complete


@constant
def _runs(runs: tuple[Run, ...], device=None) -> tuple[Tensor, Tensor, Tensor]:
    """Age, ring and first slot of each frame of some runs."""
    rows = [(age, ring, first) for begin, end, ring, first in runs for age in range(begin, end + 1)]
    ages, rings, firsts = torch.tensor(rows, device=device).unbind(1)
    return ages, rings, firsts
