"""From the published names of a state dict to those of transformers, and back.

Of Sam2VideoModel, EdgeTamVideoModel and Sam3TrackerVideoModel; EfficientTAM is in no transformers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.checkpoint.recognition import known_shapes
from sam2s_model.config import MODELS, ModelConfig

RULES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        # the image encoder
        (r"^image_encoder\.trunk\.body\.", "vision_encoder.backbone.timm_model."),
        (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
        (r"^image_encoder\.neck\.convs\.(\d)\.conv\.", r"vision_encoder.neck.convs.\1."),
        (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
        # prompts
        (r"^sam_prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
        (r"^sam_prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
        (r"^sam_prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
        (r"^sam_prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
        (r"^sam_prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
        (r"^sam_prompt_encoder\.", "prompt_encoder."),
        # the mask decoder
        (r"^sam_mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
        (r"^sam_mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
        (r"^sam_mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
        (r"^sam_mask_decoder\.", "mask_decoder."),
        (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
        # networks of three layers, then those of two
        (r"(mlps\.\d|_head|^obj_ptr_proj)\.layers\.0\.", r"\1.proj_in."),
        (r"(mlps\.\d|_head|^obj_ptr_proj)\.layers\.1\.", r"\1.layers.0."),
        (r"(mlps\.\d|_head|^obj_ptr_proj)\.layers\.2\.", r"\1.proj_out."),
        (r"\.mlp\.layers\.0\.", ".mlp.proj_in."),
        (r"\.mlp\.layers\.1\.", ".mlp.proj_out."),
        # memory
        (r"^memory_encoder\.pix_feat_proj\.", "memory_encoder.feature_projection."),
        (r"^memory_encoder\.out_proj\.", "memory_encoder.projection."),
        (r"^memory_encoder\.mask_downsampler\.encoder\.12\.", "memory_encoder.mask_downsampler.final_conv."),
        (r"^memory_encoder\.fuser\.", "memory_encoder.memory_fuser."),
        (r"\.dwconv\.", ".depthwise_conv."),
        (r"\.pwconv(\d)\.", r".pointwise_conv\1."),
        (r"\.gamma$", ".scale"),
        (r"^maskmem_tpos_enc$", "memory_temporal_positional_encoding"),
        (r"^no_mem_embed$", "no_memory_embedding"),
        (r"^no_mem_pos_enc$", "no_memory_positional_encoding"),
        (r"^no_obj_ptr$", "no_object_pointer"),
        (r"^no_obj_embed_spatial$", "occlusion_spatial_embedding_parameter"),
        (r"^obj_ptr_proj\.", "object_pointer_proj."),
        (r"^obj_ptr_tpos_proj\.", "temporal_positional_encoding_projection_layer."),
        # EdgeTAM's perceiver
        (r"^spatial_perceiver\.latents$", "spatial_perceiver.latents_1d"),
        (r"\.attn\.norm_x\.", ".layer_norm_input."),
        (r"\.attn\.norm_latents\.", ".layer_norm_latents."),
        (r"^(spatial_perceiver\.layers\.\d)\.self_attn\.norm\.", r"\1.layer_norm_self."),
        (r"^(spatial_perceiver\.layers\.\d)\.attn\.", r"\1.cross_attention."),
        (r"^(spatial_perceiver\.layers\.\d)\.self_attn\.", r"\1.self_attention."),
        (r"^(spatial_perceiver\.layers\.\d)\.(self_)?ff\.0\.", r"\1.\2mlp.layer_norm."),
        (r"^(spatial_perceiver\.layers\.\d)\.(self_)?ff\.1\.", r"\1.\2mlp.up_proj."),
        (r"^(spatial_perceiver\.layers\.\d)\.(self_)?ff\.3\.", r"\1.\2mlp.down_proj."),
        (r"\.to_q\.", ".q_proj."),
        (r"\.to_out\.", ".o_proj."),
        # what attention and normalisation are called everywhere
        (r"\.out_proj\.", ".o_proj."),
        (r"\.norm(\d?)\.", r".layer_norm\1."),
    )
]
SAM3_RULES = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"^image_encoder\.trunk\.patch_embed\.proj\.", "image_encoder.trunk.embeddings.patch_embeddings.projection."),
        (r"^image_encoder\.trunk\.pos_embed$", "image_encoder.trunk.embeddings.position_embeddings"),
        (r"^image_encoder\.trunk\.ln_pre\.", "image_encoder.trunk.layer_norm."),
        (r"^(image_encoder\.trunk)\.blocks\.(\d+)\.attn\.proj\.", r"\1.layers.\2.attention.o_proj."),
        (r"^(image_encoder\.trunk)\.blocks\.(\d+)\.attn\.", r"\1.layers.\2.attention."),
        (r"^(image_encoder\.trunk)\.blocks\.(\d+)\.mlp\.layers\.0\.", r"\1.layers.\2.mlp.fc1."),
        (r"^(image_encoder\.trunk)\.blocks\.(\d+)\.mlp\.layers\.1\.", r"\1.layers.\2.mlp.fc2."),
        (r"^(image_encoder\.trunk)\.blocks\.", r"\1.layers."),
        (r"^image_encoder\.neck\.convs\.(\d)\.conv_1x1\.", r"vision_encoder.neck.fpn_layers.\1.proj1."),
        (r"^image_encoder\.neck\.convs\.(\d)\.conv_3x3\.", r"vision_encoder.neck.fpn_layers.\1.proj2."),
        (r"^image_encoder\.neck\.convs\.(\d)\.dconv_2x2_1\.", r"vision_encoder.neck.fpn_layers.\1.scale_layers.2."),
        (r"^image_encoder\.neck\.convs\.(\d)\.dconv_2x2(_0)?\.", r"vision_encoder.neck.fpn_layers.\1.scale_layers.0."),
    )
]
"""Of SAM 3's image encoder, before the others."""

