"""The time of a step that is captured once and replayed for later frames: what changes in between is on the device."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


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

    @property
    def shapes(self) -> tuple[int, bool]:
        """What the shapes of a step depend on besides the number of objects."""
        return self.prompted, self.complete
