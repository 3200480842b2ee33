"""transformers' Sam2VideoModel, EdgeTamVideoModel and Sam3TrackerVideoModel, configured like ours.

EdgeTamVideoModel takes its backbone from timm, without weights.
"""

from __future__ import annotations

from transformers.utils import is_timm_available, is_torchvision_available

from sam2s_model.bench.peers.stand_in import torchvision_stand_in
from sam2s_model.config import ModelConfig

# transformers finds timm only where it finds torchvision, and remembers both: the former is to stay, the latter is not.
with torchvision_stand_in():
    import timm  # noqa: F401  transformers imports it later, and finds it loaded

    is_torchvision_available.cache_clear()
    is_timm_available.cache_clear()
    assert is_timm_available()
is_torchvision_available.cache_clear()

from transformers import (  # noqa: E402 (after the patch above)
    EdgeTamVideoConfig,
    EdgeTamVideoModel,
    EdgeTamVisionConfig,
    Sam2HieraDetConfig,
    Sam2VideoConfig,
    Sam2VideoInferenceSession,
    Sam2VideoModel,
    Sam2VisionConfig,
    Sam3TrackerVideoConfig,
    Sam3TrackerVideoInferenceSession,
    Sam3TrackerVideoModel,
    Sam3VisionConfig,
    Sam3ViTConfig,
    TimmWrapperConfig,
)
from transformers.models.edgetam_video.modeling_edgetam_video import EdgeTamVideoInferenceSession  # noqa: E402

__all__ = [
    "EdgeTamVideoInferenceSession",
    "EdgeTamVideoModel",
    "Sam2VideoInferenceSession",
    "Sam2VideoModel",
    "Sam3TrackerVideoInferenceSession",
    "Sam3TrackerVideoModel",
    "edgetam_config",
    "sam2_config",
    "sam3_config",
]


def sam2_config(config: ModelConfig, image_size: int, **decoder) -> Sam2VideoConfig:
    """Describe a model to transformers. decoder: options of the mask decoder that are not transformers' own."""
    backbone = Sam2HieraDetConfig(
        hidden_size=config.embed_dim,
        num_attention_heads=config.num_heads,
        image_size=[image_size, image_size],
        window_positional_embedding_background_size=list(config.background_size),
        blocks_per_stage=list(config.stages),
        embed_dim_per_stage=[config.embed_dim * 2**i for i in range(4)],
        num_attention_heads_per_stage=[config.num_heads * 2**i for i in range(4)],
        window_size_per_stage=list(config.window_spec),
        global_attention_blocks=list(config.global_blocks),
    )
    vision = Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[config.embed_dim * 2**i for i in (3, 2, 1, 0)],
        backbone_feature_sizes=_feature_sizes(image_size),
    )
    return Sam2VideoConfig(vision_config=vision, **_shared(config, image_size, decoder))


def edgetam_config(config: ModelConfig, image_size: int, **decoder) -> EdgeTamVideoConfig:
    """Describe EdgeTAM to transformers. decoder: options of the mask decoder that are not transformers' own."""
    features = {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}
    vision = EdgeTamVisionConfig(
        backbone_config=TimmWrapperConfig(architecture="repvit_m1", model_args=features),
        backbone_feature_sizes=_feature_sizes(image_size),
    )
    return EdgeTamVideoConfig(vision_config=vision, **_shared(config, image_size, decoder))


def sam3_config(config: ModelConfig, image_size: int, **decoder) -> Sam3TrackerVideoConfig:
    """Configure SAM 3's tracker; the image encoder normalises as published, with 1e-5, where transformers has 1e-6.

    decoder: options of the mask decoder that are not transformers' own
    """
    grid = image_size // config.stride
    backbone = Sam3ViTConfig(
        hidden_size=config.embed_dim,
        intermediate_size=config.mlp_dim,
        num_hidden_layers=sum(config.stages),
        num_attention_heads=config.num_heads,
        image_size=image_size,
        patch_size=config.stride,
        window_size=config.window_spec[0],
        global_attn_indexes=list(config.global_blocks),
        pretrain_image_size=config.position_side * config.stride,
        layer_norm_eps=config.norm_eps,
    )
    vision = Sam3VisionConfig(
        backbone_config=backbone, backbone_feature_sizes=[[grid * zoom] * 2 for zoom in (4, 2, 1)]
    )
    return Sam3TrackerVideoConfig(vision_config=vision, **_shared(config, image_size, decoder))


def _feature_sizes(image_size: int) -> list[list[int]]:
    return [[image_size // stride] * 2 for stride in (4, 8, 16)]


def _shared(config: ModelConfig, image_size: int, decoder: dict) -> dict:
    return dict(
        image_size=image_size,
        prompt_encoder_config=dict(image_size=image_size),
        mask_decoder_config=decoder,
        enable_occlusion_spatial_embedding=config.no_object_embedding,
        enable_temporal_pos_encoding_for_object_pointers=config.pointer_time,
        memory_attention_rope_feat_sizes=[image_size // config.stride, image_size // config.stride],
    )