GAUSSIAN = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
SAM3_TABLE = "image_encoder.trunk.pos_embed"
POINTS = "sam_prompt_encoder.point_embeddings.{}.weight"


POINT_EMBED = "prompt_encoder.point_embed.weight"
IMAGE_CODE, PROMPT_CODE = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)
ROOTS = (
    "vision_encoder", "prompt_encoder", "mask_decoder", "shared_image_embedding", "memory_temporal_positional_encoding",
    "no_memory_embedding", "no_memory_positional_encoding", "no_object_pointer",
    "occlusion_spatial_embedding_parameter", "object_pointer_proj", "temporal_positional_encoding_projection_layer",
)  # fmt: skip
"""What transformers' names begin with where the published ones do not."""


def is_of_transformers(state: Mapping[str, Tensor]) -> bool:
    return any(name.startswith("vision_encoder.") for name in state)


def from_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a state dict that transformers saved, of a whole model or of one for images.

    The names are those of the known model that has most tensors in common with it; other tensors keep their names.
    """
    targets = max((_targets(config) for config in MODELS.values()), key=lambda found: _shared(found, state))
    left = dict(state)
    out: dict[str, Tensor] = {}
    code = left.pop(IMAGE_CODE, None)
    other = left.pop(PROMPT_CODE, None)  # the same tensor: a file may have it once
    if (matrix := other if code is None else code) is not None:
        out[GAUSSIAN] = matrix
    points = left.pop(POINT_EMBED, None)
    if points is not None:
        out |= {POINTS.format(i): row[None].clone() for i, row in enumerate(points)}
    for name, (parts, _) in targets.items():
        if all(part in left for part in parts):
            found = [left.pop(part) for part in parts]
            out[name] = found[0] if len(found) == 1 else torch.cat(found)
    if SAM3_TABLE in out and "image_encoder.trunk.ln_pre.weight" in out:
        out[SAM3_TABLE] = F.pad(out[SAM3_TABLE], (0, 0, 1, 0))  # the class token's row, which nobody looks at
    return {**out, **left}


def _targets(config: ModelConfig) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """Map each published name to transformers' names of its parts, and its shape."""
    special = {GAUSSIAN, *(POINTS.format(i) for i in range(4))}
    shapes = known_shapes(config)
    kind = kind_of(config)
    return {name: (_parts(name, kind), shape) for name, shape in shapes.items() if name not in special}


def kind_of(config: ModelConfig) -> str:
    """Which of transformers' models a configuration is one of: "sam2", "edgetam", "sam3"; "" for none."""
    if config.backbone == "vit":
        return "sam3" if config.rotary else ""
    if config.backbone == "hiera":
        return "sam2"
    return "edgetam" if config.name == "edgetam" else ""


def _shared(targets: Mapping[str, tuple[tuple[str, ...], tuple[int, ...]]], state: Mapping[str, Tensor]) -> float:
    """Measure how much a model and a state dict have in common, by name and shape: intersection over union."""
    both = sum(
        all(part in state for part in parts) and tuple(state[parts[0]].shape[1:]) == shape[1:]
        for parts, shape in targets.values()
    )
    return both / (len(targets) + len(state) - both)


def to_transformers(state: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Rename a state dict of a whole model, of a `kind_of`. Every tensor is used, but for SAM 3's row of a class token.

    `load_state_dict` with strict=True shows that none is missing.
    """
    left = dict(state)
    gaussian = left.pop(GAUSSIAN)
    renamed = {
        IMAGE_CODE: gaussian,
        PROMPT_CODE: gaussian,
        POINT_EMBED: torch.cat([left.pop(POINTS.format(i)) for i in range(4)]),
    }
    if kind == "sam3":
        left[SAM3_TABLE] = left[SAM3_TABLE][:, 1:].contiguous()
    for name, tensor in left.items():
        names = _parts(name, kind)
        for new, part in zip(names, tensor.chunk(len(names)) if len(names) > 1 else (tensor,), strict=True):
            assert new not in renamed, f"{name} becomes {new}, and so does another"
            renamed[new] = part
    return renamed


def _parts(name: str, kind: str) -> tuple[str, ...]:
    """Name what becomes of a tensor: one name, or those of its two or three equal parts."""
    new = _rename(name, kind)
    if ".to_kv." in new:
        return new.replace("to_kv", "k_proj"), new.replace("to_kv", "v_proj")
    if kind == "sam3" and ".attention.qkv." in new:
        return tuple(new.replace("qkv", f"{part}_proj") for part in "qkv")
    return (new,)


def _rename(name: str, kind: str) -> str:
    if match := re.match(r"memory_encoder\.mask_downsampler\.encoder\.(\d+)\.(weight|bias)$", name):
        index, end = int(match[1]), match[2]
        if index < 12:  # convolution, normalisation, activation, four times
            return f"memory_encoder.mask_downsampler.layers.{index // 3}.{('conv', 'layer_norm')[index % 3]}.{end}"
    for pattern, replacement in (*SAM3_RULES, *RULES) if kind == "sam3" else RULES:
        name = pattern.sub(replacement, name)
    if kind == "edgetam" and name.startswith("memory_attention."):
        name = name.replace(".linear1.", ".mlp.up_proj.").replace(".linear2.", ".mlp.down_proj.")
    return name
