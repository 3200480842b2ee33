"""Image encoders of the family: an image to features at 1/4, 1/8 and 1/16 of its size, or to the last of them alone."""

from sam2s_model.network.image_encoder.backbone import Backbone
from sam2s_model.network.image_encoder.backbones import BACKBONES, backbone_of, build_image_encoder, size_step
from sam2s_model.network.image_encoder.encoder import ImageEncoder
from sam2s_model.network.image_encoder.fpn import FpnNeck
from sam2s_model.network.image_encoder.hiera import Hiera
from sam2s_model.network.image_encoder.repvit import RepViT
from sam2s_model.network.image_encoder.vit import ViT

__all__ = [
    "BACKBONES",
    "Backbone",
    "FpnNeck",
    "Hiera",
    "ImageEncoder",
    "RepViT",
    "ViT",
    "backbone_of",
    "build_image_encoder",
    "size_step",
]
