"""EfficientTAM of independent parts: transformers' VitDet before the tracker of PyPI `sam2`, in which its code began.

Its own is the neck alone, two convolutions with a normalisation after each; the tracker has the options of
SAM 2.0, and no finer features.
"""

from __future__ import annotations

import re

import torch
from oracle_sam2 import ExactPredictor, Sam2Oracle
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam2_utils import LayerNorm2d
from torch import Tensor, nn
from transformers import VitDetConfig, VitDetModel

from sam2s_model.bench.peers.sam2_models import build_predictor
from sam2s_model.config import ModelConfig

RENAMED = (
    (r"^image_encoder\.trunk\.patch_embed\.proj\.", "image_encoder.trunk.embeddings.projection."),
    (r"^image_encoder\.trunk\.pos_embed$", "image_encoder.trunk.embeddings.position_embeddings"),
    (r"^image_encoder\.trunk\.blocks\.(\d+)\.attn\.", r"image_encoder.trunk.encoder.layer.\1.attention."),
    (r"^image_encoder\.trunk\.blocks\.(\d+)\.mlp\.layers\.0\.", r"image_encoder.trunk.encoder.layer.\1.mlp.fc1."),
    (r"^image_encoder\.trunk\.blocks\.(\d+)\.mlp\.layers\.1\.", r"image_encoder.trunk.encoder.layer.\1.mlp.fc2."),
    (r"^image_encoder\.trunk\.blocks\.", "image_encoder.trunk.encoder.layer."),
    (r"^image_encoder\.neck\.convs\.0\.conv_1x1\.", "image_encoder.neck.0."),
    (r"^image_encoder\.neck\.convs\.0\.norm_0\.", "image_encoder.neck.1."),
    (r"^image_encoder\.neck\.convs\.0\.conv_3x3\.", "image_encoder.neck.2."),
    (r"^image_encoder\.neck\.convs\.0\.norm_1\.", "image_encoder.neck.3."),
)


class EfficienttamOracle(Sam2Oracle):
    """As `Sam2Oracle`; name: of an EfficientTAM."""

    def _filled(self, state: dict[str, Tensor], name: str, image_size: int, options: dict) -> ExactPredictor:
        options = options | {"use_high_res_features_in_sam": False}
        model = build_predictor("sam2_hiera_tiny", image_size, torch.device("cpu"), options)
        model.image_encoder = _Encoder(ModelConfig.from_name(name), image_size).eval()
        renamed = {}
        for key, value in state.items():
            for pattern, new in RENAMED:
                key = re.sub(pattern, new, key)
            renamed[key] = value
        model.load_state_dict(renamed, strict=True)
        return model


class _Encoder(nn.Module):
    def __init__(self, config: ModelConfig, image_size: int):
        super().__init__()
        depth = sum(config.stages)
        self.trunk = VitDetModel(
            VitDetConfig(
                hidden_size=config.embed_dim,
                num_hidden_layers=depth,
                num_attention_heads=config.num_heads,
                image_size=image_size,
                pretrain_image_size=224,
                patch_size=16,
                window_block_indices=[0, 1, 3, 4, 6, 7, 9, 10],
                window_size=14,
                use_absolute_position_embeddings=True,
                use_relative_position_embeddings=False,
            )
        )
        self.neck = nn.Sequential(
            nn.Conv2d(config.embed_dim, 256, 1, bias=False),
            LayerNorm2d(256),
            nn.Conv2d(256, 256, 3, padding=1, bias=False),
            LayerNorm2d(256),
        )
        self.position = PositionEmbeddingSine(256, warmup_cache=False)

    def forward(self, image: Tensor) -> dict:
        features = self.neck(self.trunk(image).last_hidden_state)
        return {"vision_features": features, "vision_pos_enc": [self.position(features)], "backbone_fpn": [features]}
