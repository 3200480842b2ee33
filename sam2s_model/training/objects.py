"""Which objects of a batch are followed, and their masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.recordings.mask_values import VOID
from sam2s_model.training.clip import Clip


@dataclass(frozen=True)
class Objects:
    """N objects of K clips.

    owner: the clip of each; labels: its value in that clip's labels; rows: its row of the class table, or -1
    draws: a random generator of each, so that what it is told depends on no other object, nor on which process it is in
    """

    owner: tuple[int, ...]
    labels: tuple[int, ...]
    rows: tuple[int, ...]
    draws: tuple[np.random.Generator, ...]

    def __len__(self) -> int:
        return len(self.owner)


def choose_objects(
    clips: Sequence[Clip], numbers: Sequence[int], key: tuple[int, ...], max_objects: int, min_area: float
) -> Objects:
    """Choose objects that are large enough on the first frame of their clip to be prompted there.

    numbers: of the clips in the whole batch; key: of the random generators, such as (seed, step)
    max_objects: of a clip; min_area: share of the image
    """
    owner, labels, rows, draws = [], [], [], []
    for place, (clip, number) in enumerate(zip(clips, numbers, strict=True)):
        counts = np.bincount(clip.labels[0].ravel(), minlength=256)[1:VOID]
        large = np.flatnonzero(counts > max(0, min_area * clip.labels[0].size)) + 1
        rng = np.random.default_rng((*key, number, 0))
        for label in np.sort(rng.permutation(large)[:max_objects]):
            owner.append(place)
            labels.append(int(label))
            rows.append(clip.classes.get(int(label), -1))
            draws.append(np.random.default_rng((*key, number, int(label))))
    return Objects(tuple(owner), tuple(labels), tuple(rows), tuple(draws))


class ObjectTruth:
    """The masks of some objects on the frames of their clips, on a device.

    stride: `masks` and `valid` are at the clips' side divided by it
    """

    def __init__(self, clips: Sequence[Clip], objects: Objects, stride: int, device: torch.device):
        self._labels = torch.from_numpy(np.stack([clip.labels for clip in clips])).to(device)  # (K, T, S, S)
        self._owner = torch.tensor(objects.owner, device=device)
        self._values = torch.tensor(objects.labels, device=device, dtype=torch.uint8)
        self._clips, self._objects, self._stride = clips, objects, stride

    def full(self, t: int) -> Tensor:
        """(N, 1, S, S) fp32, 0 and 1, at the clips' size."""
        return (self._labels[self._owner, t] == self._values[:, None, None]).float()[:, None]

    def masks(self, t: int) -> tuple[Tensor, Tensor]:
        """(N, H, W) bool masks, and bool pixels that are scored."""
        labels = self._labels[self._owner, t]
        mask, valid = labels == self._values[:, None, None], labels != VOID
        if self._stride == 1:
            return mask, valid
        mask, valid = (F.avg_pool2d(x[:, None].float(), self._stride)[:, 0] for x in (mask, valid))
        return mask >= 0.5, valid == 1

    def on_host(self, row: int, t: int) -> tuple[np.ndarray, np.ndarray]:
        """(S, S) bool mask of one object and the pixels that are scored."""
        labels = self._clips[self._objects.owner[row]].labels[t]
        return labels == self._objects.labels[row], labels != VOID
