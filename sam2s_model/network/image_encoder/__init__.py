"""Image encoders of the family: an image to features at 1/4, 1/8 and 1/16 of its size."""

from sam2s_model.network.image_encoder.fpn import FpnNeck, ImageEncoder
from sam2s_model.network.image_encoder.hiera import Hiera
from sam2s_model.network.image_encoder.repvit import RepViT

__all__ = ["FpnNeck", "Hiera", "ImageEncoder", "RepViT"]
