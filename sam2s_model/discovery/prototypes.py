"""The prototype bank: what each class looks like, from frames that a person confirmed.

That is SurgicalSAM's idea (arXiv 2308.08746) without its training: masked-average features of the image encoder,
several of them a class, and a cosine. The bank is bounded: where a class is full, its two nearest prototypes become
one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.errors import PrototypeError
from sam2s_model.tracks import MAX_LABEL

BACKGROUND = ""  # name of what is no object
PER_CLASS = 16  # prototypes of a class
OF_BACKGROUND = 64  # the same of the background, which is of more kinds
LEAST_APART = 0.05  # of class and background: a class that is like the background is not found by a hair
MOST_FRAMES = 200.0  # a prototype's weight grows to it, so that it never stops learning


@dataclass(frozen=True)
class Likeness:
    """What N regions look most like.

    names: N, a class, or "" where the bank has none
    scores: (N,) fp32, -1..1, cosine with the nearest prototype of that class; NaN without a class
    margins: (N,) at most 1, where between background and class: 0 as like the nearest prototype of the background,
        1 as like that of the class alone, below 0 more like the background; NaN without a class; without background
        the score
    leads: (N,) by how much it exceeds the nearest of another class; NaN without a class; with one class the score
    """

    names: tuple[str, ...]
    scores: Tensor
    margins: Tensor
    leads: Tensor

    def __len__(self) -> int:
        return len(self.names)

    def taken(self, chosen: Tensor) -> Likeness:
        """Return some of them: chosen (K,) int."""
        names = tuple(self.names[i] for i in chosen.tolist())
        return Likeness(names, self.scores[chosen], self.margins[chosen], self.leads[chosen])


@dataclass
class _Prototypes:
    """Of one class: vectors (K, dim) fp32 of length one, and how many regions each is the mean of, (K,) fp32."""

    vectors: Tensor
    weights: Tensor


class PrototypeBank:
    """At most `per_class` prototypes of each of at most 254 classes, and `of_background` of the background.

    dim: of the features; all is kept on the CPU, and compared where the features are
    """

    def __init__(self, dim: int, per_class: int = PER_CLASS, of_background: int = OF_BACKGROUND):
        if dim < 1 or per_class < 1 or of_background < 1:
            raise PrototypeError(
                f"a bank with dim {dim}, per_class {per_class} and of_background {of_background}: expected 1 or more"
            )
        self.dim, self.per_class, self.of_background = dim, per_class, of_background
        self._kept: dict[str, _Prototypes] = {}

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that have a prototype, in the order in which they came; the background is none."""
        return tuple(name for name in self._kept if name != BACKGROUND)

    @property
    def names(self) -> tuple[str, ...]:
        """The same, and the BACKGROUND where that has a prototype."""
        return tuple(self._kept)

    def prototypes(self, name: str) -> tuple[Tensor, Tensor]:
        """(K, dim) vectors of a class, and (K,), of how many regions each is the mean; K is 0 for one without any."""
        kept = self._kept.get(name) or self._none()
        return kept.vectors, kept.weights

    def __len__(self) -> int:
        return sum(len(kept.weights) for kept in self._kept.values())

    @property
    def memory_bytes(self) -> int:
        return len(self) * (self.dim + 1) * 4

    def add(self, name: str, features: Tensor, weights: Tensor | None = None) -> None:
        """Take in regions of a class, or of the BACKGROUND. features: (N, dim); vectors of length zero say nothing

        weights: (N,), how many regions each is the mean of; None: one
        Raises PrototypeError for another width, values that are not finite, or more classes than labels.
        """
        features = features.detach().float().cpu()
        if features.dim() != 2 or features.shape[1] != self.dim:
            raise PrototypeError(f"features of {name!r} have shape {tuple(features.shape)}: expected (N, {self.dim})")
        weights = torch.ones(len(features)) if weights is None else weights.detach().float().cpu()
        if not (features.isfinite().all() and weights.isfinite().all()):
            raise PrototypeError(f"features of {name or 'the background'!r} are not finite")
        if name != BACKGROUND and name not in self._kept and len(self.class_names) >= MAX_LABEL:
            raise PrototypeError(
                f"class {name!r} would be number {MAX_LABEL + 1}: expected at most {MAX_LABEL} classes"
            )
        limit = self.of_background if name == BACKGROUND else self.per_class
        said = features.norm(dim=1) > 0
        vectors, weights = F.normalize(features[said], dim=1), weights[said].clamp(max=MOST_FRAMES)
        for vector, weight in zip(vectors, weights, strict=True):
            kept = self._kept.setdefault(name, self._none())
            kept.vectors = torch.cat((kept.vectors, vector[None]))
            kept.weights = torch.cat((kept.weights, weight[None]))
            if len(kept.weights) > limit:
                _merge_nearest(kept)

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Undo what is added inside when anything is raised."""
        kept = {name: replace(one) for name, one in self._kept.items()}  # tensors are replaced, never written to
        try:
            yield
        except BaseException:
            self._kept = kept
            raise

    def compare(self, features: Tensor) -> Likeness:
        """Say what regions look most like. features: (N, dim), of length one"""
        names = self.class_names
        unknown = features.new_full((len(features),), torch.nan, dtype=torch.float32)
        if not names:
            return Likeness(("",) * len(features), unknown, unknown, unknown)
        similar = torch.stack([self._nearest(name, features) for name in names], dim=1)
        best, chosen = similar.max(1)
        leads = best
        if len(names) > 1:
            leads = best - similar.scatter(1, chosen[:, None], -torch.inf).amax(1)
        margins = best
        if BACKGROUND in self._kept:
            apart = torch.tensor([self._apart(name) for name in names], device=best.device)[chosen]
            margins = ((best - self._nearest(BACKGROUND, features)) / apart).clamp(max=1)
        return Likeness(tuple(names[i] for i in chosen.tolist()), best, margins, leads)

    def likeness(self, name: str, features: Tensor) -> Tensor:
        """(N, dim), of length one -> (N,) at most 1: margins of a class, see `Likeness`, whatever else they are like.

        Raises PrototypeError where the class has no prototype.
        """
        similar = self.similarity(name, features)
        if BACKGROUND not in self._kept:
            return similar
        return ((similar - self._nearest(BACKGROUND, features)) / self._apart(name)).clamp(max=1)

    def similarity(self, name: str, features: Tensor) -> Tensor:
        """(N, dim), of length one -> (N,) cosine with the nearest prototype of a class.

        Raises PrototypeError where it has none.
        """
        if name not in self._kept:
            known = ", ".join(self.class_names) or "none"
            raise PrototypeError(f"class {name!r} has no prototype: there are those of {known}")
        return self._nearest(name, features)

    def _apart(self, name: str) -> float:
        """How far a class is from the background: 1 - cosine of its prototypes with their nearest there, in the mean.

        Features of one model are all much alike, those of another are not: margins are shares of this.
        """
        nearest = (self._kept[name].vectors @ self._kept[BACKGROUND].vectors.T).amax(1)
        return max(float(1 - nearest.mean()), LEAST_APART)

    def _nearest(self, name: str, features: Tensor) -> Tensor:
        return (features.float() @ self._kept[name].vectors.to(features.device).T).amax(1)

    def _none(self) -> _Prototypes:
        return _Prototypes(torch.zeros(0, self.dim), torch.zeros(0))


def _merge_nearest(kept: _Prototypes) -> None:
    """Make one of the two prototypes that are most alike: their mean, weighted by what each is the mean of."""
    similar = kept.vectors @ kept.vectors.T
    similar.fill_diagonal_(-torch.inf)
    one, other = sorted(divmod(int(similar.argmax()), len(similar)))
    share = kept.weights[[one, other]]
    both = F.normalize((kept.vectors[[one, other]] * share[:, None]).sum(0), dim=0)
    rest: Sequence[int] = [i for i in range(len(similar)) if i not in (one, other)]
    kept.vectors = torch.cat((kept.vectors[rest], both[None]))
    kept.weights = torch.cat((kept.weights[rest], share.sum().clamp(max=MOST_FRAMES)[None]))
