"""Which model a state dict is of, from its names and shapes alone, and where it differs from it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeGuard

import torch
from torch import Tensor

from sam2s_model.config import MODELS, ModelConfig
from sam2s_model.errors import CheckpointError
from sam2s_model.network.image_encoder import BACKBONES
from sam2s_model.network.model import MEMORY_PARTS, Sam2Model

VERSION_KEYS = ("no_object_embedding", "pointer_time")  # what 2.1 has and 2.0 has not, all of it in the memory's parts
LONG_TERM = "long_term_tpos_enc"
TRUNK = "image_encoder.trunk."
SHORT_ATTENTION = "recent_memory_attention.norm.weight"
CLASS_TABLE = "temporal_semantics.class_embeddings"
GRANULARITY = "sam_prompt_encoder.granularity_embedding.weight"
SCORE_HEAD = "sam_mask_decoder.pred_obj_score_head."  # of MEMORY_PARTS the one that is of use without the others
LISTED = 8  # names that are listed in full; of more, half as many

FOREIGN = (
    (re.compile(r"(^|\.)mem_ca\."), "memory adapters such as DD-SAM2's"),
    (re.compile(r"(^|\.)\w*adapter\w*\.", re.IGNORECASE), "adapters such as DD-SAM2's"),
    (re.compile(r"(^|\.)lora_\w+\."), "LoRA layers"),
    (re.compile(r"^(cross_modal_fusion|language_model|token_projection)\."), "a text branch such as ReSurgSAM2's"),
)
"""Parts that others add to SAM2 and this model does not have, by the names of their tensors."""

OTHER_MODELS = {
    "image_encoder.patch_embed.proj.weight": "SAM 1 (segment_anything, MedSAM)",
    "backbone.vision_backbone.trunk.patch_embed.proj.weight": "SAM 3",
    "detector.backbone.vision_backbone.trunk.patch_embed.proj.weight": "SAM 3's detector without its tracker",
}
"""A tensor that tells another network of the family."""

Shapes = Mapping[str, tuple[int, ...]]


def recognise(state: Mapping[str, Tensor], path: str | Path) -> ModelConfig:
    """Find the known model whose proportions the state dict has, with the extras that it has besides (`with_extras`).

    Only what tells the models apart is looked at: `check_state_dict` compares the rest. Without the tracking half
    nothing tells 2.1 from 2.0, and the model counts as 2.0.
    Raises CheckpointError that names the nearest known model and every difference from it.
    """
    found = _proportions(state)
    ignored = () if _has_memory(state) else VERSION_KEYS
    for config in MODELS.values():
        known = _known_proportions(config)
        if all(found[what] == value or what in ignored for what, value in known.items()):
            return with_extras(config, state)
    if part := part_of(state):
        raise CheckpointError(
            f"{path} is a part of a model, {part}: put it over a whole one, "
            "`sam2s checkpoint convert PART OUT.safetensors --base WHOLE`"
        )
    if other := next((what for name, what in OTHER_MODELS.items() if name in state), ""):
        raise CheckpointError(
            f"{path} is not a checkpoint of a known model: it is one of {other}, which is another network"
        )
    raise CheckpointError(f"{path} is not a checkpoint of a known model: {_nearest_and_differences(state)}")


def part_of(state: Mapping[str, Tensor]) -> str:
    """Say which part of a known model a state dict is: all but the image encoder, or only that; "" if neither."""
    fits = [config.name for config in MODELS.values() if _is_part(state, config)]
    if not fits:
        return ""
    roots = sorted({name.split(".")[0] for name in state})
    lacks = (
        "nothing but its image encoder"
        if roots == ["image_encoder"]
        else f"without its image encoder: {', '.join(roots)}"
    )
    which = fits[0] if len(fits) == 1 else f"{fits[0]} or another that is alike there ({len(fits)} are)"
    return f"{which}, {lacks} ({len(state)} tensors)"


def _is_part(state: Mapping[str, Tensor], config: ModelConfig) -> bool:
    encoder = [name.startswith("image_encoder.") for name in state]
    if any(encoder) and not all(encoder):
        return False
    own = known_shapes(with_extras(config, state))
    return all(own.get(name) == tuple(value.shape) for name, value in state.items())


def with_extras(config: ModelConfig, state: Mapping[str, Tensor]) -> ModelConfig:
    """Add to a known model the long-term embedding, second attention and class token that a state dict has besides."""
    classes = state.get(CLASS_TABLE)
    return dataclasses.replace(
        config,
        long_term_embedding=LONG_TERM in state,
        short_attention=SHORT_ATTENTION in state,
        num_classes=len(classes) if _is_table(classes) else 0,
        granularity=GRANULARITY in state,
    )


def _is_table(tensor: Tensor | None) -> TypeGuard[Tensor]:
    return tensor is not None and tensor.ndim > 0


def _proportions(state: Mapping[str, Tensor]) -> dict[str, object]:
    embed = state.get("no_mem_embed")
    backbone, embed_dim, blocks = _encoder(state)
    return {
        "backbone": backbone,
        "embed_dim": embed_dim,
        "blocks": blocks,
        "decoder_width": embed.shape[-1] if _is_table(embed) else None,
        "no_object_embedding": "no_obj_embed_spatial" in state,
        "pointer_time": "obj_ptr_tpos_proj.weight" in state,
    }


def _encoder(state: Mapping[str, Tensor]) -> tuple[str, int, int]:
    """Find the kind of image encoder, its width and its number of blocks; "", 0 and 0 where it is of no known kind."""
    trunk = {name.removeprefix(TRUNK): value for name, value in state.items() if name.startswith(TRUNK)}
    for name, backbone in BACKBONES.items():
        if (found := backbone.recognise(trunk)) is not None:
            return name, *found
    return "", 0, 0


def _known_proportions(config: ModelConfig) -> dict[str, object]:
    same = ("backbone", "embed_dim", "decoder_width", "no_object_embedding", "pointer_time")
    return {**{name: getattr(config, name) for name in same}, "blocks": sum(config.stages)}


def _has_memory(names: Iterable[str]) -> bool:
    return any(name.startswith(MEMORY_PARTS) and not name.startswith(SCORE_HEAD) for name in names)


def without_additions(state: Mapping[str, Tensor], config: ModelConfig) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Leave out the tensors that a model does not have, and say what they are: groups, with numbers and shapes."""
    own = known_shapes(config)
    groups: dict[str, list[Tensor]] = {}
    for name, value in state.items():
        if name not in own:
            parent = name.rpartition(".")[0] or name
            groups.setdefault(re.sub(r"\.\d+(?=\.|$)", ".N", parent), []).append(value)
    said = []
    for group, values in groups.items():
        shapes = sorted({str(tuple(value.shape)) for value in values})
        numbers = sum(value.numel() for value in values)
        count = f"{len(values)} tensor{'s' * (len(values) > 1)}, {numbers:,} numbers"
        said.append(f"{group} ({count}: {_listed(tuple(shapes))})")
    return {name: value for name, value in state.items() if name in own}, tuple(said)


