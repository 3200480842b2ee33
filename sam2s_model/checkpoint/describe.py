"""Say what a checkpoint file is."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sam2s_model.adapters.applying import apply_adapter
from sam2s_model.adapters.names import described
from sam2s_model.checkpoint.adapter_files import alpha_of, check_not_alone
from sam2s_model.checkpoint.reading import StoredTensors, read_checkpoint
from sam2s_model.checkpoint.recognition import (
    check_names,
    known_shapes,
    recognise,
    without_additions,
    without_weights,
)
from sam2s_model.config import ModelConfig
from sam2s_model.network.model import Sam2Model
from sam2s_model.paths import expanded
from sam2s_model.published.catalog import CATALOG, published_as
from sam2s_model.published.sha256 import file_sha256
from sam2s_model.published.shards import files_of


@dataclass(frozen=True)
class CheckpointDescription:
    """A file that is a checkpoint of a known model.

    size: bytes; sha256: hex digest of the file; metadata: of safetensors
    wrappers, prefixes, beside: see `StoredTensors`
    model: name of the configuration; image_size: px, what the file says, or what `model` was published for
    meaning: a sentence: what it may be, and what its tensors do not tell
    parameters: numbers in the file that are the model's parameters; dtypes: {name: tensors}, as they are stored
    in_eight_bits: tensors with 8-bit weights, see `eight_bit`
    memory: whether it can track with memory; missing: tensors of the model that the file lacks
    not_read: see `StoredTensors`; left_out: groups of tensors that no part of the model has
    adapter: which adapters the file has beside the model, in words, "" none; their tensors are not counted
    """

    path: str
    format: str
    size: int
    sha256: str
    metadata: dict[str, str]
    wrappers: tuple[str, ...]
    prefixes: tuple[str, ...]
    beside: tuple[str, ...]
    model: str
    meaning: str
    image_size: int
    tensors: int
    parameters: int
    dtypes: dict[str, int]
    in_eight_bits: int
    memory: bool
    long_term_embedding: bool
    classes: int
    missing: tuple[str, ...]
    not_read: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    adapter: str = ""

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def describe(path: str | Path, allow_extra: bool = False) -> CheckpointDescription:
    """Read a file, recognise it and compare it with its model. Raises CheckpointError as `load_model` does.

    allow_extra: leave out what the model does not have, and say what it was
    """
    path = expanded(path)
    stored = read_checkpoint(path, adapters=True)
    check_not_alone(stored, path)
    config = recognise(stored.state, path)
    left_out: tuple[str, ...] = ()
    if allow_extra:
        state, left_out = without_additions(stored.state, config)
        stored = dataclasses.replace(stored, state=state)
    missing = check_names(known_shapes(config), stored.state, config.name, path)
    parameters = dict(without_weights(config).named_parameters())
    entry = published_as(path)
    digest, in_eight_bits = file_sha256(path), frozenset(stored.eight_bit)
    return CheckpointDescription(
        path=str(path),
        format=stored.format,
        size=sum(file.stat().st_size for file in files_of(path)),
        sha256=digest,
        metadata=stored.metadata,
        wrappers=stored.wrappers,
        prefixes=stored.prefixes,
        beside=stored.beside,
        model=config.name,
        meaning=_meaning(config, digest, memory=not missing) + "; with 8-bit weights" * bool(in_eight_bits),
        image_size=stored.image_size or (entry.image_size if entry else 0) or config.image_size,
        tensors=len(stored.state),
        parameters=sum(stored.state[name].numel() for name in parameters if name in stored.state),
        dtypes=dict(
            Counter(
                "int8" if name in in_eight_bits else str(tensor.dtype).removeprefix("torch.")
                for name, tensor in stored.state.items()
            )
        ),
        in_eight_bits=len(in_eight_bits),
        memory=not missing,
        long_term_embedding=config.long_term_embedding,
        classes=config.num_classes,
        missing=missing,
        not_read=stored.not_read,
        left_out=left_out,
        adapter=_adapter(stored, config, path),
    )


def _adapter(stored: StoredTensors, config: ModelConfig, path: Path) -> str:
    """Say which adapters a file has, put on a model as they are when it is loaded, but without weights."""
    if not stored.adapter:
        return ""
    with torch.device("meta"):
        network = Sam2Model(config)  # not the one of `without_weights`, which is shared
    apply_adapter(network, stored.adapter, alpha_of(stored.metadata, path), path)
    return described(stored.adapter, path)


def _meaning(config: ModelConfig, digest: str, *, memory: bool) -> str:
    same = next((entry for entry in CATALOG.values() if entry.sha256 == digest), None)
    if same is not None:
        return f"the published file {same.file}"
    extras = " with the additions of SAM2S" * bool(config.long_term_embedding or config.num_classes)
    unknown = "names and shapes do not tell them apart"
    hiera = re.fullmatch(r"sam(2|2\.1)_hiera_(\w+)", config.name)
    if hiera is None:
        return f"{config.name}{extras}, or a fine-tune of it: {unknown}"
    version, size = {"2": "2.0"}.get(hiera[1], hiera[1]), hiera[2].replace("base_plus", "base+")
    if not memory:
        return f"the image half of SAM 2.0 or 2.1 {size}: what tells the two apart is in the memory's parts"
    tunes = " such as SurgSAM2" if size == "small" and not extras else ""
    return f"SAM {version} {size}{extras}, or a fine-tune of it{tunes}: {unknown}"
