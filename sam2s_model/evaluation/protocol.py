"""How a recording is evaluated: what the tracker is told of each object, when, and which frames count."""

from __future__ import annotations

from dataclasses import dataclass

from sam2s_model.config import check_options, option


@dataclass(frozen=True)
class EvaluationProtocol:
    """The protocols of the literature. Raises ConfigError for a value out of its limits.

    DAVIS, SurgSAM2: a mask, davis. SAM2 and SAM2S: a mask, a box, or 1, 3 or 5 clicks. Each object is prompted on one
    annotated frame that shows it, and tracked to the end without further help.
    """

    prompt: str = option("mask", "mask, box or clicks, from the ground truth", choices=("mask", "box", "clicks"))
    clicks: int = option(3, "of prompt clicks; each after the first corrects the mask so far", low=1, high=50)
    start: str = option(
        "appearance",
        "appearance: an object is prompted where it first appears; first: only objects of the first annotated frame"
        " are",
        choices=("appearance", "first"),
    )
    scored: str = option(
        "davis",
        "davis: neither the frame an object is prompted on, nor the recording's last annotated one; all: both too",
        choices=("davis", "all"),
    )
    frames: int = option(0, "most frames of a recording; 0: all", low=0, high=10**9)

    def __post_init__(self):
        check_options(self)

    @property
    def name(self) -> str:
        """Name the kind of prompt: "mask", "box", "1 click" or "3 clicks"."""
        return self.prompt if self.prompt != "clicks" else f"{self.clicks} click{'s' * (self.clicks > 1)}"
