"""The least that a step costs: operations and bytes that no program for the same answers can do without.

Counted after all savings that are exact algebra: keys are projected and rotated once, when a memory is made; values
keep their width, and the projections on both sides of a softmax are one; what has not seen an object is done once a
frame; windows have no padded tokens; the neck's two finest laterals are one with the decoder's convolutions behind
them. Products of weights with weights are not counted, since they are the same for all frames. `flops` counts what is
done instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sam2s_model.bench import flops
from sam2s_model.bench.flops import _attention, _linear, _repvit, vit, vit_neck
from sam2s_model.config import ModelConfig
from sam2s_model.network.model import LOGITS_PER_PLACE, Sam2Model
from sam2s_model.tracking.correspondence import FINER

ENCODER, MATCHES, ATTENTION = "image encoder", "correspondences", "memory attention"
DECODER, MEMORY = "mask decoder", "memory encoder"
PARTS = (ENCODER, MATCHES, ATTENTION, DECODER, MEMORY)
"""Of a step, in their order. The class token is in the memory attention, the perceiver in the memory encoder."""

_WEIGHTS = {
    ENCODER: ("image_encoder.", "sam_mask_decoder.conv_s"),
    ATTENTION: ("memory_attention.", "temporal_semantics.", "obj_ptr_tpos_proj.", "decoder_proj."),
    DECODER: ("sam_mask_decoder.", "obj_ptr_proj."),
    MEMORY: ("memory_encoder.", "spatial_perceiver."),
}  # the first that fits; what is left is as good as nothing


@dataclass(frozen=True)
class Work:
    """flops: operations, a multiplication and an addition are two; bytes: read from and written to memory"""

    flops: float
    bytes: float

    def seconds(self, flops_rate: float, bandwidth: float) -> float:
        """At so many operations and bytes a second: the longer of both, as if they went on at the same time."""
        return max(self.flops / flops_rate, self.bytes / bandwidth)


@dataclass(frozen=True)
class Shape:
    """What a step's work depends on besides the network.

    memories, pointers: that each object attends to; both 0: a step without a trained memory
    element_size: bytes of a number
    matched: frames that each place is compared with, see `tracking.correspondence`
    """

    image_size: int
    objects: int
    memories: int
    pointers: int
    element_size: int
    matched: int = 0


def floor_seconds(works: Mapping[str, Work], flops_rate: float, bandwidth: float) -> float:
    """Of a whole step: its parts wait for each other."""
    return sum(work.seconds(flops_rate, bandwidth) for work in works.values())


def least_work(model: Sam2Model, shape: Shape) -> dict[str, Work]:
    """Count the least of each part of a step. A second memory attention (SLM-SAM2) is not counted."""
    config = model.config
    side = shape.image_size // config.stride
    places, n, size = side * side, shape.objects, shape.element_size
    tokens = config.latents_1d + config.latents_2d or places  # of a memory
    split = config.dim // config.memory_dim  # tokens of a pointer
    keys = shape.memories * tokens + shape.pointers * split
    weights = {part: size * count for part, count in _weights(model).items()}
    done = flops.count(config, shape.image_size, shape.memories, shape.pointers, n)
    remembered = (
        keys * (config.memory_layers * config.dim + config.memory_dim) * size
    )  # keys of each layer, and the values
    logits = 4 * LOGITS_PER_PLACE**2 * places  # fp32
    image = 3 * shape.image_size**2  # the camera's; the label map is a third of it
    works = {
        ENCODER: Work(_image_encoder(config, side), weights[ENCODER] + image),
        ATTENTION: Work(
            _memory_attention(config, places, keys, tokens + split, n) + done.class_token,
            weights[ATTENTION] + n * remembered,
        ),
        DECODER: Work(done.mask_decoder, weights[DECODER] + n * logits + image / 3),
        MEMORY: Work(done.memory_encoder + done.perceiver, weights[MEMORY] + n * tokens * config.memory_dim * size),
    }
    if shape.matched:
        entries = shape.matched * places
        read = entries * config.dim + n * entries * FINER**2  # tokens of the frames, and label maps
        works[MATCHES] = Work(
            _matches(config, places, shape), (read + places * config.dim + n * places * FINER**2) * size
        )
    return {part: works[part] for part in _parts(shape)}


def work_done(config: ModelConfig, shape: Shape) -> dict[str, int]:
    """Operations of each part as the model does them now, see `flops`."""
    done = flops.count(config, shape.image_size, shape.memories, shape.pointers, shape.objects)
    found = {
        ENCODER: done.image_encoder,
        MATCHES: _matches(config, (shape.image_size // config.stride) ** 2, shape),
        ATTENTION: done.memory_attention + done.class_token,
        DECODER: done.mask_decoder,
        MEMORY: done.memory_encoder + done.perceiver,
    }
    return {part: found[part] for part in _parts(shape)}


def _parts(shape: Shape) -> list[str]:
    """Those that a step has."""
    absent = {MATCHES} if not shape.matched else set()
    if not (shape.memories or shape.pointers):
        absent |= {ATTENTION, MEMORY}
    return [part for part in PARTS if part not in absent]


def _matches(config: ModelConfig, places: int, shape: Shape) -> int:
    """Count the comparisons of each place with each frame, once for all objects; the sums after them are negligible."""
    return _linear(places, config.dim, shape.matched * places)


def _image_encoder(config: ModelConfig, side: int) -> int:
    if config.backbone == "vit":
        return vit(config, side, padded=False) + vit_neck(config, side)
    places = side * side
    stages = [places * 16, places * 4, places, places // 4]
    widths = [config.embed_dim * 2**i for i in range(4)]
    trunk = _repvit(config, stages, widths) if config.backbone == "repvit_m1" else _hiera(config, side, widths)
    into = (config.decoder_width // 8, config.decoder_width // 4, config.dim, config.dim)
    return trunk + sum(map(_linear, stages, widths, into))


def _hiera(config: ModelConfig, side: int, widths: list[int]) -> int:
    grid, index = 4 * side, 0
    total = 2 * 49 * grid * grid * 3 * widths[0]
    for stage, depth in enumerate(config.stages):
        for i in range(depth):
            pool = stage > 0 and i == 0
            d_in, d_out = widths[stage - pool], widths[stage]
            window = grid if index in config.global_blocks else config.window_spec[stage - pool]
            share = 4 if pool else 1  # a quarter of the queries remains
            total += _linear(grid * grid, d_in, 3 * d_out) + 4 * _pairs(grid, window) * d_out // share
            total += _linear(grid * grid // share, d_out, d_out)
            if pool:
                total += _linear(grid * grid, d_in, d_out)
                grid //= 2
            total += 2 * _linear(grid * grid, d_out, 4 * d_out)
            index += 1
    return total


def _pairs(grid: int, window: int) -> int:
    """Of places of a square grid that are in the same window."""
    whole, rest = divmod(grid, window)
    return (whole * window**2 + rest**2) ** 2


def _memory_attention(config: ModelConfig, places: int, keys: int, new: int, objects: int) -> int:
    """Count the memory attention of all objects. new: keys that were not there on the frame before"""
    dim, memory_dim, layers = config.dim, config.memory_dim, config.memory_layers
    own = 4 * _linear(places, dim, dim) + _attention(places, places, dim)  # with the query that meets the memories
    across = (
        _linear(new, memory_dim, dim)
        + _attention(places, keys, (dim + memory_dim) // 2)
        + _linear(places, memory_dim, dim)
    )
    ffn = 2 * _linear(places, dim, config.memory_ffn)
    widened = _linear(places, dim, config.decoder_dim) if config.decoder_width != dim else 0
    return own + objects * ((layers - 1) * own + layers * (across + ffn) + widened)


def _weights(model: Sam2Model) -> dict[str, int]:
    """Numbers in the weights of each part."""
    counts = dict.fromkeys(PARTS, 0)
    for name, tensor in model.named_parameters():
        part = next((part for part, beginnings in _WEIGHTS.items() if name.startswith(beginnings)), None)
        if part:
            counts[part] += tensor.numel()
    return counts
