"""A larger model's image half as a teacher: its features, and its masks for random prompts.

A pack of them for a list of images is made once, so that a small model can be trained without running the large one:

    sam2s teacher pack CHECKPOINT PACK --images FOLDER --images VIDEO ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.checkpoint import load_model
from sam2s_model.errors import ConfigError, SourceError
from sam2s_model.network.image_features import ImageFeatures
from sam2s_model.network.model import Sam2Model
from sam2s_model.network.prompt_encoder import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, POSITIVE
from sam2s_model.paths import writing
from sam2s_model.recordings.image_files import read_rgb
from sam2s_model.tracking.field_of_view import endoscope_field
from sam2s_model.training.datasets.images import Still, stills
from sam2s_model.training.pack import TeacherPack

SIDE = 256  # of the masks in a pack, px: what the mask decoder gives at 1024
MIN_IOU, MIN_STABILITY = 0.75, 0.85  # a mask that the teacher is less sure of is not kept
MIN_AREA, MAX_AREA = 0.002, 0.7  # share of the image
SAME = 0.8  # IoU of two masks from which one of them is enough
GRID_SIDE = 32  # of the features in a pack: those of an input of 512 px


@dataclass(frozen=True)
class Proposals:
    """masks: (K, h, w) bool; scores: (K,) float, the IoU that the teacher expects."""

    masks: np.ndarray
    scores: np.ndarray


class Teacher:
    """The image half of a model of the family, in evaluation mode, without gradients.

    The memory half may be missing from the checkpoint: only images and prompts are used.
    """

    def __init__(self, model: Sam2Model):
        self.model = model

    @classmethod
    def load(cls, checkpoint: str | Path, image_size: int = 1024, device: str = "auto") -> Teacher:
        """Load a checkpoint. Raises CheckpointError and ConfigError as `load_model` does."""
        return cls(load_model(checkpoint, image_size=image_size, device=device))

    @torch.inference_mode()
    def features(self, images: Tensor) -> Tensor:
        """Encode (N, H, W, 3) uint8 RGB to (N, 256, h, w) at 1/16 of the teacher's input, in its type."""
        return self.encode(images).coarse

    @torch.inference_mode()
    def encode(self, images: Tensor) -> ImageFeatures:
        """Encode (N, H, W, 3) uint8 RGB for `decode`; one image at a time, since a CPU's caches are small."""
        parts = [self.model.encode_image(self.model.prepare_image(image)) for image in images]
        return ImageFeatures(*(torch.cat([getattr(p, name) for p in parts]) for name in ("coarse", "middle", "fine")))

    @torch.inference_mode()
    def decode(self, features: ImageFeatures, points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Decode masks of one image for P prompts, each the best of three when it is a single click.

        features: of one image; points: (P, n, 2), 0..1, x y; labels: (P, n), see `prompt_encoder`
        Returns logits (P, 4h, 4w) fp32 and the expected IoU (P,).
        """
        decoded = self.model.decode(
            self.model.without_memory(features, len(points)),
            features,
            points=points.to(self.model.device) * self.model.image_size,
            point_labels=labels.to(self.model.device),
            multimask=points.shape[1] == 1,
        )
        return decoded.logits[:, 0], decoded.iou

    @torch.inference_mode()
    def propose(
        self, rng: np.random.Generator, features: ImageFeatures, clicks: int = 24, max_masks: int = 8
    ) -> Proposals:
        """Propose masks of one image for clicks spread at random over a grid: sure, stable, and no two the same.

        Returns at most `max_masks`, by score.
        """
        side = max(1, round(clicks**0.5))
        return _distinct(
            *self._sure(features, grid_points(side, rng.uniform(0.1, 0.9, (side * side, 2))), SIDE), max_masks
        )

    @torch.inference_mode()
    def propose_everywhere(
        self, features: ImageFeatures, coarse: int = 5, fine: int = 10, max_masks: int = 16, side: int = SIDE
    ) -> Proposals:
        """Propose masks of one image for clicks on a grid, coarse to fine (TinySAM, arXiv 2312.13789 sec. 3.4).

        The places of a fine grid that a sure mask of the coarse one covers are not clicked on again.
        coarse, fine: clicks along a side of each grid; max_masks: that are kept, by score; side: of the masks, px
        """
        masks, scores = self._sure(features, grid_points(coarse), side)
        points = grid_points(fine)
        at = (points * side).astype(int)
        covered = np.logical_or.reduce(masks, axis=0)
        left = points[~covered[at[:, 1], at[:, 0]]]
        if len(left):
            more_masks, more_scores = self._sure(features, left, side)
            masks, scores = np.concatenate((masks, more_masks)), np.concatenate((scores, more_scores))
        return _distinct(masks, scores, max_masks)

    @torch.inference_mode()
    def masks_in_boxes(self, features: ImageFeatures, corners: np.ndarray, side: int = SIDE) -> Proposals:
        """Decode the mask of one image for each box, (K, 2, 2) 0..1, x y, of which one at least; (K, side, side)."""
        kinds = torch.tensor([[BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]]).expand(len(corners), -1)
        logits, scores = self.decode(features, torch.from_numpy(corners), kinds)
        return Proposals((_enlarged(logits, side) > 0).cpu().numpy(), scores.float().cpu().numpy())

    def _sure(self, features: ImageFeatures, points: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Return masks (K, side, side) bool and scores (K,) of the clicks (P, 2), 0..1, with sure and stable masks."""
        kinds = torch.full((len(points), 1), POSITIVE)
        logits, scores = self.decode(features, torch.from_numpy(points.astype(np.float32))[:, None], kinds)
        logits = _enlarged(logits, side)
        masks, inner, outer = logits > 0, (logits > 1).flatten(1).sum(1), (logits > -1).flatten(1).sum(1)
        area = masks.flatten(1).float().mean(1)
        sure = (scores > MIN_IOU) & (inner > MIN_STABILITY * outer) & (area > MIN_AREA) & (area < MAX_AREA)
        return masks[sure].cpu().numpy(), scores[sure].float().cpu().numpy()


def grid_points(side: int, within: np.ndarray | float = 0.5) -> np.ndarray:
    """Return (side * side, 2) places, 0..1, x y, one in each cell of a grid. within: place in the cell, 0..1"""
    cells = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).reshape(-1, 2)
    return (cells + within) / side


