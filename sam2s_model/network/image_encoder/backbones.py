"""The image encoders that there are. A new one is its module, a line here, and its test."""

from __future__ import annotations

from sam2s_model.config import ModelConfig
from sam2s_model.errors import ConfigError
from sam2s_model.network.image_encoder import hiera, repvit, vit
from sam2s_model.network.image_encoder.backbone import Backbone
from sam2s_model.network.image_encoder.encoder import ImageEncoder

BACKBONES: dict[str, Backbone] = {
    "hiera": hiera.BACKBONE,
    "repvit_m1": repvit.BACKBONE,
    "vit": vit.BACKBONE,
}
"""By the configuration's `backbone`."""


def backbone_of(config: ModelConfig) -> Backbone:
    """Look up the kind of a configuration's image encoder. Raises ConfigError that lists those that there are."""
    if config.backbone not in BACKBONES:
        raise ConfigError(f"backbone is {config.backbone!r}: expected one of {', '.join(map(repr, BACKBONES))}")
    return BACKBONES[config.backbone]


def build_image_encoder(config: ModelConfig) -> ImageEncoder:
    """Build trunk and neck. Raises ConfigError."""
    return backbone_of(config).build(config)


def size_step(config: ModelConfig) -> int:
    """Px of which the side of an input is a multiple: a place of the coarsest map. Raises ConfigError."""
    return backbone_of(config).coarsest * config.stride