def check_state_dict(state: Mapping[str, Tensor], network: Sam2Model, path: str | Path) -> tuple[str, ...]:
    """Compare a state dict with a model; return the missing keys: none, or those of an image half.

    An image half lacks all that only memory needs; the head of the object score may be there.
    Raises CheckpointError that lists unexpected keys, wrong shapes and missing keys, names the nearest known model if
    it is another, and says what the unexpected ones belong to if that is known.
    """
    own = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    return check_names(own, state, network.name, path)


def check_names(own: Shapes, state: Mapping[str, Tensor], name: str, path: str | Path) -> tuple[str, ...]:
    """`check_state_dict` with a model's name, and the names and shapes of its tensors as `known_shapes` gives them."""
    found = _Differences.between(state, own)
    if not found:
        return found.missing
    foreign = "" if found.shapes or found.needed else _foreign(found.unexpected)
    if foreign:
        raise CheckpointError(
            f"{path} is {name} with {foreign}: this model has no such part, and the other weights were trained with it"
        )
    if not found.shapes and not found.needed:
        raise CheckpointError(
            f"{path} is {name} with parts that this model does not have (--allow-extra leaves them out): {found}"
        )
    nearest = _nearest(state)
    hint = f"; nearest is {nearest.name}" if nearest is not None and nearest.name != name else ""
    raise CheckpointError(f"{path} is not a checkpoint of {name}: {found}{hint}")


