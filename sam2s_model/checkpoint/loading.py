"""From a file to a model that is ready for inference."""

from __future__ import annotations

import warnings
from pathlib import Path

from sam2s_model.checkpoint.reading import read_checkpoint
from sam2s_model.checkpoint.recognition import check_state_dict, recognise, with_extras
from sam2s_model.checkpoint.wrapping import some
from sam2s_model.config import ModelConfig
from sam2s_model.device import resolve_device, resolve_dtype
from sam2s_model.errors import ConfigError
from sam2s_model.network.model import Sam2Model
from sam2s_model.published.catalog import resolve_checkpoint


def load_model(
    path: str | Path,
    model: str = "auto",
    image_size: int = 0,
    device: str = "auto",
    precision: str = "auto",
    compile: bool = False,
    encoder: str | Path = "",
) -> Sam2Model:
    """Build a model and fill it from a checkpoint, ready for inference.

    path: a ``.pt`` or ``.safetensors`` file, see `read_checkpoint`, or a name that stands for one, such as "sam2s_tiny", see
        `resolve_checkpoint`
    model: a name of `config.MODELS`, or "auto" to recognise it from keys and shapes
    image_size: side of the square model input, px, a multiple of 32; 0: the one that the file says, else the one that the model
        was trained at
    device: "auto", "cpu", "cuda" or "cuda:N"; precision: "auto" (bf16 on CUDA, fp32 on CPU), "fp32", "bf16" or "fp16"; on a CPU
        also "int8", fp32 with linear layers that multiply in 8 bits, see `Sam2Model.use_int8`
    compile: the image encoder, which takes a minute or so and is not for int8, see `Sam2Model.compile_encoder`
    encoder: a file that `sam2s export encoder` has made of this checkpoint's image encoder, see `exporting`; empty: torch runs it

    Every key in the file that looks like one of a known model must be one of this one's, of the same shape; of other tensors a warning
    says that they are not used. All keys that only tracking with memory needs
    may be missing together: they are listed in ``Sam2Model.missing``, and ``has_memory`` is False. Names of the class table's
    rows that the file tells are in ``Sam2Model.class_names``.

    Raises CheckpointError or ConfigError.
    """
    path = resolve_checkpoint(path)
    stored = read_checkpoint(path)
    state = stored.state
    config = recognise(state, path) if model == "auto" else with_extras(ModelConfig.from_name(model), state)
    target = resolve_device(device)
    network = Sam2Model(config, image_size or stored.image_size)
    network.missing = check_state_dict(state, network, path)
    network.load_state_dict(state, strict=False)
    if stored.extra:
        warnings.warn(
            f"{path}: {len(stored.extra)} tensors are no part of {network.name} and are not used: {some(stored.extra)}"
        )
    if len(stored.class_names) == config.num_classes:
        network.class_names = stored.class_names
    network = network.to(device=target, dtype=resolve_dtype(precision, target)).eval().requires_grad_(False)
    if precision == "int8":
        network.use_int8()
    if compile and encoder:
        raise ConfigError(
            f"compile is true, and encoder is {str(encoder)!r}, which is compiled already: choose one of them"
        )
    if encoder:
        from sam2s_model.acceleration.exporting import use_exported_encoder  # imports torch's compiler

        use_exported_encoder(network, encoder)
    if compile:
        network.compile_encoder()
    return network
