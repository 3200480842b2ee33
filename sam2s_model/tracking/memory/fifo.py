"""First in, first out: SAM2's own memory (arXiv 2408.00714 sec. 4): the prompted frames and the last six."""

from __future__ import annotations

from dataclasses import dataclass

from sam2s_model.tracking.memory.policy import Policy


@dataclass(frozen=True)
class Fifo(Policy):
    """Attend to all prompted frames and the `num_memories - 1` newest; to pointers of the `max_pointers - 1` newest.

    Frames without the object count like all others: dropping them costs 6 to 8 J&F on instruments (SAM2S, table 2).
    That is what every policy is made of, so that nothing is left to say here.
    """
