"""From a file to a model that is ready for inference."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sam2s_model.acceleration.compiling import pays_off
from sam2s_model.adapters.applying import apply_adapter
from sam2s_model.checkpoint.adapter_files import alpha_of, check_not_alone, with_adapter
from sam2s_model.checkpoint.reading import read_checkpoint
from sam2s_model.checkpoint.recognition import check_state_dict, recognise, with_extras, without_additions
from sam2s_model.checkpoint.wrapping import some
from sam2s_model.config import ModelConfig
from sam2s_model.device import resolve_device, resolve_dtype
from sam2s_model.errors import ConfigError
from sam2s_model.network.model import Sam2Model
from sam2s_model.paths import expanded
from sam2s_model.published.catalog import published_as, resolve_checkpoint

SAM3_PARTS = "the tracker is run, the detector and its text prompts are not: give an object a class with a prompt"


def load_model(
    path: str | Path,
    model: str = "auto",
    image_size: int = 0,
    device: str = "auto",
    precision: str = "auto",
    compiled: bool | None = False,
    encoder: str | Path = "",
    allow_extra: bool = False,
    adapter: str | Path = "",
) -> Sam2Model:
    """Build a model and fill it from a checkpoint, ready for inference.

    path: a ``.pt`` or ``.safetensors`` file, see `read_checkpoint`, or a name that stands for one, such as
        "sam2s_tiny", see `resolve_checkpoint`
    model: a name of `config.MODELS`, or "auto" to recognise it from keys and shapes
    image_size: side of the square model input, px, a multiple of 32, of SAM 3 of 14, of EfficientTAM of 16; 0: the one
        that the file says, else the one that the published file, see `published_as`, or its model was trained at
    device: "auto", "cpu", "cuda" or "cuda:N"
    precision: "auto" (bf16 on CUDA, fp32 on CPU), "fp32", "bf16" or "fp16"; on a CPU also "int8", fp32 with linear
        layers that multiply in 8 bits, see `Sam2Model.use_int8`
    allow_extra: leave out tensors that no part of the model has, and warn which they were
    compiled: compile the image encoder, which takes a minute or so the first time and is not for int8, see
        `Sam2Model.compile_encoder`; None: where that pays, see `compile_where_it_pays`
    encoder: a file that `sam2s export encoder` has made of this checkpoint's image encoder, see `exporting`; empty:
        torch runs it
    adapter: a file with an adapter over this checkpoint, see `adapters`; one in the checkpoint is applied, too

    Every key in the file that looks like one of a known model must be one of this model, of the same shape; a warning
    names other tensors, which are not used. All keys that only tracking with memory needs may be missing together: they
    are listed in ``Sam2Model.missing``, and ``has_memory`` is False. ``Sam2Model.class_names`` are the names that the
    file gives to the rows of the class table. Weights go from the file to their place, precision and device one by one.

    Raises CheckpointError or ConfigError.
    """
    path = resolve_checkpoint(path)
    target = resolve_device(device)
    dtype = resolve_dtype(precision, target)
    stored = read_checkpoint(path, dtype=dtype, device=target, adapters=True, digest=True)
    check_not_alone(stored, path)
    state = stored.state
    config = recognise(state, path) if model == "auto" else with_extras(ModelConfig.from_name(model), state)
    if allow_extra:
        state, left_out = without_additions(state, config)
        if left_out:
            warnings.warn(f"{path} is {config.name} and more, which is left out: {'; '.join(left_out)}", stacklevel=2)
    entry = published_as(path)
    policy = stored.policy or (entry.policy if entry is not None else "")
    if policy and model == "auto":
        config = replace(config, policy=policy)
    size = image_size or stored.image_size or (entry.image_size if entry is not None else 0)
    with torch.device("meta"), _WithoutValues():
        network = Sam2Model(config, size)
    missing = check_state_dict(state, network, path)
    if missing:  # these are random, and nothing uses them
        network = Sam2Model(config, size)
        network.load_state_dict(state, strict=False)
    else:
        network.load_state_dict(state, assign=True)
    network.missing = missing
    if stored.not_read:
        warnings.warn(f"{path} is SAM 3's: {SAM3_PARTS}; not read: {', '.join(stored.not_read)}", stacklevel=2)
    if stored.extra:
        warnings.warn(
            f"{path}: {len(stored.extra)} tensors are no part of {network.name} and are not used: {some(stored.extra)}",
            stacklevel=2,
        )
    if len(stored.class_names) == config.num_classes:
        network.class_names = stored.class_names
    network = network.to(device=target, dtype=dtype).eval().requires_grad_(False)
    network.source, network.source_sha256 = str(path), stored.sha256
    if stored.adapter:
        apply_adapter(network, stored.adapter, alpha_of(stored.metadata, path), path)
        network.adapter, network.adapter_sha256 = str(path), stored.sha256
    if adapter:
        network = with_adapter(network, expanded(adapter))
    if encoder and network.adapter:
        raise ConfigError(
            f"encoder is {str(encoder)!r}, which knows nothing of the adapter {network.adapter}: expected one of them"
        )
    if precision == "int8":
        network.use_int8()
    if compiled and encoder:
        raise ConfigError(
            f"compile is true, and encoder is {str(encoder)!r}, which is compiled already: choose one of them"
        )
    if encoder:
        from sam2s_model.acceleration.exporting import use_exported_encoder  # imports torch's compiler

        use_exported_encoder(network, encoder)
    if compiled:
        network.compile_encoder()
    elif compiled is None and not encoder:
        compile_where_it_pays(network)
    return network


def compile_where_it_pays(model: Sam2Model) -> None:
    """Compile the image encoder on a GPU for which torch can; a warning says where it should have, and could not."""
    if not pays_off(model.device):
        return
    try:
        model.compile_encoder()
    except ConfigError as error:
        warnings.warn(f"the image encoder is not compiled, and is slower: {error}", stacklevel=2)


class _WithoutValues(TorchFunctionMode):
    """Compute no values for tensors on `meta`, where torch would import its compiler for it: 165 MB of memory."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        given = kwargs or {}
        if function in (nn.init.normal_, nn.init.uniform_, nn.init.trunc_normal_, nn.init.kaiming_uniform_):
            return given.get("tensor", *args[:1])
        if function in (Tensor.normal_, Tensor.uniform_, nn.functional.normalize):
            return args[0]
        return function(*args, **given)
