"""Image encoders of the family: an image to features at 1/4, 1/8 and 1/16 of its size, or to the last of them alone."""

from sam2s_model.network.image_encoder.build import build_image_encoder
from sam2s_model.network.image_encoder.encoder import ImageEncoder
from sam2s_model.network.image_encoder.fpn import FpnNeck
from sam2s_model.network.image_encoder.hiera import Hiera
from sam2s_model.network.image_encoder.repvit import RepViT
from sam2s_model.network.image_encoder.vit import ViT

__all__ = ["FpnNeck", "Hiera", "ImageEncoder", "RepViT", "ViT", "build_image_encoder"]
