"""The published implementation, PyPI `sam2`: its video predictor, for a video that grows frame by frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from sam2 import sam2_video_predictor
from sam2.build_sam import build_sam2_video_predictor
from torch import Tensor

sam2_video_predictor.tqdm = lambda frames, **_: frames  # instead of a bar for each single frame
sam2_video_predictor.load_video_frames = lambda video_path, image_size, **_: (video_path, image_size, image_size)
SIZES = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}
VIDEO_LENGTH = 10**6  # frames that a video is said to have: a stream is long, and pointer ages are divided by 15


def build_predictor(
    name: str, image_size: int, device: torch.device, options: Mapping[str, Any], vos_optimized: bool = False
):
    """Build a predictor without weights. name: as in `sam2s_model.config`; options: of its configuration."""
    version, size = name.split("_hiera_")
    return build_sam2_video_predictor(
        f"configs/{version}/{version}_hiera_{SIZES[size]}.yaml",
        device=str(device),
        hydra_overrides_extra=[
            f"++model.{key}={value}" for key, value in {"image_size": image_size, **options}.items()
        ],
        apply_postprocessing=False,
        vos_optimized=vos_optimized,
    )


def start_video(predictor, images: list[Tensor]) -> dict:
    """Its state for a video that begins with images (3, S, S), a list that grows."""
    state = predictor.init_state(images)
    state["num_frames"] = VIDEO_LENGTH
    return state


def propagate(predictor, state: dict) -> Tensor:
    """Track all objects into the newest image. Returns their mask logits, (N, 1, S, S)."""
    ((_, _, logits),) = predictor.propagate_in_video(state, len(state["images"]) - 1, max_frame_num_to_track=0)
    return logits
