"""Load a checkpoint strictly and say exactly what it holds. Never unpickles code."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load_file as load_safetensors
from torch import Tensor

from sam2s_model.config import MODELS, ModelConfig
from sam2s_model.device import resolve_device, resolve_dtype
from sam2s_model.errors import CheckpointError
from sam2s_model.model import MEMORY_PARTS, Sam2Model


VERSION_KEYS = ("no_object_embedding", "pointer_time")  # what 2.1 has and 2.0 has not, all of it in the memory's parts


def load_model(
    path: str | Path, model: str = "auto", image_size: int = 0, device: str = "auto", precision: str = "auto"
) -> Sam2Model:
    """Build a model and fill it from a checkpoint, ready for inference.

    path: a ``.pt`` file with ``{"model": state dict}`` or a bare state dict, or ``.safetensors``
    model: a name of `config.MODELS`, or "auto" to recognise it from keys and shapes
    image_size: side of the square model input, px, a multiple of 32; 0: the one the model was trained at
    device: "auto", "cpu", "cuda" or "cuda:N"; precision: "auto" (bf16 on CUDA, fp32 on CPU), "fp32", "bf16" or "fp16"

    Every key in the file must be one of the model's, of the same shape. Keys that only tracking with memory needs may
    be missing: they are listed in ``Sam2Model.missing``, and ``has_memory`` is False.

    Raises CheckpointError or ConfigError.
    """
    state = read_state_dict(path)
    config = recognise(state, path) if model == "auto" else ModelConfig.from_name(model)
    target = resolve_device(device)
    network = Sam2Model(config, image_size)
    network.missing = check_state_dict(state, network, path)
    network.load_state_dict(state, strict=False)
    return network.to(device=target, dtype=resolve_dtype(precision, target)).eval().requires_grad_(False)


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file, on the CPU. Raises CheckpointError when it cannot be read or holds something else."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"checkpoint {str(path)!r} does not exist: give the path of a .pt or .safetensors file")
    try:
        if path.suffix == ".safetensors":
            content = load_safetensors(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # junk makes the readers raise anything: IndexError, struct.error, UnpicklingError, ...
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{path} is not a {path.suffix or '.pt'} checkpoint that loads with weights only: {reason}"
        ) from error
    state = content.get("model", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not state or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise CheckpointError(f"{path} holds no state dict: expected {{'model': {{name: tensor}}}} or {{name: tensor}}")
    return state


def recognise(state: dict[str, Tensor], path: str | Path) -> ModelConfig:
    """The known model whose proportions the state dict has. Raises CheckpointError that names the nearest one.

    Only what tells the models apart is looked at: `check_state_dict` compares the rest. An image half has nothing that
    tells 2.1 from 2.0, and counts as 2.0.
    """
    found = _proportions(state)
    ignored = () if any(key.startswith(MEMORY_PARTS) for key in state) else VERSION_KEYS
    differences = {
        config.name: [k for k, value in _known_proportions(config).items() if found[k] != value and k not in ignored]
        for config in MODELS.values()
    }
    nearest = min(differences, key=lambda name: len(differences[name]))
    if differences[nearest]:
        known = _known_proportions(MODELS[nearest])
        shown = ", ".join(f"{key} {found[key]} instead of {known[key]}" for key in differences[nearest])
        raise CheckpointError(
            f"{path} is not a checkpoint of a known model: nearest is {nearest}, from which it differs in {shown} "
            f"(known: {', '.join(MODELS)})"
        )
    return MODELS[nearest]


def _proportions(state: dict[str, Tensor]) -> dict[str, object]:
    patch, embed = state.get("image_encoder.trunk.patch_embed.proj.weight"), state.get("no_mem_embed")
    blocks = {key.split(".")[3] for key in state if key.startswith("image_encoder.trunk.blocks.")}
    return {
        "embed_dim": len(patch) if patch is not None else None,
        "blocks": len(blocks),
        "dim": embed.shape[-1] if embed is not None else None,
        "no_object_embedding": "no_obj_embed_spatial" in state,
        "pointer_time": "obj_ptr_tpos_proj.weight" in state,
    }


def _known_proportions(config: ModelConfig) -> dict[str, object]:
    return {
        "embed_dim": config.embed_dim,
        "blocks": sum(config.stages),
        "dim": config.dim,
        "no_object_embedding": config.no_object_embedding,
        "pointer_time": config.pointer_time,
    }


def check_state_dict(state: dict[str, Tensor], network: Sam2Model, path: str | Path) -> tuple[str, ...]:
    """Compare a state dict with a model; return the missing keys, all of which only memory needs.

    Raises CheckpointError that lists unexpected keys, wrong shapes and missing keys of the image half.
    """
    own = network.state_dict()
    unexpected = [k for k in state if k not in own]
    shapes = [
        f"{k} {tuple(v.shape)} instead of {tuple(own[k].shape)}"
        for k, v in state.items()
        if k in own and v.shape != own[k].shape
    ]
    missing = [k for k in own if k not in state]
    needed = [k for k in missing if not k.startswith(MEMORY_PARTS)]
    problems = [
        f"{len(names)} {what}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
        for what, names in (("unexpected", unexpected), ("of another shape", shapes), ("missing", needed))
        if names
    ]
    if problems:
        raise CheckpointError(f"{path} is not a checkpoint of {network.name}: {'; '.join(problems)}")
    return tuple(missing)


def file_sha256(path: str | Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def default_checkpoint() -> Path | None:
    """The checkpoint that is part of the package, or None when the package was built without one."""
    files = sorted(Path(__file__).parent.joinpath("weights").glob("*.safetensors"))
    return files[0] if files else None
