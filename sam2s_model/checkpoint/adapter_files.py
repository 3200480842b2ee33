"""A file with an adapter: its tensors under their published names, and over which base they were trained."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from sam2s_model.adapters.applying import apply_adapter, replace_tensors
from sam2s_model.adapters.names import described
from sam2s_model.checkpoint.reading import StoredTensors, read_checkpoint
from sam2s_model.errors import CheckpointError, ConfigError
from sam2s_model.files.whole_files import replacing, with_usual_mode
from sam2s_model.network.model import Sam2Model

ALPHA = 16.0  # of LoRA in DD-SAM2 and in UnSAMv2, whose files do not say it
BASE, BASE_SHA256, ALPHA_KEY = "base", "base_sha256", "alpha"  # in the metadata


@dataclass(frozen=True)
class Adapter:
    """What a file holds.

    tensors: {published name: tensor}; replaced: the model's tensors in the file, which take the place of those it has
    alpha: of LoRA, whose products count alpha / rank times
    base, base_sha256: name and digest of the checkpoint that it was trained over; "" where the file does not say
    sha256: of the file that was read, where that is known
    """

    path: Path
    tensors: dict[str, Tensor]
    replaced: dict[str, Tensor] = field(default_factory=dict)
    alpha: float = ALPHA
    base: str = ""
    base_sha256: str = ""
    sha256: str = ""

    def check_base(self, digest: str, name: str) -> None:
        """Raise CheckpointError for another base than the file's. digest: sha256 of the checkpoint `name`"""
        if self.base_sha256 and digest != self.base_sha256:
            raise CheckpointError(
                f"{self.path} is an adapter over {self.base or 'a checkpoint'} with sha256 {self.base_sha256}, "
                f"and {name} has {digest}: give that checkpoint"
            )


def read_adapter(path: str | Path) -> Adapter:
    """Read a file with an adapter: ours or a published one, alone or beside the model. Raises CheckpointError."""
    path = Path(path)
    return adapter_in(read_checkpoint(path, adapters=True, digest=True), path)


def adapter_in(stored: StoredTensors, path: Path) -> Adapter:
    """Take the adapter of a file that was read with `adapters`. Raises CheckpointError where it has none."""
    if not stored.adapter:
        raise CheckpointError(
            f"{path} holds no adapter: expected names such as image_encoder.trunk.blocks.0.adapter.pw1.0.weight or "
            f"...qkv.lora_down.weight, and it has {next(iter(stored.state), 'none')}"
        )
    said = stored.metadata
    return Adapter(
        path, stored.adapter, stored.state, alpha_of(said, path), said.get(BASE, ""), said.get(BASE_SHA256, ""),
        stored.sha256,
    )  # fmt: skip


def check_not_alone(stored: StoredTensors, path: Path) -> None:
    """Raise CheckpointError for a file with an adapter, and nothing of the model, that says how such a file is used."""
    if stored.state or not stored.adapter:
        return
    base, digest = stored.metadata.get(BASE, ""), stored.metadata.get(BASE_SHA256, "")
    over = (base or "a checkpoint that it does not name") + f" with sha256 {digest}" * bool(digest)
    raise CheckpointError(
        f"{path} holds an adapter alone, {described(stored.adapter, path)}, over {over}: give that checkpoint, and "
        "this file as --adapter"
    )


def with_adapter(model: Sam2Model, adapter: str | Path | Adapter) -> Sam2Model:
    """Make a second model of the same weights, in the same memory, with an adapter; the first stays as it is.

    What the adapter adds and changes are the second model's own; several over one base share all else.
    Raises CheckpointError for an adapter over another base, or one that does not fit; ConfigError for a model
    that has one already, or whose image encoder was compiled.
    """
    if not isinstance(adapter, Adapter):
        adapter = read_adapter(adapter)
    if model.adapter:
        raise ConfigError(f"the model has the adapter {model.adapter} already: put {adapter.path} on its base")
    if model.is_compiled:
        raise ConfigError(f"the model's image encoder is compiled without {adapter.path}: apply the adapter first")
    if model.source:
        adapter.check_base(model.source_sha256, model.source)
    if not (adapter.base_sha256 and model.source):
        warnings.warn(
            f"{adapter.path}: that it is over {model.source or model.name} cannot be checked, since no sha256 is known",
            stacklevel=2,
        )
    with torch.device("meta"):
        network = Sam2Model(model.config, model.image_size)
    network.load_state_dict(model.state_dict(), assign=True)
    network.missing, network.class_names = model.missing, model.class_names
    network.source, network.source_sha256 = model.source, model.source_sha256
    replace_tensors(network, adapter.replaced, adapter.path)
    apply_adapter(network, adapter.tensors, adapter.alpha, adapter.path)
    network.adapter, network.adapter_sha256 = str(adapter.path), adapter.sha256
    network.shares_with = (model,)
    network.eval().requires_grad_(False)
    if model.uses_int8:
        network.use_int8()
    return network


def alpha_of(metadata: Mapping[str, str], path: object) -> float:
    """LoRA's alpha, as the file says it, else the published one. Raises CheckpointError."""
    text = metadata.get(ALPHA_KEY, str(ALPHA))
    try:
        alpha = float(text)
    except ValueError:
        alpha = 0.0
    if not 0 < alpha < float("inf"):
        raise CheckpointError(f"{path} is broken: its metadata says that alpha is {text!r}, expected a number above 0")
    return alpha


def save_adapter(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, half: bool = False) -> None:
    """Write an adapter as safetensors, complete or not at all.

    metadata: the base's name and sha256, and alpha; half: numbers as fp16
    Raises CheckpointError.
    """
    kept = {k: (v.half() if half and v.is_floating_point() else v).cpu().contiguous() for k, v in tensors.items()}
    bad = next((name for name, value in kept.items() if not torch.isfinite(value).all()), "")
    if bad:
        raise CheckpointError(f"{path} is not written: {bad} has values that are not finite" + " as fp16" * half)
    with replacing(path) as temporary, with_usual_mode(temporary, path):
        save_file(kept, temporary, metadata={"format": "pt", **metadata})
