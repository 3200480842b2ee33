"""Frozen configurations. The same fields are the node's parameters, the YAML file and the docs table."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, replace
from typing import Any

from sam2s_model.errors import ConfigError
from sam2s_model.similar import meant
from sam2s_model.tracking.policies import POLICIES


def option(default: Any, doc: str, *, low: float | None = None, high: float | None = None, choices: tuple = ()) -> Any:
    """Make a dataclass field with its description and its limits (inclusive)."""
    return field(default=default, metadata=dict(doc=doc, low=low, high=high, choices=choices))


def check_options(config: Any) -> None:
    """Raise ConfigError for the first field of a dataclass that is out of its limits, naming value and limit."""
    for spec in dataclasses.fields(config):
        value, limits = getattr(config, spec.name), spec.metadata
        low, high, choices = limits.get("low"), limits.get("high"), limits.get("choices")
        if choices and value not in choices:
            known = ", ".join(map(repr, choices)) + meant(value, choices)
            raise ConfigError(f"{spec.name} is {value!r}: expected one of {known}")
        if low is not None and not value >= low:
            raise ConfigError(f"{spec.name} is {value!r}: expected at least {low}")
        if high is not None and not value <= high:
            raise ConfigError(f"{spec.name} is {value!r}: expected at most {high}")


@dataclass(frozen=True)
class ModelConfig:
    """The shape of one member of the SAM2 family (SAM2, arXiv 2408.00714, and its published configurations).

    name: of the published checkpoint
    backbone: a name of `image_encoder.BACKBONES`: "hiera", "repvit_m1" (its blocks; embed_dim and stages say how wide
        and deep) or "vit"
    embed_dim, stages: channels of the backbone's first stage and number of blocks of each; of a ViT there is one stage
    num_heads, global_blocks, window_spec, background_size: of Hiera, see `image_encoder.hiera`; of a ViT all but the
        last, too
    stride: px of the image for each place of the features; of a ViT, side of a patch
    mlp_dim, norm_eps: of a ViT's blocks; mlp_dim 0: four times embed_dim
    position_side: of the square table of positions that a ViT was pre-trained with, places
    rotary: a ViT as SAM 3 has it: rotary positions in each block, the table tiled, a normalisation before the blocks
    high_res: the mask decoder sees finer features beside those of `stride`
    image_mean, image_deviation: of the three channels, 0..1, that images are normalised by
    dim, memory_dim: width of features and of memories
    decoder_dim: width of prompt encoder and mask decoder; 0: that of the features
    decoder_mlp, decoder_heads: of the mask decoder's transformer
    memory_layers, memory_ffn: of the memory attention
    num_memories: frames attended to, the prompted ones counted as one
    max_pointers: most frames whose object pointers are attended to
    pointer_span: ages of pointers are divided by it; published is min(frames of the video, 16) - 1, and streams are
        long
    empty_points: "not a point" tokens of an object that is tracked without a prompt
    latents_1d, latents_2d: global tokens, and tokens on a square, that EdgeTAM's perceiver makes of a memory; both 0: a
        memory keeps all its positions
    latents_in_place: the rotary code of those on a square says where in the features' grid they are, whatever its size;
        EdgeTAM's only counts them
    long_term_embedding: SAM2S has a temporal embedding of its own for long-term memories
    short_attention: SLM-SAM2 has a second memory attention, for the newest frame, and two blocks that fuse both
    num_classes: SAM2S's class token is compared with as many class embeddings; 0: there is no class token
    granularity: UnSAMv2 has a token that says how much of an object is meant
    no_object_embedding: SAM 2.1 marks the memory of a frame without the object
    pointer_time: SAM 2.1 gives object pointers a code of their age
    image_size: side of the square input that the checkpoint was trained at, px
    policy: memory policy that "auto" means where the checkpoint has a trained memory
    """

    name: str
    backbone: str = "hiera"
    embed_dim: int = 96
    num_heads: int = 1
    stages: tuple[int, ...] = (1, 2, 7, 2)
    global_blocks: tuple[int, ...] = (5, 7, 9)
    window_spec: tuple[int, ...] = (8, 4, 14, 7)
    background_size: tuple[int, int] = (7, 7)
    stride: int = 16
    mlp_dim: int = 0
    norm_eps: float = 1e-6
    position_side: int = 0
    rotary: bool = False
    high_res: bool = True
    image_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    image_deviation: tuple[float, float, float] = (0.229, 0.224, 0.225)
    dim: int = 256
    memory_dim: int = 64
    decoder_dim: int = 0
    decoder_mlp: int = 2048
    decoder_heads: int = 8
    memory_layers: int = 4
    memory_ffn: int = 2048
    num_memories: int = 7
    max_pointers: int = 16
    pointer_span: int = 15
    empty_points: int = 2
    latents_1d: int = 0
    latents_2d: int = 0
    latents_in_place: bool = False
    long_term_embedding: bool = False
    short_attention: bool = False
    num_classes: int = 0
    granularity: bool = False
    no_object_embedding: bool = False
    pointer_time: bool = False
    image_size: int = 1024
    policy: str = "fifo"

    @property
    def decoder_width(self) -> int:
        return self.decoder_dim or self.dim

    @classmethod
    def from_name(cls, name: str) -> ModelConfig:
        """Look up a published configuration. Raises ConfigError that lists the known names."""
        if name not in MODELS:
            raise ConfigError(f"model {name!r} is not known: expected one of {', '.join(MODELS)}{meant(name, MODELS)}")
        return MODELS[name]


def _published() -> dict[str, ModelConfig]:
    base = ModelConfig("sam2_hiera_", embed_dim=96, num_heads=1, stages=(1, 2, 7, 2), global_blocks=(5, 7, 9))
    sizes = {
        "tiny": base,
        "small": replace(base, stages=(1, 2, 11, 2), global_blocks=(7, 10, 13)),
        "base_plus": replace(
            base, embed_dim=112, num_heads=2, stages=(2, 3, 16, 3), global_blocks=(12, 16, 20), background_size=(14, 14)
        ),
        "large": replace(
            base,
            embed_dim=144,
            num_heads=2,
            stages=(2, 6, 36, 4),
            global_blocks=(23, 33, 43),
            window_spec=(8, 4, 16, 8),
        ),
    }
    sam2 = [replace(config, name=f"sam2_hiera_{size}") for size, config in sizes.items()]
    sam2_1 = [
        replace(config, name=f"sam2.1_hiera_{size}", no_object_embedding=True, pointer_time=True)
        for size, config in sizes.items()
    ]
    return {config.name: config for config in (*sam2, *sam2_1)}


PICO = ModelConfig(
    name="sam2s_pico",
    embed_dim=24,
    num_heads=1,
    stages=(1, 2, 4, 1),
    global_blocks=(6, 7),
    window_spec=(8, 8, 8, 8),
    dim=96,
    memory_dim=32,
    decoder_mlp=384,
    decoder_heads=4,
    memory_layers=2,
    memory_ffn=384,
    no_object_embedding=True,
    pointer_time=True,
    image_size=192,
)
"""This project's smallest model: the same parts, small enough for tests, demonstrations and training on a CPU."""

