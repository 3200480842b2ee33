"""PyPI `sam2`, its video predictor, eager or compiled, for a video that grows, under autocast as published."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import torch
from torch import Tensor

from sam2s_model.bench.peers.base import Peer
from sam2s_model.bench.peers.sam2_models import build_predictor, propagate, start_video
from sam2s_model.network.model import Sam2Model

INTERACTIVE = {
    "binarize_mask_from_pts_for_mem_enc": True,
    "sam_mask_decoder_extra_args.dynamic_multimask_via_stability": True,
    "sam_mask_decoder_extra_args.dynamic_multimask_stability_delta": 0.05,
    "sam_mask_decoder_extra_args.dynamic_multimask_stability_thresh": 0.98,
}
"""What the published interactive predictor adds, as our tracker does, but not filling holes, which needs CUDA code."""


class Sam2Peer(Peer):
    version = version("sam2")

    def __init__(self, model: Sam2Model, weights: dict[str, Tensor], compiled: bool = False):
        super().__init__(model)
        built = build_predictor(model.name, model.image_size, model.device, INTERACTIVE, vos_optimized=compiled)
        self._predictor = built.requires_grad_(False)
        self._predictor.load_state_dict(weights, strict=True)
        lower = model.dtype != torch.float32
        self._autocast = torch.autocast(
            model.device.type, dtype=model.dtype if lower else torch.bfloat16, enabled=lower
        )
        numbers = f"autocast to {str(model.dtype).removeprefix('torch.')}" if lower else "float32"
        self.how = f"{numbers}, sdpa attention, {'compiled' if compiled else 'eager'}, no holes filled"
        self._images: list[Tensor] = []

    @torch.inference_mode()
    def start(self, image: np.ndarray, boxes: Sequence[np.ndarray]) -> None:
        self._images.append(self.prepare(image)[0])
        with self._autocast:
            self._state = start_video(self._predictor, self._images)
            for row, box in enumerate(boxes):
                self._predictor.add_new_points_or_box(self._state, 0, row + 1, box=box)

    def track(self, image: Tensor) -> Tensor:
        self._images.append(image[0])
        with self._autocast:
            return propagate(self._predictor, self._state)


make = Sam2Peer
