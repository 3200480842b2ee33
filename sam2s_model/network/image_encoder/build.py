"""The image encoder that a configuration describes."""

from __future__ import annotations

from sam2s_model.config import ModelConfig
from sam2s_model.errors import ConfigError
from sam2s_model.network.image_encoder.encoder import ImageEncoder
from sam2s_model.network.image_encoder.fpn import FpnNeck
from sam2s_model.network.image_encoder.hiera import Hiera
from sam2s_model.network.image_encoder.repvit import RepViT
from sam2s_model.network.image_encoder.vit import ViT
from sam2s_model.network.image_encoder.vit_necks import PyramidNeck, SingleLevelNeck


def build_image_encoder(config: ModelConfig) -> ImageEncoder:
    """Trunk and neck. Raises ConfigError."""
    trunk: Hiera | RepViT | ViT
    if config.backbone == "vit":
        trunk = ViT(
            config.embed_dim,
            sum(config.stages),
            config.num_heads,
            config.mlp_dim or 4 * config.embed_dim,
            config.stride,
            config.window_spec[0],
            config.global_blocks,
            config.position_side,
            config.rotary,
            config.norm_eps,
        )
        neck = PyramidNeck if config.high_res else SingleLevelNeck
        return ImageEncoder(trunk, neck(config.dim, config.embed_dim))
    if config.backbone == "repvit_m1":
        trunk = RepViT(config.embed_dim, config.stages)
    elif config.backbone == "hiera":
        trunk = Hiera(
            config.embed_dim,
            config.num_heads,
            config.stages,
            config.window_spec,
            config.global_blocks,
            config.background_size,
        )
    else:
        raise ConfigError(f"backbone is {config.backbone!r}: expected 'hiera', 'repvit_m1' or 'vit'")
    return ImageEncoder(trunk, FpnNeck(config.dim, trunk.channels))