EDGETAM = ModelConfig(
    name="edgetam",
    backbone="repvit_m1",
    embed_dim=48,
    stages=(2, 2, 14, 2),
    memory_layers=2,
    latents_1d=256,
    latents_2d=256,
)
"""EdgeTAM (arXiv 2501.07256): a convolutional image encoder, memories of a fixed size, and SAM 2.0's options."""

SAM3 = ModelConfig(
    name="sam3",
    backbone="vit",
    embed_dim=1024,
    num_heads=16,
    stages=(32,),
    global_blocks=(7, 15, 23, 31),
    window_spec=(24,),
    stride=14,
    mlp_dim=4736,
    norm_eps=1e-5,
    position_side=24,
    rotary=True,
    image_mean=(0.5, 0.5, 0.5),
    image_deviation=(0.5, 0.5, 0.5),
    no_object_embedding=True,
    pointer_time=True,
    image_size=1008,
    policy="sam3",
)
"""SAM 3's tracker (arXiv 2511.16719): that of SAM 2.1 behind an image encoder of 454 M parameters."""

_EFFICIENTTAM: dict[str, Any] = dict(
    backbone="vit",
    stages=(12,),
    global_blocks=(2, 5, 8, 11),
    window_spec=(14,),
    position_side=14,
    high_res=False,
)
EFFICIENTTAM_S = ModelConfig(name="efficienttam_s", embed_dim=384, num_heads=6, **_EFFICIENTTAM)
EFFICIENTTAM_TI = ModelConfig(name="efficienttam_ti", embed_dim=192, num_heads=3, **_EFFICIENTTAM)
"""EfficientTAM (arXiv 2411.18933): a light vision transformer, one map of features, with the options of SAM 2.0."""

