"""What every image encoder consists of: a trunk, an image to maps, and a neck, these to the features of the tracker."""

from __future__ import annotations

from torch import Tensor, nn


class Trunk(nn.Module):
    """Turns an image (B, 3, S, S) into maps (B, channels[i], ., .), the finest first."""

    channels: list[int]

    def forward(self, image: Tensor) -> list[Tensor]:
        raise NotImplementedError


class Neck(nn.Module):
    """Turns a trunk's maps into three of equal width, (4h, 4w), (2h, 2w) and (h, w); the finer two may be empty."""

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        raise NotImplementedError

    def coarse(self, maps: list[Tensor]) -> Tensor:
        """Return the last of `forward`'s maps alone."""
        raise NotImplementedError

    def fine(self, maps: list[Tensor], heads: tuple[nn.Conv2d, ...]) -> list[Tensor]:
        """Return the mask decoder's 1x1 convolutions, `heads`, of the other two; without heads, two empty tensors."""
        raise NotImplementedError


class ImageEncoder(nn.Module):
    """A trunk and the neck on it."""

    def __init__(self, trunk: Trunk, neck: Neck):
        super().__init__()
        self.trunk = trunk
        self.neck = neck

    def forward(self, image: Tensor) -> list[Tensor]:
        return self.neck(self.trunk(image))
