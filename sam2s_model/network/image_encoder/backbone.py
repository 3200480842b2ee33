"""What the rest of the project asks of an image encoder: to be built, to be recognised, and what it costs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from sam2s_model.config import ModelConfig
from sam2s_model.network.image_encoder.encoder import ImageEncoder


@dataclass(frozen=True)
class Backbone:
    """One kind of image encoder, an entry of `backbones.BACKBONES`.

    build: makes the encoder that a configuration describes
    recognise: trunk's tensors of a checkpoint, by their names within the trunk -> `embed_dim` and the number of blocks;
        None for those of another kind
    operations: of one image, with the fine features for the mask decoder, from the configuration, the side of the
        features (places), and whether windows that reach over the edge are whole, as they are in the code
        (True), or only have the places that there are (False), which is the least. The bytes follow from the weights.
    coarsest: the side of an image is a multiple of so many strides: those of a place of the coarsest map
    """

    build: Callable[[ModelConfig], ImageEncoder]
    recognise: Callable[[Mapping[str, Tensor]], tuple[int, int] | None]
    operations: Callable[[ModelConfig, int, bool], int]
    coarsest: int


def rows(tensor: Tensor) -> int:
    """Return the length of a weight's first axis; 0 for a number."""
    return tensor.shape[0] if tensor.ndim else 0


def count_blocks(names: Iterable[str], pattern: str) -> int:
    r"""Count the different beginnings of names that match a pattern such as ``blocks\.\d+\.``."""
    return len({match[0] for name in names if (match := re.match(pattern, name))})