NANO_CLASSES = ("forceps", "scissors", "needle_driver", "hook", "suction", "bipolar", "instrument", "object")
"""Rows of sam2s_nano's class table: the procedural scene's classes in the order of their ids, then the general ones."""

NANO = ModelConfig(
    name="sam2s_nano",
    backbone="repvit_m1",
    embed_dim=40,
    stages=(1, 2, 5, 2),
    dim=128,
    memory_dim=64,
    decoder_dim=256,
    memory_layers=2,
    memory_ffn=256,
    latents_1d=16,
    latents_2d=256,
    latents_in_place=True,
    long_term_embedding=True,
    num_classes=len(NANO_CLASSES),
    no_object_embedding=True,
    pointer_time=True,
    image_size=512,
    policy="match",
)
"""This project's own tracker: EdgeTAM's parts, narrower, with SAM2S's memories and class token, and a mask decoder as
wide as SAM2's, so that training can begin with a published one. 7.8 M parameters; at most 12 GFLOP a frame with one
object and eleven memories (one prompted, six recent, four long-term), see `flops`."""

_OTHERS = (EDGETAM, EFFICIENTTAM_S, EFFICIENTTAM_TI, SAM3, PICO, NANO)
MODELS = {**_published(), **{config.name: config for config in _OTHERS}}


POLICY_NAMES = tuple(POLICIES)
"""Memory policies, see `tracking.policies`."""


