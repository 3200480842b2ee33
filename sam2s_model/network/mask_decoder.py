"""The mask decoder of SAM2 (arXiv 2408.00714 sec. 4): prompt tokens and features to masks, IoU, score, pointer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam2s_model.acceleration.folding import Folding
from sam2s_model.network.layer_list import LayerList
from sam2s_model.network.layers import MLP, LayerNorm2d, norm_gelu
from sam2s_model.network.two_way_transformer import TwoWayTransformer


@dataclass(frozen=True)
class Decoded:
    """One candidate mask for each object, fp32 but for the token.

    logits: (B, 1, 4h, 4w); iou: (B,) 0..1; token: (B, dim), the output token of the mask
    object_logit: (B,), > 0 is present
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
        """Append the masks of other candidates for the same objects; the object score stays this one."""
        return Candidates(
            logits=torch.cat((self.logits, other.logits), dim=1),
            iou=torch.cat((self.iou, other.iou), dim=1),
            tokens=torch.cat((self.tokens, other.tokens), dim=1),
            object_logit=self.object_logit,
        )

    def taken(self, chosen: Tensor) -> Decoded:
        """One mask of each object: chosen (B,), its place."""
        place = chosen[:, None]
        logits = self.logits.gather(1, place[..., None, None].expand(-1, 1, *self.logits.shape[2:]))
        return Decoded(logits, self.iou.gather(1, place)[:, 0], _taken(self.tokens, chosen), self.object_logit)


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
    high_res: whether there are any; granularity: there is one more token, for the mask of a granularity
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
        granularity: bool = False,
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
        self.output_hypernetworks_mlps = LayerList(MLP(dim, dim, dim // 8, 3) for _ in range(self.num_masks))
        self.iou_prediction_head = MLP(dim, dim, self.num_masks, 3)
        self.pred_obj_score_head = MLP(dim, dim, 1, 3)
        if granularity:
            self.gra_token = nn.Embedding(1, dim)
            self.gra_output_token_mlp = MLP(dim, dim, dim // 8, 3)
        self._own_tokens, self._of_tokens = Folding(_below_one_another), Folding(_side_by_side)

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
        token, iou = tokens[:, 0], ious[:, 0]
        if multimask or stability is not None:
            best, candidate = ious[:, 1:].max(dim=1)
            kernel = _taken(kernels[:, 1:], candidate)
            if multimask:
                chosen = _taken(tokens[:, 1:], candidate)
                return Decoded(_masks(kernel, upscaled)[:, None], best, chosen, object_logit)
        logits = _masks(kernels[:, 0], upscaled)
        # as published, a fall-back keeps token 0 for the object pointer
        if stability is not None:
            stable = stability.stable(logits)
            logits = torch.where(stable[:, None, None], logits, _masks(kernel, upscaled))
            iou = torch.where(stable, iou, best)
        return Decoded(logits[:, None], iou, token, object_logit)

    def candidates(
        self, features: Tensor, high_res: tuple[Tensor, Tensor], position: Tensor, sparse: Tensor, dense: Tensor
    ) -> Candidates:
        """Decode all masks of each object, for training and for policies that compare them; see `forward`."""
        tokens, ious, object_logit, kernels, upscaled = self._read(features, high_res, position, sparse, dense)
        logits = torch.einsum("bkc,bchw->bkhw", kernels, upscaled).float()
        return Candidates(logits, ious, tokens, object_logit)

    def granular(
        self, features: Tensor, high_res: tuple[Tensor, Tensor], position: Tensor, sparse: Tensor, dense: Tensor
    ) -> Decoded:
        """Decode the mask of the granularity that `sparse` says (UnSAMv2). Arguments as in `forward`."""
        batch, _, height, width = features.shape
        parts = (self.obj_score_token, self.iou_token, self.mask_tokens, self.gra_token)
        own = torch.cat([part.weight for part in parts])
        tokens = torch.cat((own.expand(batch, -1, -1), sparse), dim=1)
        image = (features + dense).flatten(2).transpose(1, 2).contiguous()
        tokens, image = self.transformer(image, position.flatten(2).transpose(1, 2), tokens)
        token = tokens[:, 2 + self.num_masks]
        upscaled = self._upscale(image.transpose(1, 2).unflatten(2, (height, width)), high_res)
        logits = _masks(self.gra_output_token_mlp(token), upscaled)[:, None]
        iou = self.iou_prediction_head(tokens[:, 1])[:, 0].float().sigmoid()
        return Decoded(logits, iou, token, self.pred_obj_score_head(tokens[:, 0])[:, 0].float())

    def _read(self, features, high_res, position, sparse, dense) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Mask tokens (B, 4, dim), IoUs (B, 4), object logit (B,), kernels (B, 4, c) for upscaled (B, c, 4h, 4w)."""
        batch, _, height, width = features.shape
        tables = self.obj_score_token.weight, self.iou_token.weight, self.mask_tokens.weight
        own = torch.cat(tables) if torch.is_grad_enabled() else self._own_tokens(*tables)
        tokens = torch.cat((own.expand(batch, -1, -1), sparse), dim=1)
        image = (features + dense).flatten(2).transpose(1, 2).contiguous()
        tokens, image = self.transformer(image, position.flatten(2).transpose(1, 2), tokens)
        tokens = tokens[:, : 2 + self.num_masks]
        object_logit, ious, kernels = self._heads(tokens) if torch.is_grad_enabled() else self._heads_batched(tokens)
        ious, tokens = ious.sigmoid(), tokens[:, 2:]
        upscaled = self._upscale(image.transpose(1, 2).unflatten(2, (height, width)), high_res)
        return tokens, ious, object_logit, kernels, upscaled

    def _heads(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B, 2 + masks, dim) -> object logit (B,), logits of the IoUs (B, masks), kernels (B, masks, c).

        The first two are fp32.
        """
        object_logit, ious = self.pred_obj_score_head(tokens[:, 0])[:, 0], self.iou_prediction_head(tokens[:, 1])
        # The four small networks all run; picking one network an object would need a gather of weights or a host sync.
        kernels = [mlp(tokens[:, 2 + i]) for i, mlp in enumerate(self.output_hypernetworks_mlps)]
        return object_logit.float(), ious.float(), torch.stack(kernels, dim=1)

    def _heads_batched(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute `_heads` for inference: the small networks, one a token, run as one batch."""
        networks = [self.pred_obj_score_head, self.iou_prediction_head, *self.output_hypernetworks_mlps]
        layers = [layer for network in networks for layer in network.layers]
        made = self._of_tokens(*(p for layer in layers for p in (layer.weight, layer.bias)), networks=len(networks))
        x = tokens.transpose(0, 1)
        for weight, bias in made[:-1]:
            x = torch.baddbmm(bias, x, weight).relu_()
        x = torch.baddbmm(made[-1][1], x, made[-1][0])
        width = networks[-1].layers[-1].out_features
        scores = x[:2].float()
        return scores[0, :, 0], scores[1, :, : self.num_masks], x[2:, :, :width].transpose(0, 1)

    def _upscale(self, image: Tensor, high_res: tuple[Tensor, Tensor]) -> Tensor:
        if not self.high_res:
            return self.output_upscaling(image)
        up1, norm, _, up2, act2 = self.output_upscaling
        assert isinstance(norm, LayerNorm2d)
        fine, middle = high_res
        return act2(up2(norm_gelu(up1(image) + middle, norm)) + fine)


def _masks(kernels: Tensor, upscaled: Tensor) -> Tensor:
    """(B, c) and (B, c, h, w) -> mask logits (B, h, w) fp32."""
    return torch.einsum("bc,bchw->bhw", kernels, upscaled).float()


def _taken(values: Tensor, chosen: Tensor) -> Tensor:
    """(B, K, C) and (B,), which of the K of each -> (B, C)"""
    return values.gather(1, chosen[:, None, None].expand(-1, 1, values.shape[2]))[:, 0]


def _side_by_side(*parameters: Tensor, networks: int) -> list[tuple[Tensor, Tensor]]:
    """Weights and biases of the layers of some networks, one after the other -> of each layer those of all networks.

    That is (networks, d_in, d_out) and (networks, 1, d_out), for batched products; zeros fill up to the widest output.
    """
    made = []
    for i in range(len(parameters) // networks // 2):
        of_layer = [parameters[n * len(parameters) // networks + 2 * i :][:2] for n in range(networks)]
        widest = max(len(bias) for _, bias in of_layer)
        weights = [F.pad(weight.T, (0, widest - len(bias))) for weight, bias in of_layer]
        biases = [F.pad(bias, (0, widest - len(bias))) for _, bias in of_layer]
        made.append((torch.stack(weights), torch.stack(biases)[:, None]))
    return made


def _below_one_another(*tokens: Tensor) -> Tensor:
    return torch.cat(tokens)
