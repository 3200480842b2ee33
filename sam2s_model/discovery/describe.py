"""Say what a file of prototypes holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from sam2s_model.discovery.prototype_file import read_prototypes
from sam2s_model.discovery.prototypes import BACKGROUND, PrototypeBank


def describe_prototypes(path: str | Path) -> dict[str, Any]:
    """Say what a file holds, for JSON.

    Cosines are the greatest between two prototypes, None where there is nothing to compare with.

    Raises PrototypeError for a file that is none.
    """
    bank, made_with = read_prototypes(path)
    return dict(
        model=made_with.model, image_size=made_with.image_size, dim=bank.dim, prototypes=len(bank),
        bytes=bank.memory_bytes, classes=[_class_row(bank, name) for name in bank.names],
    )  # fmt: skip


def _class_row(bank: PrototypeBank, name: str) -> dict[str, Any]:
    vectors, weights = bank.prototypes(name)
    others = {
        other: _greatest(vectors, bank.prototypes(other)[0])
        for other in bank.class_names
        if other != name != BACKGROUND
    }
    nearest = max(others, key=lambda other: others[other], default="")
    background = bank.prototypes(BACKGROUND)[0]
    return dict(
        name=name, prototypes=len(weights), regions=float(weights.sum()),
        background_cosine=_greatest(vectors, background) if len(background) and name != BACKGROUND else None,
        nearest_class=nearest, nearest_cosine=others.get(nearest),
    )  # fmt: skip


def _greatest(vectors: Tensor, others: Tensor) -> float:
    return float((vectors @ others.T).max())