@dataclass(frozen=True)
class TrackerConfig:
    """How the tracker runs a model. Defaults are the published ones where there are any."""

    max_objects: int = option(16, "most objects tracked at once", low=1, high=254)
    max_conditioning: int = option(
        4, "prompted frames kept for each object; the first is never evicted", low=2, high=32
    )
    prompt_history: int = option(16, "newest frames that can still be prompted, by their stamp", low=1, high=256)
    multimask_prompts: bool = option(True, "no or one point: choose among three candidate masks by predicted IoU")
    multimask_tracking: bool = option(True, "tracking: choose among three candidate masks by predicted IoU")
    stability: bool = option(True, "a single mask that is not stable gives way to the best of the three candidates")
    stability_delta: float = option(
        0.05, "a mask is stable when its area hardly changes between -delta and +delta", low=0.0, high=10.0
    )
    stability_threshold: float = option(0.98, "least ratio of the two areas of a stable mask", low=0.0, high=1.0)
    object_score_gating: bool = option(
        True, "an object with a score of at most 0.5 has no mask and the pointer of absence"
    )
    binarise_prompted: bool = option(True, "the mask of a prompted frame is remembered without its doubts")
    non_overlap_memory: bool = option(False, "objects share no pixel in memory either; then they influence each other")
    fill_holes: int = option(
        8, "holes up to this area are filled, in pixels of the low-resolution mask; 0 fills none", low=0, high=32
    )
    pruning: str = option(
        "policy",
        "what the short window is thinned by before it is attended to: policy: what the policy's name says; "
        "efp, tsms: with fifo, efp, divemem, divemem+efp, tsms, slm and fifo+match alone",
        choices=("policy", "none", "efp", "tsms"),
    )
    long_term_frames: int = option(4, "divemem: long-term frames kept for each object", low=1, high=32)
    long_term_buffer: int = option(
        5, "divemem: candidates of which the least similar becomes a long-term frame", low=1, high=64
    )
    long_term_min_iou: float = option(0.95, "divemem: a candidate's predicted IoU is greater", low=0.0, high=1.0)
    long_term_consecutive: bool = option(False, "divemem: a frame that is no candidate empties the buffer")
    match_newest: int = option(4, "match: newest frames that labels are propagated from", low=1, high=16)
    match_older: int = option(4, "match: older frames kept for that besides the prompted ones", low=0, high=64)
    match_every: int = option(10, "match: one frame in so many may be kept as an older one", low=1, high=10_000)
    match_keep: str = option(
        "diverse",
        "match: which older frames stay: diverse: those that are least alike, newest",
        choices=("diverse", "newest"),
    )
    match_neighbours: int = option(2, "match: most similar places of each frame that vote", low=1, high=16)
    match_temperature: float = option(0.05, "match: of the votes' weights, in cosines", low=0.001, high=1.0)
    match_radius: float = option(
        0.3, "match: how far places of the newest frames may be away, image sides", low=0.01, high=2.0
    )
    match_threshold: float = option(
        0.4, "match: share of the votes from which a place is taken for the object's", low=0.05, high=0.95
    )
    match_gain: float = option(
        10.0, "match: logits of the mask decoder's prompt for each share of the votes", low=0.1, high=100.0
    )
    match_map_share: float = option(
        0.5, "match: part of the propagated labels, beside the mask, in what is remembered", low=0.0, high=1.0
    )
    match_prompted: float = option(
        1.25, "match: weight of a prompted frame, where a tracked one has at most 1", low=0.1, high=100.0
    )
    match_missed: float = option(
        1.1, "match: what a mask misses of the labels counts so many times what it has beyond", low=0.1, high=10.0
    )
    min_predicted_iou: float = option(
        0.4, "a mask of which the model expects a lower IoU is SUSPECT", low=0.0, high=1.0
    )
    lost_after: float = option(2.0, "s without being visible until OCCLUDED becomes LOST", low=0.0, high=3600.0)
    max_area_fraction: float = option(0.6, "a mask over more of the image than this is SUSPECT", low=0.0, high=1.0)
    min_area_ratio: float = option(
        0.05, "a mask with less than this part of the object's usual area is SUSPECT", low=0.0, high=1.0
    )
    max_jump: float = option(
        0.35, "a centroid that moves further in one frame, in image diagonals, is SUSPECT", low=0.0, high=1.0
    )
    confirm_frames: int = option(1, "plausible masks in a row until an object is TRACKED again", low=1, high=100)
    hysteresis: float = option(
        0.05, "until then, score and predicted IoU must be above their limits by this", low=0.0, high=0.5
    )
    reidentification: bool = option(
        True, "what appears of a LOST object is compared with it; the mask of another is withheld"
    )
    min_similarity: float = option(
        0.3, "least cosine of its looks with those of its confident frames", low=-1.0, high=1.0
    )
    confident_iou: float = option(
        0.8, "least predicted IoU of a frame that the looks are learnt from", low=0.0, high=1.0
    )
    min_class_score: float = option(
        0.5, "least score from which the class head names an object that no prompt gave a class", low=0.0, high=1.0
    )
    discovery_grid: int = option(8, "discovery: points along each side of the coarse grid", low=1, high=64)
    discovery_fine_grid: int = option(
        0, "discovery: the same of the grid for what the coarse one does not surely cover; 0: none", low=0, high=64
    )
    discovery_min_iou: float = option(0.5, "discovery: least predicted IoU of a proposal", low=0.0, high=1.0)
    discovery_min_stability: float = option(
        0.7, "discovery: least share of a proposal's area that hardly depends on its threshold", low=0.0, high=1.0
    )
    discovery_min_margin: float = option(
        0.5,
        "discovery: where between background (0) and class (1) a proposal must be to be of that class",
        low=-1.0,
        high=1.0,
    )
    discovery_overlap: float = option(
        0.6, "discovery: of two proposals with a greater IoU the worse goes", low=0.0, high=1.0
    )
    learn_prototypes: bool = option(True, "what a person prompts with a class is added to the prototypes of that class")
    cache_keys: bool = option(
        False,
        "make the keys of spatial memories once and keep them, in 5 to 17 times the memories' own room, "
        "see docs/memory.md",
    )
    cuda_graphs: bool = option(
        True, "on a GPU, launch a step's kernels as captured graphs; off: one by one, to compare"
    )
    field_of_view: str = option(
        "full", "pixels marked 255: full marks none, auto finds the endoscope's circle", choices=("full", "auto")
    )

    def __post_init__(self):
        check_options(self)
