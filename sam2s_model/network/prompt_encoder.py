"""The prompt encoder of SAM (arXiv 2304.02643 app. A), as SAM2 uses it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2s_model.acceleration.folding import Folding
from sam2s_model.network.granularity import GranularityEmbedder
from sam2s_model.network.layer_list import LayerList
from sam2s_model.network.layers import LayerNorm2d

# Labels of encoded points. 0 and 1 are a person's clicks; a box is its two corners.
PADDING, NEGATIVE, POSITIVE, BOX_TOP_LEFT, BOX_BOTTOM_RIGHT = -1, 0, 1, 2, 3


class PromptEncoder(nn.Module):
    """Points to sparse tokens, a mask to a dense embedding.

    dim: width of all embeddings; empty_points: tokens of an object without a prompt
    mask_channels: of the mask's convolutions; granularity: whether there is a token of it, UnSAMv2's
    """

    def __init__(self, dim: int, empty_points: int = 2, mask_channels: int = 16, granularity: bool = False):
        super().__init__()
        self.empty_points = empty_points
        self.pe_layer = RandomFourierPosition(dim)
        self.point_embeddings = LayerList(nn.Embedding(1, dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, mask_channels // 4, kernel_size=2, stride=2),
            LayerNorm2d(mask_channels // 4),
            nn.GELU(),
            nn.Conv2d(mask_channels // 4, mask_channels, kernel_size=2, stride=2),
            LayerNorm2d(mask_channels),
            nn.GELU(),
            nn.Conv2d(mask_channels, dim, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, dim)
        if granularity:
            self.granularity_embedding = nn.Embedding(1, dim)
            self.fourier_embedder = GranularityEmbedder(dim)
        self._grid_position = Folding(_grid_position)

    def points(self, coordinates: Tensor, labels: Tensor, image_size: int) -> Tensor:
        """(B, P, 2) px of the square model input of side image_size, x y, and (B, P) in -1..3 -> (B, P + 1, dim).

        SAM always appends one "not a point" token.
        """
        batch = len(coordinates)
        coordinates = torch.cat((coordinates.float() + 0.5, coordinates.new_zeros(batch, 1, 2)), dim=1)
        labels = torch.cat((labels, labels.new_full((batch, 1), PADDING)), dim=1)
        place = self.pe_layer(coordinates / image_size)
        place = place.masked_fill((labels == PADDING)[..., None], 0.0)
        kinds = torch.cat([self.not_a_point_embed.weight] + [e.weight for e in self.point_embeddings])
        return place.to(kinds.dtype) + kinds[labels + 1]

    def no_points(self, batch: int) -> Tensor:
        """(B, empty_points, dim): the tokens of an object that is tracked without a prompt, each "not a point"."""
        return self.not_a_point_embed.weight.expand(batch, self.empty_points, -1)

    def granularity(self, values: Tensor) -> Tensor:
        """(B,) in 0.1..1 -> (B, 1, dim)"""
        return self.fourier_embedder(values) + self.granularity_embedding.weight

    def mask(self, logits: Tensor | None, batch: int, grid: tuple[int, int]) -> Tensor:
        """(B, 1, 4h, 4w) mask logits, or None, on a feature grid of (h, w) -> (B, dim, h, w)."""
        if logits is None:
            return self.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(batch, -1, *grid)
        size = (4 * grid[0], 4 * grid[1])
        if logits.shape[-2:] != size:
            logits = F.interpolate(logits.float(), size=size, mode="bilinear", antialias=True)
        return self.mask_downscaling(logits.to(self.no_mask_embed.weight.dtype))

    def grid_position(self, height: int, width: int) -> Tensor:
        """(1, dim, h, w): the position of each feature, in the code that the points have."""
        matrix = self.pe_layer.positional_encoding_gaussian_matrix
        return self._grid_position(matrix, height=height, width=width, dtype=self.no_mask_embed.weight.dtype)


class RandomFourierPosition(nn.Module):
    """A fixed random projection of (x, y) in 0..1, then sines and cosines: (..., 2) -> (..., dim), fp32."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, dim // 2))

    def forward(self, place: Tensor) -> Tensor:
        return _fourier(place, self.positional_encoding_gaussian_matrix)


def given_logits(mask: Tensor, grid: tuple[int, int]) -> Tensor:
    """Turn masks (B, 1, S, S) of 0 and 1 that are taken as they are into logits (B, 1, 4h, 4w). grid: (h, w)"""
    size = (4 * grid[0], 4 * grid[1])
    return F.interpolate(mask.float() * 20 - 10, size=size, mode="bilinear", antialias=True)


def _fourier(place: Tensor, matrix: Tensor) -> Tensor:
    angle = (2 * place - 1) @ matrix.float() * (2 * math.pi)
    return torch.cat((angle.sin(), angle.cos()), dim=-1)


def _grid_position(matrix: Tensor, *, height: int, width: int, dtype: torch.dtype) -> Tensor:
    y = (torch.arange(height, device=matrix.device, dtype=torch.float32) + 0.5) / height
    x = (torch.arange(width, device=matrix.device, dtype=torch.float32) + 0.5) / width
    place = torch.stack((x[None].expand(height, -1), y[:, None].expand(-1, width)), dim=-1)
    return _fourier(place, matrix).to(dtype).permute(2, 0, 1)[None]
