"""The one cost model: floating-point operations of each part of a configuration, by formulas.

As it is done on each frame (`count`), or at the least (`count_least`, of which `floor` makes times). What weights alone
decide is folded into them before, see `folding`. The image encoder's are in its entry of `BACKBONES`.
Two operations a multiplication with its addition. Convolutions, linear layers and the products of attention count;
normalisation, activations, resizing and sums do not (they are a few per cent).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

from sam2s_model.config import ModelConfig
from sam2s_model.network.image_encoder import backbone_of
from sam2s_model.network.operations import ZOOM, attention, linear

TRACKING_TOKENS = 6  # of the mask decoder beside the prompt's: object score, IoU, four masks


@dataclass(frozen=True)
class Flops:
    """Operations of one frame: of the image encoder and all else before objects' memories once, of the rest per object.

    image_encoder: trunk, neck and the fine features for the decoder; memory_encoder: without the perceiver
    """

    image_encoder: int
    memory_attention: int
    class_token: int
    mask_decoder: int
    memory_encoder: int
    perceiver: int

    @property
    def total(self) -> int:
        return sum(getattr(self, spec.name) for spec in fields(self))


def count(
    config: ModelConfig,
    image_size: int = 0,
    memories: int = 0,
    pointers: int = 0,
    objects: int = 1,
    cache_keys: bool = False,
) -> Flops:
    """Count what tracking `objects` through one frame takes, as it is done.

    image_size: side of the input, px, 0: the configuration's own
    memories, pointers: that each object attends to, 0: as many as SAM2 keeps (`num_memories`, `max_pointers`)
    cache_keys: whether keys of spatial memories are made once, with the memory of this frame
    Raises ConfigError for a backbone that is not known.
    """
    return _count(
        config,
        (image_size or config.image_size) // config.stride,
        memories or config.num_memories,
        pointers or config.max_pointers,
        objects,
        least=False,
        cache_keys=cache_keys,
    )


def count_least(config: ModelConfig, image_size: int, memories: int, pointers: int, objects: int) -> Flops:
    """Count what no program for the same answers can do without; arguments as of `count`.

    Windows have no padded tokens, keys are projected once, when their memory is made, and the codes of the pointers'
    ages are the same on all frames.
    """
    return _count(config, image_size // config.stride, memories, pointers, objects, least=True, cache_keys=True)


def _count(
    config: ModelConfig, side: int, memories: int, pointers: int, objects: int, least: bool, cache_keys: bool
) -> Flops:
    places, split = side * side, config.dim // config.memory_dim  # a pointer is so many tokens
    tokens = config.latents_1d + config.latents_2d or places  # of a memory
    keys = memories * tokens + pointers * split
    made = (tokens if cache_keys else memories * tokens) + (split if least else pointers * split)
    memory = _memory_attention(config, places, keys, made)
    coded = linear(pointers * split, config.dim, config.memory_dim) if config.pointer_time and not least else 0
    return Flops(
        image_encoder=backbone_of(config).operations(config, side, not least),
        memory_attention=memory.once + objects * (memory.of_object + coded),
        class_token=objects * _class_token(config, places, keys),
        mask_decoder=objects * _mask_decoder(config, places),
        memory_encoder=objects * _memory_encoder(config, places) + linear(places, config.dim, config.dim),
        perceiver=objects * _perceiver(config, side),
    )


class _Split(NamedTuple):
    once: int
    of_object: int


def _memory_attention(config: ModelConfig, places: int, keys: int, projected: int) -> _Split:
    """Values keep their width, and the first layer begins with the frame alone, see `memory_attention`.

    projected: keys that are projected on this frame
    """
    dim, memory_dim, layers = config.dim, config.memory_dim, config.memory_layers
    own = 4 * linear(places, dim, dim) + attention(places, places, dim)  # with the query that meets the memories
    across = (
        linear(projected, memory_dim, dim)
        + attention(places, keys, (dim + memory_dim) // 2)
        + linear(places, memory_dim, dim)
    )
    ffn = 2 * linear(places, dim, config.memory_ffn)
    widened = linear(places, dim, config.decoder_dim) if config.decoder_width != dim else 0
    return _Split(once=own, of_object=(layers - 1) * own + layers * (across + ffn) + widened)


def _class_token(config: ModelConfig, places: int, keys: int) -> int:
    if not config.num_classes:
        return 0
    dim, memory_dim = config.dim, config.memory_dim
    remembered = 2 * linear(1, dim, dim) + 2 * linear(keys, memory_dim, dim) + attention(1, keys, dim)
    seen = 2 * linear(1, dim, dim) + 2 * linear(places, dim, dim) + attention(1, places, dim)
    return remembered + seen + linear(1, dim, dim) + linear(1, dim, config.num_classes)


def _mask_decoder(config: ModelConfig, places: int) -> int:
    """Of an object without a prompt, with its pointer."""
    dim, tokens, half = config.decoder_width, TRACKING_TOKENS + config.empty_points, config.decoder_width // 2

    def across(queries: int, keys: int) -> int:
        return 2 * (linear(queries, dim, half) + linear(keys, dim, half)) + attention(queries, keys, half)

    block = 4 * linear(tokens, dim, dim) + attention(tokens, tokens, dim) + across(tokens, places)
    block += 2 * linear(tokens, dim, config.decoder_mlp) + across(places, tokens)
    up = 4 * linear(places, dim, dim // 4) + 4 * linear(ZOOM[1] * places, dim // 4, dim // 8)
    # A small network for each of four masks, for their IoUs and for the object's score: as one batch, all are as wide
    # as the widest.
    networks = 6 * (2 * linear(1, dim, dim) + linear(1, dim, max(dim // 8, 4)))
    mask = linear(ZOOM[0] * places, dim // 8, 1)
    pointer = linear(1, dim, config.dim) + 2 * linear(1, config.dim, config.dim)
    return 2 * block + across(tokens, places) + up + networks + mask + pointer


def _memory_encoder(config: ModelConfig, places: int) -> int:
    """Without the projection of the features, which is the same for all objects."""
    dim = config.dim
    down = sum(2 * 9 * places * 4 ** (3 - i) * 4**i * 4 ** (i + 1) for i in range(4)) + linear(places, 256, dim)
    fuser = 2 * (2 * 49 * places * dim + 2 * linear(places, dim, 4 * dim))
    return down + fuser + linear(places, dim, config.memory_dim)


def _perceiver(config: ModelConfig, side: int) -> int:
    if not config.latents_2d:
        return 0
    dim, squares = config.memory_dim, config.latents_2d
    across = round(squares**0.5)
    stretched = (-(-side // across) * across) ** 2

    def layer(latents: int, tokens: int, groups: int) -> int:
        read = 2 * linear(latents, dim, dim) + linear(tokens, dim, 2 * dim)
        look = 2 * linear(latents, dim, dim) + linear(latents, dim, 2 * dim)
        products = attention(latents, tokens // groups, dim) + attention(latents, latents // groups, dim)
        return read + look + products + 4 * linear(latents, dim, 4 * dim)

    return 2 * (layer(config.latents_1d, side * side, 1) + layer(squares, stretched, squares))
