"""What a configuration costs: floating-point operations of each part, by formulas.

As it is done on each frame: what weights alone decide is folded into them before, see `folding`.
Two operations a multiplication with its addition. Convolutions, linear layers and the products of attention count;
normalisation, activations, resizing and sums do not (they are a few per cent).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from sam2s_model.config import ModelConfig

TRACKING_TOKENS = 6  # of the mask decoder beside the prompt's: object score, IoU, four masks
ZOOM = (16, 4)  # places at 1/4 and 1/8 of the image for one at 1/16


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


def count(config: ModelConfig, image_size: int = 0, memories: int = 0, pointers: int = 0, objects: int = 1) -> Flops:
    """Operations of tracking `objects` through one frame.

    image_size: side of the input, px, 0: the configuration's own
    memories, pointers: that each object attends to, 0: as many as SAM2 keeps (`num_memories`, `max_pointers`)
    """
    side = (image_size or config.image_size) // config.stride
    places = side * side
    memories, pointers = memories or config.num_memories, pointers or config.max_pointers
    keys = memories * (config.latents_1d + config.latents_2d or places) + pointers * (config.dim // config.memory_dim)
    return Flops(
        image_encoder=_image_encoder(config, side),
        memory_attention=_memory_attention(config, places, keys, pointers, objects),
        class_token=objects * _class_token(config, places, keys),
        mask_decoder=objects * _mask_decoder(config, places),
        memory_encoder=objects * _memory_encoder(config, places) + _linear(places, config.dim, config.dim),
        perceiver=objects * _perceiver(config, side),
    )


def _linear(rows: int, d_in: int, d_out: int) -> int:
    """Count a linear layer on that many rows, or a 1x1 convolution on that many places."""
    return 2 * rows * d_in * d_out


def _attention(queries: int, keys: int, dim: int) -> int:
    """Both products of an attention, all heads together."""
    return 4 * queries * keys * dim


def _image_encoder(config: ModelConfig, side: int) -> int:
    if config.backbone == "vit":
        return vit(config, side, padded=True) + vit_neck(config, side)
    places = side * side
    stages = [places * 16, places * 4, places, places // 4]
    widths = [config.embed_dim * 2**i for i in range(4)]
    trunk = _repvit(config, stages, widths) if config.backbone == "repvit_m1" else _hiera(config, side, widths)
    neck = sum(_linear(n, c, config.dim) for n, c in zip(stages[2:], widths[2:], strict=True))
    fine = _linear(stages[0], widths[0], config.decoder_width // 8) + _linear(
        stages[1], widths[1], config.decoder_width // 4
    )
    return trunk + neck + fine


def _repvit(config: ModelConfig, stages: list[int], widths: list[int]) -> int:
    def mixer(n: int, c: int) -> int:
        return 2 * _linear(n, c, 2 * c)

    def block(n: int, c: int, squeeze: bool) -> int:
        inner = max(8, (c // 4 + 4) // 8 * 8)
        return 2 * n * c * 9 + mixer(n, c) + squeeze * 2 * _linear(1, c, inner)

    first = widths[0]
    total = 2 * 9 * (4 * stages[0] * 3 * (first // 2) + stages[0] * (first // 2) * first)  # the stem
    for i, (n, c, depth) in enumerate(zip(stages, widths, config.stages, strict=True)):
        total += sum(block(n, c, k % 2 == 0) for k in range(depth))
        if i:
            before = widths[i - 1]
            total += block(stages[i - 1], before, False) + 2 * 9 * n * before + _linear(n, before, c) + mixer(n, c)
    return total


def _hiera(config: ModelConfig, side: int, widths: list[int]) -> int:
    grid, index = 4 * side, 0
    total = 2 * 49 * grid * grid * 3 * widths[0]
    for stage, depth in enumerate(config.stages):
        for i in range(depth):
            pool = stage > 0 and i == 0
            d_in, d_out = widths[stage - pool], widths[stage]
            window = 0 if index in config.global_blocks else config.window_spec[stage - pool]
            whole = -(-grid // window) * window if window else grid  # padded to whole windows
            tokens, window_tokens = whole * whole, window * window or whole * whole
            share = 4 if pool else 1  # a quarter of the queries remains
            total += _linear(grid * grid, d_in, 3 * d_out) + _attention(tokens // share, window_tokens, d_out)
            if pool:
                total += _linear(grid * grid, d_in, d_out)
                grid //= 2
            total += _linear(grid * grid, d_out, d_out) + 2 * _linear(grid * grid, d_out, 4 * d_out)
            index += 1
    return total


def vit(config: ModelConfig, side: int, padded: bool) -> int:
    """Count a plain vision transformer. padded: windows that reach over the edge are whole."""
    places, dim, window = side * side, config.embed_dim, config.window_spec[0]
    depth, everywhere = sum(config.stages), len(config.global_blocks)
    whole, rest = divmod(side, window)
    inside = (-(-side // window) * window) ** 2 * window**2
    pairs = inside if padded else (whole * window**2 + rest**2) ** 2
    block = (
        _linear(places, dim, 3 * dim) + _linear(places, dim, dim) + 2 * _linear(places, dim, config.mlp_dim or 4 * dim)
    )
    patches = _linear(places, 3 * config.stride**2, dim)
    return patches + depth * block + 4 * dim * (everywhere * places**2 + (depth - everywhere) * pairs)


def vit_neck(config: ModelConfig, side: int) -> int:
    """Count what is after it; the finer maps' 3x3 convolutions are one with the decoder's after them."""
    places, width, dim = side * side, config.embed_dim, config.dim
    coarse = _linear(places, width, dim) + 9 * _linear(places, dim, dim)
    if not config.high_res:
        return coarse
    half, quarter = width // 2, width // 4
    doubled = 4 * _linear(places, width, half)
    middle = (
        doubled + _linear(ZOOM[1] * places, half, dim) + 9 * _linear(ZOOM[1] * places, dim, config.decoder_width // 4)
    )
    fine = doubled + 4 * _linear(ZOOM[1] * places, half, quarter) + _linear(ZOOM[0] * places, quarter, dim)
    return coarse + middle + fine + 9 * _linear(ZOOM[0] * places, dim, config.decoder_width // 8)


def _memory_attention(config: ModelConfig, places: int, keys: int, pointers: int, objects: int) -> int:
    """Values keep their width, and the first layer begins with the frame alone, see `memory_attention`."""
    dim, memory_dim, layers = config.dim, config.memory_dim, config.memory_layers
    own = 3 * _linear(places, dim, dim) + _attention(places, places, dim)
    query = _linear(places, dim, dim)
    across = (
        _linear(keys, memory_dim, dim)
        + _attention(places, keys, (dim + memory_dim) // 2)
        + _linear(places, memory_dim, dim)
    )
    ffn = 2 * _linear(places, dim, config.memory_ffn)
    time = _linear(pointers, dim, memory_dim) if config.pointer_time else 0
    widened = _linear(places, dim, config.decoder_dim) if config.decoder_width != dim else 0
    of_object = (layers - 1) * (own + query) + layers * (across + ffn) + time + widened
    return own + query + objects * of_object


def _class_token(config: ModelConfig, places: int, keys: int) -> int:
    if not config.num_classes:
        return 0
    dim, memory_dim = config.dim, config.memory_dim
    remembered = 2 * _linear(1, dim, dim) + 2 * _linear(keys, memory_dim, dim) + _attention(1, keys, dim)
    seen = 2 * _linear(1, dim, dim) + 2 * _linear(places, dim, dim) + _attention(1, places, dim)
    return remembered + seen + _linear(1, dim, dim) + _linear(1, dim, config.num_classes)


def _mask_decoder(config: ModelConfig, places: int) -> int:
    """Of an object without a prompt, with its pointer."""
    dim, tokens, half = config.decoder_width, TRACKING_TOKENS + config.empty_points, config.decoder_width // 2

    def across(queries: int, keys: int) -> int:
        return 2 * (_linear(queries, dim, half) + _linear(keys, dim, half)) + _attention(queries, keys, half)

    block = 4 * _linear(tokens, dim, dim) + _attention(tokens, tokens, dim) + across(tokens, places)
    block += 2 * _linear(tokens, dim, config.decoder_mlp) + across(places, tokens)
    up = 4 * _linear(places, dim, dim // 4) + 4 * _linear(ZOOM[1] * places, dim // 4, dim // 8)
    # A small network for each of four masks, for their IoUs and for the object's score: as one batch, all are as wide
    # as the widest.
    networks = 6 * (2 * _linear(1, dim, dim) + _linear(1, dim, max(dim // 8, 4)))
    mask = _linear(ZOOM[0] * places, dim // 8, 1)
    pointer = _linear(1, dim, config.dim) + 2 * _linear(1, config.dim, config.dim)
    return 2 * block + across(tokens, places) + up + networks + mask + pointer


def _memory_encoder(config: ModelConfig, places: int) -> int:
    """Without the projection of the features, which is the same for all objects."""
    dim = config.dim
    down = sum(2 * 9 * places * 4 ** (3 - i) * 4**i * 4 ** (i + 1) for i in range(4)) + _linear(places, 256, dim)
    fuser = 2 * (2 * 49 * places * dim + 2 * _linear(places, dim, 4 * dim))
    return down + fuser + _linear(places, dim, config.memory_dim)


def _perceiver(config: ModelConfig, side: int) -> int:
    if not config.latents_2d:
        return 0
    dim, squares = config.memory_dim, config.latents_2d
    across = round(squares**0.5)
    stretched = (-(-side // across) * across) ** 2

    def layer(latents: int, tokens: int, groups: int) -> int:
        read = 2 * _linear(latents, dim, dim) + _linear(tokens, dim, 2 * dim)
        look = 2 * _linear(latents, dim, dim) + _linear(latents, dim, 2 * dim)
        products = _attention(latents, tokens // groups, dim) + _attention(latents, latents // groups, dim)
        return read + look + products + 4 * _linear(latents, dim, 4 * dim)

    return 2 * (layer(config.latents_1d, side * side, 1) + layer(squares, stretched, squares))
