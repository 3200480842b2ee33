"""Write a checkpoint in another format or precision."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from sam2s_model.checkpoint.reading import CLASSES, StoredTensors, read_checkpoint
from sam2s_model.checkpoint.recognition import check_names, known_shapes, recognise
from sam2s_model.checkpoint.wrapping import some
from sam2s_model.errors import CheckpointError
from sam2s_model.paths import expanded
from sam2s_model.published.sha256 import file_sha256

SUFFIXES = (".pt", ".pth", ".safetensors")


@dataclass(frozen=True)
class Conversion:
    """What was written. model: name; size: bytes; missing: tensors of the model that the file lacks, as its source did"""

    model: str
    size: int
    tensors: int
    missing: tuple[str, ...]


def convert(
    source: str | Path, target: str | Path, *, half: bool = False, force: bool = False, base: str | Path | None = None
) -> Conversion:
    """Check a checkpoint as `load_model` does, and write its tensors, and nothing else, as `target`.

    base: of the same model, for a source that is a part of one, such as a mask decoder: its tensors take the place of the base's

    target: ``.safetensors`` (with the model's name, the source's sha256 and the names of classes as metadata), ``.pt`` or ``.pth``
    half: store numbers as fp16; force: write over a file that is there
    The file appears at once, complete. Raises CheckpointError.
    """
    source, target = Path(source), expanded(target)
    if target.suffix not in SUFFIXES:
        raise CheckpointError(f"{target} ends in {target.suffix!r}: expected one of {', '.join(SUFFIXES)}")
    if target.is_dir() or not target.parent.is_dir():
        raise CheckpointError(f"{target} is a folder, or there is no folder {target.parent}: give the path of a file")
    if target.exists() and not force:
        raise CheckpointError(f"{target} exists: give another path, or --force to write over it")
    stored = read_checkpoint(source)
    if base is not None:
        stored = _over(stored, source, Path(base))
    config = recognise(stored.state, source)
    missing = check_names(known_shapes(config), stored.state, config.name, source)
    state = {name: _half(name, value, source) for name, value in stored.state.items()} if half else stored.state
    metadata = {"model": config.name, "source": source.name, "source_sha256": file_sha256(source)}
    if stored.class_names:
        metadata[CLASSES] = ",".join(stored.class_names)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if target.suffix == ".safetensors":
            save_file(_apart(state), temporary, metadata={"format": "pt", **metadata})
        else:
            torch.save({"model": state, "metadata": metadata}, temporary)
        os.replace(temporary, target)
    except (OSError, RuntimeError, SafetensorError) as error:  # each writer has its own for a full disk
        raise CheckpointError(f"{target} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return Conversion(config.name, target.stat().st_size, len(state), missing)


def _over(part: StoredTensors, source: Path, base: Path) -> StoredTensors:
    """A part of a model over a whole one. Raises CheckpointError for a tensor that the whole one does not have in that shape."""
    whole = read_checkpoint(base)
    wrong = [name for name, value in part.state.items() if name not in whole.state or whole.state[name].shape != value.shape]
    if wrong:
        raise CheckpointError(
            f"{source} is no part of {base}: {len(wrong)} of its {len(part.state)} tensors are not in it or have another shape: {some(wrong)}"
        )
    return replace(whole, state={**whole.state, **part.state})


def _half(name: str, value: Tensor, path: Path) -> Tensor:
    if not value.is_floating_point():
        return value
    out = value.half()
    if not out.isfinite().all() and value.isfinite().all():
        limit = torch.finfo(torch.float16).max
        raise CheckpointError(f"{path}: {name} has values up to {value.abs().max():g}, and fp16 ends at {limit:g}")
    return out


def _apart(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that share no memory, as safetensors wants them."""
    out, seen = {}, set()
    for name, value in state.items():
        place = value.untyped_storage().data_ptr()
        out[name] = value.clone(memory_format=torch.contiguous_format) if place in seen else value.contiguous()
        seen.add(place)
    return out
