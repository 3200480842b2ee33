"""From the published names of a state dict to those of transformers' Sam2VideoModel and EdgeTamVideoModel."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

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
GAUSSIAN = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
POINTS = "sam_prompt_encoder.point_embeddings.{}.weight"


def to_transformers(state: Mapping[str, Tensor], edgetam: bool) -> dict[str, Tensor]:
    """Rename a state dict. Every tensor is used; `load_state_dict` with strict=True shows that none is missing."""
    left = dict(state)
    gaussian = left.pop(GAUSSIAN)
    renamed = {
        "shared_image_embedding.positional_embedding": gaussian,
        "prompt_encoder.shared_embedding.positional_embedding": gaussian,
        "prompt_encoder.point_embed.weight": torch.cat([left.pop(POINTS.format(i)) for i in range(4)]),
    }
    for name, tensor in left.items():
        new = _rename(name, edgetam)
        parts = {new: tensor}
        if ".to_kv." in new:
            key, value = tensor.chunk(2)
            parts = {new.replace("to_kv", "k_proj"): key, new.replace("to_kv", "v_proj"): value}
        for new, part in parts.items():
            assert new not in renamed, f"{name} becomes {new}, and so does another"
            renamed[new] = part
    return renamed


def _rename(name: str, edgetam: bool) -> str:
    if match := re.match(r"memory_encoder\.mask_downsampler\.encoder\.(\d+)\.(weight|bias)$", name):
        index, kind = int(match[1]), match[2]
        if index < 12:  # convolution, normalisation, activation, four times
            return f"memory_encoder.mask_downsampler.layers.{index // 3}.{('conv', 'layer_norm')[index % 3]}.{kind}"
    for pattern, replacement in RULES:
        name = pattern.sub(replacement, name)
    if edgetam and name.startswith("memory_attention."):
        name = name.replace(".linear1.", ".mlp.up_proj.").replace(".linear2.", ".mlp.down_proj.")
    return name
