"""The temporal semantic learning of SAM2S (arXiv 2511.16618, TSL): which instrument an object is, from its memories.

The authors' code and key names are not public; structure and names here are this project's. The text encoder of the
paper is not needed to run: its class embeddings are a table that is stored with the weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALE = 100.0  # of the cosines, before a softmax over the classes


class TemporalSemantics(nn.Module):
    """A class token for each object reads its memories, then the current frame, and is compared with the classes.

    It only reads: nothing of it goes back to the masks.

    dim, memory_dim: widths of features and memories; num_classes: rows of the table `class_embeddings` (K, dim), random
    until a checkpoint or `set_class_embeddings` fills it
    """

    class_embeddings: Tensor

    def __init__(self, dim: int, memory_dim: int, num_classes: int):
        super().__init__()
        self.class_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, dim), std=0.02))
        self.memory_attn = TokenAttention(dim, memory_dim)
        self.frame_attn = TokenAttention(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.out_proj = nn.Linear(dim, dim)
        self.register_buffer("class_embeddings", F.normalize(torch.randn(num_classes, dim), dim=-1))

    def set_class_embeddings(self, embeddings: Tensor) -> None:
        """Fill the table with (K, dim) embeddings of the classes' names, of any length."""
        self.class_embeddings.copy_(F.normalize(embeddings.float(), dim=-1))

    def forward(self, keys: Tensor, values: Tensor, allowed: Tensor | None, features: Tensor) -> Tensor:
        """Logits (B, K) fp32 of each object's class, in -SCALE..SCALE.

        keys, values: (B, M, memory_dim), the object's memories with and without their positions
        allowed: (B, M) bool, False where an object has no memory; None when all are there
        features: (B, hw, dim), the current frame, conditioned on the memories
        """
        token = self.class_token.expand(len(keys), -1, -1)
        token = token + self.memory_attn(token, keys, values, None if allowed is None else allowed[:, None, None])
        token = token + self.frame_attn(token, features, features)
        token = self.out_proj(self.norm(token))[:, 0]
        return SCALE * F.normalize(token.float(), dim=-1) @ F.normalize(self.class_embeddings.float(), dim=-1).T


class TokenAttention(nn.Module):
    """Single-head attention, pre-norm on the queries: (B, 1, dim), keys and values (B, M, key_dim) -> (B, 1, dim)."""

    def __init__(self, dim: int, key_dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(key_dim, dim)
        self.v_proj = nn.Linear(key_dim, dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, token: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = self.q_proj(self.norm(token)), self.k_proj(keys), self.v_proj(values)
        return self.out_proj(F.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], attn_mask=mask)[:, 0])
