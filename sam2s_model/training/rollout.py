"""Run a model through clips as the tracker does, but batched over clips and differentiable."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sam2s_model.mask_decoder import Decoded
from sam2s_model.model import ImageFeatures, Sam2Model
from sam2s_model.prompt_encoder import BOX_BOTTOM_RIGHT, BOX_TOP_LEFT, POSITIVE
from sam2s_model.training.clips import Clip
from sam2s_model.training.losses import Losses, losses

PROMPTS = ("box", "point", "mask")
SMALLEST = 0.003  # of the image; an object smaller than that on the first frame is not prompted


def rollout(model: Sam2Model, clips: list[Clip], prompt: str, rng: np.random.Generator) -> list[Losses]:
    """Prompt every object on the first frame of its clip, track it to the last; the losses of each frame.

    prompt: "box" (corners off by up to 10 %), "point" (one click on the object) or "mask"
    Returns an empty list when no object is large enough to be prompted.
    """
    truth, owner = object_masks(clips)
    if not len(owner):
        return []
    truth, owner = truth.to(model.device), owner.to(model.device)
    images = torch.from_numpy(np.stack([clip.images for clip in clips]))  # (K, T, S, S, 3)
    count, length = images.shape[:2]
    flat = torch.cat([model.prepare_image(image) for image in images.flatten(0, 1)])
    encoded = model.encode_image(flat)
    out, memories, pointers = [], [], []
    for t in range(length):
        rows = owner * length + t
        features = ImageFeatures(encoded.coarse[rows], encoded.middle[rows], encoded.fine[rows])
        present = truth[:, t].flatten(1).any(1)
        if t == 0:
            decoded = prompted(model, features, truth[:, 0], prompt, rng)
        else:
            decoded = model.decode(remembered(model, features, memories, pointers), features, multimask=True)
        if t or prompt != "mask":
            out.append(losses(decoded, truth[:, t]))
        if t + 1 < length:
            logits = torch.where(present[:, None, None, None], decoded.logits, -1024.0)
            memories.append(model.encode_memory(features, logits, present))
            pointers.append(model.pointer(decoded.token, present))
    return out


def object_masks(clips: list[Clip]) -> tuple[Tensor, Tensor]:
    """(N, T, S/2, S/2) fp32 masks of the objects to be prompted, and (N,) the clip that each is in."""
    masks, owner = [], []
    for k, clip in enumerate(clips):
        for label in range(1, 255):
            inside = clip.labels == label
            if not inside.any():
                break
            if inside[0].mean() > SMALLEST:
                masks.append(torch.from_numpy(inside[:, ::2, ::2]).float())
                owner.append(k)
    return (torch.stack(masks) if masks else torch.zeros(0)), torch.tensor(owner, dtype=torch.long)


def prompted(model: Sam2Model, features: ImageFeatures, truth: Tensor, prompt: str, rng: np.random.Generator) -> Decoded:
    """Decode the first frame from simulated prompts. truth: (N, h, w)."""
    size, n = model.image_size, len(truth)
    if prompt == "mask":
        return model.decode_given_mask(features, F.interpolate(truth[:, None], size=(size, size)))
    points = np.zeros((n, 2 if prompt == "box" else 1, 2), np.float32)
    for i, mask in enumerate(truth.cpu().numpy()):
        ys, xs = np.nonzero(mask)
        if prompt == "point":
            pick = rng.integers(len(xs))
            points[i, 0] = xs[pick], ys[pick]
        else:
            box = np.array([[xs.min(), ys.min()], [xs.max() + 1, ys.max() + 1]], np.float32)
            points[i] = box + rng.uniform(-0.1, 0.1, (2, 2)) * (box[1] - box[0])
    scaled = torch.from_numpy(points * (size / truth.shape[-1])).clamp(0, size).to(model.device)
    kinds = [POSITIVE] if prompt == "point" else [BOX_TOP_LEFT, BOX_BOTTOM_RIGHT]
    labels = torch.tensor(kinds, device=model.device).expand(n, -1)
    return model.decode(
        model.without_memory(features, n), features, points=scaled, point_labels=labels, multimask=prompt == "point"
    )


def remembered(model: Sam2Model, features: ImageFeatures, memories: list[Tensor], pointers: list[Tensor]) -> Tensor:
    """Condition on all frames so far: the first is the prompted one, the newest has temporal code 0."""
    n, now = len(memories[0]), len(memories)
    window = model.config.num_memories - 1
    kept = [0] + [t for t in range(1, now) if now - t <= window]
    codes = torch.tensor([window if t == 0 else now - t - 1 for t in kept], device=model.device)
    ages = torch.tensor([float(now - t) for t in range(now)], device=model.device)
    conditioned = model.with_memory(
        features,
        torch.stack([memories[t] for t in kept], dim=1),
        codes.expand(n, -1),
        torch.stack(pointers, dim=1),
        ages.expand(n, -1),
        None,
    )
    return conditioned.features
