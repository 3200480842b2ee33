"""Whether a run trains class prompts, and how."""

from __future__ import annotations

from dataclasses import dataclass

from sam2s_model.config import check_options, option


@dataclass(frozen=True)
class ClassPromptConfig:
    """With tokens, all weights of `init` are frozen, and the run writes a file with the class prompts alone.

    The loss is Dice + NT-Xent, in fp32; of `data` the sources and the size count, of `optimizer` lr, final, warmup,
    weight_decay and clip.
    """

    tokens: int = option(
        0,
        "of each class, that SurgicalSAM's prompt encoder makes; published with 2 and 4; 0: no class prompts",
        low=0,
        high=16,
    )
    frames: int = option(12, "of each recording, evenly spread; they are encoded once and kept", low=1, high=100_000)
    batch: int = option(4, "frames of a step, each asked for one of its classes", low=1, high=1024)

    def __post_init__(self):
        check_options(self)
