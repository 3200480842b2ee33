"""The SAM2 model as free-standing phases: encode an image, condition it on memory, decode masks, encode a memory.

It keeps no state between calls: what is remembered lives in `tracking/memory/`, and `tracking/tracker.py` is the loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2s_model.acceleration.compiling import compile_for_inference
from sam2s_model.acceleration.linear import Joined, Linear, multiply_in_int8
from sam2s_model.config import ModelConfig
from sam2s_model.errors import ConfigError
from sam2s_model.network.image_encoder import build_image_encoder
from sam2s_model.network.image_features import Conditioned, ImageFeatures
from sam2s_model.network.image_input import check_image_size, normalised_square
from sam2s_model.network.layers import MLP, place_tokens, sine_position_1d
from sam2s_model.network.mask_decoder import Candidates, Decoded, MaskDecoder, Stability
from sam2s_model.network.memory_attention import MemoryAttention
from sam2s_model.network.memory_encoder import Fuser, MemoryEncoder, mask_to_remember
from sam2s_model.network.memory_keys import CachedKeys
from sam2s_model.network.perceiver import SpatialPerceiver
from sam2s_model.network.prompt_encoder import PromptEncoder, given_logits
from sam2s_model.network.temporal_semantics import TemporalSemantics

LOGITS_PER_PLACE = 4  # mask logits on each side of a place of the features that masks are decoded from
MASK_STRIDE = 16  # px of the mask that a memory is made of, for each place of the features
Features = tuple[Tensor, Tensor, Tensor]  # of an image: coarse, middle and fine
ABSENT_LOGIT = -1024.0  # mask logit of an object that is not there
MEMORY_PARTS = (
    "maskmem_tpos_enc", "long_term_tpos_enc", "no_mem_pos_enc", "no_obj_ptr", "no_obj_embed_spatial",
    "mask_downsample.", "memory_attention.", "recent_memory_attention.", "memory_encoder.", "recent_memory_fuser.",
    "obj_ptr_proj.", "obj_ptr_tpos_proj.", "sam_mask_decoder.pred_obj_score_head.", "spatial_perceiver.",
    "temporal_semantics.",
)  # fmt: skip
"""State-dict keys (or their beginnings) that only tracking with memory needs: all others make masks from prompts."""


class Sam2Model(nn.Module):
    """A member of the SAM2 family for square inputs of `image_size` px.

    image_size: see `check_image_size`; 0: the one that it was trained at
    missing: state-dict keys that the loaded checkpoint did not hold; empty for a complete one
    class_names: of the class table's rows; empty where the checkpoint does not say them
    source, adapter: files that it was loaded from, or ""; source_sha256, adapter_sha256: of them, as they were then
    shares_with: whose weights it has, see `with_adapter`
    """

    def __init__(self, config: ModelConfig, image_size: int = 0):
        super().__init__()
        self.config = config
        self.missing: tuple[str, ...] = ()
        self.class_names: tuple[str, ...] = ()
        self.source = self.source_sha256 = self.adapter = self.adapter_sha256 = ""
        self.shares_with: tuple[Sam2Model, ...] = ()
        dim, memory_dim, inner = config.dim, config.memory_dim, config.decoder_width
        self.image_encoder = build_image_encoder(config)
        self.sam_prompt_encoder = PromptEncoder(inner, config.empty_points, granularity=config.granularity)
        self.sam_mask_decoder = MaskDecoder(
            inner, config.decoder_heads, config.decoder_mlp, features_dim=dim, high_res=config.high_res,
            granularity=config.granularity,
        )  # fmt: skip
        if inner != dim:
            self.decoder_proj = nn.Conv2d(dim, inner, kernel_size=1)
        self.memory_attention = MemoryAttention(config.memory_layers, dim, memory_dim, config.memory_ffn)
        self.memory_encoder = MemoryEncoder(dim, memory_dim)
        self.mask_downsample = nn.Conv2d(1, 1, kernel_size=4, stride=4)
        self.obj_ptr_proj = MLP(inner, dim, dim, 3)
        self.maskmem_tpos_enc = _embedding(config.num_memories, 1, 1, memory_dim)
        self.no_mem_embed = _embedding(1, 1, inner)
        self.no_mem_pos_enc = _embedding(1, 1, dim)
        self.no_obj_ptr = _embedding(1, dim)
        if config.no_object_embedding:
            self.no_obj_embed_spatial = _embedding(1, memory_dim)
        if config.pointer_time:
            self.obj_ptr_tpos_proj = nn.Linear(dim, memory_dim)
        if config.latents_1d or config.latents_2d:
            self.spatial_perceiver = SpatialPerceiver(memory_dim, config.latents_1d, config.latents_2d)
        if config.long_term_embedding:
            self.long_term_tpos_enc = _embedding(1, 1, 1, memory_dim)
        if config.short_attention:
            self.recent_memory_attention = MemoryAttention(config.memory_layers, dim, memory_dim, config.memory_ffn)
            self.recent_memory_fuser = Fuser(dim)
        if config.num_classes:
            self.temporal_semantics = TemporalSemantics(dim, memory_dim, config.num_classes)
        self._of_tokens = Joined()
        self.set_image_size(image_size or config.image_size)

    def set_image_size(self, image_size: int) -> None:
        """Take square inputs of another size from now on; no weight depends on it. Raises ConfigError.

        An image encoder that was compiled, which was for one size, is not from now on.
        """
        check_image_size(image_size, self.config)
        self.image_size = image_size
        self._compiled: Callable[..., Features] | None = None
        self.capturable = True  # what encodes images, as a CUDA graph

    def use_int8(self) -> None:
        """On a CPU, let the image encoder's linear layers and the memory attention's MLPs multiply in 8 bits.

        Raises ConfigError for an encoder without linear layers, or when torch cannot.
        """
        multiply_in_int8(self.image_encoder)
        for layer in self.memory_attention.layers:
            multiply_in_int8(nn.ModuleList((layer.linear1, layer.linear2)))

    @torch.inference_mode()
    def compile_encoder(self, backend: str = "inductor") -> None:
        """Let torch.compile make one program of the image encoder, for this image size: a minute or so the first time.

        Call it last: the program does not follow later changes of the weights. With gradients, the plain encoder runs.
        backend: of torch.compile; the others than "inductor" are no faster, and are there sooner
        Raises ConfigError for a model in int8, and where torch lacks something, such as a compiler: it says what.
        """
        if self.uses_int8:
            raise ConfigError(
                "compile is true, but precision is 'int8', which torch cannot compile: expected fp32, bf16 or fp16"
            )
        image = self.prepare_image(torch.zeros(self.image_size, self.image_size, 3, dtype=torch.uint8))
        self._compiled = compile_for_inference(Sam2Model._encode, self, image, backend=backend)

    def encode_with(self, encode: Callable[[Sam2Model, Tensor], Features], capturable: bool = True) -> None:
        """Let a function encode prepared images of this size, without gradients; capturable: as a CUDA graph, too."""
        self._compiled, self.capturable = encode, capturable

    @property
    def is_compiled(self) -> bool:
        """Whether something else than torch's layers encodes images."""
        return self._compiled is not None

    @property
    def uses_int8(self) -> bool:
        return any(isinstance(module, Linear) and module.int8 for module in self.modules())

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def device(self) -> torch.device:
        return self.no_mem_embed.device

    @property
    def dtype(self) -> torch.dtype:
        return self.no_mem_embed.dtype

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the features."""
        return self.image_size // self.config.stride, self.image_size // self.config.stride

    @property
    def memory_tokens(self) -> int:
        """Tokens of one spatial memory: its places, or the latents of EdgeTAM's perceiver."""
        return self.config.latents_1d + self.config.latents_2d or self.grid[0] * self.grid[1]

    @property
    def has_memory(self) -> bool:
        """Whether everything that tracking with memory needs was loaded."""
        return not any(key.startswith(MEMORY_PARTS) for key in self.missing)

    @property
    def has_object_score(self) -> bool:
        """Whether the head that tells presence was loaded."""
        return not any(key.startswith("sam_mask_decoder.pred_obj_score_head.") for key in self.missing)

    def prepare_image(self, image: Tensor) -> Tensor:
        """(H, W, 3) uint8 RGB, on any device -> (1, 3, S, S), normalised, the aspect ratio not kept (as published)."""
        return normalised_square(image.to(self.device), self.image_size, self.config).to(self.dtype)

    def encode_image(self, image: Tensor) -> ImageFeatures:
        """(1, 3, S, S), from `prepare_image` -> the frame's features."""
        if torch.is_grad_enabled():
            quarter, eighth, coarse = self.image_encoder(image)
            if heads := self._heads:
                quarter, eighth = heads[0](quarter), heads[1](eighth)
            return ImageFeatures(coarse, eighth, quarter)
        return ImageFeatures(*(self._compiled or Sam2Model._encode)(self, image))

    def _encode(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # coarse, middle and fine, without gradients
        maps, neck = self.image_encoder.trunk(image), self.image_encoder.neck
        fine, middle = neck.fine(maps, self._heads)
        return neck.coarse(maps), middle, fine

    @property
    def _heads(self) -> tuple[nn.Conv2d, ...]:
        """What the mask decoder makes of the finer maps; none where it has no use for them."""
        return (self.sam_mask_decoder.conv_s0, self.sam_mask_decoder.conv_s1) if self.config.high_res else ()

    def for_decoder(self, coarse: Tensor) -> Tensor:
        """(B, dim, h, w) -> (B, decoder_width, h, w)."""
        return self.decoder_proj(coarse) if self.config.decoder_width != self.config.dim else coarse

    def without_memory(self, features: ImageFeatures, batch: int) -> Tensor:
        """(B, decoder_width, h, w): features for the decoder of objects of which nothing is remembered."""
        plain = self.for_decoder(features.coarse)
        return (plain + self.no_mem_embed.reshape(1, -1, 1, 1)).expand(batch, -1, -1, -1)

    def with_memory(
        self,
        features: ImageFeatures,
        memory: Tensor,
        codes: Tensor,
        pointers: Tensor,
        ages: Tensor,
        allowed: Tensor | None,
        short: tuple[Tensor, Tensor] | None = None,
        cached: CachedKeys | None = None,
    ) -> Conditioned:
        """Condition a frame on each object's memories (SAM2, sec. 4), and read its class from them (SAM2S, TSL).

        memory: (B, F, memory_tokens, memory_dim), spatial memories of F frames
        codes: (B, F) int, temporal code of each: 0 newest .. num_memories - 2 oldest, num_memories - 1 prompted,
            num_memories long-term, which only a model with `long_term_embedding` has
        pointers: (B, P, dim), object pointers; ages: (B, P), frames since each
        allowed: (B, F + P) bool, False where an object has nothing; None when nothing is missing
        short: memories and codes for the second attention, of a model with `short_attention`; the sum of both is fused
        cached: keys of the F frames' memories, as of `memory_keys`, for inference; the second attention makes its own
        """
        batch, frames, area, memory_dim = memory.shape
        split = pointers.shape[-1] // memory_dim  # a pointer is that many tokens
        tokens = pointers.reshape(batch, -1, memory_dim).to(self.dtype)
        token_position = self._pointer_position(ages, split)
        if allowed is not None:
            allowed = torch.cat(
                (allowed[:, :frames].repeat_interleave(area, 1), allowed[:, frames:].repeat_interleave(split, 1)), dim=1
            )
        values, position = torch.cat((memory.flatten(1, 2).to(self.dtype), tokens), dim=1), token_position
        if cached is None or self.config.num_classes:
            position = torch.cat((self._position(codes, features.grid), position), dim=1)
        conditioned = self._attend(self.memory_attention, features, values, position, allowed, tokens.shape[1], cached)
        if short is not None:
            newest, place = short[0].flatten(1, 2).to(self.dtype), self._position(short[1], features.grid)
            newest = self._attend(self.recent_memory_attention, features, newest, place, None, 0)
            both = (conditioned + newest).transpose(1, 2).unflatten(2, features.grid)
            conditioned = self.recent_memory_fuser(both).flatten(2).transpose(1, 2)
        class_logits = None
        if self.config.num_classes:
            class_logits = self.temporal_semantics(values + position, values, allowed, conditioned)
        return Conditioned(self.for_decoder(conditioned.transpose(1, 2).unflatten(2, features.grid)), class_logits)

    def memory_keys(self, memory: Tensor) -> Tensor:
        """Spatial memories (N, tokens, memory_dim) -> their keys, for `CachedKeys`: (N, tokens, layers x dim)."""
        attention, (h, w) = self.memory_attention, self.grid
        turn = attention.key_rotation((h, w), *self._rotation(h))
        return attention.keys_to_keep(memory.to(self.dtype), self._memory_place(h, w), turn)

    @property
    def time_codes(self) -> tuple[Tensor, ...]:
        """Tables of the temporal codes of spatial memories, (some, 1, 1, memory_dim) each."""
        long_term = (self.long_term_tpos_enc,) if self.config.long_term_embedding else ()
        return self.maskmem_tpos_enc, *long_term

    def _position(self, codes: Tensor, grid: tuple[int, int]) -> Tensor:
        """Positions (B, F tokens, memory_dim) of memories with temporal codes (B, F)."""
        tables = self.time_codes
        time = (torch.cat(tables) if len(tables) > 1 else tables[0]).flatten(0, 2)
        return (self._memory_place(*grid)[None, None] + time[codes][:, :, None]).flatten(1, 2)

    def _attend(
        self,
        attention: MemoryAttention,
        features: ImageFeatures,
        values: Tensor,
        position: Tensor,
        allowed: Tensor | None,
        pointer_tokens: int,
        cached: CachedKeys | None = None,
    ) -> Tensor:
        """(B, hw, dim): the frame's features after a memory attention to tokens (B, M, memory_dim)."""
        h, w = features.grid
        place = place_tokens(self.config.dim, h, w, self.dtype, device=values.device)[None]
        return attention(
            features.coarse.flatten(2).transpose(1, 2), place, values, position, allowed, (h, w), pointer_tokens,
            *self._rotation(h), cached,
        )  # fmt: skip

    def _memory_place(self, height: int, width: int) -> Tensor:  # -> (memory_tokens, memory_dim)
        if self.config.latents_2d:
            return self.spatial_perceiver.position(self.device).to(self.dtype)
        return place_tokens(self.config.memory_dim, height, width, self.dtype, device=self.device)

    def _rotation(self, height: int) -> tuple[int, int, float]:  # side, unplaced, step, see `MemoryAttention.forward`
        side = math.isqrt(self.config.latents_2d)
        return side, self.config.latents_1d, height / side if self.config.latents_in_place else 1.0

    def _pointer_position(self, ages: Tensor, split: int) -> Tensor:  # (B, P) -> (B, P split, memory_dim)
        batch, count = ages.shape
        if not self.config.pointer_time:
            return torch.zeros(batch, count * split, self.config.memory_dim, device=ages.device, dtype=self.dtype)
        code = sine_position_1d(ages / self.config.pointer_span, self.config.dim).to(self.dtype)
        if torch.is_grad_enabled():
            return self.obj_ptr_tpos_proj(code).repeat_interleave(split, dim=1)
        place = self._of_tokens.product(code, *[self.obj_ptr_tpos_proj] * split)  # as often as a pointer has tokens
        return place.view(batch, count * split, self.config.memory_dim)

    def decode(
        self,
        conditioned: Tensor,
        features: ImageFeatures,
        *,
        points: Tensor | None = None,
        point_labels: Tensor | None = None,
        mask_logits: Tensor | None = None,
        multimask: bool,
        stability: Stability | None = None,
        granularity: Tensor | None = None,
    ) -> Decoded:
        """Decode one mask for each object.

        conditioned: (B, decoder_width, h, w); points: (B, P, 2), px of the model input, x y; point_labels: (B, P), see
        `prompt_encoder`; mask_logits: (B, 1, ., .); multimask: choose among the three ambiguous masks by predicted IoU
        stability: when the single mask gives way to one of the three, None: never
        granularity: (B,) in 0.1..1, of a model that has it: it says which mask is meant; None: not given
        """
        batch, prompt = len(conditioned), self.sam_prompt_encoder
        sparse = self._point_tokens(points, point_labels, batch)
        dense, place = prompt.mask(mask_logits, batch, features.grid), prompt.grid_position(*features.grid)
        if granularity is not None:
            sparse = torch.cat((sparse, prompt.granularity(granularity)), dim=1)
            return self.sam_mask_decoder.granular(conditioned, features.high_res, place, sparse, dense)
        return self.sam_mask_decoder(conditioned, features.high_res, place, sparse, dense, multimask, stability)

    def candidates(
        self,
        conditioned: Tensor,
        features: ImageFeatures,
        points: Tensor | None = None,
        point_labels: Tensor | None = None,
        mask_logits: Tensor | None = None,
    ) -> Candidates:
        """All four masks of each object; arguments as those of `decode`."""
        prompt, batch = self.sam_prompt_encoder, len(conditioned)
        sparse = self._point_tokens(points, point_labels, batch)
        dense = prompt.mask(mask_logits, batch, features.grid)
        place = prompt.grid_position(*features.grid)
        return self.sam_mask_decoder.candidates(conditioned, features.high_res, place, sparse, dense)

    def _point_tokens(self, points: Tensor | None, labels: Tensor | None, batch: int) -> Tensor:
        if points is None:
            return self.sam_prompt_encoder.no_points(batch)
        if labels is None:
            raise ValueError(f"{points.shape[1]} points of each object are given without point_labels")
        return self.sam_prompt_encoder.points(points, labels, self.image_size)

    def decode_given_mask(self, features: ImageFeatures, mask: Tensor) -> Decoded:
        """Take (B, 1, S, S) masks of 0 and 1 as the output; the decoder only makes their pointer tokens.

        As published, it sees the plain features, and its own object score decides about the pointer, not the mask.
        """
        batch = len(mask)
        prompt = self.mask_downsample(mask.to(self.dtype))
        plain = self.for_decoder(features.coarse).expand(batch, -1, -1, -1)
        decoded = self.decode(plain, features, mask_logits=prompt, multimask=False)
        return Decoded(
            given_logits(mask, features.grid), torch.ones_like(decoded.iou), decoded.token, decoded.object_logit
        )

    def pointer(self, token: Tensor, present: Tensor) -> Tensor:
        """Output token (B, decoder_width) and presence (B,) bool -> object pointer (B, dim)."""
        return torch.where(present[:, None], self.obj_ptr_proj(token), self.no_obj_ptr)

    def encode_memory(
        self,
        features: ImageFeatures,
        logits: Tensor,
        present: Tensor,
        *,
        binarise: bool = False,
        exclusive: bool = False,
    ) -> Tensor:
        """Mask logits (B, 1, ., .) and presence (B,) bool -> spatial memories (B, memory_tokens, memory_dim).

        binarise: remember the mask without its doubts; exclusive: the B objects share no pixel
        """
        options = dict(binarise=binarise, exclusive=exclusive)
        seen = (MASK_STRIDE * features.grid[0], MASK_STRIDE * features.grid[1])
        if seen == (self.image_size, self.image_size):
            mask = mask_to_remember(logits, self.image_size, self.dtype, **options)
        else:  # SAM 3, whose patches are smaller: the mask is stretched after its doubts are
            mask = mask_to_remember(logits, self.image_size, torch.float32, **options)
            mask = F.interpolate(mask, size=seen, mode="bilinear").to(self.dtype)
        memory = self.memory_encoder(features.coarse, mask)
        memory = memory.flatten(2).transpose(1, 2)
        if self.config.no_object_embedding:
            memory = torch.where(present[:, None, None], memory, memory + self.no_obj_embed_spatial)
        if self.config.latents_2d:
            memory = self.spatial_perceiver(memory, features.grid)
        return memory


def _embedding(*shape: int) -> nn.Parameter:
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(*shape), std=0.02))
