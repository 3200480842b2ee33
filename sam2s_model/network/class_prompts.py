"""SurgicalSAM's prototype prompt encoder (arXiv 2308.08746 sec. 3.2): a class is the prompt, by a learnt prototype.

Names of parameters are those of the published files.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

HIDDEN = 128  # width inside both branches, as published


class PrototypePromptEncoder(nn.Module):
    """Features and class prototypes to the prompts of one class: a dense embedding, and sparse tokens of all classes.

    dim: of features, prototypes and prompts; side: of the square grid of features, on which the sparse branch depends
    tokens: of each class; 2 for EndoVis 2018, 4 for EndoVis 2017
    """

    def __init__(self, dim: int = 256, side: int = 64, tokens: int = 2, hidden: int = HIDDEN):
        super().__init__()
        self.dense_fc_1 = nn.Conv2d(dim, hidden, kernel_size=1)
        self.dense_fc_2 = nn.Conv2d(hidden, dim, kernel_size=1)
        self.sparse_fc_1 = nn.Conv1d(side * side, hidden, kernel_size=1)  # over places, for each channel
        self.sparse_fc_2 = nn.Conv1d(hidden, tokens, kernel_size=1)
        self.pn_cls_embeddings = nn.ModuleList(nn.Embedding(tokens, dim) for _ in range(2))  # another class, the class

    @property
    def side(self) -> int:
        return round(self.sparse_fc_1.in_channels**0.5)

    def forward(self, features: Tensor, prototypes: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
        """Prompts of one class of each image.

        features: (B, dim, side, side); prototypes: (K, dim); asked: (B,) int, rows of the prototypes
        Returns sparse tokens (B, K tokens, dim) and dense embeddings (B, dim, side, side).
        """
        batch, dim, height, width = features.shape
        similar = torch.einsum("bchw,kc->bkhw", features, prototypes)
        activated = features[:, None] * (1 + similar[:, :, None])  # (B, K, dim, h, w)
        rows = torch.arange(batch, device=features.device)
        dense = self.dense_fc_2(self.dense_fc_1(activated[rows, asked]).relu())
        places = activated.flatten(0, 1).flatten(2).transpose(1, 2)  # (B K, places, dim)
        sparse = self.sparse_fc_2(self.sparse_fc_1(places).relu()).unflatten(0, (batch, len(prototypes)))
        is_asked = torch.zeros(batch, len(prototypes), dtype=torch.bool, device=features.device)
        is_asked[rows, asked] = True
        other, own = (marks.detach() for marks in self.pn_cls_embeddings.parameters())  # as published, never trained
        return (sparse + torch.where(is_asked[..., None, None], own, other)).flatten(1, 2), dense


class ClassPrompts(nn.Module):
    """Learnt prototypes of K classes, and the encoder that makes prompts of them."""

    def __init__(self, classes: int = 7, dim: int = 256, side: int = 64, tokens: int = 2):
        super().__init__()
        self.encoder = PrototypePromptEncoder(dim, side, tokens)
        self.class_embeddings = nn.Embedding(classes, dim)

    def forward(self, features: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
        """(B, dim, side, side) and (B,) classes -> sparse tokens and dense embeddings, see `PrototypePromptEncoder`."""
        return self.encoder(features, self.class_embeddings.weight, asked)
