"""Class prompts that were trained for a model (SurgicalSAM): a class is decoded at once, without a grid."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sam2s_model.device import upload
from sam2s_model.discovery.prototype_file import ModelIdentity
from sam2s_model.discovery.regions import Regions, connected_parts, stability
from sam2s_model.errors import PrototypeError
from sam2s_model.files.whole_files import with_usual_mode
from sam2s_model.network.class_prompts import ClassPrompts
from sam2s_model.network.image_features import ImageFeatures
from sam2s_model.network.mask_decoder import Decoded
from sam2s_model.network.model import Sam2Model
from sam2s_model.paths import expanded, part_of

FORMAT = "sam2s class prompts 1"  # in the metadata
OUTSIDE_LOGIT = -10.0  # of a mask's pixels that belong to another connected part


class LearntClasses:
    """Class prompts, and the names of their K classes.

    Raises PrototypeError where they do not fit the model's features, whose grid they depend on.
    """

    def __init__(self, prompts: ClassPrompts, names: Sequence[str], model: Sam2Model):
        classes, dim = prompts.class_embeddings.weight.shape
        if len(names) != classes or len(set(names)) != classes or "" in names:
            told = ", ".join(names)
            raise PrototypeError(f"class prompts of {classes} classes have the names {told}: expected one each")
        side = prompts.encoder.side
        if (side, dim) != (model.grid[0], model.config.decoder_width):
            raise PrototypeError(
                f"class prompts are for {side} x {side} places of {dim} features: expected {model.grid[0]} x "
                f"{model.grid[1]} of {model.config.decoder_width}, as {model.name} has them at {model.image_size} px"
            )
        self.prompts, self.names = prompts.to(device=model.device, dtype=model.dtype), tuple(names)

    def regions(self, model: Sam2Model, features: ImageFeatures, name: str) -> Regions:
        """Masks of a class on a frame: the connected parts of the one mask that is decoded for it."""
        asked = torch.tensor([self.names.index(name)], device=model.device)
        decoded = decode_class(model, features, self.prompts, asked)
        masks = upload(connected_parts((decoded.logits[0, 0] > 0).cpu().numpy()), model.device)
        logits = torch.where(masks, decoded.logits[0], OUTSIDE_LOGIT)
        rows = torch.zeros(len(masks), dtype=torch.int64, device=model.device)
        return Regions(logits, decoded.iou[rows], stability(logits), decoded.token[rows])


def decode_class(model: Sam2Model, features: ImageFeatures, prompts: ClassPrompts, asked: Tensor) -> Decoded:
    """Decode the mask of one class on a frame. asked: (1,) int, its row"""
    plain = model.without_memory(features, 1)
    sparse, dense = prompts(plain, asked)
    place = model.sam_prompt_encoder.grid_position(*features.grid)
    return model.sam_mask_decoder(plain, features.high_res, place, sparse, dense, multimask=False)


def is_learnt(path: str | Path) -> bool:
    """Whether a file is one of `save_learnt`."""
    try:
        with safe_open(expanded(path), framework="pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (OSError, SafetensorError):
        return False


def save_learnt(learnt: LearntClasses, identity: ModelIdentity, path: str | Path) -> None:
    """Replace a file by class prompts, which serve one model. Raises PrototypeError where it cannot be written."""
    path = expanded(path)
    state = {name: value.float().contiguous() for name, value in learnt.prompts.state_dict().items()}
    table = dict(model=identity.model, image_size=identity.image_size, names=learnt.names)
    part = part_of(path)
    try:
        with with_usual_mode(part, path):
            save_file({**state, "probe": identity.probe}, part, metadata={"format": FORMAT, "table": json.dumps(table)})
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        part.unlink(missing_ok=True)
        raise PrototypeError(f"class prompts cannot be written to {path}: {error}") from error


def load_learnt(path: str | Path, model: Sam2Model) -> LearntClasses:
    """Return the class prompts in a file. Raises PrototypeError for one that has none, or of another model."""
    path = expanded(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
        table = json.loads(metadata["table"])
        made_with = ModelIdentity(str(table["model"]), int(table["image_size"]), state.pop("probe").float())
        names = [str(name) for name in table["names"]]
        side = round(state["encoder.sparse_fc_1.weight"].shape[1] ** 0.5)
        tokens, dim = state["encoder.pn_cls_embeddings.0.weight"].shape
        prompts = ClassPrompts(len(names), dim, side, tokens)
        prompts.load_state_dict(state)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise PrototypeError(f"{path} is no file of class prompts ({type(error).__name__}: {error})") from error
    if difference := made_with.difference(ModelIdentity.of(model)):
        raise PrototypeError(f"{path} was made with another model, {difference}: train them with this one")
    return LearntClasses(prompts.eval().requires_grad_(False), names, model)
