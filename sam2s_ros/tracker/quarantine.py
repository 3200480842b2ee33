"""What follows from steps that raise: the next image is tried, until it is plain that this does not help."""

from __future__ import annotations

import gc
import sys
import traceback

from sam2s_model.device_errors import loses_device


class Quarantine:
    """Counts the steps in a row that raised. The worker's thread calls; any thread may read.

    reason: why images are dropped untried, and what to do about it; "" while they are tried
    lost: whether only another tracker helps
    broken: why only another process helps, "" while that is not so
    """

    def __init__(self):
        self.reason, self.lost, self.broken = "", False, ""
        self._failed = 0
        self._starved = False  # the last step did not get the memory that it asked for

    def failed(self, error: Exception, limit: int) -> str:
        """Count a step that raised, free caches if it lacked memory, and return a sentence about it.

        limit: steps in a row; with that many, or with a second one that lacks memory, images are tried no more
        """
        what = f"{type(error).__name__}: {error}"
        starved, self._starved = self._starved, lacks_memory(error)
        self._failed += 1
        if self._starved:
            free_memory(error)
        if self.breaks(error):
            return self.reason
        if starved and self._starved:
            self.lost = True
            self.reason = (
                f"two images in a row lacked memory, though caches were freed in between ({what}): lower max_objects, "
                "prompt_history or image_size, or end other programs on the device, then configure again"
            )
        elif self._failed >= limit:
            self.reason = (
                f"{self._failed} steps in a row failed (max_step_errors is {limit}), the last with {what}: "
                "images are dropped until ~/reset, or cleanup and configure"
            )
        return self.reason or f"the last step failed: {what}"

    def breaks(self, error: Exception) -> bool:
        """Tell whether only another process helps from this error on, of a step or of anything else."""
        if loses_device(error):
            what = f"{type(error).__name__}: {error}".splitlines()[0]
            self.reason = self.broken = (
                f"this process cannot use the GPU any more ({what}), another one can: end it and start it again, as "
                "hang_exit above 0 does with respawn:=true of the launch file"
            )
        return bool(self.broken)

    def over(self) -> None:
        """Count anew: a step succeeded, or the tracker was reset."""
        if not (self.lost or self.broken):
            self.reason, self._failed, self._starved = "", 0, False


def lacks_memory(error: Exception) -> bool:
    """Tell whether the device or the host had no more memory to give."""
    torch = sys.modules.get("torch")  # without it, it raised nothing; importing it takes seconds
    return isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError))


def free_memory(error: Exception | None = None) -> None:
    """Give back what caches hold, and what the functions that raised held. Raises nothing: error handlers call it."""
    if error is not None:
        traceback.clear_frames(error.__traceback__)
    gc.collect()
    if "torch" in sys.modules:
        from sam2s_model.acceleration.graphs import empty_cache

        empty_cache()
