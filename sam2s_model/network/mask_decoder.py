"""The mask decoder of SAM2 (arXiv 2408.00714 sec. 4): prompt tokens and features to masks, IoU, object score, pointer token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sam2s_model.network.layers import MLP, LayerNorm2d
from sam2s_model.network.two_way_transformer import TwoWayTransformer


@dataclass(frozen=True)
class Decoded:
    """One candidate mask for each object, fp32 but for the token.

    logits: (B, 1, 4h, 4w); iou: (B,) 0..1; token: (B, dim), the output token of the mask; object_logit: (B,), > 0 is present
    """

    logits: Tensor
    iou: Tensor
    token: Tensor
    object_logit: Tensor


@dataclass(frozen=True)
class Candidates:
    """All masks of each object: the single one, then the three ambiguous ones. fp32 but for the tokens.

    logits: (B, 4, 4h, 4w); iou: (B, 4) 0..1; tokens: (B, 4, dim); object_logit: (B,)
    """

    logits: Tensor
    iou: Tensor
    tokens: Tensor
    object_logit: Tensor

    def joined(self, other: Candidates) -> Candidates:
        """These masks and others of the same objects, with this object score."""
        pairs = ((self.logits, other.logits), (self.iou, other.iou), (self.tokens, other.tokens))
        return Candidates(*(torch.cat(pair, dim=1) for pair in pairs), self.object_logit)

    def taken(self, chosen: Tensor) -> Decoded:
        """One mask of each object: chosen (B,), its place."""
        rows = torch.arange(len(chosen), device=chosen.device)
        logits = self.logits[rows, chosen][:, None]
        return Decoded(logits, self.iou[rows, chosen], self.tokens[rows, chosen], self.object_logit)


@dataclass(frozen=True)
class Stability:
    """When the single mask gives way to the best of the three candidates (published with SAM2's interactive predictor).

    delta: a mask is stable when its area hardly changes between the logits -delta and +delta
    threshold: least ratio of the two areas, 0..1
    """

    delta: float = 0.05
    threshold: float = 0.98

    def stable(self, logits: Tensor) -> Tensor:
        """(B, h, w) -> (B,) bool; a mask that is empty even at -delta is stable."""
        inner, outer = ((logits > edge).flatten(1).sum(1) for edge in (self.delta, -self.delta))
        return inner >= self.threshold * outer


class MaskDecoder(nn.Module):
    """Token 0 gives the single mask, tokens 1..3 the ambiguous ones.

    dim: width; heads, mlp_dim: of the two-way transformer; features_dim: width of the fine features, 0: dim
    high_res: whether there are any
    """

    num_masks = 4

    def __init__(
        self,
        dim: int,
        heads: int = 8,
        mlp_dim: int = 2048,
        depth: int = 2,
        features_dim: int = 0,
        high_res: bool = True,
    ):
        super().__init__()
        self.transformer = TwoWayTransformer(depth, dim, heads, mlp_dim)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(self.num_masks, dim)
        self.obj_score_token = nn.Embedding(1, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, kernel_size=2, stride=2),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, kernel_size=2, stride=2),
            nn.GELU(),
        )
        self.high_res = high_res
        if high_res:
            self.conv_s0 = nn.Conv2d(features_dim or dim, dim // 8, kernel_size=1)
            self.conv_s1 = nn.Conv2d(features_dim or dim, dim // 4, kernel_size=1)
        self.output_hypernetworks_mlps = nn.ModuleList(MLP(dim, dim, dim // 8, 3) for _ in range(self.num_masks))
        self.iou_prediction_head = MLP(dim, dim, self.num_masks, 3)
        self.pred_obj_score_head = MLP(dim, dim, 1, 3)

    def forward(
        self,
        features: Tensor,
        high_res: tuple[Tensor, Tensor],
        position: Tensor,
        sparse: Tensor,
        dense: Tensor,
        multimask: bool,
        stability: Stability | None = None,
    ) -> Decoded:
        """Decode each object's best mask.

        features: (B, dim, h, w); high_res: (1, dim/8, 4h, 4w) and (1, dim/4, 2h, 2w), shared by all objects; empty
            without `high_res`
        position: (1, dim, h, w); sparse: (B, T, dim); dense: (B, dim, h, w)
        multimask: choose among tokens 1..3 by predicted IoU, instead of token 0
        stability: where token 0 is taken but its mask is not stable, fall back to the best of 1..3; None: never
        """
        tokens, ious, object_logit, kernels, upscaled = self._read(features, high_res, position, sparse, dense)
        candidate, rows = ious[:, 1:].argmax(dim=1) + 1, torch.arange(len(ious), device=ious.device)
        chosen = candidate if multimask else torch.zeros_like(candidate)
        token = tokens[rows, chosen]  # as published, a fall-back keeps token 0 for the object pointer
        logits = torch.einsum("bc,bchw->bhw", kernels[rows, chosen], upscaled).float()
        if stability is not None and not multimask:
            fallback = torch.einsum("bc,bchw->bhw", kernels[rows, candidate], upscaled).float()
            stable = stability.stable(logits)
            logits = torch.where(stable[:, None, None], logits, fallback)
            chosen = torch.where(stable, chosen, candidate)
        return Decoded(logits[:, None], ious[rows, chosen], token, object_logit)

    def candidates(
        self, features: Tensor, high_res: tuple[Tensor, Tensor], position: Tensor, sparse: Tensor, dense: Tensor
    ) -> Candidates:
        """Decode all masks of each object, for training and for policies that compare them. Arguments as in `forward`."""
        tokens, ious, object_logit, kernels, upscaled = self._read(features, high_res, position, sparse, dense)
        logits = torch.einsum("bkc,bchw->bkhw", kernels, upscaled).float()
        return Candidates(logits, ious, tokens, object_logit)

    def _read(self, features, high_res, position, sparse, dense) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Mask tokens (B, 4, dim), their IoUs (B, 4), object logit (B,), kernels (B, 4, c) for upscaled (B, c, 4h, 4w)."""
        batch, _, height, width = features.shape
        own = torch.cat((self.obj_score_token.weight, self.iou_token.weight, self.mask_tokens.weight))
        tokens = torch.cat((own.expand(batch, -1, -1), sparse), dim=1)
        image, place = (x.flatten(2).transpose(1, 2).contiguous() for x in (features + dense, position))
        tokens, image = self.transformer(image, place, tokens)
        object_logit = self.pred_obj_score_head(tokens[:, 0])[:, 0].float()
        ious = self.iou_prediction_head(tokens[:, 1]).float().sigmoid()
        tokens = tokens[:, 2 : 2 + self.num_masks]
        # The four small networks all run; picking one network an object would need a gather of weights or a host sync.
        kernels = torch.stack([mlp(tokens[:, i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)], dim=1)
        upscaled = self._upscale(image.transpose(1, 2).unflatten(2, (height, width)), high_res)
        return tokens, ious, object_logit, kernels, upscaled

    def _upscale(self, image: Tensor, high_res: tuple[Tensor, Tensor]) -> Tensor:
        if not self.high_res:
            return self.output_upscaling(image)
        up1, norm, act1, up2, act2 = self.output_upscaling
        fine, middle = high_res
        return act2(up2(act1(norm(up1(image) + middle))) + fine)
