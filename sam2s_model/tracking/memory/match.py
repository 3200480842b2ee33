"""A memory that needs no training: labels are propagated along similar image features, and prompt the mask decoder.

Label propagation by space-time correspondence is the protocol of Jabri et al. 2020 (arXiv 2006.14613) and DINO (arXiv
2104.14294, app.); prompting SAM with correspondences is in Matcher (arXiv 2305.13310) and PerSAM (arXiv 2305.03048), on
single images. Ours is what makes a bounded live tracker of it: entries in slots, weighted by how far they are to be
trusted, one affinity for all objects, and the choice of the mask (`correspondence`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sam2s_model.tracking.memory.policy import Policy


@dataclass(frozen=True)
class Match(Policy):
    """Correspondences alone: nothing that was trained for memory is asked, so that every checkpoint can run it.

    The prompted frames for ever, a few older frames, and the newest few. Which frames those are is the same for all
    objects, see `FrameStore`; what an object was on them, and whether it was there, is its own.
    """

    uses_memory: ClassVar[bool] = False
