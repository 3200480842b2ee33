"""What the server needs of a tracker: `camera.TrackerLink` is the one over ROS."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from sam2s_ros.console.proposals import Discovered
from sam2s_ros.console.session import Session

Points = tuple[tuple[float, float, int], ...]


class Link(Protocol):
    """One tracker. Each call raises RequestError, with the tracker's own sentence, when nothing was done."""

    @property
    def session(self) -> Session:
        """What the page is shown of it."""

    async def prompt(
        self,
        stamp: int,
        object_id: int,
        class_name: str = "",
        *,
        points: Points = (),
        box: tuple[float, ...] = (),
        mask: np.ndarray | None = None,
        proposal: int = 0,
    ) -> int:
        """Start (0) or correct an object on the image of a stamp. Its masks go to the session. Returns the id.

        proposal: id of one that `discover` has found on this image, in place of points, box and mask
        """

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
