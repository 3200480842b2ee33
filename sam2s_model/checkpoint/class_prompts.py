"""Read SurgicalSAM's files: prototypes, the prototype prompt encoder, and a mask decoder of SAM, which is not used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sam2s_model.errors import CheckpointError
from sam2s_model.network.class_prompts import ClassPrompts
from sam2s_model.paths import expanded

ENCODER, PROTOTYPES = "prototype_prompt_encoder_state_dict", "prototypes_state_dict"


def load_class_prompts(path: str | Path) -> ClassPrompts:
    """Build the class prompts of a file, whose sizes are those of its tensors, and fill them strictly.

    Raises CheckpointError for a file that does not load with weights only, or whose names or shapes do not fit.
    """
    path = expanded(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # junk makes the reader raise anything
        raise CheckpointError(f"{path} is no file of SurgicalSAM that loads with weights only: {error}") from error
    if not isinstance(content, Mapping) or not {ENCODER, PROTOTYPES} <= content.keys():
        raise CheckpointError(f"{path} is no file of SurgicalSAM: expected the keys {ENCODER} and {PROTOTYPES}")
    encoder, prototypes = _plain(content[ENCODER], path), _plain(content[PROTOTYPES], path)
    try:
        classes, dim = prototypes["class_embeddings.weight"].shape
        side = round(encoder["sparse_fc_1.weight"].shape[1] ** 0.5)
        tokens = encoder["sparse_fc_2.weight"].shape[0]
        made = ClassPrompts(classes, dim, side, tokens)
        made.encoder.load_state_dict(encoder)
        made.class_embeddings.load_state_dict({"weight": prototypes["class_embeddings.weight"]})
    except (KeyError, RuntimeError, ValueError, IndexError) as error:
        raise CheckpointError(f"{path} does not fit SurgicalSAM's prototype prompt encoder: {error}") from error
    return made.eval().requires_grad_(False)


def _plain(state: Any, path: Path) -> dict[str, Tensor]:
    """Take off the prefix of a model that was trained on several GPUs."""
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} is no file of SurgicalSAM: expected tensors by their names")
    return {name.removeprefix("module."): value for name, value in state.items()}
