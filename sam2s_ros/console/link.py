"""What the server needs of a tracker: `camera.TrackerLink` is the one over ROS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sam2s_ros.console.proposals import Discovered
from sam2s_ros.console.session import Session

Points = tuple[tuple[float, float, int], ...]


@dataclass(frozen=True)
class LinkPrompt:
    """What is asked of a tracker about one object.

    stamp: ns, of the image, 0: the newest; object_id: 0 for a new one; box: x0, y0, x1, y1 or empty; mask: (H, W) bool
    proposal: id of one that `discover` has found on this image, in place of points, box and mask
    """

    stamp: int
    object_id: int
    class_name: str = ""
    points: Points = ()
    box: tuple[float, ...] = ()
    mask: np.ndarray | None = None
    proposal: int = 0

    @property
    def only_names(self) -> bool:
        """Whether it gives an object a class, and changes no mask."""
        return not (self.points or self.box or self.proposal) and self.mask is None


class Link(Protocol):
    """One tracker. Each call raises RequestError, with the tracker's own sentence, when nothing was done."""

    @property
    def session(self) -> Session:
        """What the page is shown of it."""

    async def prompt(self, asked: LinkPrompt) -> int:
        """Start or correct an object. Its masks go to the session. Returns the id."""

    async def discover(self, stamp: int, class_name: str = "") -> Discovered:
        """Look for objects that are not tracked. stamp: of the image, where the tracker can look at any"""

    async def remove(self, object_ids: tuple[int, ...]) -> None:
        """Stop tracking objects."""

    async def reset(self) -> str:
        """Drop all objects and images. Returns the tracker's sentence."""

    async def enable(self, on: bool) -> str:
        """Switch the tracker on or off. Returns its sentence."""

    def now(self) -> int:
        """ns, of the clock that stamps are compared with."""
