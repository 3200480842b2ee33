"""A prototype bank as one safetensors file, for one model alone: features of another say nothing about its."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sam2s_model.discovery.features import probe
from sam2s_model.discovery.prototypes import PrototypeBank
from sam2s_model.errors import PrototypeError
from sam2s_model.files.whole_files import with_usual_mode
from sam2s_model.network.model import Sam2Model
from sam2s_model.paths import expanded, part_of

FORMAT = "sam2s prototypes 1"  # in the metadata
SAME_MODEL = 0.98  # least cosine of the probes of two models that are the same
MAKE = "make them with `sam2s prototypes build`"


@dataclass(frozen=True)
class ModelIdentity:
    """model: name of the configuration; image_size: px, of its input; probe: (P,) fp32, see `features.probe`"""

    model: str
    image_size: int
    probe: Tensor

    @classmethod
    def of(cls, model: Sam2Model) -> ModelIdentity:
        """Encode one picture with a model."""
        return cls(model.name, model.image_size, probe(model))

    def difference(self, other: ModelIdentity) -> str:
        """Say what tells another model from this one, "" where nothing does."""
        if self.model != other.model:
            return f"{self.model} instead of {other.model}"
        if self.image_size != other.image_size:
            return f"{self.model} at {self.image_size} px instead of {other.image_size} px"
        cosine = float(self.probe @ other.probe) if self.probe.shape == other.probe.shape else 0.0
        if not cosine >= SAME_MODEL:
            return (
                f"a {self.model} with other weights: the features of one picture have a cosine of {cosine:.3f}, "
                f"expected at least {SAME_MODEL}"
            )
        return ""


def save_prototypes(bank: PrototypeBank, identity: ModelIdentity, path: str | Path) -> None:
    """Replace a file by a bank: whoever reads it sees the old one or the new one.

    Raises PrototypeError where it cannot be written.
    """
    path = expanded(path)
    kept = {name: bank.prototypes(name) for name in bank.names}
    tensors = {
        "vectors": torch.cat([torch.zeros(0, bank.dim), *(vectors for vectors, _ in kept.values())]),
        "weights": torch.cat([torch.zeros(0), *(weights for _, weights in kept.values())]),
        "probe": identity.probe.contiguous(),
    }
    table = dict(
        model=identity.model,
        image_size=identity.image_size,
        per_class=bank.per_class,
        of_background=bank.of_background,
        classes=[[name, len(weights)] for name, (_, weights) in kept.items()],
    )
    part = part_of(path)
    try:
        with with_usual_mode(part, path):
            save_file(tensors, part, metadata={"format": FORMAT, "table": json.dumps(table)})
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        raise PrototypeError(f"prototypes cannot be written to {path}: {error}") from error


def read_prototypes(path: str | Path) -> tuple[PrototypeBank, ModelIdentity]:
    """Return the bank in a file, and the model that it was made with. Raises PrototypeError for a file that is none."""
    path = expanded(path)
    if not path.is_file():
        raise PrototypeError(f"prototypes {str(path)!r} do not exist: {MAKE}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise PrototypeError(
                    f"{path} holds no prototypes: its format is {metadata.get('format', 'not said')!r}, expected "
                    f"{FORMAT!r}; {MAKE}"
                )
            vectors, weights, probed = (file.get_tensor(name) for name in ("vectors", "weights", "probe"))
        table = json.loads(metadata["table"])
        bank = PrototypeBank(vectors.shape[1], int(table["per_class"]), int(table["of_background"]))
        counts = [int(count) for _, count in table["classes"]]
        if not (len(vectors) == len(weights) == sum(counts)) or min(counts, default=0) < 0:
            raise ValueError(f"{len(vectors)} vectors and {len(weights)} weights for {sum(counts)} prototypes")
        of_class = zip(table["classes"], vectors.split(counts), weights.split(counts), strict=True)
        for (name, _), own, shares in of_class:
            bank.add(str(name), own, shares)
        return bank, ModelIdentity(str(table["model"]), int(table["image_size"]), probed.float())
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, PrototypeError):
            raise
        raise PrototypeError(f"{path} is no file of prototypes ({type(error).__name__}: {error}): {MAKE}") from error


def load_prototypes(path: str | Path, model: Sam2Model) -> PrototypeBank:
    """Return the bank in a file, for a model. Raises PrototypeError for a file that is none, or of another model."""
    bank, made_with = read_prototypes(path)
    if difference := made_with.difference(ModelIdentity.of(model)):
        raise PrototypeError(f"{path} was made with another model, {difference}: {MAKE}")
    return bank
