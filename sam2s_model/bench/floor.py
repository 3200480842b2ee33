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
from sam2s_model.bench.flops import Flops
from sam2s_model.config import ModelConfig
from sam2s_model.network.model import LOGITS_PER_PLACE, Sam2Model
from sam2s_model.network.operations import linear
from sam2s_model.tracking.propagation import FINER

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
    remembered = (keys * (config.memory_layers * config.dim + config.memory_dim)) * size  # keys of each layer, values
    logits = 4 * LOGITS_PER_PLACE**2 * places  # fp32
    image = 3 * shape.image_size**2  # the camera's; the label map is a third of it
    entries = shape.matched * places
    read = entries * config.dim + n * entries * FINER**2  # tokens of the frames, and label maps
    moved = {
        ENCODER: weights[ENCODER] + image,
        MATCHES: (read + places * config.dim + n * places * FINER**2) * size,
        ATTENTION: weights[ATTENTION] + n * remembered,
        DECODER: weights[DECODER] + n * logits + image / 3,
        MEMORY: weights[MEMORY] + n * tokens * config.memory_dim * size,
    }
    least = flops.count_least(config, shape.image_size, shape.memories, shape.pointers, n)
    return {part: Work(done, moved[part]) for part, done in _by_part(least, config, shape).items()}


def work_done(config: ModelConfig, shape: Shape) -> dict[str, int]:
    """Operations of each part as the model does them now, see `flops`."""
    done = flops.count(config, shape.image_size, shape.memories, shape.pointers, shape.objects)
    return _by_part(done, config, shape)


def _by_part(counted: Flops, config: ModelConfig, shape: Shape) -> dict[str, int]:
    places = (shape.image_size // config.stride) ** 2
    found = {
        ENCODER: counted.image_encoder,
        # once for all objects; the sums along the best matches are negligible
        MATCHES: linear(places, config.dim, shape.matched * places),
        ATTENTION: counted.memory_attention + counted.class_token,
        DECODER: counted.mask_decoder,
        MEMORY: counted.memory_encoder + counted.perceiver,
    }
    return {part: found[part] for part in _parts(shape)}


def _parts(shape: Shape) -> list[str]:
    """Those that a step has."""
    absent = {MATCHES} if not shape.matched else set()
    if not (shape.memories or shape.pointers):
        absent |= {ATTENTION, MEMORY}
    return [part for part in PARTS if part not in absent]


def _weights(model: Sam2Model) -> dict[str, int]:
    """Numbers in the weights of each part."""
    counts = dict.fromkeys(PARTS, 0)
    for name, tensor in model.named_parameters():
        part = next((part for part, beginnings in _WEIGHTS.items() if name.startswith(beginnings)), None)
        if part:
            counts[part] += tensor.numel()
    return counts
