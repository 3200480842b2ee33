"""Write a checkpoint in another format or precision."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from sam2s_model.adapters.applying import merge_into
from sam2s_model.checkpoint import eight_bit
from sam2s_model.checkpoint.adapter_files import adapter_in, alpha_of, check_not_alone, read_adapter
from sam2s_model.checkpoint.reading import CLASSES, IMAGE_SIZE, METADATA, POLICY, StoredTensors, read_checkpoint
from sam2s_model.checkpoint.recognition import check_names, known_shapes, recognise, without_additions
from sam2s_model.checkpoint.transformers_names import kind_of, to_transformers
from sam2s_model.checkpoint.wrapping import some
from sam2s_model.config import ModelConfig
from sam2s_model.errors import CheckpointError, ConfigError
from sam2s_model.files.whole_files import replacing, with_usual_mode
from sam2s_model.network.image_input import check_image_size
from sam2s_model.paths import expanded, reading_checkpoint
from sam2s_model.published.catalog import published_as
from sam2s_model.published.sha256 import file_sha256

SUFFIXES = (".pt", ".pth", ".safetensors")
TRANSFORMERS = "transformers"


@dataclass(frozen=True)
class Conversion:
    """What was written.

    model: name; size: bytes; tensors: of the model; in_eight_bits: of them
    missing: tensors of the model that the file lacks, as its source did
    left_out: groups of tensors of the source that no part of the model has
    """

    model: str
    size: int
    tensors: int
    in_eight_bits: int
    missing: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def convert(
    source: str | Path,
    target: str | Path,
    *,
    half: bool = False,
    int8: bool = False,
    int8_from: int = eight_bit.FEWEST,
    image_size: int = 0,
    force: bool = False,
    base: str | Path | None = None,
    to: str = "",
    allow_extra: bool = False,
    adapter: str | Path | None = None,
    mean_with: str | Path | None = None,
) -> Conversion:
    """Check a checkpoint as `load_model` does, and write its tensors, and nothing else, as `target`.

    target: ``.safetensors``, ``.pt`` or ``.pth``; its metadata are the model's name, the source's sha256 and the
        names of classes, with the size and the memory policy to use it with where they are not its model's
    half: store numbers as fp16; int8: the large weights in 8 bits, see `eight_bit`, and the other numbers as fp16;
        without both, numbers stay as they are, and what the source has in 8 bits becomes fp32
    int8_from: numbers of a weight that is a large one
    image_size: side of the input that `load_model` takes for the file by default, px; 0: the source's, or the base's,
        also of one that `published_as` knows; so is the memory policy
    force: write over a file that is there
    base: a whole checkpoint, for a source that is only a part of one, such as a mask decoder: the source's tensors
        replace those of the base; LoRA in the source is merged into the base's weights
    to: "transformers" for the names of its Sam2VideoModel, EdgeTamVideoModel or Sam3TrackerVideoModel; "": this
        project's own, which are those of SAM 2's authors
    adapter: a file with LoRA over the source, which is merged into its weights, as one in the source is
    mean_with: the checkpoint that the source was trained from: each number becomes the mean of both, so that less is
        forgotten of what the training did not show (WiSE-FT, arXiv 2109.01903, sec. 3, at 0.5)
    allow_extra: leave out what the model does not have; `Conversion.left_out` says what it was
    The file appears at once, complete. Raises CheckpointError, ConfigError.
    """
    source, target, adapter = Path(source), expanded(target), expanded(adapter) if adapter else None
    if half and int8:
        raise ConfigError(
            "--half and --int8 exclude each other: give --int8 alone, which stores as fp16 what is not in 8 bits"
        )
    if to not in ("", TRANSFORMERS) or to and int8:
        raise ConfigError(
            f"--to is {to!r}{' with --int8' * int8}: expected {TRANSFORMERS!r}, which stores no 8-bit weights"
        )
    if target.suffix not in SUFFIXES:
        raise CheckpointError(f"{target} ends in {target.suffix!r}: expected one of {', '.join(SUFFIXES)}")
    with reading_checkpoint(target):
        no_file, there = target.is_dir() or not target.parent.is_dir(), target.exists()
    if no_file:
        raise CheckpointError(f"{target} is a folder, or there is no folder {target.parent}: give the path of a file")
    if there and not force:
        raise CheckpointError(f"{target} exists: give another path, or --force to write over it")
    stored = read_checkpoint(source, adapters=True)
    if base is not None:
        stored = _over(stored, source, Path(base))
    check_not_alone(stored, source)
    stored = _as_published(stored, source, base)
    config = recognise(stored.state, source)
    stored = _with_adapters(stored, source, adapter, config.name)
    if mean_with is not None:
        stored = _mean(stored, source, Path(mean_with))
    if image_size:
        check_image_size(image_size, config)
    left_out: tuple[str, ...] = ()
    if allow_extra:
        kept, left_out = without_additions(stored.state, config)
        stored = replace(stored, state=kept)
    missing = check_names(known_shapes(config), stored.state, config.name, source)
    state = stored.state
    if int8:
        state = eight_bit.store(state, config, source, int8_from)
    in_eight_bits = {name for name in stored.state if state[name].dtype == torch.int8}
    if half or int8:
        scales = {name + eight_bit.SCALE for name in in_eight_bits}  # stay fp32
        state = {name: value if name in scales else _half(name, value, source) for name, value in state.items()}
    if to:
        state = _for_transformers(state, config, missing, source)
    merged = {"adapter": Path(adapter).name, "adapter_sha256": file_sha256(adapter)} if adapter else {}
    if mean_with is not None:
        merged |= {"mean_with": Path(mean_with).name, "mean_with_sha256": file_sha256(Path(mean_with))}
    metadata = _metadata(stored, config.name, source) | merged | ({IMAGE_SIZE: str(image_size)} if image_size else {})
    if in_eight_bits:
        metadata["changed"] = (
            f"{len(in_eight_bits)} weights rounded to 8 bits, one scale per output channel; the others fp16"
        )
    _write(state, target, metadata)
    tensors = len(state) if to else len(stored.state)
    return Conversion(config.name, target.stat().st_size, tensors, len(in_eight_bits), missing, left_out)


def _as_published(stored: StoredTensors, source: Path, base: str | Path | None) -> StoredTensors:
    """With the size and the policy that a published file is used with: what is converted is known by no sha256."""
    entry = published_as(expanded(source)) or (None if base is None else published_as(expanded(base)))
    if entry is None:
        return stored
    return replace(stored, image_size=stored.image_size or entry.image_size, policy=stored.policy or entry.policy)


def _for_transformers(
    state: dict[str, Tensor], config: ModelConfig, missing: tuple[str, ...], path: Path
) -> dict[str, Tensor]:
    """Under transformers' names. Raises CheckpointError for what transformers has no place for."""
    kind = kind_of(config)
    parts = {
        "a second memory attention": config.short_attention,
        "an embedding of long-term memories": config.long_term_embedding,
        "a class table": bool(config.num_classes),
        "a granularity token": config.granularity,
    }
    has = [part for part, there in parts.items() if there]
    if not kind or has or missing:
        why = (
            f"it has {' and '.join(has)}"
            if has
            else f"it lacks {len(missing)} tensors"
            if missing
            else "it has no such model"
        )
        raise CheckpointError(f"{path} is {config.name}, and cannot have transformers' names: {why}")
    return to_transformers(state, kind)