def _enlarged(logits: Tensor, side: int) -> Tensor:
    return F.interpolate(logits[:, None].float(), size=(side, side), mode="bilinear")[:, 0]


def _distinct(masks: np.ndarray, scores: np.ndarray, max_masks: int) -> Proposals:
    """Keep the best of some masks of which no two are the same."""
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable").tolist():
        mask = masks[i]
        overlaps = [np.count_nonzero(mask & masks[k]) / np.count_nonzero(mask | masks[k]) for k in kept]
        if len(kept) < max_masks and max(overlaps, default=0.0) < SAME:
            kept.append(i)
        if len(kept) == max_masks:
            break
    return Proposals(masks[kept], scores[kept])


def make_pack(
    teacher: Teacher,
    images: Sequence[tuple[str, np.ndarray | Path]],
    channels: int = 32,
    seed: int = 0,
    progress=lambda images: images,
) -> TeacherPack:
    """Write down a teacher's answers for some images.

    images: (name, image (H, W, 3) uint8 RGB or its path), names as `Still.name`
    channels: of the features that are kept, in the directions in which the teacher's 256 differ most
    progress: wraps the iteration, to show it
    Raises ConfigError without images, and SourceError for a path that is no image.
    """
    if not images:
        raise ConfigError("a pack of 0 images was asked for: expected at least one")
    names, features, masks = [], [], []
    for i, (name, given) in enumerate(progress(images)):
        image = read_rgb(given) if isinstance(given, Path) else given
        if image is None:
            raise SourceError(f"{given} is not a readable image")
        encoded = teacher.encode(torch.from_numpy(np.ascontiguousarray(image))[None])
        coarse = F.adaptive_avg_pool2d(encoded.coarse.float(), (GRID_SIDE, GRID_SIDE))
        names.append(name)
        features.append(coarse[0].half().cpu())
        masks.append(inside_field(teacher.propose(np.random.default_rng((seed, i)), encoded).masks, image))
    whole = torch.stack(features).float()
    mean, basis = principal_directions(whole, channels)
    projected = torch.einsum("nchw,kc->nkhw", whole - mean[:, None, None], basis)
    return TeacherPack.of(names, projected.numpy(), mean.numpy(), basis.numpy(), masks)


def inside_field(masks: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Keep the masks (K, side, side) of an image that are not of the dark surround of an endoscope's field."""
    side = masks.shape[-1]
    field = cv2.resize(endoscope_field(image).view(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST) > 0
    shown = (masks & field).sum((1, 2)) > 0.5 * masks.sum((1, 2))
    return masks[shown]


def principal_directions(features: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Return the mean (C,) of features (N, C, h, w) and their orthonormal directions (channels, C) of most variance."""
    flat = features.transpose(0, 1).flatten(1).double()
    mean = flat.mean(1)
    centred = flat - mean[:, None]
    _, vectors = torch.linalg.eigh(centred @ centred.T / centred.shape[1])
    return mean.float(), vectors.flip(1)[:, :channels].T.float().contiguous()


def teach_pack(
    checkpoint: Path,
    pack: Path,
    images: Sequence[Path],
    *,
    every: int,
    size: int,
    channels: int,
    device: str,
    seed: int,
) -> None:
    """Write a teacher's answers for images, for a source with `teacher`. Arguments: of `sam2s teacher pack`."""
    from rich.progress import track

    cv2.setNumThreads(1)
    with writing(pack, "PACK"):  # before hours of work
        pack.parent.mkdir(parents=True, exist_ok=True)
    found = [still for path in images for still in stills(path)][::every]
    made = make_pack(
        Teacher.load(checkpoint, size, device),
        _Loaded(found),
        channels,
        seed,
        lambda images: track(images, description="teaching", total=len(images)),
    )
    made.save(pack)
    count = sum(len(made.masks(name)) for name in made.names)
    print(f"{pack}: {len(made.names)} images, {count} masks, {pack.stat().st_size / 1e6:.1f} MB")


class _Loaded(Sequence[tuple[str, np.ndarray]]):
    """Names and images of stills that are read when it is their turn."""

    def __init__(self, found: Sequence[Still]):
        self._found = found

    def __len__(self) -> int:
        return len(self._found)

    @overload
    def __getitem__(self, index: int) -> tuple[str, np.ndarray]: ...

    @overload
    def __getitem__(self, index: slice) -> _Loaded: ...

    def __getitem__(self, index: int | slice) -> tuple[str, np.ndarray] | _Loaded:
        if isinstance(index, slice):
            return _Loaded(self._found[index])
        return self._found[index].name, self._found[index].frame(0)[0]
