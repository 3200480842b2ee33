"""How far two runs of a scenario are apart, and how far the oracle's run was from taking another turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from functools import reduce

import torch
from oracle import Answer, unbounded
from torch import Tensor
from torch.nn import functional

ABSENT = -1024.0  # logit of an object that is not there, everywhere
LEAST_ERROR = 1e-6  # of fp32: what margins are at least measured in


@dataclass(frozen=True)
class Errors:
    """Differences from an oracle; the worst of several in each field.

    logits: greatest difference on a frame, in root mean squares of the oracle's logits there; of an object that is
    absent on the oracle's side 0 when it is on ours, and infinite otherwise
    iou: difference of the predicted IoUs, 0..1
    score: difference of the object score's logits, relative to the oracle's where that is over 1
    pointer: greatest difference of a component, in root mean squares of the oracle's pointer
    """

    logits: float = 0.0
    iou: float = 0.0
    score: float = 0.0
    pointer: float = 0.0

    @classmethod
    def of(cls, ours: Answer, theirs: Answer) -> Errors:
        if (theirs.logits == ABSENT).all():
            logits = 0.0 if torch.equal(ours.logits, theirs.logits) else float("inf")
        else:
            logits = _relative(ours.logits, theirs.logits)
        return cls(
            logits=logits,
            iou=abs(ours.iou - theirs.iou),
            score=abs(ours.object_logit - theirs.object_logit) / max(1.0, abs(theirs.object_logit)),
            pointer=_relative(ours.pointer, theirs.pointer),
        )

    def worst(self, other: Errors) -> Errors:
        return Errors(*map(max, astuple(self), astuple(other)))


def _relative(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).abs().max() / theirs.square().mean().sqrt()).item()


def _inside(logits: Tensor, size: int) -> Tensor:
    """Return the mask as the memory of a prompted frame takes it. logits: (1, h, w) or (h, w); result (size, size)."""
    shown = logits.reshape(1, 1, *logits.shape[-2:])
    return functional.interpolate(shown, (size, size), mode="bilinear", align_corners=False)[0, 0] > 0


@dataclass(frozen=True)
class Comparison:
    """Two runs of one scenario.

    frames: played; errors: the worst
    margin: smallest distance of any of the oracle's decisions (object there or not, which mask, stable or not) from
    turning out otherwise, in errors of what decides it. Far over 1: no decision was a matter of rounding.
    present, absent: answers with and without the object; masks: with a mask that is neither empty nor everything
    flipped: pixels of prompted masks, at the images' size, that one side has inside and the other outside
    """

    frames: int
    errors: Errors
    margin: float
    present: int
    absent: int
    masks: int
    flipped: int

    @classmethod
    def of(cls, ours: Sequence[tuple], theirs: Sequence[tuple], size: int) -> Comparison:
        """Both from `scenario.play`, with square images of `size` pixels.

        Raises AssertionError when they differ in frames, prompts or objects.
        """
        assert [(f, event, list(a)) for f, event, a in ours] == [(f, event, list(a)) for f, event, a in theirs]
        pairs = [(a[i], b[i]) for (_, _, a), (_, _, b) in zip(ours, theirs, strict=True) for i in b]
        errors = reduce(Errors.worst, (Errors.of(*pair) for pair in pairs))
        lead = max(abs(unbounded(mine.iou) - unbounded(reference.iou)) for mine, reference in pairs)
        turning = {"object": errors.score, "stable": errors.logits, "mask": lead}
        distances = [item for _, reference in pairs for item in reference.distances.items()]
        margins = [distance / max(turning[name], LEAST_ERROR) for name, distance in distances]
        seen = [reference.logits for _, reference in pairs if not (reference.logits == ABSENT).all()]
        return cls(
            frames=ours[-1][0] + 1,
            errors=errors,
            margin=min(margins, default=float("inf")),
            present=len(seen),
            absent=len(pairs) - len(seen),
            masks=sum(1 for logits in seen if logits.min() < 0 < logits.max()),
            flipped=sum(
                int((_inside(mine[i].logits, size) != _inside(reference[i].logits, size)).sum())
                for (_, event, mine), (_, _, reference) in zip(ours, theirs, strict=True)
                for i in reference
                if event == "prompt"
            ),
        )

    def row(self) -> str:
        errors = "".join(f"{getattr(self.errors, field.name):10.1e}" for field in fields(Errors))
        return (
            f"{self.frames:7}{errors}{self.margin:10.1e}{self.present:9}{self.absent:8}{self.masks:7}{self.flipped:9}"
        )


HEADER = f"{'frames':>7}" + "".join(f"{field.name:>10}" for field in fields(Errors))
HEADER += f"{'margin':>10}{'present':>9}{'absent':>8}{'masks':>7}{'flipped':>9}"