def _with_adapters(stored: StoredTensors, source: Path, adapter: str | Path | None, name: str) -> StoredTensors:
    """With the LoRA of the source, and of a file over it, in its weights. Raises CheckpointError."""
    if stored.adapter:
        alpha = alpha_of(stored.metadata, source)
        stored = replace(stored, state=merge_into(stored.state, stored.adapter, alpha, source, name), adapter={})
    if not adapter:
        return stored
    over = read_adapter(adapter)
    over.check_base(file_sha256(source) if over.base_sha256 else "", str(source))
    if over.replaced:
        part = StoredTensors(over.replaced, stored.format)
        stored = _together(stored, part, over.path, source)
    return replace(stored, state=merge_into(stored.state, over.tensors, over.alpha, over.path, name))


def _mean(stored: StoredTensors, source: Path, start: Path) -> StoredTensors:
    """Return the mean of two checkpoints. Raises CheckpointError where they are not of one model."""
    other = read_checkpoint(start).state
    shared = [name for name, value in stored.state.items() if name in other and other[name].shape == value.shape]
    odd = (stored.state.keys() | other.keys()) - set(shared)
    if odd:
        raise CheckpointError(
            f"{source} and {start} are no checkpoints of one model: they differ in {some(sorted(odd))}"
        )
    state = {
        name: ((value.float() + other[name].float()) / 2).to(value.dtype) if value.is_floating_point() else value
        for name, value in stored.state.items()
    }
    return replace(stored, state=state)


def _metadata(stored: StoredTensors, model: str, source: Path) -> dict[str, str]:
    metadata = {"model": model, "source": source.name, "source_sha256": file_sha256(source)}
    if stored.class_names:
        metadata[CLASSES] = ",".join(stored.class_names)
    if stored.image_size:
        metadata[IMAGE_SIZE] = str(stored.image_size)
    if stored.policy:
        metadata[POLICY] = stored.policy
    return metadata


def _write(state: dict[str, Tensor], target: Path, metadata: dict[str, str]) -> None:
    """Under another name first. Raises CheckpointError."""
    with replacing(target) as temporary:
        if target.suffix == ".safetensors":
            with with_usual_mode(temporary, target):
                save_file(_apart(state), temporary, metadata={"format": "pt", **metadata})
        else:
            torch.save({"model": state, METADATA: metadata}, temporary)


def _over(part: StoredTensors, source: Path, base: Path) -> StoredTensors:
    """Put the tensors of a part over those of the whole model in a file, see `_together`, and merge the part's LoRA."""
    whole = read_checkpoint(base)
    if not part.adapter:
        return _together(whole, part, source, base)
    over = adapter_in(part, source)
    over.check_base(file_sha256(base) if over.base_sha256 else "", str(base))
    whole = _together(whole, part, source, base)
    name = recognise(whole.state, base).name
    return replace(whole, state=merge_into(whole.state, over.tensors, over.alpha, source, name))


def _together(whole: StoredTensors, part: StoredTensors, source: Path, base: Path) -> StoredTensors:
    """Put the tensors of a part over those of the whole model.

    Raises CheckpointError for a tensor that the whole one does not have in that shape.
    """
    wrong = [
        name for name, value in part.state.items() if name not in whole.state or whole.state[name].shape != value.shape
    ]
    if wrong:
        raise CheckpointError(
            f"{source} is no part of {base}: {len(wrong)} of its {len(part.state)} tensors are not in it or have "
            f"another shape: {some(wrong)}"
        )
    in_eight_bits = (*(name for name in whole.eight_bit if name not in part.state), *part.eight_bit)
    image_size, policy = part.image_size or whole.image_size, part.policy or whole.policy
    state = {**whole.state, **part.state}
    return replace(whole, state=state, eight_bit=in_eight_bits, image_size=image_size, policy=policy)


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