@lru_cache(maxsize=32)
def without_weights(config: ModelConfig) -> Sam2Model:
    """Build a model whose tensors have names and shapes, but no memory. It is shared: do not change it."""
    with torch.device("meta"):
        return Sam2Model(config)


def known_shapes(config: ModelConfig) -> Shapes:
    """Names and shapes of a model's state dict."""
    return {name: tuple(value.shape) for name, value in without_weights(config).state_dict().items()}


@dataclass(frozen=True)
class _Differences:
    """Of a state dict from a model. True when the state dict cannot be used for it.

    missing: names of all missing tensors; needed: of those that must not be missing
    """

    unexpected: tuple[str, ...]
    shapes: tuple[str, ...]
    missing: tuple[str, ...]
    needed: tuple[str, ...]

    @classmethod
    def between(cls, state: Mapping[str, Tensor], own: Shapes) -> _Differences:
        unexpected = tuple(k for k in state if k not in own)
        shapes = tuple(
            f"{k} {tuple(v.shape)} instead of {own[k]}"
            for k, v in state.items()
            if k in own and tuple(v.shape) != own[k]
        )
        missing = tuple(k for k in own if k not in state)
        if _has_memory(state):
            return cls(unexpected, shapes, missing, needed=missing)
        has_score = any(k.startswith(SCORE_HEAD) for k in state)
        excused = tuple(part for part in MEMORY_PARTS if not (has_score and part == SCORE_HEAD))
        return cls(unexpected, shapes, missing, needed=tuple(k for k in missing if not k.startswith(excused)))

    def __bool__(self) -> bool:
        return bool(self.unexpected or self.shapes or self.needed)

    def __str__(self) -> str:
        kinds = (("unexpected", self.unexpected), ("of another shape", self.shapes), ("missing", self.needed))
        return "; ".join(f"{len(names)} {what}: {_listed(names)}" for what, names in kinds if names)


def _listed(names: tuple[str, ...]) -> str:
    if len(names) <= LISTED:
        return ", ".join(names)
    shown = names[: LISTED // 2]
    return f"{', '.join(shown)} and {len(names) - len(shown)} more"


def _foreign(names: Iterable[str]) -> str:
    """Say in words what unexpected tensors are; "" unless all of them are of known foreign parts."""
    parts: dict[str, list[str]] = {}
    for name in names:
        found = next(((what, match) for pattern, what in FOREIGN if (match := pattern.search(name))), None)
        if found is None:
            return ""
        parts.setdefault(found[0], []).append(re.sub(r"\.\d+(?=\.)", ".N", name[: found[1].end()]))
    return " and ".join(
        f"{what} ({len(places)} tensors under {_listed(tuple(sorted(set(places))))})" for what, places in parts.items()
    )


def _nearest(state: Mapping[str, Tensor]) -> ModelConfig | None:
    """Find the known model with most tensors, by name and shape, in common with a state dict; None if none has any."""
    shapes = {(name, tuple(value.shape)) for name, value in state.items()}

    def likeness(config: ModelConfig) -> float:
        own = set(known_shapes(with_extras(config, state)).items())
        return len(shapes & own) / len(shapes | own)

    nearest = max(MODELS.values(), key=likeness)
    return nearest if likeness(nearest) > 0 else None


def _nearest_and_differences(state: Mapping[str, Tensor]) -> str:
    nearest = _nearest(state)
    known = f"(known: {', '.join(MODELS)})"
    if nearest is None:
        name, value = next(iter(state.items()))
        return f"none of its {len(state)} tensors, such as {name} {tuple(value.shape)}, is of one {known}"
    found = _Differences.between(state, known_shapes(with_extras(nearest, state)))
    return f"nearest is {nearest.name}, from which it differs in {found} {known}"
