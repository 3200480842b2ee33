"""The model that a run begins with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sam2s_model.checkpoint import load_model, read_checkpoint, recognise
from sam2s_model.checkpoint.recognition import CLASS_TABLE, LONG_TERM, SCORE_HEAD, SHORT_ATTENTION
from sam2s_model.device import resolve_device
from sam2s_model.errors import CheckpointError, ConfigError
from sam2s_model.network.model import MEMORY_PARTS, Sam2Model
from sam2s_model.published.catalog import published_as, resolve_checkpoint
from sam2s_model.training.config import TrainConfig

PROMPT_HALF = ("sam_prompt_encoder.", "sam_mask_decoder.", "no_mem_embed")
FINE = ("sam_mask_decoder.conv_s0.", "sam_mask_decoder.conv_s1.")  # of it, what depends on the width of the features
DECODER_INPUT = 0.25  # standard deviation of the features that SAM2's decoders were trained with
PACKAGE = (
    "package"  # as `init`: the checkpoint of the package that has a memory and was trained here, on every machine alike
)
PACKAGED = "sam2s_nano"
SECOND = "recent_memory_attention."
PROMPTED = "maskmem_tpos_enc"  # its last row is the temporal code of prompted frames


def start_model(config: TrainConfig, log: Callable[[str], object] = print) -> Sam2Model:
    """Make a model of the configuration, on the CPU, with the weights of `config.init` where there are some.

    What only tracking with memory needs may be missing there, and starts from random weights that depend on the seed;
    the embedding of long-term memories starts as that of prompted ones, which models without it use in its place, and a
    second memory attention as the first one, of which at first nothing is added. Rows
    of the class table are found again by the classes' names. With an adapter the rest is not trained: what is missing
    stands in `Sam2Model.missing`, as of `load_model`.
    Without `init`, prompt encoder and mask decoder may come from a model that is as wide there, `config.decoder_from`.
    Raises CheckpointError when the file is of another model, ConfigError for an unknown name,
    or a file with too little for an adapter.
    """
    torch.manual_seed(config.seed)
    if not config.init:
        model = Sam2Model(config.model_config())
        if config.decoder_from:
            _take_decoder(model, resolve_checkpoint(config.decoder_from))
        return model
    path = init_path(config)
    stored = read_checkpoint(path, digest=bool(config.adapter.kind))
    known = config.model_config(recognise(stored.state, path) if config.model == "auto" else None)
    if config.adapter.kind:  # whose base stays what it is, as `load_model` makes it
        entry = published_as(path)
        policy = stored.policy or (entry.policy if entry is not None else "")
        known = dataclasses.replace(known, policy=policy) if policy else known
    model = Sam2Model(known)
    own, state = model.state_dict(), dict(stored.state)
    if CLASS_TABLE in state and CLASS_TABLE in own:
        state[CLASS_TABLE] = _table(state[CLASS_TABLE], stored.class_names, own[CLASS_TABLE], config.data.classes)
    wrong = [name for name, value in state.items() if name not in own or own[name].shape != value.shape]
    missing = [name for name in own if name not in state]
    needed = [name for name in missing if not name.startswith(MEMORY_PARTS)]
    if wrong or needed:
        first = f"{wrong[0]!r} is not in it or has another shape" if wrong else f"{needed[0]!r} is missing"
        raise CheckpointError(
            f"{path} is not a checkpoint of {model.name}: {len(wrong) + len(needed)} differences, {first}"
        )
    if config.adapter.kind and missing and any(config.data_at(step).length > 1 for step in range(config.steps)):
        raise ConfigError(
            f"an adapter for tracking is trained over a whole checkpoint, and {path} lacks {len(missing)} tensors, "
            f"such as {missing[0]}: give another init, or clips of length 1"
        )
    model.load_state_dict(state, strict=False)
    if config.adapter.kind:  # with which nothing learns what is missing, so that nothing may use it
        model.missing, model.source, model.source_sha256 = tuple(missing), str(path), stored.sha256
    if LONG_TERM in missing and LONG_TERM in own and PROMPTED in state:
        with torch.no_grad():
            model.long_term_tpos_enc.copy_(model.maskmem_tpos_enc[-1:])
    if SHORT_ATTENTION in missing and not any(name.startswith("memory_attention.") for name in missing):
        _begin_short_attention(model)
        missing = [name for name in missing if not name.startswith(SECOND)]
        log(f"{path} has one memory attention: the second starts as the first, and nothing is added by it yet")
    if stored.extra:
        count, first = len(stored.extra), stored.extra[0]
        log(f"{path}: {count} tensors are no part of {model.name} and are not used, the first is {first}")
    if missing:
        parts = sorted({part.rstrip(".") for part in MEMORY_PARTS for name in missing if name.startswith(part)})
        log(f"{path} lacks {', '.join(parts)}: they start from random weights")
    return model


def model_before(config: TrainConfig, image_size: int, device: str = "auto", precision: str = "auto") -> Sam2Model:
    """Load what a run begins with as it is used without the run, for comparison; arguments as of `load_model`.

    That is the file of `config.init`, with the policy and without the memory that it has; else `start_model`'s weights.
    """
    if config.init:
        return load_model(init_path(config), image_size=image_size, device=device, precision=precision)
    model = start_model(config, lambda text: None)
    model.set_image_size(image_size)
    return model.to(resolve_device(device)).eval().requires_grad_(False)


def _begin_short_attention(model: Sam2Model) -> None:
    """Let the second attention begin as the trained first one, silent: the model is as it was."""
    model.recent_memory_attention.load_state_dict(model.memory_attention.state_dict())
    with torch.no_grad():
        model.recent_memory_attention.norm.weight.zero_()
        model.recent_memory_attention.norm.bias.zero_()


def init_path(config: TrainConfig) -> Path:
    """Find the file that `config.init` stands for. Raises CheckpointError."""
    return resolve_checkpoint(init_name(config))


def init_name(config: TrainConfig) -> str:
    """Return what `config.init` is called as a checkpoint of other commands."""
    return PACKAGED if config.init == PACKAGE else config.init


def _take_decoder(model: Sam2Model, path: str | Path) -> None:
    """Load another model's prompt encoder and mask decoder. Raises CheckpointError when they do not fit."""
    stored, own = read_checkpoint(path).state, model.state_dict()
    taken = {k: v for k, v in stored.items() if k.startswith(PROMPT_HALF) and not k.startswith((*FINE, SCORE_HEAD))}
    wrong = [name for name, value in taken.items() if name not in own or own[name].shape != value.shape]
    if wrong or not taken:
        first = f"{wrong[0]!r} is not in it or has another shape" if wrong else "there is none"
        raise CheckpointError(f"the mask decoder of {path} does not fit {model.name}: {first}")
    model.load_state_dict(taken, strict=False)
    with torch.no_grad():  # what memory attention gives it is at first of the size of the features that it knows
        model.memory_attention.norm.weight.fill_(DECODER_INPUT)


def _table(stored: Tensor, names: tuple[str, ...], own: Tensor, classes: tuple[str, ...]) -> Tensor:
    """Return the stored rows in the order of the run's classes; random ones for classes that are new.

    A table without names is taken as it is where it has as many rows.
    """
    if len(names) != len(stored):
        return stored if stored.shape == own.shape else own
    if stored.shape[1:] != own.shape[1:]:
        return own
    rows = [stored[names.index(name)].to(own.dtype) if name in names else own[row] for row, name in enumerate(classes)]
    return torch.stack(rows)
